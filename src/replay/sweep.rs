//! Many policies on one trace: what each of them costs and attains, which are worth considering, and which one to take.

use serde::Serialize;

use super::{
    contest::{Contender, Entry, run_all},
    outcome::Outcome,
    simulation::Scenario,
    summary::Spread,
};
use crate::engine::Policy;

mod grid;

pub use grid::{Grid, GridError, MOST_POLICIES};

/// One policy of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// What differs from the policy that the sweep began with, in words.
    pub settings: String,
    /// The policy.
    pub policy: Policy,
    /// Attainment, the median of the seeds and the worst of them.
    pub slo_attainment: f64,
    /// See `slo_attainment`.
    pub slo_attainment_min: f64,
    /// Cost, median of the seeds.
    pub cost: f64,
    /// GPU hours, median.
    pub gpu_hours: f64,
    /// Cloud GPU hours, median.
    pub cloud_gpu_hours: f64,
    /// Changes of direction, median.
    pub direction_reversals: f64,
    /// No other policy of the sweep costs less and attains as much, or attains more for as much.
    pub on_front: bool,
}

/// A sweep's points, from cheap to dear, and the suggestion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sweep {
    /// All points.
    pub points: Vec<Point>,
    /// Index of the cheapest one that keeps the bound with every seed; of the one that attains most if none does.
    pub suggested: usize,
    /// Whether the suggested one keeps it.
    pub keeps: bool,
}

/// Runs them all with seeds 1 to `seeds`. `done` is told of each run.
///
/// # Errors
/// [`GridError`].
pub fn sweep(
    scenario: &Scenario,
    base: &Policy,
    grid: &Grid,
    seeds: u64,
    done: impl Fn(&str) + Sync,
) -> Result<Sweep, GridError> {
    let policies = grid.policies(base, scenario.signals)?;
    let entries: Vec<Entry<'_>> = policies
        .iter()
        .flat_map(|(_, policy)| {
            (1..=seeds).map(|seed| Entry {
                scenario,
                name: "tidegate",
                contender: Contender::Tidegate(Box::new(policy.clone())),
                seed,
            })
        })
        .collect();
    let count = entries.len();
    let outcomes = run_all(&entries, |_, _| done(&format!("one of {count} runs")));
    let points = policies.into_iter().zip(outcomes.chunks(seeds.max(1) as usize));
    Ok(ranked(
        points.map(|((settings, policy), outcomes)| point(settings, policy, outcomes)).collect(),
        scenario.slo.attainment,
    ))
}

fn point(settings: String, policy: Policy, outcomes: &[Outcome]) -> Point {
    let spread = |figure: fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(figure));
    let attainment = spread(|outcome| outcome.figures.slo_attainment);
    Point {
        settings,
        policy,
        slo_attainment: attainment.median,
        slo_attainment_min: attainment.min,
        cost: spread(|outcome| outcome.figures.cost).median,
        gpu_hours: spread(|outcome| outcome.figures.gpu_hours).median,
        cloud_gpu_hours: spread(|outcome| outcome.figures.cloud_gpu_hours).median,
        direction_reversals: spread(|outcome| outcome.figures.direction_reversals as f64).median,
        on_front: false,
    }
}

/// Sorts by cost, marks the front, and suggests.
fn ranked(mut points: Vec<Point>, bound: f64) -> Sweep {
    points.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(b.slo_attainment.total_cmp(&a.slo_attainment)));
    let mut best = f64::NEG_INFINITY;
    for point in &mut points {
        point.on_front = point.slo_attainment > best;
        best = best.max(point.slo_attainment);
    }
    let cheapest = points.iter().position(|point| point.slo_attainment_min >= bound);
    // The first of those that attain most: they are in the order of cost.
    let most =
        (0..points.len()).rev().max_by(|a, b| points[*a].slo_attainment_min.total_cmp(&points[*b].slo_attainment_min));
    Sweep { suggested: cheapest.or(most).unwrap_or(0), keeps: cheapest.is_some(), points }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(figures: &[(f64, f64)]) -> Vec<Point> {
        let point = |(cost, attainment): &(f64, f64)| Point {
            settings: String::new(),
            policy: Policy::default(),
            slo_attainment: *attainment,
            slo_attainment_min: *attainment,
            cost: *cost,
            gpu_hours: 0.0,
            cloud_gpu_hours: 0.0,
            direction_reversals: 0.0,
            on_front: false,
        };
        figures.iter().map(point).collect()
    }

    #[test]
    fn the_front_holds_what_nothing_beats_and_the_cheapest_that_keeps_the_bound_is_suggested() {
        let sweep = ranked(points(&[(30.0, 0.995), (10.0, 0.9), (20.0, 0.991), (25.0, 0.98), (40.0, 0.995)]), 0.99);
        let front: Vec<(f64, bool)> = sweep.points.iter().map(|point| (point.cost, point.on_front)).collect();
        assert_eq!(front, [(10.0, true), (20.0, true), (25.0, false), (30.0, true), (40.0, false)]);
        assert_eq!((sweep.suggested, sweep.keeps), (1, true));
    }

    #[test]
    fn if_nothing_keeps_the_bound_what_attains_most_is_suggested_and_said_not_to() {
        let sweep = ranked(points(&[(10.0, 0.9), (20.0, 0.95), (30.0, 0.94), (40.0, 0.95)]), 0.99);
        assert_eq!((sweep.suggested, sweep.keeps), (1, false));
    }
}
