//! What one decision saw and came to: a line of the demo's output, and at the end the summary and its judgement.

use std::time::Duration;

use serde::Serialize;

use super::script::{BLIND, ON_PREMISES, PEAK_REPLICAS, POOLS};
use crate::sim::load::Curve;

/// One decision of the engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Turn {
    /// Scene time, seconds.
    pub time: f64,
    /// Offered load, in replicas kept fully busy.
    pub offered: f64,
    /// The service's utilization as it is served, percent; `null` while unknown.
    pub utilization: Option<f64>,
    /// Requests that wait, as the servers know it.
    pub queued: u64,
    /// Demand as the engine knows it, in replica equivalents; `null` while unknown.
    pub demand: Option<f64>,
    /// Pods by pool.
    pub pools: [Pods; POOLS.len()],
    /// Pods without a node.
    pub pending: usize,
    /// Replicas that were asked for when it decided.
    pub current: u32,
    /// Replicas that there should be.
    pub desired: u32,
    /// What bound it last, in one word.
    pub reason: &'static str,
    /// The decision in one sentence.
    pub sentence: String,
    /// What it does not know.
    pub unknown: Option<String>,
    /// What the HPA was answered, and the replicas that it has set: at its syncs only.
    pub sync: Option<Sync>,
    /// What has happened since the last one.
    pub events: Vec<String>,
}

/// Pods on the nodes of one pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Pods {
    /// Serve.
    pub ready: usize,
    /// Load their model.
    pub starting: usize,
}

/// A sync of the HPA that follows the advice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sync {
    /// The metric's value; `null` if it was answered that there is none.
    pub advised: Option<i64>,
    /// The condition's message, if so.
    pub invalid: Option<String>,
    /// Replicas asked for from now on.
    pub replicas: u32,
}

impl Turn {
    /// Ready pods in all pools.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pools.iter().map(|pods| pods.ready).sum()
    }

    /// Whether people would call it another decision than that one.
    #[must_use]
    pub fn differs(&self, before: &Self) -> bool {
        let face = |turn: &Self| (turn.current, turn.desired, turn.unknown.is_some());
        face(self) != face(before)
    }
}

/// What the scene came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Most ready replicas at once.
    pub max_replicas: usize,
    /// Most of them in the cloud.
    pub max_cloud: usize,
    /// Ready replicas at the end.
    pub final_replicas: usize,
    /// Replicas in the cloud at the end.
    pub final_cloud: usize,
    /// Times that the replicas asked for rose.
    pub additions: usize,
    /// Of these, the ones made while the one before was still on its way, and for which the load had not risen since.
    pub second_additions: usize,
    /// Replicas removed while something that the decision depends on was unknown.
    pub removed_while_unknown: usize,
    /// Replicas removed on premises while the cloud still had one.
    pub onprem_before_cloud: usize,
    /// Decisions that said that they do not know, while nobody could.
    pub held_as_unknown: usize,
    /// GPU seconds in the cloud, from when a node was bought until it was given back, scene time.
    pub cloud_seconds: f64,
    /// Requests that have ended.
    pub requests: u64,
    /// Those that kept both bounds: first token within 5 s, tokens 0.1 s apart.
    pub in_time: u64,
    /// Wall time.
    pub seconds: f64,
}

/// A promise was broken, or the scene did not play as described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flop {
    /// It shrank without knowing.
    #[error("{0} replicas were removed while the service was unknown")]
    RemovedWhileUnknown(usize),
    /// It went up twice for one rise.
    #[error("{0} additions were made for the same load while the one before was on its way")]
    SecondAddition(usize),
    /// It gave back the wrong ones.
    #[error("{0} replicas were removed on premises while the cloud still had one")]
    OnPremisesFirst(usize),
    /// It did not notice.
    #[error("no decision said that it does not know while a ready pod had no page")]
    NotSeen,
    /// It did not go up as far as it should.
    #[error("the service reached {0} ready replicas, fewer than {PEAK_REPLICAS}")]
    Max(usize),
    /// It did not use the cloud.
    #[error("no replica was ready in the cloud at peak")]
    NoCloud,
    /// It did not come down, or not as far.
    #[error("the service ended with {0} ready replicas, more than fit on {ON_PREMISES} nodes on premises")]
    Final(usize),
    /// It kept what costs.
    #[error("{0} replicas were in the cloud at the end")]
    CloudKept(usize),
}

