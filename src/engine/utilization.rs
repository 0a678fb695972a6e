//! From utilization to load, where utilization is all there is.
//!
//! Two things are learned: what a full replica reads ([`full`]), and how utilization falls towards an idle one, from natural
//! experiments. When the number of ready replicas changes from `n` to `m`, the same demand is spread anew, and utilization
//! moves from `u` to `v`: its elasticity `e = ln(v/u) / ln(m/n)` is −1 if utilization is proportional to load, nearer to 0
//! if it has a floor, about 0 if it is flat, above 0 if it falls with load (R16). The median over the last experiments is
//! used: demand also moves by itself meanwhile, up about as often as down. To first order load is then
//! `(u − u₀) / (full − u₀)` with `u₀ = (1 + e) · full`: a full replica's is 1 whatever was learned of the floor, so that
//! this changes how far one step goes, not where it ends. Until enough was seen, the floor is [`UNPROVEN_FLOOR`] and a full replica
//! reads no more than [`UNPROVEN`]. If the map turns out flat or falling, load is in proportion, with a full replica at
//! [`CAREFUL_TARGET`] at most. In both cases the status says that utilization cannot tell.

//!
//! # What was tried
//!
//! Utilization alone, attainment and GPU hours (replica hours); medians. *azure* is Azure's code trace (57 min, full at 25 % on
//! `lin` and 51 % on `mono`), *servegen* days 8 to 14 of ServeGen's small model (full at 75 % and 80 %). With queue signals they
//! are .990, 10.7 and .988, 1343.
//!
//! | | azure lin | azure mono | servegen lin | servegen mono |
//! |---|---|---|---|---|
//! | the policy's target is a full replica (70 %) | .164, 1.9 | .855, 5.6 | .984, 1330 | .998, 1653 |
//! | the highest that was ever read is, demand 1.5 times what full replicas can do | .982, 11.5 | .998, 16.8 | 1.0, 4088 | 1.0, 6489 |
//! | the highest, changes that do not lower it find it, others raise it by a tenth without bound | .972, 10.9 | .993, 15.4 | .943, 1449 | .835, 1794 |
//! | the same within what was read; no floor until it is known | .972, 10.9 | .993, 15.4 | .977, 1515 | .977, 3049 |
//! | raised up to the target where it is elastic; a prior floor of 0.4 | .967, 10.1 | .986, 12.1 | .971, 1340 | .978, 1546 |
//! | + demand beyond what full replicas can do (1.3 times, after a minute) | .967, 9.4 | .987, 12.5 | .984, 1397 | .992, 1525 |
//! | + what is sustained less two standard errors, forgotten in weeks; a tenth and half a replica more | .973, 10.2 | .996, 15.2 | .984, 1395 | .992, 1500 |
//! | the same, eased to the target within hours (one seed of four stayed at 42 replicas for two days) | .973, 10.2 | .996, 15.2 | .984, 1395 | .991, 1518 |
//! | + changes soon after one another are one experiment, weighed by size: what is kept | .973, 10.2 | .996, 15.2 | .983, 1352 | .992, 1484 |
//! | one and a half standard errors, full for a minute (two noisy replicas, always full, are not seen to be) | .977, 10.7 | .992, 13.4 | .981, 1342 | .988, 1468 |
//! | raised up to 1.05 / 1.1 of what was sustained | .971, 10.2 | .995, 14.8 | .966, 1318 / .700, 1137 | .941, 1389 / .432, 1892 |
//!
//! Looking for a higher reading than was ever sustained saves GPU hours until it is believed to be above what replicas can
//! read: then full ones look as if there were room, and as nothing changes any more, nothing teaches it better. So what was
//! raised beyond what was sustained is doubted within hours, and lowered by changes that moved nothing. A service of 7.5
//! replicas that are full at 25 %, with noise of a fifth of that, came to stand at 1 to 6 replicas in 24 hours, depending on
//! the removal window, from 5 to 15 min. With the other parameters of today, but a window of 700 s and a quantile of 0.93: two
//! weeks of servegen, one seed, and where that service came to stand:
//!
//! | | servegen lin | servegen mono | noisy service |
//! |---|---|---|---|
//! | raised only, forgotten within weeks | .977, 2362 | .990, 2757 | 1 to 6 |
//! | the same with peaks over 30 s instead of 15 s | .978, 2360 | .984, 2624 | 1 |
//! | doubted within 4 h / 12 h, lowered where it did not move (elasticity above −0.1) by as much as it is raised | .983, 2598 / .980, 2410 | .995, 3099 / .997, 3013 | 7 to 8 / 6 to 7 |
//! | a day, elasticity above −0.1 / 0 / 0.1 | .983, 2414 / .985, 2400 / .980, 2409 | .998, 3006 / .997, 2869 / .993, 2792 | 4 to 8 / 3 to 8 / not measured |
//! | a day, above 0, by half as much | .982, 2403 | .995, 2804 | 3 to 8 |
//! | 6 h / **8 h**, above 0, by half as much | .983, 2650 / **.983, 2458** | .993, 2795 / **.996, 2880** | 6 to 8 |
//!
//! Week 1 of the same service never fills its replicas, so that their reading is not found: 1998 on `mono` against 1641 with
//! queue signals. With twice the noise (10 points) it costs more, and attains no less: servegen mono .998, 1721. Nothing here
//! is fitted to a curve, but all of it was tuned on these four.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::signal::{Mean, WeightedQuantiles};

