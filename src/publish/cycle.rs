//! The loop that turns what was scraped and what is known of the cluster into the next snapshot.
//!
//! It runs at each change and at least every [`LONGEST_PAUSE`], and rests so long after each turn that it uses at most a
//! tenth of one core, but never longer than `LONGEST_REST`: what is served must not grow old because turns are slow.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{Publisher, Snapshot};
use crate::{clock::Clock, cluster::View, config, gpu::Vocabulary, scrape};

/// A snapshot is replaced at least this often, so that ages and reasons stay current when nothing else changes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Changes that arrive within this time are taken together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a turn is at least so many times as long as the turn took.
const REST: u32 = 9;
/// The pause after a slow turn. A snapshot is then at most this old and two turns more, so that a processor that is short
/// of time makes answers late, and does not have the process taken for stuck and killed.
const LONGEST_REST: Duration = Duration::from_secs(3);

/// What the loop reads and writes.
#[derive(Debug)]
pub struct Cycle {
    /// The latest batches.
    pub store: Arc<scrape::Store>,
    /// Where snapshots go.
    pub publisher: Arc<Publisher>,
    /// The families.
    pub vocabulary: Arc<Vocabulary>,
    /// How pods become services.
    pub aggregate: config::Aggregate,
    /// The age beyond which a sample is unknown (R2).
    pub max_age: Duration,
    /// The present time.
    pub clock: Clock,
}

impl Cycle {
    /// Publishes snapshots until `shutdown`. `view` gives the cluster as it is, `cluster_changes` tells when it changes.
    pub async fn run(
        self,
        view: impl Fn() -> Arc<View>,
        mut cluster_changes: watch::Receiver<u64>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut scrape_changes = self.store.changes();
        loop {
            let began = Instant::now();
            scrape_changes.mark_unchanged();
            cluster_changes.mark_unchanged();
            self.turn(view());
            let rest = rest_after(began.elapsed());
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(rest) => {}
            }
            // A sender that is gone never changes again: the timer alone goes on.
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(LONGEST_PAUSE.saturating_sub(rest)) => {}
                Ok(()) = scrape_changes.changed() => {}
                Ok(()) = cluster_changes.changed() => {}
            }
        }
    }

    fn turn(&self, view: Arc<View>) {
        let began = Instant::now();
        let batches: Vec<_> = self.store.snapshot().batches().cloned().collect();
        let vocabulary = Arc::clone(&self.vocabulary);
        let mut snapshot = Snapshot::build(&batches, view, vocabulary, &self.aggregate, self.clock.now(), self.max_age);
        snapshot.took = began.elapsed();
        self.publisher.publish(snapshot);
    }
}

fn rest_after(turn: Duration) -> Duration {
    turn.saturating_mul(REST).clamp(SHORTEST_PAUSE, LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_a_core_is_used_and_a_slow_turn_does_not_let_the_snapshot_grow_old() {
        let ms = Duration::from_millis;
        for (turn, rest) in [(0, 50), (4, 50), (20, 180), (300, 2700), (1200, 3000), (60_000, 3000)] {
            assert_eq!(rest_after(ms(turn)), ms(rest), "after a turn of {turn} ms");
        }
        assert_eq!(rest_after(Duration::MAX), LONGEST_REST);
    }
}
