//! Steps of the machine's clock, and times in which it was suspended: told and counted, because [`Clock`] does not follow them.
//!
//! What is served is right all the same: ages go by the monotonic clock. Its times are off by the steps, and so are those that
//! pages with timestamps of their own are compared with.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::family;
use crate::clock::Clock;

/// How often the two clocks are compared.
const LOOK: Duration = Duration::from_secs(10);
/// What moves the clocks apart by more than this between two looks is a step. Slewing (adjtimex(2)) moves both alike, the two
/// readings of a look are microseconds apart, and served times are whole seconds.
const STEP: SignedDuration = SignedDuration::from_secs(2);

/// How often the machine's clock was stepped.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<AtomicU64>);

impl Steps {
    /// Compares the clocks until `shutdown`.
    pub async fn watch(self, clock: Clock, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut before = clock.behind();
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = clock.behind();
            if let Some(step) = step(before, now) {
                self.0.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "the machine's clock was stepped, or the machine suspended, by {:.0} s: the times of what is served, of events and of statuses go by the \
                     clock of the start, now {:.0} s from it; restart this process to have it follow",
                    step.as_secs_f64(),
                    now.as_secs_f64()
                );
            }
            before = now;
        }
    }
}

/// By how much the machine's clock was stepped between two looks, if it was.
fn step(before: SignedDuration, now: SignedDuration) -> Option<SignedDuration> {
    let moved = now - before;
    (moved.abs() > STEP).then_some(moved)
}

impl Collector for Steps {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let help = "Steps of the machine's clock since the start, which this process does not follow";
        let none: [(&str, &str); 0] = [];
        let rows = [(none, self.0.load(Ordering::Relaxed) as f64)];
        family(&mut encoder, MetricType::Counter, "tidegate_clock_steps", help, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_in_either_direction_is_told_once_and_a_slewed_clock_is_none() {
        let seconds = [0.0, 0.005, 0.01, 3600.0, 3600.0, 3600.005, 3597.0, 3597.0];
        let behind = seconds.map(|seconds| SignedDuration::try_from_secs_f64(seconds).unwrap());
        let steps: Vec<_> = behind.windows(2).filter_map(|pair| step(pair[0], pair[1])).collect();
        let steps: Vec<i64> = steps.iter().map(|step| step.as_millis() as i64).collect();
        assert_eq!(steps, [3_599_990, -3005]);
    }
}
