//! The criteria, each with the figure that it is judged by, and what was measured beside it: how far the oracle gets, what
//! the rivals need, what arithmetic leaves. The remark changes no verdict.

use serde::Serialize;

use super::{Case, EQUAL, Line, Suite, change};
use crate::replay::{exporter::Curve, outcome::Figures, summary::Spread};

mod remarks;

/// One criterion, judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Criterion {
    /// What is asked for.
    pub asked: String,
    /// What was measured: the worst case, or the median where the criterion is about it.
    pub measured: String,
    /// Whether it is met; `None` where nothing in the suite can tell.
    pub met: Option<bool>,
    /// What was measured beside it; `None` where there is nothing.
    pub remark: Option<String>,
}

impl Criterion {
    /// The verdict in words.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        }
    }
}

/// A criterion, and the case that decides it, if it is one.
struct Judged<'a> {
    criterion: Criterion,
    decides: Option<&'a Case>,
}

impl Judged<'_> {
    /// Adds what stands beside the case that decides.
    fn beside(self, clause: impl Fn(&Case) -> Option<String>) -> Self {
        let clause = self.decides.and_then(clause);
        self.remark(clause)
    }

    fn remark(mut self, clause: Option<String>) -> Self {
        let clauses: Vec<String> = self.criterion.remark.take().into_iter().chain(clause).collect();
        self.criterion.remark = (!clauses.is_empty()).then(|| clauses.join("; "));
        self
    }
}

/// Least attainment, the worst seed included.
const ATTAINMENT: f64 = 0.99;
/// Against the HPA at equal attainment: GPU hours, cloud GPU hours (medians), and the most that one trace may cost more.
const GPU_HOURS_SAVED: f64 = 0.15;
/// See [`GPU_HOURS_SAVED`].
const CLOUD_SAVED: f64 = 0.30;
/// See [`GPU_HOURS_SAVED`].
const DEARER: f64 = 0.05;
/// Against the seed's recipe: cloud GPU hours.
const CLOUD_SAVED_FROM_SEED: f64 = 0.70;
/// Direction reversals an hour.
const REVERSALS: f64 = 0.5;
/// Utilization alone costs at most so much more GPU hours.
const UTILIZATION_ALONE: f64 = 0.10;

/// Within so much of the oracle's attainment is good enough, where nobody can attain more.
const BELOW_ORACLE: f64 = 0.01;
/// GPU hours above the oracle's on traces of at least [`LONG_HOURS`], and on shorter ones.
const ABOVE_ORACLE: (f64, f64) = (0.20, 0.30);
/// A trace of days.
const LONG_HOURS: f64 = 72.0;

pub(super) fn gpu_hours(figures: &Figures) -> f64 {
    figures.gpu_hours
}

pub(super) fn cloud(figures: &Figures) -> f64 {
    figures.cloud_gpu_hours
}

pub(super) fn cost(figures: &Figures) -> f64 {
    figures.cost
}

pub(super) fn attainment(figures: &Figures) -> f64 {
    figures.slo_attainment
}

pub(super) fn reversals_an_hour(figures: &Figures) -> f64 {
    figures.direction_reversals as f64 / figures.hours
}

pub(super) fn undone(figures: &Figures) -> f64 {
    figures.undone_scale_downs as f64
}

/// Share of the requests that have to be in time on a trace, with every seed: 99 %, or a point below what the oracle attains
/// if that is less.
pub(super) fn asked(suite: &Suite, trace: usize) -> f64 {
    let reached = suite.oracle(trace).map_or(1.0, |oracle| oracle.spread(attainment).min);
    ATTAINMENT.min(reached - BELOW_ORACLE)
}

