//! The criteria, each with the figure that it is judged by.

use super::{Case, Line, Suite};
use crate::replay::{exporter::Curve, outcome::Figures, summary::Spread};

/// One criterion, judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    /// What is asked for.
    pub asked: String,
    /// What was measured: the worst case, or the median where the criterion is about it.
    pub measured: String,
    /// Whether it is met; `None` where nothing in the suite can tell.
    pub met: Option<bool>,
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

fn gpu_hours(figures: &Figures) -> f64 {
    figures.gpu_hours
}

fn cloud(figures: &Figures) -> f64 {
    figures.cloud_gpu_hours
}

fn cost(figures: &Figures) -> f64 {
    figures.cost
}

fn attainment(figures: &Figures) -> f64 {
    figures.slo_attainment
}

/// Judges what was measured.
#[must_use]
pub fn judge(suite: &Suite) -> Vec<Criterion> {
    let learnable = |case: &&Case| matches!(case.curve, Curve::Mono | Curve::Lin);
    let blind = |case: &&Case| matches!(case.curve, Curve::Flat | Curve::Fall);
    let all = || suite.cases.iter();
    let mut criteria = vec![
        attains(
            "SLO attainment ≥ 99 % or within 1 point of the oracle, worst seed, queue signals, every curve",
            suite,
            all(),
            |case| &case.queue.0,
        ),
        attains(
            "the same with utilization alone, curves that can be learned",
            suite,
            all().filter(learnable),
            |case| &case.utilization.0,
        ),
        worst(
            "utilization alone on flat and fall: attains no less than the seed's HPA",
            suite,
            all().filter(blind),
            |case| case.utilization.0.median(attainment) - case.hpa.median(attainment),
            |difference| difference >= 0.0,
            |difference| format!("{:+.1} points", difference * 100.0),
        ),
        worst(
            "utilization alone on flat and fall: says that it cannot tell (share of decisions)",
            suite,
            all().filter(blind),
            |case| case.utilization.0.median(|figures| figures.cannot_tell),
            |share| share > 0.5,
            percent,
        ),
    ];
    let ratio = |figure: fn(&Figures) -> f64| {
        move |case: &Case| change(case.queue.0.median(figure), case.queue.1.median(figure))
    };
    criteria.extend([
        median("GPU hours against the HPA tuned to equal attainment: −15 %", all(), ratio(gpu_hours), -GPU_HOURS_SAVED),
        median("cloud GPU hours against it: −30 %", all(), ratio(cloud), -CLOUD_SAVED),
        worst(
            "cost against it: on no trace more than 5 % dearer",
            suite,
            all(),
            |case| -change(case.queue.0.median(cost), case.queue.1.median(cost)),
            |saved| saved >= -DEARER,
            |saved| percent_change(-saved),
        ),
        median(
            "cloud GPU hours against the seed's recipe: −70 %",
            all(),
            |case| change(case.queue.0.median(cloud), case.hpa.median(cloud)),
            -CLOUD_SAVED_FROM_SEED,
        ),
        worst(
            "GPU hours within 20 % of the oracle on traces of days, every curve",
            suite,
            all().filter(|case| suite.traces[case.trace].2 >= LONG_HOURS),
            |case| -above_oracle(suite, case),
            |saved| saved >= -ABOVE_ORACLE.0,
            |saved| percent_change(-saved),
        ),
        worst(
            "GPU hours within 30 % of the oracle on hours, every curve",
            suite,
            all().filter(|case| suite.traces[case.trace].2 < LONG_HOURS),
            |case| -above_oracle(suite, case),
            |saved| saved >= -ABOVE_ORACLE.1,
            |saved| percent_change(-saved),
        ),
        worst(
            "direction reversals ≤ 0.5 an hour",
            suite,
            all(),
            |case| -case.queue.0.median(|figures| figures.direction_reversals as f64 / figures.hours),
            |reversals| reversals >= -REVERSALS,
            |reversals| format!("{:.2} an hour", -reversals),
        ),
        worst(
            "scale-downs undone within the time to ready: 0 on smooth load",
            suite,
            all().filter(|case| suite.traces[case.trace].1),
            |case| -case.queue.0.spread(|figures| figures.undone_scale_downs as f64).max,
            |undone| undone >= 0.0,
            |undone| format!("{:.0}", -undone),
        ),
        worst(
            "the same, on bursty load (counted, no bound)",
            suite,
            all().filter(|case| !suite.traces[case.trace].1),
            |case| -case.queue.0.spread(|figures| figures.undone_scale_downs as f64).max,
            |_| true,
            |undone| format!("{:.0}", -undone),
        ),
        worst(
            "utilization alone costs ≤ 10 % more GPU hours on curves that can be learned",
            suite,
            all().filter(learnable),
            |case| -change(case.utilization.0.median(gpu_hours), case.queue.0.median(gpu_hours)),
            |saved| saved >= -UTILIZATION_ALONE,
            |saved| percent_change(-saved),
        ),
    ]);
    criteria
}

/// Relative change; none where there is nothing on either side, and without end where there was nothing.
fn change(this: f64, that: f64) -> f64 {
    if this.max(that) <= 0.0 { 0.0 } else { this / that - 1.0 }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn percent_change(change: f64) -> String {
    format!("{:+.1} %", change * 100.0)
}

fn oracle<'a>(suite: &'a Suite, case: &Case) -> Option<&'a Line> {
    suite.common.iter().find(|common| common.trace == case.trace).map(|common| &common.oracle)
}

fn above_oracle(suite: &Suite, case: &Case) -> f64 {
    oracle(suite, case).map_or(f64::NAN, |oracle| change(case.queue.0.median(gpu_hours), oracle.median(gpu_hours)))
}

