//! The data that the page's script draws: columns of rounded numbers, since they are most of the page.

use serde::Serialize;

use super::{
    super::{outcome::Move, summary::summarize},
    Candidate, MAX_CANDIDATES, MAX_DECISIONS, MAX_SAMPLES, MAX_SENTENCE, Outcome, Report, Sample, Summary,
};

#[derive(Debug, Serialize)]
pub(super) struct Data<'a> {
    attainment: f64,
    runs: Vec<Run<'a>>,
    candidates: &'a [Candidate],
}

/// One contender's run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<'a> {
    name: &'a str,
    settings: &'a str,
    seed: u64,
    attainment: f64,
    gpu_hours: f64,
    cloud_gpu_hours: f64,
    cost: f64,
    /// Length of a sample, seconds.
    seconds: f64,
    load: Vec<f64>,
    demand: Vec<Option<f64>>,
    utilization: Vec<f64>,
    desired: Vec<u32>,
    on_premises: Vec<u32>,
    cloud: Vec<u32>,
    starting: Vec<u32>,
    pending: Vec<u32>,
    nodes: Vec<u32>,
    queue: Vec<u32>,
    requests: Vec<u32>,
    violations: Vec<u32>,
    decisions: Vec<Decision>,
    /// Decisions that were recorded with their sentences: all, or the first ones.
    recorded: usize,
    /// Decisions that there were.
    of_decisions: u64,
}

/// When, from, to, and why.
#[derive(Debug, Serialize)]
struct Decision(f64, u32, u32, String);

impl<'a> Data<'a> {
    pub(super) fn of(report: &Report<'a>) -> Self {
        let runs = summarize(report.outcomes).iter().filter_map(Run::of).collect();
        let candidates = &report.candidates[..report.candidates.len().min(MAX_CANDIDATES)];
        Self { attainment: report.attainment, runs, candidates }
    }
}

impl<'a> Run<'a> {
    /// The run whose cost is in the middle, with the medians of all.
    fn of(summary: &Summary<'a>) -> Option<Self> {
        let mut runs = summary.outcomes.clone();
        runs.sort_by(|a, b| a.figures.cost.total_cmp(&b.figures.cost));
        let outcome: &'a Outcome = runs.get(runs.len().saturating_sub(1) / 2)?;
        let samples = &outcome.timeline.samples[..outcome.timeline.samples.len().min(MAX_SAMPLES)];
        let counts = |of: fn(&Sample) -> u32| samples.iter().map(of).collect::<Vec<_>>();
        let tenths = |value: f64| if value.is_finite() { (value * 10.0).round() / 10.0 } else { 0.0 };
        let first = outcome.timeline.seconds * samples.len() as f64;
        Some(Self {
            name: summary.name,
            settings: summary.settings,
            seed: outcome.seed,
            attainment: summary.spread(|figures| figures.slo_attainment).median,
            gpu_hours: summary.spread(|figures| figures.gpu_hours).median,
            cloud_gpu_hours: summary.spread(|figures| figures.cloud_gpu_hours).median,
            cost: summary.spread(|figures| figures.cost).median,
            seconds: outcome.timeline.seconds,
            load: samples.iter().map(|sample| tenths(sample.load)).collect(),
            demand: samples.iter().map(|sample| sample.demand.map(tenths)).collect(),
            utilization: samples.iter().map(|sample| sample.utilization.round()).collect(),
            desired: counts(|sample| sample.desired),
            on_premises: counts(|sample| sample.ready_on_premises),
            cloud: counts(|sample| sample.ready_cloud),
            starting: counts(|sample| sample.starting),
            pending: counts(|sample| sample.pending),
            nodes: counts(|sample| sample.cloud_nodes),
            queue: counts(|sample| sample.queue),
            requests: counts(|sample| sample.requests),
            violations: counts(|sample| sample.violations),
            decisions: thinned(&outcome.moves, first),
            recorded: outcome.moves.len(),
            of_decisions: outcome.figures.scale_events,
        })
    }
}

/// All decisions, or the largest of each stretch of time.
fn thinned(moves: &[Move], seconds: f64) -> Vec<Decision> {
    let decision = |one: &Move| {
        let why: String = one.why.chars().take(MAX_SENTENCE).collect();
        Decision(one.at.round(), one.from, one.to, why)
    };
    if moves.len() <= MAX_DECISIONS {
        return moves.iter().map(decision).collect();
    }
    let stretch = |one: &Move| (one.at / seconds * MAX_DECISIONS as f64) as usize;
    let stretches = moves.chunk_by(|a, b| stretch(a) == stretch(b));
    stretches
        .filter_map(|moves| moves.iter().max_by_key(|one| one.to.abs_diff(one.from)))
        .take(MAX_DECISIONS)
        .map(decision)
        .collect()
}