/// Judges what was measured.
#[must_use]
pub fn judge(suite: &Suite) -> Vec<Criterion> {
    let all = || suite.cases.iter();
    let learnable = || all().filter(|case| matches!(case.curve, Curve::Mono | Curve::Lin));
    let blind = || all().filter(|case| matches!(case.curve, Curve::Flat | Curve::Fall));
    let smooth = |wanted: bool| all().filter(move |case| suite.traces[case.trace].1 == wanted);
    let long = |wanted: bool| all().filter(move |case| (suite.traces[case.trace].2 >= LONG_HOURS) == wanted);
    let above_oracle = |case: &Case| {
        suite
            .oracle(case.trace)
            .map_or(f64::NAN, |oracle| change(case.queue.0.median(gpu_hours), oracle.median(gpu_hours)))
    };
    let against_hpa = |figure: fn(&Figures) -> f64| {
        move |case: &Case, line: &Line| change(line.median(figure), case.queue.1.median(figure))
    };
    let cloud_against_seed = |case: &Case, line: &Line| change(line.median(cloud), case.hpa.median(cloud));
    let judged = [
        attains(
            "SLO attainment ≥ 99 % or within 1 point of the oracle, worst seed, queue signals, every curve",
            suite,
            all(),
            |case| &case.queue.0,
        ),
        attains("the same with utilization alone, curves that can be learned", suite, learnable(), |case| {
            &case.utilization.0
        })
        .beside(|case| Some(remarks::beside_equal_hpa(case))),
        worst(
            "utilization alone on flat and fall: attains no less than the seed's HPA, within 0.2 points",
            suite,
            blind(),
            |case| case.utilization.0.median(attainment) - case.hpa.median(attainment),
            |difference| difference >= -EQUAL,
            |difference, _| format!("{:+.2} points", difference * 100.0),
        )
        .beside(|case| Some(remarks::beside_seeds_hpa(case))),
        worst(
            "utilization alone on flat and fall: says that it cannot tell (share of decisions)",
            suite,
            blind(),
            |case| case.utilization.0.median(|figures| figures.cannot_tell),
            |share| share > 0.5,
            |share, _| percent(share),
        ),
        median(
            "GPU hours against the HPA tuned to equal attainment: −15 %",
            suite,
            against_hpa(gpu_hours),
            -GPU_HOURS_SAVED,
        ),
        median("cloud GPU hours against it: −30 %", suite, against_hpa(cloud), -CLOUD_SAVED),
        worst(
            "cost against it: on no trace more than 5 % dearer",
            suite,
            all(),
            |case| -against_hpa(cost)(case, &case.queue.0),
            |saved| saved >= -DEARER,
            |saved, _| percent_change(-saved),
        )
        .beside(|case| {
            let oracle = against_hpa(cost)(case, suite.oracle(case.trace)?);
            Some(format!("the oracle itself {} there", percent_change(oracle)))
        }),
        median("cloud GPU hours against the seed's recipe: −70 %", suite, cloud_against_seed, -CLOUD_SAVED_FROM_SEED)
            .remark(remarks::where_the_recipe_keeps(suite, cloud_against_seed)),
        worst(
            "GPU hours within 20 % of the oracle on traces of days, every curve",
            suite,
            long(true),
            |case| -above_oracle(case),
            |saved| saved >= -ABOVE_ORACLE.0,
            |saved, _| percent_change(-saved),
        )
        .beside(|case| remarks::above_oracle(suite, case)),
        worst(
            "GPU hours within 30 % of the oracle on hours, every curve",
            suite,
            long(false),
            |case| -above_oracle(case),
            |saved| saved >= -ABOVE_ORACLE.1,
            |saved, _| percent_change(-saved),
        )
        .beside(|case| remarks::above_oracle(suite, case)),
        worst(
            "direction reversals ≤ 0.5 an hour",
            suite,
            all(),
            |case| -case.queue.0.median(reversals_an_hour),
            |reversals| reversals >= -REVERSALS,
            |reversals, _| format!("{:.2} an hour", -reversals),
        )
        .beside(|case| Some(remarks::reversals(suite, case))),
        worst(
            "scale-downs undone within the time to ready: 0 on smooth load",
            suite,
            smooth(true),
            |case| -case.queue.0.spread(undone).max,
            |undone| undone >= 0.0,
            |undone, _| format!("{:.0}", -undone),
        )
        .beside(|case| Some(remarks::undone_by_rivals(suite, case))),
        worst(
            "the same, on bursty load (counted, no bound)",
            suite,
            smooth(false),
            |case| -case.queue.0.spread(undone).max,
            |_| true,
            |undone, _| format!("{:.0}", -undone),
        )
        .beside(|case| Some(remarks::undone_by_rivals(suite, case))),
        worst(
            "utilization alone costs ≤ 10 % more GPU hours on curves that can be learned",
            suite,
            learnable(),
            |case| -change(case.utilization.0.median(gpu_hours), case.queue.0.median(gpu_hours)),
            |saved| saved >= -UTILIZATION_ALONE,
            |saved, _| percent_change(-saved),
        )
        .beside(|case| Some(remarks::beside_queue_signals(case))),
    ];
    judged.into_iter().map(|judged| judged.criterion).collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// `+12.3 %`; what there was nothing of before has grown without end.
pub(super) fn percent_change(change: f64) -> String {
    if change == f64::INFINITY { "+∞ %".to_owned() } else { format!("{:+.1} %", change * 100.0) }
}

/// Judged by what lies above the share that is [`asked`] for.
fn attains<'a>(
    words: &str,
    suite: &Suite,
    cases: impl Iterator<Item = &'a Case>,
    line: impl Fn(&Case) -> &Line,
) -> Judged<'a> {
    let attained = |case: &Case| line(case).spread(attainment).min;
    worst(
        words,
        suite,
        cases,
        |case| attained(case) - asked(suite, case.trace),
        |margin| margin >= 0.0,
        |_, case| format!("{} against {}", percent(attained(case)), percent(asked(suite, case.trace))),
    )
    .beside(|case| remarks::oracle_keeps(suite, case))
}

