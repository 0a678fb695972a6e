//! Knative's pod autoscaler (KPA): a stable and a panic window over concurrency.
//!
//! After `pkg/autoscaler/scaling/autoscaler.go` and `multiscaler.go` of knative/serving with the defaults of its
//! `config-autoscaler`: a tick every 2 s; mean concurrency over 60 s and over 6 s; desired is each mean over the target; in
//! panic (the short window wants at least twice the ready pods) the higher of the two, and never down, until 60 s after the
//! last reason to panic; at most 1000 times up, at most halved down, of the ready pods, in one tick. Left out: scale to
//! zero, the activator's burst capacity, and the scale-down delay, whose default is 0.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use super::super::policy::{Autoscaler, Release, Seen, Wanted};
use crate::signal::Stage;

const TICK_SECONDS: f64 = 2.0;
const STABLE_WINDOW: SignedDuration = SignedDuration::from_secs(60);
const PANIC_WINDOW: SignedDuration = SignedDuration::from_secs(6);
const PANIC_THRESHOLD: f64 = 2.0;
const MAX_SCALE_UP_RATE: f64 = 1_000.0;
const MAX_SCALE_DOWN_RATE: f64 = 2.0;

/// The KPA on its own signal, exact concurrency.
#[derive(Debug, Clone)]
pub struct Kpa {
    /// Requests in a replica that are aimed at (concurrency times `target-utilization`).
    target: f64,
    seen: VecDeque<(Timestamp, f64)>,
    /// Since when there was reason to panic, and the most pods wanted since.
    panic: Option<(Timestamp, f64)>,
    why: (f64, f64),
}

impl Kpa {
    /// Requests per replica as the target.
    #[must_use]
    pub fn new(target: f64) -> Self {
        Self { target, seen: VecDeque::new(), panic: None, why: (0.0, 0.0) }
    }

    fn mean(&self, now: Timestamp, window: SignedDuration) -> f64 {
        let (sum, count) = self
            .seen
            .iter()
            .rev()
            .take_while(|(at, _)| now.duration_since(*at) < window)
            .fold((0.0, 0_u32), |(sum, count), (_, value)| (sum + value, count + 1));
        sum / f64::from(count.max(1))
    }
}

impl Autoscaler for Kpa {
    fn period(&self) -> f64 {
        TICK_SECONDS
    }

    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted {
        self.seen.push_back((now, f64::from(seen.concurrency)));
        while self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) >= STABLE_WINDOW) {
            self.seen.pop_front();
        }
        let ready = seen.observation.pods.iter().filter(|pod| pod.stage == Stage::Ready).count().max(1) as f64;
        let (stable, panic) = (self.mean(now, STABLE_WINDOW), self.mean(now, PANIC_WINDOW));
        let up = (MAX_SCALE_UP_RATE * ready).ceil();
        let down = (ready / MAX_SCALE_DOWN_RATE).floor();
        let wanted = |mean: f64| (mean / self.target).ceil().min(up).max(down);
        let (mut desired, short) = (wanted(stable), wanted(panic));
        if (panic / self.target).ceil() / ready >= PANIC_THRESHOLD {
            let most = self.panic.map_or(0.0, |(_, most)| most);
            self.panic = Some((now, most));
        } else if self.panic.is_some_and(|(since, _)| now.duration_since(since) > STABLE_WINDOW) {
            self.panic = None;
        }
        if let Some((_, most)) = &mut self.panic {
            *most = most.max(desired).max(short).max(ready);
            desired = *most;
        }
        self.why = (stable, panic);
        Wanted { desired: desired.max(1.0) as u32, release: Release::Chance }
    }

    fn sentence(&self) -> String {
        let (stable, panic) = self.why;
        let mode = if self.panic.is_some() { "panic" } else { "stable" };
        format!("{mode}: {stable:.0} requests over 60 s, {panic:.0} over 6 s, {:.0} a replica", self.target)
    }
}
