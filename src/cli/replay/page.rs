//! What the HTML report is told.

use crate::replay::{
    Outcome, Scenario, Slo,
    baselines::oracle::bound::Bound,
    exporter::Signals,
    fleet::{CLOUD, Fleet, ON_PREMISES},
    model::interpolate,
    report::{Candidate, Report},
    sweep::Sweep,
};

/// The page.
pub(super) fn html(
    scenario: &Scenario,
    peak_replicas: u32,
    outcomes: &[Outcome],
    sweep: Option<&Sweep>,
    oracle: Option<&str>,
) -> String {
    let mut facts = facts(scenario, peak_replicas);
    facts.extend(oracle.map(|words| ("The oracle", words.to_owned())));
    let facts: Vec<(String, String)> = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let slo = scenario.slo;
    let bounds = format!("{}; asked for: {} % of the requests", bounds(slo), slo.attainment * 100.0);
    let candidates: Vec<Candidate> = sweep.map(candidates).unwrap_or_default();
    let report = Report {
        trace: &scenario.workload.trace.name,
        outcomes,
        bounds: &bounds,
        attainment: slo.attainment,
        facts: &facts,
        candidates: &candidates,
    };
    report.html()
}

/// The bounds on a request.
pub(super) fn bounds(slo: Slo) -> String {
    format!("first token within {} s and, in the mean, {} s for each further one", slo.ttft_seconds, slo.tpot_seconds)
}

/// How far the oracle's plan may be from the best, if it ran.
pub(super) fn gap(scenario: &Scenario, outcomes: &[Outcome]) -> Option<(Bound, String)> {
    let oracle = outcomes.iter().find(|outcome| outcome.name == "oracle")?;
    let bound = Bound::of(scenario, oracle.seed);
    let above = |found: f64, least: f64| (found / least - 1.0) * 100.0;
    let figures = oracle.figures;
    let words = format!(
        "no schedule does with less than {:.1} GPU hours or a cost of {:.1}; its plan, seed {}, is above that by {:.0} % and \
         {:.0} %",
        bound.gpu_hours,
        bound.cost,
        oracle.seed,
        above(figures.gpu_hours, bound.gpu_hours),
        above(figures.cost, bound.cost),
    );
    Some((bound, words))
}

fn candidates(sweep: &Sweep) -> Vec<Candidate> {
    let points = sweep.points.iter().enumerate().map(|(i, point)| Candidate {
        settings: point.settings.clone(),
        attainment: point.slo_attainment,
        cost: point.cost,
        front: point.on_front,
        suggested: i == sweep.suggested,
    });
    points.collect()
}

fn facts(scenario: &Scenario, peak_replicas: u32) -> Vec<(&'static str, String)> {
    let Scenario { workload, model, on_premises, min, max, signals, capacity, .. } = scenario;
    let (serving, startup, pools, exporter) = (&model.serving, &model.startup, &model.pools, &model.exporter);
    let load = |quantile| interpolate(&startup.model_load_quantiles, quantile);
    let ready = |pool| Fleet::time_to_ready(model, Some(pool));
    vec![
        (
            "Trace",
            format!("{} ({}), {:.1} h", workload.trace.name, workload.trace.format, workload.seconds() / 3_600.0),
        ),
        ("Scaled by", format!("{:.3}: {peak_replicas} replicas just do in its busiest hour", workload.scale)),
        ("Replicas", format!("{min} to {max}, of {} GPUs each", serving.gpus_per_replica)),
        ("On premises", format!("{on_premises} replicas")),
        ("One replica bears", format!("{capacity:.2} s of work a second")),
        (
            "Batch",
            format!("at most {} requests, prompts in chunks of {} tokens", serving.max_running, serving.chunk_tokens),
        ),
        ("Model load", format!("{:.0} s, one in ten {:.0} s or more", load(0.5), load(0.9))),
        (
            "Cloud node",
            format!("{:.0} s to boot, {:.0} s until given back", pools.cloud_boot_seconds, pools.cloud_release_seconds),
        ),
        (
            "Pod to ready",
            format!("{:.0} s on premises, {:.0} s in the cloud (medians)", ready(ON_PREMISES), ready(CLOUD)),
        ),
        ("Price of a GPU hour", format!("{} on premises, {} in the cloud", pools.on_premises_price, pools.cloud_price)),
        ("Utilization curve", exporter.curve.name().to_owned()),
        (
            "Scrapes",
            format!(
                "every {} s, noise ±{} points, {} % missing",
                exporter.interval_seconds,
                exporter.noise_points,
                exporter.hole_share * 100.0
            ),
        ),
        (
            "Pods offer",
            match signals {
                Signals::Queue => "utilization, queue and tokens",
                Signals::Utilization => "utilization alone",
            }
            .to_owned(),
        ),
    ]
}