pub mod full;

pub use full::{Fleet, Full};

/// Experiments kept, and needed before their median counts.
const KEPT: usize = 32;
const NEEDED: usize = 8;
/// Seconds of utilization before a change that are compared, and how long it settles before as many after it are.
const COMPARED: f64 = 60.0;
const SETTLING: f64 = 30.0;
/// Changes later than so many seconds after the first are another experiment: demand has moved meanwhile.
const LONGEST: f64 = 600.0;
/// A sample counts for at most so long, seconds.
const HOLD: f64 = 30.0;
/// An elasticity above this is as good as none.
const FLAT: f64 = -0.1;
/// The highest target, percent, where utilization was found not to tell load: that of the recipe which people run today
/// (`arena serve kserve --scale-target=50`), so that who changes over is not worse off.
pub const CAREFUL_TARGET: f64 = 50.0;
/// Until enough was seen, a full replica reads at most so many percent, between the careful target and the policy's; and this
/// share of it is floor.
pub const UNPROVEN: f64 = 60.0;
/// Hours within which that is eased to the policy's target: a service with too many replicas changes none of them and would
/// learn nothing.
const EASED_HOURS: f64 = 4.0;
pub const UNPROVEN_FLOOR: f64 = 0.4;
/// The steepest elasticity that load alone explains: beyond it, demand has moved by itself.
const STEEPEST: f64 = 1.5;
/// The floor is at most this share of a full replica's reading: beyond it, noise would be taken for load.
const HIGHEST_FLOOR: f64 = 0.7;
/// The most that one replica's utilization can say of load: 100 % against the careful target.
const MOST: f64 = 2.0;

/// What is learned of the map, and the experiment under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Map {
    full: Full,
    elasticities: WeightedQuantiles,
    recent: Mean,
    ready: u32,
    experiment: Option<Experiment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Experiment {
    /// First and last change, seconds.
    begun: f64,
    since: f64,
    /// Before them.
    replicas: u32,
    utilization: f64,
}

impl Map {
    /// Takes in what all ready replicas read, each of them known, at `now`.
    pub fn learn(&mut self, now: f64, fleet: Fleet, target: f64) {
        self.full.look(now, fleet, target);
        let Fleet { ready, mean: utilization, .. } = fleet;
        if ready != self.ready {
            // One change soon after another goes on with the experiment: a large change says more than two small ones.
            let begun = self.experiment.take().filter(|begun| now <= begun.begun + LONGEST);
            let anew = || {
                let (mean, covered) = self.recent.over(COMPARED, now, HOLD)?;
                (covered >= COMPARED / 2.0 && self.ready > 0 && mean > 0.0).then_some((self.ready, mean))
            };
            self.experiment = match begun {
                Some(begun) => Some(Experiment { since: now, ..begun }),
                None => {
                    anew().map(|(replicas, utilization)| Experiment { begun: now, since: now, replicas, utilization })
                }
            };
            self.ready = ready;
            self.recent.clear();
        }
        self.recent.push(now, utilization, COMPARED);
        if let Some(Experiment { since, replicas, utilization: before, .. }) = self.experiment
            && now >= since + SETTLING + COMPARED
        {
            let after = self.recent.over(COMPARED, now, HOLD).filter(|(_, covered)| *covered >= COMPARED / 2.0);
            let change = (f64::from(ready) / f64::from(replicas)).ln();
            if let Some((after, _)) = after.filter(|(after, _)| *after > 0.0 && change != 0.0) {
                let elasticity = (after / before).ln() / change;
                self.elasticities.push(elasticity.clamp(-3.0, 3.0), change.abs(), KEPT);
                let near = self.full.reading().is_some_and(|full| before.max(after) >= full::NEAR * full);
                if near && elasticity.abs() <= STEEPEST && self.median().is_some_and(|median| median <= FLAT) {
                    match elasticity {
                        ..=FLAT => self.full.raise(target),
                        0.0.. => self.full.lower(target),
                        _ => {}
                    }
                }
            }
            self.experiment = None;
        }
    }

    fn median(&self) -> Option<f64> {
        self.elasticities.at(0.5).filter(|_| self.elasticities.len() >= NEEDED)
    }