/// Judged by what lies above the bound: 99 %, or a point below what the oracle attains if that is less.
fn attains<'a>(
    asked: &str,
    suite: &Suite,
    cases: impl Iterator<Item = &'a Case>,
    line: impl Fn(&Case) -> &Line,
) -> Criterion {
    let bound = |case: &Case| {
        let reached = oracle(suite, case).map_or(1.0, |oracle| oracle.spread(attainment).min);
        ATTAINMENT.min(reached - BELOW_ORACLE)
    };
    let cases: Vec<&Case> = cases.collect();
    let margin = |case: &Case| line(case).spread(attainment).min - bound(case);
    let mut criterion = worst(asked, suite, cases.iter().copied(), margin, |margin| margin >= 0.0, |_| String::new());
    if let Some(case) = cases.into_iter().min_by(|a, b| margin(a).total_cmp(&margin(b))) {
        let (attained, bound) = (line(case).spread(attainment).min, bound(case));
        criterion.measured = format!("{} against {}{}", percent(attained), percent(bound), criterion.measured);
    }
    criterion
}

/// Judged by the case with the least value.
fn worst<'a>(
    asked: &str,
    suite: &Suite,
    cases: impl Iterator<Item = &'a Case>,
    value: impl Fn(&Case) -> f64,
    holds: impl Fn(f64) -> bool,
    words: impl Fn(f64) -> String,
) -> Criterion {
    let worst = cases.map(|case| (value(case), case)).min_by(|a, b| a.0.total_cmp(&b.0));
    Criterion {
        asked: asked.to_owned(),
        measured: worst.map_or("nothing to measure it by".to_owned(), |(value, case)| {
            format!("{} ({}, {})", words(value), suite.traces[case.trace].0, case.curve.name())
        }),
        met: worst.map(|(value, _)| holds(value)),
    }
}

/// Judged by the median of relative changes.
fn median<'a>(
    asked: &str,
    cases: impl Iterator<Item = &'a Case>,
    value: impl Fn(&Case) -> f64,
    most: f64,
) -> Criterion {
    let values: Vec<f64> = cases.map(value).collect();
    let Spread { median, min, max } = Spread::of(values.iter().copied());
    let known = !values.is_empty();
    Criterion {
        asked: format!("{asked} in the median"),
        measured: if known {
            format!("{} ({} to {})", percent_change(median), percent_change(min), percent_change(max))
        } else {
            "nothing to measure it by".to_owned()
        },
        met: known.then_some(median <= most),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Common, *};

    fn line(gpu_hours: f64, cloud_gpu_hours: f64, slo_attainment: f64) -> Line {
        let figures =
            Figures { gpu_hours, cloud_gpu_hours, cost: gpu_hours, slo_attainment, hours: 10.0, ..Figures::default() };
        Line { name: "", settings: String::new(), figures: vec![figures] }
    }

    fn suite(engine: &Line, alone: &Line) -> Suite {
        let case = |curve| Case {
            trace: 0,
            curve,
            hpa: line(400.0, 300.0, 0.5),
            hpa_tuned: line(200.0, 100.0, 0.99),
            queue: (engine.clone(), line(200.0, 100.0, 0.99)),
            utilization: (alone.clone(), line(200.0, 100.0, 0.99)),
        };
        Suite {
            traces: vec![("t".to_owned(), true, 10.0)],
            common: vec![Common { trace: 0, lines: Vec::new(), oracle: line(131.0, 50.0, 1.0) }],
            cases: Curve::ALL.into_iter().map(case).collect(),
        }
    }

    fn met(suite: &Suite, asked: &str) -> (Option<bool>, String) {
        let found = judge(suite).into_iter().find(|criterion| criterion.asked.contains(asked)).expect("a criterion");
        (found.met, found.measured)
    }

    #[test]
    fn each_criterion_is_met_on_its_bound_and_missed_beyond_it() {
        let good = suite(&line(170.0, 70.0, 0.99), &line(187.0, 70.0, 0.99));
        let bad = suite(&line(171.0, 91.0, 0.989), &line(189.0, 91.0, 0.4));
        for asked in [
            "within 1 point of the oracle",
            "the same with utilization alone",
            "within 30 % of the oracle",
            "GPU hours against the HPA",
            "cloud GPU hours against it",
            "against the seed's recipe",
            "no less than the seed's HPA",
        ] {
            assert_eq!(met(&good, asked).0, Some(true), "{asked}: {}", met(&good, asked).1);
            assert_eq!(met(&bad, asked).0, Some(false), "{asked}: {}", met(&bad, asked).1);
        }
        assert_eq!(met(&good, "says that it cannot tell"), (Some(false), "0.0 % (t, flat)".to_owned()));
        assert_eq!(met(&good, "on bursty load").0, None, "no bursty trace");
        assert_eq!(met(&bad, "costs ≤ 10 %").0, Some(false));
    }

    #[test]
    fn where_even_the_oracle_attains_less_a_point_below_it_is_enough() {
        let mut suite = suite(&line(170.0, 70.0, 0.97), &line(170.0, 70.0, 0.97));
        suite.common[0].oracle = line(131.0, 50.0, 0.979);
        let (met, measured) = met(&suite, "within 1 point of the oracle");
        assert_eq!((met, measured.as_str()), (Some(true), "97.0 % against 96.9 % (t, mono)"));
    }

    #[test]
    fn dearer_than_the_hpa_on_any_trace_is_said() {
        let dear = suite(&line(211.0, 70.0, 1.0), &line(211.0, 70.0, 1.0));
        assert_eq!(met(&dear, "on no trace more than 5 %"), (Some(false), "+5.5 % (t, mono)".to_owned()));
    }
}