impl Summary {
    /// Whether every promise was kept and the scene played as described.
    ///
    /// # Errors
    /// The first thing that did not.
    pub fn judge(&self) -> Result<(), Flop> {
        let Self { max_replicas, max_cloud, final_replicas, final_cloud, .. } = *self;
        let Self { second_additions, removed_while_unknown, onprem_before_cloud, held_as_unknown, .. } = *self;
        match () {
            () if removed_while_unknown > 0 => Err(Flop::RemovedWhileUnknown(removed_while_unknown)),
            () if second_additions > 0 => Err(Flop::SecondAddition(second_additions)),
            () if onprem_before_cloud > 0 => Err(Flop::OnPremisesFirst(onprem_before_cloud)),
            () if held_as_unknown == 0 => Err(Flop::NotSeen),
            () if max_replicas < PEAK_REPLICAS => Err(Flop::Max(max_replicas)),
            () if max_cloud == 0 => Err(Flop::NoCloud),
            () if final_replicas > ON_PREMISES => Err(Flop::Final(final_replicas)),
            () if final_cloud > 0 => Err(Flop::CloudKept(final_cloud)),
            () => Ok(()),
        }
    }
}

/// The load is seen so much later: a scrape, what a filter of short peaks takes, and a sync of the HPA.
const SEEN_AFTER: Duration = Duration::from_secs(45);
/// A rise by less is noise.
const RISE: f64 = 1.05;

/// Watches the scene from the seats, knows the true load, and counts.
#[derive(Debug)]
pub struct Critic {
    load: Curve,
    /// How long after a page is gone it may still be known what was on it.
    late: Duration,
    summary: Summary,
    last_addition: Option<Duration>,
}

impl Critic {
    /// A critic who knows this load.
    #[must_use]
    pub fn new(load: Curve, late: Duration) -> Self {
        Self { load, late, summary: Summary::default(), last_addition: None }
    }

    fn blind(&self, time: Duration) -> bool {
        (BLIND.from + self.late..BLIND.until).contains(&time)
    }

    /// A decision was made.
    pub fn watch(&mut self, turn: &Turn) {
        let blind = self.blind(Duration::from_secs_f64(turn.time));
        let summary = &mut self.summary;
        summary.max_replicas = summary.max_replicas.max(turn.ready());
        summary.max_cloud = summary.max_cloud.max(turn.pools[1].ready);
        summary.final_replicas = turn.ready();
        summary.final_cloud = turn.pools[1].ready + turn.pools[1].starting;
        summary.held_as_unknown += usize::from(blind && turn.unknown.is_some());
    }

    /// The HPA has moved, with so many ready replicas. `unknown`: the last decision said that something is.
    pub fn moved(&mut self, time: Duration, ready: usize, (from, to): (u32, u32), unknown: bool) {
        if to < from && (unknown || self.blind(time)) {
            self.summary.removed_while_unknown += (from - to) as usize;
        }
        if to < from {
            self.last_addition = None;
        }
        if to > from {
            let seen = |time: Duration| self.load.at(time.saturating_sub(SEEN_AFTER));
            let again = self.last_addition.is_some_and(|last| seen(time) < seen(last) * RISE);
            let again = again && ready < from as usize;
            self.summary.additions += 1;
            self.summary.second_additions += usize::from(again);
            self.last_addition = Some(time);
        }
    }

    /// A pod was removed from a pool, while so many were left in the cloud.
    pub fn removed(&mut self, pool: usize, left_in_cloud: usize) {
        self.summary.onprem_before_cloud += usize::from(pool == 0 && left_in_cloud > 0);
    }

    /// The verdict.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::overflow::script;

    const LATE: Duration = Duration::from_secs(45);

