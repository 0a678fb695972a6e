//! What will wait when a replica that is asked for now could serve, with all that is there and on its way (R14).
//!
//! A fluid queue in replica-seconds of work: it grows by demand and shrinks by the replicas that are ready, and each replica on
//! its way joins them when its pool's learned time to ready says. A queue that grows while nodes boot is foreseen by the first
//! decision, and those after it see the same: it is not answered once more each time it is measured.

use super::{
    burst::PoolView,
    demand::{self, Measured},
};
use crate::signal::{Observation, Stage};

/// A replica that is late is taken to be ready in so many seconds.
const SOON_SECONDS: f64 = 5.0;

/// Work that waits now, and who will take it in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outlook {
    waiting: f64,
    ready: f64,
    /// In how many seconds each replica on its way could serve, in that order.
    arrivals: Vec<f64>,
}

impl Outlook {
    /// What `measured` waits, before `current` replicas.
    pub(super) fn of(
        observation: &Observation,
        pools: &[PoolView],
        measured: &Measured,
        current: u32,
        now: f64,
    ) -> Self {
        // One without a node yet was asked for in the last pool that is in use.
        let last = pools.iter().rposition(|pool| pool.pods > 0).unwrap_or(0);
        let ready_in = |pool: usize, age: f64| {
            pools.get(pool).map_or(SOON_SECONDS, |pool| (pool.expected.p50 - age).max(SOON_SECONDS))
        };
        let made = observation.pods.iter().filter(|pod| pod.stage != Stage::Ready);
        let mut arrivals: Vec<f64> =
            made.map(|pod| ready_in(pod.pool.unwrap_or(last), now - demand::seconds(pod.created))).collect();
        let on_their_way = current.saturating_sub(measured.ready) as usize;
        arrivals.resize(arrivals.len().max(on_their_way), ready_in(last, 0.0));
        arrivals.sort_by(f64::total_cmp);
        let waiting = measured.backlog / measured.rate.max(f64::MIN_POSITIVE);
        Self { waiting, ready: f64::from(measured.ready), arrivals }
    }

    /// Replica-seconds of work that wait in `seconds`, if `demand` replica equivalents come in all the time.
    pub(super) fn waiting_in(&self, seconds: f64, demand: f64) -> f64 {
        let (mut waiting, mut ready, mut at) = (self.waiting, self.ready, 0.0);
        let before = self.arrivals.iter().copied().filter(|arrival| *arrival < seconds);
        for next in before.chain([seconds]) {
            waiting = (waiting + (demand - ready) * (next - at)).max(0.0);
            (ready, at) = (ready + 1.0, next);
        }
        waiting
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact by construction")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outlook(waiting: f64, ready: f64, arrivals: &[f64]) -> Outlook {
        Outlook { waiting, ready, arrivals: arrivals.to_vec() }
    }

    #[test]
    fn what_waits_grows_by_demand_and_each_replica_on_its_way_takes_in_its_share_from_when_it_comes() {
        let cases = [
            (outlook(0.0, 1.0, &[]), 3.0, 120.0),
            (outlook(30.0, 1.0, &[]), 3.0, 150.0),
            (outlook(0.0, 1.0, &[20.0, 30.0]), 3.0, 50.0),
            // After the horizon it comes too late to count.
            (outlook(0.0, 1.0, &[60.0]), 3.0, 120.0),
            // A queue that is worked off stays empty until there is one again.
            (outlook(5.0, 4.0, &[]), 3.0, 0.0),
        ];
        for (outlook, demand, expected) in cases {
            assert_eq!(outlook.waiting_in(60.0, demand), expected, "{outlook:?}");
        }
    }

    proptest! {
        #[test]
        fn one_more_on_its_way_never_makes_more_wait(
            waiting in 0.0..1e4_f64, ready in 0_u32..50, demand in 0.0..100.0_f64, seconds in 1.0..900.0_f64,
            mut arrivals in prop::collection::vec(5.0..900.0_f64, 0..20), one in 5.0..900.0_f64,
        ) {
            arrivals.sort_by(f64::total_cmp);
            let without = outlook(waiting, f64::from(ready), &arrivals).waiting_in(seconds, demand);
            arrivals.push(one);
            arrivals.sort_by(f64::total_cmp);
            let with = outlook(waiting, f64::from(ready), &arrivals).waiting_in(seconds, demand);
            prop_assert!(with <= without + 1e-6 && with >= 0.0, "{with} instead of {without}");
        }
    }
}
