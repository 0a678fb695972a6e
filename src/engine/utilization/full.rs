//! What a full replica reads: learned, for it may be 25 % or 95 %.
//!
//! Nothing says so but utilization itself. What was read for [`SUSTAINED`] seconds over all replicas, less two standard errors,
//! a replica *can* read, so that a full one reads at least that: the learned reading follows it up quickly, and forgets it
//! within weeks. It begins with what is read first, not with the policy's target: a service that is full at 25 % would
//! otherwise collapse before anything was learned. Whoever begins too low has too many replicas, and finds out: with each
//! replica added or removed near the learned reading, after which utilization moved no more than load explains, the reading
//! is raised a little, up to the policy's target, as long as utilization was found to tell load at all. Beyond the target it
//! goes only by what was read. A change that did not move utilization lowers it: the replicas were full before and after. And
//! what was raised beyond what was read is doubted within hours.
//!
//! Replicas that all stay at the reading of a full one serve what they can, and what they cannot serve is not seen: demand is
//! censored. After [`PINNED`] seconds it is taken to be a little more than they can do, again and again, until they are
//! no longer full.

use serde::{Deserialize, Serialize};

use crate::signal::Mean;

/// Seconds over which utilization must be read: three samples of each pod at the usual intervals.
const SUSTAINED: f64 = 30.0;
/// Standard errors of the mean that it must be above what is believed: one in forty by chance.
const STANDARD_ERRORS: f64 = 2.0;
/// Seconds between two samples of a pod that are counted as independent: the usual interval.
const SAMPLE: f64 = 15.0;
/// A sample counts for at most so long, seconds.
const HOLD: f64 = 30.0;
/// Time in which the reading follows one that is higher, and in which it is forgotten, seconds: minutes, and two weeks.
const FOLLOWING: f64 = 15.0;
const FORGETTING: f64 = 14.0 * 86_400.0;
/// Time in which it comes back to what was sustained where it was raised beyond that, seconds: supposed too high, it would take
/// full replicas for such that have room, and nothing would change any more that could teach it better.
const DOUBTING: f64 = 8.0 * 3_600.0;
/// At least this share of the reading is near it; so much it is raised by a change of the replicas there.
pub(super) const NEAR: f64 = 0.8;
const RAISED: f64 = 1.05;
/// So much it is lowered where such a change moved nothing: less, because demand that moves by itself looks like it, too.
const LOWERED: f64 = 1.025;
/// Replicas that read this share of a full one's for so many seconds are full.
const AS_GOOD_AS_FULL: f64 = 0.95;
const PINNED: f64 = 45.0;
/// What full replicas may be short of: a tenth of them, and half of one.
const SHORT: (f64, f64) = (1.1, 0.5);
/// Utilization below this, percent, is no reading of a full replica.
const LEAST: f64 = 1.0;
/// And not less than this share of the policy's target: a service that idles at a few percent from its first minute on would
/// otherwise be taken for a full one.
const LEAST_SHARE: f64 = 0.2;

/// What a full replica reads, and whether all of them are full.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Full {
    /// Percent; nothing before anything was read.
    reading: Option<f64>,
    /// The part of it that was read.
    sustained: Option<f64>,
    mean: Mean,
    squares: Mean,
    /// Time of the last look, and how long it has looked in all, seconds.
    looked: f64,
    watched: f64,
    /// Since when all replicas have been full, seconds.
    since: Option<f64>,
}

/// All ready replicas at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fleet {
    /// How many.
    pub ready: u32,
    /// Mean of their utilization, percent.
    pub mean: f64,
    /// Mean of its square.
    pub squares: f64,
}

impl Full {
    /// Percent that a full replica reads, if anything is known of it.
    #[must_use]
    pub fn reading(&self) -> Option<f64> {
        self.reading
    }