    fn turn(time: Duration, unknown: bool) -> Turn {
        Turn {
            time: time.as_secs_f64(),
            offered: 2.0,
            utilization: Some(70.0),
            queued: 0,
            demand: Some(2.0),
            pools: [Pods { ready: 2, starting: 0 }, Pods { ready: 1, starting: 0 }],
            pending: 0,
            current: 3,
            desired: 3,
            reason: "Unknown",
            sentence: "3 stay".into(),
            unknown: unknown.then(|| "1 of 3 ready pods".into()),
            sync: None,
            events: Vec::new(),
        }
    }

    fn critic() -> Critic {
        Critic::new(script::load(), LATE)
    }

    const fn at(minutes: u64, seconds: u64) -> Duration {
        Duration::from_secs(minutes * 60 + seconds)
    }

    #[test]
    fn an_addition_is_a_second_one_exactly_if_the_one_before_is_on_its_way_and_the_load_seen_has_not_risen_since() {
        for (moves, expected) in [
            (&[(at(7, 0), 1, (1, 3))][..], 0),
            (&[(at(4, 0), 1, (1, 2)), (at(5, 0), 1, (2, 3))], 0),
            (&[(at(7, 0), 1, (1, 3)), (at(7, 30), 1, (3, 4))], 1),
            (&[(at(7, 0), 1, (1, 3)), (at(7, 30), 3, (3, 4))], 0),
            (&[(at(7, 0), 1, (1, 3)), (at(8, 0), 3, (3, 2)), (at(8, 30), 1, (2, 3))], 0),
        ] {
            let mut critic = critic();
            for (time, ready, change) in moves {
                critic.moved(*time, *ready, *change, false);
            }
            assert_eq!(critic.summary().second_additions, expected, "{moves:?}");
        }
    }

    #[test]
    fn a_removal_is_wrong_while_the_service_is_unknown_whoever_says_so() {
        let wrong = |time, to, unknown| {
            let mut critic = critic();
            critic.moved(time, 3, (3, to), unknown);
            critic.summary().removed_while_unknown
        };
        let blind = script::BLIND.from + LATE;
        assert_eq!([wrong(blind, 1, false), wrong(at(5, 0), 2, true), wrong(at(16, 0), 2, false)], [2, 1, 0]);
        assert_eq!(wrong(blind, 3, true), 0);
    }

    #[test]
    fn only_on_premises_before_the_cloud_is_the_wrong_order() {
        let mut critic = critic();
        for (pool, left_in_cloud) in [(1, 0), (1, 1), (0, 0)] {
            critic.removed(pool, left_in_cloud);
        }
        assert_eq!(critic.summary().onprem_before_cloud, 0);
        critic.removed(0, 1);
        assert_eq!(critic.summary().onprem_before_cloud, 1);
    }

    #[test]
    fn that_it_does_not_know_counts_while_nobody_could() {
        let held = |time, unknown| {
            let mut critic = critic();
            critic.watch(&turn(time, unknown));
            critic.summary().held_as_unknown
        };
        let blind = script::BLIND.from + LATE;
        assert_eq!([held(blind, true), held(blind, false), held(at(5, 0), true)], [1, 0, 0]);
    }

    #[test]
    fn the_scene_is_judged_by_its_promises() {
        let good = Summary {
            max_replicas: 3,
            max_cloud: 1,
            final_replicas: 1,
            held_as_unknown: 9,
            additions: 1,
            ..Summary::default()
        };
        assert_eq!(good.judge(), Ok(()));
        for (summary, flop) in [
            (Summary { removed_while_unknown: 1, ..good }, Flop::RemovedWhileUnknown(1)),
            (Summary { second_additions: 2, ..good }, Flop::SecondAddition(2)),
            (Summary { onprem_before_cloud: 1, ..good }, Flop::OnPremisesFirst(1)),
            (Summary { held_as_unknown: 0, ..good }, Flop::NotSeen),
            (Summary { max_replicas: 2, ..good }, Flop::Max(2)),
            (Summary { max_cloud: 0, ..good }, Flop::NoCloud),
            (Summary { final_replicas: 3, ..good }, Flop::Final(3)),
            (Summary { final_cloud: 1, ..good }, Flop::CloudKept(1)),
        ] {
            assert_eq!(summary.judge(), Err(flop));
        }
    }
}
