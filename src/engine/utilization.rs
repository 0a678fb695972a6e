//! From utilization to load, where utilization is all there is.
//!
//! What a full replica reads is the policy's target; how utilization falls towards an idle replica is learned from natural
//! experiments. When the number of ready replicas changes from `n` to `m`, the same demand is spread anew, and utilization
//! moves from `u` to `v`: its elasticity `e = ln(v/u) / ln(m/n)` is −1 if utilization is proportional to load, nearer to 0
//! if it has a floor, about 0 if it is flat, above 0 if it falls with load (R16). The median over the last experiments is
//! used: demand also moves by itself meanwhile, up about as often as down. To first order load is then
//! `(u − u₀) / (target − u₀)` with `u₀ = (1 + e) · target`: at the target it is 1 whatever was learned, so that learning
//! changes how far one step goes, not where it ends. Until enough was seen, load is `u / target` as the HPA has it; if
//! the map turns out flat or falling, so it stays, with a target of at most [`CAREFUL_TARGET`]. In both cases the status says
//! that utilization cannot tell.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::signal::{Mean, Quantiles};

/// Experiments kept, and needed before their median counts.
const KEPT: usize = 32;
const NEEDED: usize = 8;
/// Seconds of utilization before a change that are compared, and how long it settles before as many after it are.
const COMPARED: f64 = 60.0;
const SETTLING: f64 = 30.0;
/// A sample counts for at most so long, seconds.
const HOLD: f64 = 30.0;
/// An elasticity above this is as good as none.
const FLAT: f64 = -0.1;
/// The highest target, percent, where utilization was found not to tell load: that of the recipe which people run today
/// (`arena serve kserve --scale-target=50`), so that who changes over is not worse off.
pub const CAREFUL_TARGET: f64 = 50.0;
/// The floor is at most this share of the target: beyond it, noise would be taken for load.
const HIGHEST_FLOOR: f64 = 0.7;
/// The most that one replica's utilization can say of load: 100 % against the careful target.
const MOST: f64 = 2.0;

/// What is learned of the map, and the experiment under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Map {
    elasticity: Quantiles,
    recent: Mean,
    ready: u32,
    experiment: Option<Experiment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Experiment {
    since: f64,
    replicas: u32,
    utilization: f64,
}

impl Map {
    /// Takes in the mean utilization of all ready replicas, each of them known, at `now`.
    pub fn learn(&mut self, now: f64, ready: u32, utilization: f64) {
        if ready != self.ready {
            let before = self.recent.over(COMPARED, now, HOLD).filter(|(_, covered)| *covered >= COMPARED / 2.0);
            // One change after another is one experiment without a before.
            let settled = self.experiment.is_none() && self.ready > 0;
            self.experiment = Some(Experiment {
                since: now,
                replicas: self.ready,
                utilization: before.filter(|_| settled).map_or(0.0, |(mean, _)| mean),
            });
            self.ready = ready;
            self.recent.clear();
        }
        self.recent.push(now, utilization, COMPARED);
        if let Some(Experiment { since, replicas, utilization: before }) = self.experiment
            && now >= since + SETTLING + COMPARED
        {
            let after = self.recent.over(COMPARED, now, HOLD).filter(|(_, covered)| *covered >= COMPARED / 2.0);
            if let Some((after, _)) = after.filter(|(after, _)| *after > 0.0 && before > 0.0) {
                let elasticity = (after / before).ln() / (f64::from(ready) / f64::from(replicas)).ln();
                self.elasticity.push(elasticity.clamp(-3.0, 3.0), KEPT);
            }
            self.experiment = None;
        }
    }

    fn median(&self) -> Option<f64> {
        self.elasticity.at(0.5).filter(|_| self.elasticity.len() >= NEEDED)
    }

    /// Load of a replica that reads so many percent.
    #[must_use]
    pub fn load(&self, utilization: f64, target: f64) -> f64 {
        let (floor, target) = match self.median() {
            None => (0.0, target),
            Some(median) if median > FLAT => (0.0, target.min(CAREFUL_TARGET)),
            Some(median) => ((1.0 + median).clamp(0.0, HIGHEST_FLOOR) * target, target),
        };
        ((utilization - floor) / (target - floor)).clamp(0.0, MOST)
    }

    /// Why utilization does not tell how much load there is, if it does not.
    #[must_use]
    pub fn cannot_tell(&self) -> Option<Arc<str>> {
        let Some(median) = self.median() else {
            let seen = self.elasticity.len();
            return Some(
                format!("how it follows load is not known yet, from {seen} of {NEEDED} changes of the replicas").into(),
            );
        };
        if median <= FLAT {
            return None;
        }
        let what = if median > -FLAT { "it fell" } else { "it stayed" };
        let text =
            format!("{what} when load on each replica rose, in {} changes of the replicas", self.elasticity.len());
        Some(text.into())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "values that are exact by construction")]
mod tests {
    use super::*;

    /// Demand of 12 replicas' full load, spread over 12 to 24 replicas, up and down, each for five minutes.
    fn taught(curve: impl Fn(f64) -> f64) -> Map {
        let mut map = Map::default();
        let mut now = 0.0;
        for round in 0..12 {
            let replicas = if round % 2 == 0 { 14 } else { 20 };
            for _ in 0..30 {
                now += 10.0;
                map.learn(now, replicas, curve(12.0 / f64::from(replicas)));
            }
        }
        map
    }

    #[test]
    fn nothing_learned_is_proportional_as_the_hpa_has_it() {
        let map = Map::default();
        assert_eq!([0.0, 35.0, 70.0].map(|u| map.load(u, 70.0)), [0.0, 0.5, 1.0]);
        assert!(map.cannot_tell().is_some_and(|why| why.starts_with("how it follows load is not known yet")));
    }

    #[test]
    fn a_floor_is_learned_and_the_target_stays_full() {
        let map = taught(|load| 35.0 + 35.0 * load);
        assert_eq!(map.cannot_tell(), None);
        assert!((map.load(70.0, 70.0) - 1.0).abs() < 1e-9);
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
        assert_eq!((falling.load(25.0, 70.0), falling.load(20.0, 40.0)), (0.5, 0.5));
    }

    #[test]
    fn changes_in_quick_succession_teach_nothing() {
        let mut map = Map::default();
        for i in 0..200_u32 {
            map.learn(f64::from(i) * 10.0, 4 + i % 2, 50.0);
        }
        assert_eq!(
            map,
            Map { recent: map.recent.clone(), ready: map.ready, experiment: map.experiment, ..Map::default() }
        );
    }
}