    /// Hours of work that it has seen.
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.watched / 3_600.0
    }

    /// Takes in what all ready replicas read at `now`.
    pub(super) fn look(&mut self, now: f64, fleet: Fleet, target: f64) {
        let passed = (now - self.looked).max(0.0);
        if passed > HOLD {
            self.since = None;
        }
        self.looked = now;
        self.watched += passed.min(HOLD);
        self.mean.push(now, fleet.mean, SUSTAINED);
        self.squares.push(now, fleet.squares, SUSTAINED);
        let over = |mean: &Mean| mean.over(SUSTAINED, now, HOLD).filter(|(_, covered)| *covered >= 0.9 * SUSTAINED);
        let (Some((mean, covered)), Some((squares, _))) = (over(&self.mean), over(&self.squares)) else { return };
        let samples = f64::from(fleet.ready) * covered / SAMPLE;
        let error = ((squares - mean * mean).max(0.0) / samples.max(1.0)).sqrt();
        let sure = mean - STANDARD_ERRORS * error;
        let least = LEAST.max(LEAST_SHARE * target);
        let reading = self.reading.get_or_insert(mean.clamp(least, target.max(least)));
        let sustained = self.sustained.get_or_insert(*reading);
        let passed = passed.min(HOLD);
        let follow = |value: &mut f64, to: f64, time: f64| *value += (to - *value) * (passed / time).min(1.0);
        // An idle service forgets nothing: it says nothing of a full one.
        let busy = mean > NEAR / 2.0 * *reading;
        for value in [&mut *sustained, &mut *reading] {
            if sure > *value {
                follow(value, sure, FOLLOWING);
            } else if busy {
                follow(value, sure.max(least), FORGETTING);
            }
        }
        if busy && *sustained < *reading {
            follow(reading, *sustained, DOUBTING);
        }
        if mean >= AS_GOOD_AS_FULL * *reading {
            self.since.get_or_insert(now);
        } else {
            self.since = None;
        }
    }

    /// The replicas were changed near the reading, and utilization moved as load did.
    pub(super) fn raise(&mut self, target: f64) {
        if let Some(reading) = &mut self.reading
            && *reading < target
        {
            *reading = (*reading * RAISED).min(target);
        }
    }

    /// The replicas were changed near the reading, and utilization stayed where it was: they were full.
    pub(super) fn lower(&mut self, target: f64) {
        if let Some(reading) = &mut self.reading {
            *reading = (*reading / LOWERED).max(LEAST_SHARE * target);
        }
    }

    /// The least load of so many replicas, if all of them are full: more than they can do.
    #[must_use]
    pub fn censored(&self, ready: u32) -> Option<f64> {
        let (times, plus) = SHORT;
        self.since.filter(|since| self.looked >= since + PINNED).map(|_| times * f64::from(ready) + plus)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: f64 = 70.0;

    /// So many replicas that read `mean` with a scatter, for so many seconds, from the last look on.
    fn read(full: &mut Full, seconds: u32, ready: u32, mean: f64, scatter: f64) {
        for _ in 0..seconds / 5 {
            let now = full.looked + 5.0;
            full.look(now, Fleet { ready, mean, squares: mean * mean + scatter * scatter }, TARGET);
        }
    }

    fn reading(full: &Full) -> f64 {
        full.reading().expect("something was read")
    }

    #[test]
    fn it_begins_with_what_is_read_first_and_never_above_the_target() {
        for (first, expected) in [(0.0, LEAST_SHARE * TARGET), (25.0, 25.0), (97.0, TARGET)] {
            let mut full = Full::default();
            read(&mut full, 30, 4, first, 0.0);
            assert_eq!(full.reading(), None, "not sustained yet");
            read(&mut full, 5, 4, first, 0.0);
            assert!((reading(&full) - expected).abs() < 10.0, "{first}: {full:?}");
        }
    }

    #[test]
    fn what_is_sustained_is_followed_up_within_minutes_and_what_may_be_noise_is_not() {
        let mut full = Full::default();
        read(&mut full, 60, 8, 50.0, 5.0);
        // Sixteen samples of 5 points around the mean: twice their standard error is 2.5 points.
        read(&mut full, 600, 8, 51.5, 5.0);
        assert!((reading(&full) - 50.0).abs() < 0.1, "{}", reading(&full));
        read(&mut full, 120, 8, 80.0, 5.0);
        assert!((reading(&full) - 77.5).abs() < 0.5, "{}", reading(&full));
    }

    #[test]
    fn what_was_raised_beyond_what_was_read_is_doubted_within_hours_and_what_was_read_is_not() {
        let mut full = Full::default();
        read(&mut full, 600, 4, 40.0, 0.0);
        for _ in 0..8 {
            full.raise(TARGET);
        }
        assert!(reading(&full) > 55.0, "{full:?}");
        read(&mut full, 86_400, 4, 38.0, 0.0);
        assert!((38.0..42.0).contains(&reading(&full)), "{full:?}");
    }

    #[test]
    fn changes_that_moved_nothing_lower_it_by_half_of_what_others_raise() {
        let mut full = Full::default();
        read(&mut full, 600, 4, 40.0, 0.0);
        full.raise(TARGET);
        full.lower(TARGET);
        full.lower(TARGET);
        assert!((reading(&full) - 40.0).abs() < 0.1, "{full:?}");
        (0..100).for_each(|_| full.lower(TARGET));
        assert!((reading(&full) - LEAST_SHARE * TARGET).abs() < 1e-9, "{full:?}");
    }

    #[test]
    fn it_is_forgotten_within_weeks_of_work_and_not_while_idle() {
        let mut full = Full::default();
        read(&mut full, 600, 4, 70.0, 0.0);
        read(&mut full, 14 * 86_400, 4, 20.0, 0.0);
        assert!((reading(&full) - 70.0).abs() < 0.1, "{}", reading(&full));
        read(&mut full, 14 * 86_400, 4, 40.0, 0.0);
        assert!((50.0..52.0).contains(&reading(&full)), "{}", reading(&full));
    }

    #[test]
    fn changes_raise_it_to_the_target_at_most() {
        let mut full = Full::default();
        read(&mut full, 35, 4, 60.0, 0.0);
        full.raise(TARGET);
        assert!((reading(&full) - 63.0).abs() < 1e-9);
        (0..9).for_each(|_| full.raise(TARGET));
        assert!((reading(&full) - TARGET).abs() < 1e-9);
        read(&mut full, 600, 4, 80.0, 0.0);
        full.raise(TARGET);
        assert!((reading(&full) - 80.0).abs() < 0.1, "by what was read it goes beyond");
    }

    #[test]
    fn who_stays_full_is_short_of_more_than_there_is() {
        let mut full = Full::default();
        read(&mut full, 600, 4, 80.0, 0.0);
        read(&mut full, 60, 4, 60.0, 0.0);
        assert_eq!(full.censored(4), None);
        // The mean of half a minute is there after half a minute.
        read(&mut full, 65, 4, 80.0, 0.0);
        assert_eq!(full.censored(4), None, "not for long enough");
        read(&mut full, 15, 4, 80.0, 0.0);
        assert!((full.censored(4).expect("full") - 4.9).abs() < 1e-9);
        read(&mut full, 15, 4, 60.0, 0.0);
        assert_eq!(full.censored(4), None);
    }

    #[test]
    fn what_was_before_a_hole_does_not_count() {
        let mut full = Full::default();
        read(&mut full, 600, 4, 80.0, 0.0);
        assert!(full.censored(4).is_some());
        full.look(full.looked + 3_600.0, Fleet { ready: 4, mean: 80.0, squares: 6_400.0 }, TARGET);
        read(&mut full, 60, 4, 80.0, 0.0);
        assert_eq!(full.censored(4), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_it_is_a_percentage_that_a_replica_can_read(
            looks in prop::collection::vec((0.0..40.0_f64, 0_u32..50, 0.0..100.0_f64, 0.0..50.0_f64, prop::bool::ANY), 1..200),
        ) {
            let mut full = Full::default();
            let (mut now, mut most) = (0.0, LEAST);
            for (passed, ready, mean, scatter, changed) in looks {
                now += passed;
                most = mean.max(most);
                full.look(now, Fleet { ready, mean, squares: mean * mean + scatter * scatter }, TARGET);
                if changed {
                    full.raise(TARGET);
                }
                if let Some(reading) = full.reading() {
                    prop_assert!((LEAST..=most.max(TARGET) + 1e-9).contains(&reading), "{}", reading);
                }
                prop_assert!(full.censored(ready).is_none_or(|least| least > f64::from(ready)));
            }
        }
    }
}