    /// Load of a replica that reads so many percent.
    #[must_use]
    pub fn load(&self, utilization: f64, target: f64) -> f64 {
        let full = self.full.reading().unwrap_or(target);
        let (floor, full) = match self.median() {
            None => {
                let eased = (self.full.hours() / EASED_HOURS).min(1.0);
                (UNPROVEN_FLOOR, full.min(UNPROVEN.max(UNPROVEN + eased * (target - UNPROVEN))))
            }
            Some(median) if median > FLAT => (0.0, full.min(CAREFUL_TARGET)),
            Some(median) => ((1.0 + median).clamp(0.0, HIGHEST_FLOOR), full),
        };
        let floor = floor * full;
        ((utilization - floor) / (full - floor)).clamp(0.0, MOST)
    }

    /// Load of so many replicas, which is `seen` by what they read, but more than they can do while all of them are full.
    #[must_use]
    pub fn load_of_all(&self, seen: f64, ready: u32) -> f64 {
        self.full.censored(ready).map_or(seen, |least| seen.max(least))
    }

    /// Why utilization does not tell how much load there is, if it does not.
    #[must_use]
    pub fn cannot_tell(&self) -> Option<Arc<str>> {
        let Some(median) = self.median() else {
            let seen = self.elasticities.len();
            return Some(
                format!("how it follows load is not known yet, from {seen} of {NEEDED} changes of the replicas").into(),
            );
        };
        if median <= FLAT {
            return None;
        }
        let what = if median > -FLAT { "it fell" } else { "it stayed" };
        let text =
            format!("{what} when load on each replica rose, in {} changes of the replicas", self.elasticities.len());
        Some(text.into())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact by construction")]
mod tests {
    use super::*;

    fn fleet(ready: u32, mean: f64) -> Fleet {
        Fleet { ready, mean, squares: mean * mean }
    }

    /// Demand of 12 replicas' full load, spread over 14 and 20 replicas, up and down, each for five minutes.
    fn taught(curve: impl Fn(f64) -> f64) -> Map {
        let mut map = Map::default();
        let mut now = 0.0;
        for round in 0..16 {
            let replicas = if round % 2 == 0 { 14 } else { 20 };
            for _ in 0..30 {
                now += 10.0;
                map.learn(now, fleet(replicas, curve(12.0 / f64::from(replicas))), 70.0);
            }
        }
        map
    }

    #[test]
    fn before_anything_is_learned_it_says_so_and_does_not_believe_in_a_high_reading() {
        let map = Map::default();
        assert_eq!([0.0, 24.0, 42.0, 60.0].map(|u| map.load(u, 70.0)), [0.0, 0.0, 0.5, 1.0]);
        assert!(map.cannot_tell().is_some_and(|why| why.starts_with("how it follows load is not known yet")));
    }

    #[test]
    fn a_floor_and_what_a_full_replica_reads_are_learned() {
        let map = taught(|load| 35.0 + 35.0 * load);
        assert_eq!(map.cannot_tell(), None);
        // Nobody has read 70 yet: that is where the changes led.
        assert!((map.load(70.0, 70.0) - 1.0).abs() < 0.01);
        // True load is 0.6 there; proportional would say 0.8.
        let load = map.load(56.0, 70.0);
        assert!((load - 0.6).abs() < 0.08, "{load}");
    }

    #[test]
    fn a_map_that_is_flat_or_falls_says_that_it_cannot_tell() {
        let flat = taught(|_| 97.0);
        assert!(flat.cannot_tell().is_some_and(|why| why.contains("stayed")));
        let falling = taught(|load| 75.0 - 40.0 * load);
        assert!(falling.cannot_tell().is_some_and(|why| why.contains("fell")));
        // As an HPA at the careful target has it.
        assert_eq!([25.0, 50.0, 97.0].map(|u| flat.load(u, 70.0)), [0.5, 1.0, 1.94]);
        assert_eq!(flat.full, taught(|_| 97.0).full, "and nothing raises it");
    }

    #[test]
    fn all_that_are_full_for_a_while_are_short_of_more_than_they_can_do() {
        let mut map = Map::default();
        for i in 0..30_u32 {
            map.learn(f64::from(i) * 5.0, fleet(4, 25.0), 70.0);
        }
        assert_eq!(map.load_of_all(4.0, 4), 4.9);
        assert_eq!(map.load_of_all(8.0, 4), 8.0);
    }

    #[test]
    fn changes_in_quick_succession_teach_nothing() {
        let mut map = Map::default();
        for i in 0..200_u32 {
            map.learn(f64::from(i) * 10.0, fleet(4 + i % 2, 50.0), 70.0);
        }
        assert_eq!((map.elasticities.len(), map.full.reading()), (0, Some(50.0)));
    }
}
