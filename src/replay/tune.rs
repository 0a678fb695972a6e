//! The cheapest setting of a baseline that still keeps the bounds on a trace: a rival that knows the trace beforehand.

use std::collections::BTreeMap;

use super::{contest::Contender, outcome::Outcome, simulation::Scenario, summary::Spread};

/// A setting that is turned, in whole steps from cautious to thrifty.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// The first step, the most cautious one.
    first: i64,
    /// The last step.
    last: i64,
    make: fn(i64) -> Contender,
}

impl Knob {
    /// The HPA's target, 5 to 95 %.
    pub const HPA: Self = Self { first: 5, last: 95, make: |step| Contender::Hpa(step as f64) };
    /// KEDA's target, 1 to 128 requests a replica.
    pub const KEDA: Self = Self { first: 1, last: 128, make: |step| Contender::Keda(step as f64) };
    /// The KPA's target, 1 to 128 requests a replica.
    pub const KPA: Self = Self { first: 1, last: 128, make: |step| Contender::Kpa(step as f64) };

    /// A constant fleet, from `most` replicas down.
    #[must_use]
    pub fn fixed(most: u32) -> Self {
        Self { first: -i64::from(most), last: -1, make: |step| Contender::Fixed((-step) as u32) }
    }
}

/// What tuning came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The thriftiest setting found that keeps the bound; the one with the best attainment if none does.
    pub contender: Contender,
    /// Its cost, the median of the seeds that were tried.
    pub cost: f64,
    /// What it attains, the median of them.
    pub attainment: f64,
}

/// Tries settings of one baseline on one scenario, each once a seed.
#[derive(Debug)]
pub struct Tuner<'a> {
    scenario: &'a Scenario,
    knob: Knob,
    /// Seeds 1 to this.
    seeds: u64,
    /// Attainment and cost by step and seed.
    tried: BTreeMap<(i64, u64), (f64, f64)>,
}

/// A setting that keeps the bound with the first seed but not in the median is followed by so many more cautious ones.
const STEPS_BACK: i64 = 20;

impl<'a> Tuner<'a> {
    /// Nothing has been tried yet.
    #[must_use]
    pub fn new(scenario: &'a Scenario, knob: Knob, seeds: u64) -> Self {
        Self { scenario, knob, seeds: seeds.max(1), tried: BTreeMap::new() }
    }

    /// Finds the thriftiest setting whose median attainment is at least this: by halving with the first seed, for which
    /// thriftier is taken to attain less, and from there back until the other seeds agree. Where chance breaks that order,
    /// a setting next to the best one may be found. `done` is told of each run.
    pub fn thriftiest(&mut self, attainment: f64, done: impl Fn(&Outcome)) -> Tuned {
        let (mut low, mut high) = (self.knob.first, self.knob.last + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let (attained, _) = self.attempt(middle, 1, &done);
            if attained >= attainment { low = middle } else { high = middle }
        }
        let mut best: Option<Tuned> = None;
        for step in (self.knob.first.max(low - STEPS_BACK)..=low).rev() {
            let runs: Vec<(f64, f64)> = (1..=self.seeds).map(|seed| self.attempt(step, seed, &done)).collect();
            let tried = Tuned {
                contender: (self.knob.make)(step),
                cost: Spread::of(runs.iter().map(|run| run.1)).median,
                attainment: Spread::of(runs.iter().map(|run| run.0)).median,
            };
            let keeps = tried.attainment >= attainment;
            if keeps || best.as_ref().is_none_or(|best| tried.attainment > best.attainment) {
                best = Some(tried);
            }
            if keeps {
                break;
            }
        }
        // The range holds at least the first step.
        best.unwrap_or_else(|| Tuned { contender: (self.knob.make)(self.knob.first), cost: 0.0, attainment: 0.0 })
    }

    fn attempt(&mut self, step: i64, seed: u64, done: &impl Fn(&Outcome)) -> (f64, f64) {
        let (scenario, make) = (self.scenario, self.knob.make);
        *self.tried.entry((step, seed)).or_insert_with(|| {
            let outcome = make(step).play(scenario, "", seed);
            done(&outcome);
            (outcome.figures.slo_attainment, outcome.figures.cost)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::replay::{
        Model, Slo,
        calibrate::{Fit, fit},
        trace::Trace,
    };

    #[test]
    fn the_thriftiest_setting_keeps_the_bound_in_the_median_and_the_next_one_does_not() {
        let text = "time,rate\n0,2\n1800,9\n3600,3\n5400,9\n";
        let trace = Arc::new(Trace::parse("t", text, None).expect("a trace"));
        let wanted = Fit { peak_replicas: 6, on_premises: Some(3), min: 1, max: None, span: (0.0, f64::MAX) };
        let scenario = fit(&trace, &Model::default(), Slo::default(), wanted);
        let median = |contender: &Contender| {
            Spread::of((1..=3).map(|seed| contender.play(&scenario, "", seed).figures.slo_attainment)).median
        };
        let tuned = Tuner::new(&scenario, Knob::fixed(scenario.max), 3).thriftiest(0.99, |_| ());
        let Contender::Fixed(replicas) = tuned.contender else { panic!("a constant fleet") };
        assert!((4..=7).contains(&replicas), "six would do in the busiest hour: {replicas}");
        assert!(median(&Contender::Fixed(replicas)) >= 0.99 && median(&Contender::Fixed(replicas - 1)) < 0.99);
        let hpa = Tuner::new(&scenario, Knob::HPA, 3).thriftiest(0.99, |_| ());
        assert!(median(&hpa.contender) >= 0.99 && hpa.attainment >= 0.99, "{hpa:?}");
    }

    #[test]
    fn where_nothing_keeps_the_bound_the_best_that_was_found_is_given_and_says_so() {
        let trace = Arc::new(Trace::parse("t", "time,rate\n0,50\n1800,50\n", None).expect("a trace"));
        let wanted = Fit { peak_replicas: 20, on_premises: Some(1), min: 1, max: Some(2), span: (0.0, f64::MAX) };
        let scenario = fit(&trace, &Model::default(), Slo::default(), wanted);
        let tuned = Tuner::new(&scenario, Knob::fixed(2), 1).thriftiest(0.99, |_| ());
        assert!(tuned.attainment < 0.99);
        assert_eq!(tuned.contender, Contender::Fixed(2));
    }
}