/// Judged by the case with the least value.
fn worst<'a>(
    asked: &str,
    suite: &Suite,
    cases: impl Iterator<Item = &'a Case>,
    value: impl Fn(&Case) -> f64,
    holds: impl Fn(f64) -> bool,
    words: impl Fn(f64, &Case) -> String,
) -> Judged<'a> {
    let valued: Vec<(f64, &Case)> = cases.map(|case| (value(case), case)).collect();
    let worst = valued.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0));
    let missed = valued.iter().filter(|(value, _)| !holds(*value)).count();
    let criterion = Criterion {
        asked: asked.to_owned(),
        measured: worst.map_or("nothing to measure it by".to_owned(), |(value, case)| {
            format!("{} ({}, {})", words(value, case), suite.traces[case.trace].0, case.curve.name())
        }),
        met: worst.map(|(value, _)| holds(value)),
        remark: (missed > 0).then(|| format!("missed in {missed} of {} cases", valued.len())),
    };
    Judged { criterion, decides: worst.map(|(_, case)| case) }
}

/// Judged by the median, over all cases, of the engine's relative changes with queue signals; beside it the oracle's.
fn median<'a>(asked: &str, suite: &'a Suite, value: impl Fn(&Case, &Line) -> f64, most: f64) -> Judged<'a> {
    let values: Vec<f64> = suite.cases.iter().map(|case| value(case, &case.queue.0)).collect();
    let Spread { median, min, max } = Spread::of(values.iter().copied());
    let known = !values.is_empty();
    let criterion = Criterion {
        asked: format!("{asked} in the median"),
        measured: if known {
            format!("{} ({} to {})", percent_change(median), percent_change(min), percent_change(max))
        } else {
            "nothing to measure it by".to_owned()
        },
        met: known.then_some(median <= most),
        remark: None,
    };
    let oracle = remarks::oracles_median(suite, suite.cases.iter(), value);
    Judged { criterion, decides: None }.remark(oracle.map(|oracle| format!("the oracle itself {oracle}")))
}

#[cfg(test)]
mod tests;
