//! The figures that the engine has to reach, over traces, utilization curves and signals, in one table.
//!
//! Each criterion is held against what was measured in the same suite: met or missed, with the figure. Nothing is left out
//! because it is missed.

use std::sync::Arc;

use super::{
    baselines::{hpa::SEED_TARGET, oracle},
    contest::{Contender, Name, side_by_side},
    exporter::{Curve, Signals},
    outcome::Figures,
    simulation::Scenario,
    summary::Spread,
    tidegate::policy_for,
    trace::Load,
    tune::{Knob, Tuner},
};

mod criteria;
#[cfg(test)]
pub(crate) mod fixture;
mod page;
mod rows;

pub use criteria::{Criterion, judge};
pub use page::html;
pub use rows::{Row, json};

/// A trace of the suite, fitted.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// Its name.
    pub name: String,
    /// The scenario with the model's own curve and with queue signals.
    pub scenario: Scenario,
}

/// One contender over the seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Who.
    pub name: &'static str,
    /// Its settings.
    pub settings: String,
    /// One for each seed.
    pub figures: Vec<Figures>,
}

impl Line {
    /// A figure over the seeds.
    #[must_use]
    pub fn spread(&self, figure: fn(&Figures) -> f64) -> Spread {
        Spread::of(self.figures.iter().map(figure))
    }

    /// Its median.
    #[must_use]
    pub fn median(&self, figure: fn(&Figures) -> f64) -> f64 {
        self.spread(figure).median
    }
}

/// What was measured on one trace, whatever the curve: these contenders do not look at utilization.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    /// Index of the trace.
    pub trace: usize,
    /// KEDA, the KPA and the constant fleet, each tuned.
    pub lines: Vec<Line>,
    /// Who knows the future.
    pub oracle: Line,
}

/// What was measured on one trace with one curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Index of the trace.
    pub trace: usize,
    /// The curve.
    pub curve: Curve,
    /// The HPA with the seed's recipe.
    pub hpa: Line,
    /// The HPA tuned to the bound.
    pub hpa_tuned: Line,
    /// The engine with queue signals, and the HPA tuned to what the engine attains there.
    pub queue: (Line, Line),
    /// The engine with utilization alone, and the HPA tuned to what the engine attains there.
    pub utilization: (Line, Line),
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Name of each trace, whether its load is smooth (a series of rates, not a log), and its hours.
    pub traces: Vec<(String, bool, f64)>,
    /// By trace.
    pub common: Vec<Common>,
    /// By trace and curve.
    pub cases: Vec<Case>,
}

impl Suite {
    /// The oracle on a trace.
    #[must_use]
    pub fn oracle(&self, trace: usize) -> Option<&Line> {
        self.common(trace).map(|common| &common.oracle)
    }

    fn common(&self, trace: usize) -> Option<&Common> {
        self.common.iter().find(|common| common.trace == trace)
    }
}

/// Two shares of requests in time that differ by no more than this are equal: the HPA is tuned to the engine's less this,
/// and the engine is let pass with as much less than another.
pub const EQUAL: f64 = 0.002;

/// Relative change; none where there is nothing on either side, and without end where there was nothing.
fn change(this: f64, that: f64) -> f64 {
    if this.max(that) <= 0.0 { 0.0 } else { this / that - 1.0 }
}

