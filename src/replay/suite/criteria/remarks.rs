//! What stands beside a criterion's figure, each time by the same measure and from the same runs.

use super::{
    super::{Case, Line, Suite, change},
    asked, attainment, cloud, gpu_hours, percent_change, reversals_an_hour, undone,
};
use crate::replay::{contest::Name, report::table::percent, summary::Spread};

/// What the oracle keeps where it is decided.
pub(super) fn oracle_keeps(suite: &Suite, case: &Case) -> Option<String> {
    let oracle = suite.oracle(case.trace)?;
    Some(format!("the oracle itself keeps {} there in its worst seed", percent(oracle.spread(attainment).min)))
}

/// The oracle's median of relative changes over some cases.
pub(super) fn oracles_median<'a>(
    suite: &Suite,
    cases: impl Iterator<Item = &'a Case>,
    value: impl Fn(&Case, &Line) -> f64,
) -> Option<String> {
    let values: Vec<f64> = cases.filter_map(|case| Some(value(case, suite.oracle(case.trace)?))).collect();
    (!values.is_empty()).then(|| percent_change(Spread::of(values).median))
}

/// A recipe that hardly scales needs little cloud and serves few in time: the engine's median, and the oracle's, over those
/// cases alone in which the recipe keeps what is asked of the engine.
pub(super) fn where_the_recipe_keeps(suite: &Suite, value: impl Fn(&Case, &Line) -> f64) -> Option<String> {
    let keeps = |case: &&Case| case.hpa.spread(attainment).min >= asked(suite, case.trace);
    let keeping: Vec<&Case> = suite.cases.iter().filter(keeps).collect();
    if suite.cases.is_empty() {
        return None;
    }
    let (kept, of) = (keeping.len(), suite.cases.len());
    let words = format!("the recipe itself keeps the attainment asked for in {kept} of {of} cases");
    if keeping.is_empty() {
        return Some(words);
    }
    let own = Spread::of(keeping.iter().map(|case| value(case, &case.queue.0))).median;
    let oracle = oracles_median(suite, keeping.into_iter(), value);
    let oracle = oracle.map_or_else(String::new, |oracle| format!(" (the oracle {oracle})"));
    Some(format!("{words}, {} over these{oracle}", percent_change(own)))
}

/// Utilization alone, and the HPA that sees the same.
pub(super) fn beside_equal_hpa(case: &Case) -> String {
    let (engine, hpa) = &case.utilization;
    format!("in the median it keeps {}, the HPA at equal attainment {}", kept(engine), kept(hpa))
}

/// As [`beside_equal_hpa`], with the recipe.
pub(super) fn beside_seeds_hpa(case: &Case) -> String {
    let (engine, hpa) = &case.utilization;
    format!("it keeps {}, the seed's HPA {}, the HPA at equal attainment {}", kept(engine), kept(&case.hpa), kept(hpa))
}

/// As [`beside_equal_hpa`], with the engine that sees queues.
pub(super) fn beside_queue_signals(case: &Case) -> String {
    let (engine, hpa) = &case.utilization;
    let queue = kept(&case.queue.0);
    format!("it keeps {}, with queue signals {queue}, the HPA at equal attainment {}", kept(engine), kept(hpa))
}

/// Where the GPU hours beyond the oracle's are, and what others need beyond it.
pub(super) fn above_oracle(suite: &Suite, case: &Case) -> Option<String> {
    let (engine, oracle) = (&case.queue.0, suite.oracle(case.trace)?);
    let all = engine.median(gpu_hours) - oracle.median(gpu_hours);
    let in_cloud = engine.median(cloud) - oracle.median(cloud);
    let part = |hours: f64| {
        let share = if all > 0.0 { format!(" ({:.0} %)", hours / all * 100.0) } else { String::new() };
        format!("{hours:+.1}{share}")
    };
    let mut words =
        format!("{all:+.1} GPU hours, {} of them in the cloud, {} on premises", part(in_cloud), part(all - in_cloud));
    let fixed = rival(suite, case, Name::Fixed).map(|fixed| ("the fixed fleet", fixed));
    for (name, line) in [("the tuned HPA", &case.hpa_tuned)].into_iter().chain(fixed) {
        let above = percent_change(change(line.median(gpu_hours), oracle.median(gpu_hours)));
        words += &format!("; {name} {above} (keeps {})", percent(line.median(attainment)));
    }
    Some(words)
}

/// The least that is not nothing, what others do there, and the engine on every trace with its worst curve.
pub(super) fn reversals(suite: &Suite, case: &Case) -> String {
    let hours = case.queue.0.median(|figures| figures.hours);
    let others = [
        ("the tuned HPA", Some(&case.hpa_tuned)),
        ("KEDA", rival(suite, case, Name::Keda)),
        ("the KPA", rival(suite, case, Name::Kpa)),
        ("the oracle", suite.oracle(case.trace)),
    ];
    let others =
        others.into_iter().filter_map(|(name, line)| Some(format!("{name} {:.2}", line?.median(reversals_an_hour))));
    let traces = suite.traces.iter().enumerate().map(|(trace, (name, ..))| {
        let of_trace = suite.cases.iter().filter(|case| case.trace == trace);
        let most = Spread::of(of_trace.map(|case| case.queue.0.median(reversals_an_hour))).max;
        format!("{name} {most:.2}")
    });
    format!(
        "one reversal in these {hours:.2} h is {:.2} an hour; there {}; the engine by trace: {}",
        1.0 / hours,
        others.collect::<Vec<_>>().join(", "),
        traces.collect::<Vec<_>>().join(", "),
    )
}

/// What others undo on the same trace, by the same measure.
pub(super) fn undone_by_rivals(suite: &Suite, case: &Case) -> String {
    let others = [
        ("the HPA at equal attainment", Some(&case.queue.1)),
        ("KEDA", rival(suite, case, Name::Keda)),
        ("the oracle", suite.oracle(case.trace)),
    ];
    let others = others.into_iter().filter_map(|(name, line)| Some(format!("{name} {:.0}", line?.spread(undone).max)));
    format!("there, each in its worst seed: {}", others.collect::<Vec<_>>().join(", "))
}

fn rival<'a>(suite: &'a Suite, case: &Case, name: Name) -> Option<&'a Line> {
    suite.common(case.trace)?.lines.iter().find(|line| line.name == name.as_str())
}

/// Requests in time and what they take, medians.
fn kept(line: &Line) -> String {
    format!("{} with {:.1} GPU hours", percent(line.median(attainment)), line.median(gpu_hours))
}
