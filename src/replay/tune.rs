//! The cheapest setting of a baseline that still keeps the bounds on a trace: a rival that knows the trace beforehand.

use std::collections::BTreeMap;

use super::{contest::Contender, outcome::Outcome, simulation::Scenario};

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
    /// Its run.
    pub outcome: Outcome,
    /// Whether it keeps the bound.
    pub keeps: bool,
}

/// Tries settings of one baseline on one scenario, each once.
#[derive(Debug)]
pub struct Tuner<'a> {
    scenario: &'a Scenario,
    knob: Knob,
    seed: u64,
    tried: BTreeMap<i64, Outcome>,
}

impl<'a> Tuner<'a> {
    /// Nothing has been tried yet.
    #[must_use]
    pub fn new(scenario: &'a Scenario, knob: Knob, seed: u64) -> Self {
        Self { scenario, knob, seed, tried: BTreeMap::new() }
    }

    /// Finds the thriftiest setting with at least this attainment, by halving: thriftier is taken to attain less. Where
    /// chance breaks that order, a setting next to the best one may be found. `done` is told of each run.
    pub fn thriftiest(&mut self, attainment: f64, done: impl Fn(&Outcome)) -> Tuned {
        let mut best = self.attempt(self.knob.first, attainment, &done);
        let (mut low, mut high) = (self.knob.first, self.knob.last + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let tried = self.attempt(middle, attainment, &done);
            if tried.keeps {
                low = middle;
            } else {
                high = middle;
            }
            if better(&tried, &best) {
                best = tried;
            }
        }
        best
    }

    fn attempt(&mut self, step: i64, attainment: f64, done: &impl Fn(&Outcome)) -> Tuned {
        let contender = (self.knob.make)(step);
        let (scenario, seed) = (self.scenario, self.seed);
        let outcome = self.tried.entry(step).or_insert_with(|| {
            let outcome = contender.play(scenario, "", seed);
            done(&outcome);
            outcome
        });
        Tuned { keeps: outcome.figures.slo_attainment >= attainment, outcome: outcome.clone(), contender }
    }
}

/// One that keeps the bound before one that does not; of two that do the cheaper, of two that do not the one that attains
/// more.
fn better(a: &Tuned, b: &Tuned) -> bool {
    let (this, that) = (&a.outcome.figures, &b.outcome.figures);
    match (a.keeps, b.keeps) {
        (true, true) => this.cost < that.cost,
        (false, false) => this.slo_attainment > that.slo_attainment,
        (keeps, _) => keeps,
    }
}
