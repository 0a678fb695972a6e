//! The cheapest setting of a baseline that still keeps the bounds on a trace: a rival that knows the trace beforehand.

use std::collections::BTreeMap;

use super::{contest::Contender, simulation::Scenario};

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
    /// The thriftiest setting found that keeps the bound; the most cautious one that was tried if none does.
    pub contender: Contender,
    /// Whether it keeps the bound.
    pub keeps: bool,
}

/// Tries settings of one baseline on one scenario.
#[derive(Debug)]
pub struct Tuner<'a> {
    scenario: &'a Scenario,
    knob: Knob,
    /// Requests by seed, from 1 on: every setting meets the same ones.
    requests: Vec<u64>,
    /// What is known of the attainment by step and seed.
    tried: BTreeMap<(i64, u64), Attained>,
}

#[derive(Debug, Clone, Copy)]
enum Attained {
    Exactly(f64),
    /// The run was stopped when it could no longer attain this.
    Below(f64),
}

impl Attained {
    /// Whether it is at least this much; `None` if that is not known.
    fn at_least(self, bound: f64) -> Option<bool> {
        match self {
            Self::Exactly(attained) => Some(attained >= bound),
            Self::Below(limit) => (bound >= limit).then_some(false),
        }
    }
}

/// A setting that keeps the bound with the first seed but not in the median is followed by so many more cautious ones.
const STEPS_BACK: i64 = 20;

impl<'a> Tuner<'a> {
    /// Nothing has been tried yet.
    #[must_use]
    pub fn new(scenario: &'a Scenario, knob: Knob, seeds: u64) -> Self {
        let warmup = scenario.workload.warmup;
        let counted = |seed| scenario.workload.arrivals(seed).filter(|request| request.at >= warmup).count() as u64;
        Self { scenario, knob, requests: (1..=seeds.max(1)).map(counted).collect(), tried: BTreeMap::new() }
    }

    /// Finds the thriftiest setting that attains at least this with most of the seeds: by halving with the first seed, for
    /// which thriftier is taken to attain less, and from there back until the other seeds agree. Where chance breaks that
    /// order, a setting next to the best one may be found. A run is given up as soon as it cannot keep the bound any more.
    /// `done` is told of each run.
    pub fn thriftiest(&mut self, attainment: f64, done: impl Fn(&str)) -> Tuned {
        let (mut low, mut high) = (self.knob.first, self.knob.last + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.keeps(middle, 1, attainment, &done) { low = middle } else { high = middle }
        }
        let seeds = self.requests.len() as u64;
        let last = self.knob.first.max(low - STEPS_BACK);
        let agreed = (last..=low).rev().find(|step| {
            let keep = (1..=seeds).filter(|seed| self.keeps(*step, *seed, attainment, &done)).count() as u64;
            2 * keep > seeds
        });
        Tuned { contender: (self.knob.make)(agreed.unwrap_or(last)), keeps: agreed.is_some() }
    }

    fn keeps(&mut self, step: i64, seed: u64, attainment: f64, done: &impl Fn(&str)) -> bool {
        if let Some(known) = self.tried.get(&(step, seed)).and_then(|tried| tried.at_least(attainment)) {
            return known;
        }
        let contender = (self.knob.make)(step);
        let requests = self.requests.get(seed as usize - 1).copied().unwrap_or(0);
        let most_violations = ((1.0 - attainment).max(0.0) * requests as f64).floor() as u64;
        let tried = match contender.play_within(self.scenario, seed, most_violations) {
            Some(outcome) => Attained::Exactly(outcome.figures.slo_attainment),
            None => Attained::Below(attainment),
        };
        self.tried.insert((step, seed), tried);
        done(&contender.settings());
        matches!(tried, Attained::Exactly(_))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use super::*;
    use crate::replay::{
        Model, Slo,
        calibrate::{Fit, fit},
        summary::Spread,
        trace::Trace,
    };

    static SCENARIO: LazyLock<Scenario> = LazyLock::new(|| {
        let text = "time,rate\n0,2\n600,9\n1200,3\n1800,9\n";
        let trace = Arc::new(Trace::parse("t", text, None).expect("a trace"));
        let wanted = Fit { peak_replicas: 6, on_premises: Some(3), min: 1, max: None, span: (0.0, f64::MAX) };
        fit(&trace, &Model::default(), Slo::default(), wanted)
    });

    #[test]
    fn the_thriftiest_setting_keeps_the_bound_in_the_median_and_the_next_one_does_not() {
        let scenario = &*SCENARIO;
        let median = |contender: &Contender| {
            Spread::of((1..=3).map(|seed| contender.play(scenario, "", seed).figures.slo_attainment)).median
        };
        let tuned = Tuner::new(scenario, Knob::fixed(scenario.max), 3).thriftiest(0.99, |_| ());
        let Contender::Fixed(replicas) = tuned.contender else { panic!("a constant fleet") };
        assert!((4..=7).contains(&replicas), "six would do in the busiest hour: {replicas}");
        assert!(median(&Contender::Fixed(replicas)) >= 0.99 && median(&Contender::Fixed(replicas - 1)) < 0.99);
        let hpa = Tuner::new(scenario, Knob::HPA, 3).thriftiest(0.99, |_| ());
        assert!(hpa.keeps && median(&hpa.contender) >= 0.99, "{hpa:?}");
    }

    #[test]
    fn a_run_that_is_given_up_early_is_tried_anew_for_a_lower_bound_and_comes_to_the_same() {
        let scenario = &*SCENARIO;
        let mut one = Tuner::new(scenario, Knob::HPA, 1);
        for bound in [0.999, 0.99, 0.9, 0.95] {
            let fresh = Tuner::new(scenario, Knob::HPA, 1).thriftiest(bound, |_| ());
            assert_eq!(one.thriftiest(bound, |_| ()), fresh, "{bound}");
            let attained = fresh.contender.play(scenario, "", 1).figures.slo_attainment;
            assert!(attained >= bound, "{attained} against {bound}");
        }
    }

    #[test]
    fn where_nothing_keeps_the_bound_the_most_cautious_setting_is_given_and_said_not_to() {
        let trace = Arc::new(Trace::parse("t", "time,rate\n0,50\n600,50\n", None).expect("a trace"));
        let wanted = Fit { peak_replicas: 20, on_premises: Some(1), min: 1, max: Some(2), span: (0.0, f64::MAX) };
        let scenario = fit(&trace, &Model::default(), Slo::default(), wanted);
        let tuned = Tuner::new(&scenario, Knob::fixed(2), 1).thriftiest(0.99, |_| ());
        assert_eq!((tuned.contender, tuned.keeps), (Contender::Fixed(2), false));
    }
}
