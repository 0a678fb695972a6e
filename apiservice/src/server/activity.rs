//! When a connection was last of use.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

#[derive(Debug)]
struct State {
    under_way: usize,
    last: Instant,
    any: bool,
}

/// Requests of one connection, counted to tell an idle client from a waiting one.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    begun: Notify,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { under_way: 0, last: now, any: false }), begun: Notify::new() }
    }

    pub(super) fn begin(&self) {
        let mut state = self.state.lock();
        state.under_way += 1;
        if !state.any {
            state.any = true;
            self.begun.notify_one();
        }
    }

    /// Completes when the first request has begun, at once if that was long ago. For one caller.
    pub(super) async fn first_request(&self) {
        self.begun.notified().await;
    }

    pub(super) fn end(&self, now: Instant) {
        let mut state = self.state.lock();
        state.under_way -= 1;
        state.last = now;
    }

    /// The moment at which the connection has been useless for too long, if nothing happens until then: `first` without
    /// any request, `idle` without another one.
    pub(super) fn deadline(&self, now: Instant, first: Duration, idle: Duration) -> Instant {
        let State { under_way, last, any } = *self.state.lock();
        match (under_way, any) {
            (0, false) => last + first,
            (0, true) => last + idle,
            _ => now + idle,
        }
    }
}