/// Measures everything. `done` is told of each run.
pub fn measure(traces: &[Fitted], seeds: u64, done: impl Fn(&str) + Sync) -> Suite {
    enum Part {
        Common(Common),
        Case(Box<Case>),
    }
    let curves = Curve::ALL.len();
    // The long parts first, so that no processor is left with one at the end.
    let parts = side_by_side(traces.len() * (curves + 1), |i| {
        let (trace, part) = (i / (curves + 1), i % (curves + 1));
        let Fitted { name, scenario } = &traces[trace];
        match Curve::ALL.get(part) {
            Some(curve) => {
                let done = |what: &str| done(&format!("{name}, {}: {what}", curve.name()));
                Part::Case(Box::new(case(trace, *curve, scenario, seeds, &done)))
            }
            None => Part::Common(common(trace, scenario, seeds, &|what| done(&format!("{name}: {what}")))),
        }
    });
    let mut suite = Suite {
        traces: traces
            .iter()
            .map(|Fitted { name, scenario }| {
                let smooth = matches!(scenario.workload.trace.load, Load::Rates(_));
                (name.clone(), smooth, scenario.workload.seconds() / 3_600.0)
            })
            .collect(),
        common: Vec::new(),
        cases: Vec::new(),
    };
    for part in parts {
        match part {
            Part::Common(common) => suite.common.push(common),
            Part::Case(case) => suite.cases.push(*case),
        }
    }
    suite
}

fn common(trace: usize, scenario: &Scenario, seeds: u64, done: &dyn Fn(&str)) -> Common {
    let knobs = [(Name::Keda, Knob::KEDA), (Name::Kpa, Knob::KPA), (Name::Fixed, Knob::fixed(scenario.max))];
    let lines = knobs.map(|(name, knob)| {
        let mut tuner = Tuner::new(scenario, knob, seeds);
        let tuned = tuner.thriftiest(scenario.slo.attainment, |tried| done(&tuning(name, tried)));
        line(scenario, name, &tuned.contender, seeds, done)
    });
    let name = Name::Oracle.as_str();
    let mut oracle = Line { name, settings: String::new(), figures: Vec::new() };
    for seed in 1..=seeds {
        let contender = Contender::Oracle(Arc::new(oracle::plan(scenario, seed)));
        oracle.figures.push(contender.play(scenario, name, seed).figures);
        oracle.settings = contender.settings();
        done(&format!("{name} seed {seed}"));
    }
    Common { trace, lines: lines.into(), oracle }
}

fn case(trace: usize, curve: Curve, scenario: &Scenario, seeds: u64, done: &dyn Fn(&str)) -> Case {
    let mut with_queue = scenario.clone();
    with_queue.model.exporter.curve = curve;
    with_queue.signals = Signals::Queue;
    let alone = Scenario { signals: Signals::Utilization, ..with_queue.clone() };
    // The HPA sees utilization in either case.
    let mut tuner = Tuner::new(&with_queue, Knob::HPA, seeds);
    let mut tuned_to = |attainment: f64| {
        let tuned = tuner.thriftiest(attainment, |tried| done(&tuning(Name::HpaTuned, tried)));
        line(&with_queue, Name::HpaTuned, &tuned.contender, seeds, done)
    };
    let engine = |scenario: &Scenario| {
        line(scenario, Name::Tidegate, &Contender::Tidegate(Box::new(policy_for(scenario))), seeds, done)
    };
    let mut beside = |engine: Line| {
        let attained = engine.median(|figures| figures.slo_attainment);
        let hpa = tuned_to(attained - EQUAL);
        (engine, hpa)
    };
    let queue = beside(engine(&with_queue));
    let utilization = beside(engine(&alone));
    Case {
        trace,
        curve,
        hpa: line(&with_queue, Name::Hpa, &Contender::Hpa(SEED_TARGET), seeds, done),
        hpa_tuned: tuned_to(scenario.slo.attainment),
        queue,
        utilization,
    }
}

fn line(scenario: &Scenario, name: Name, contender: &Contender, seeds: u64, done: &dyn Fn(&str)) -> Line {
    let name = name.as_str();
    let figures = (1..=seeds).map(|seed| {
        let outcome = contender.play(scenario, name, seed);
        done(&format!("{name} seed {seed}"));
        outcome.figures
    });
    Line { name, settings: contender.settings(), figures: figures.collect() }
}

fn tuning(name: Name, tried: &str) -> String {
    format!("tuning {}: {tried}", name.as_str())
}
