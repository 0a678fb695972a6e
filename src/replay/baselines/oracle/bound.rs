//! How little any schedule could do with: a fluid that needs no start, no whole replicas and no luck.

use super::super::super::{serving::Rates, simulation::Scenario};

/// Windows over which work may be spread, seconds.
const WINDOW: f64 = 300.0;

/// GPU hours and cost below which no schedule keeps the bounds.
///
/// In each window of five minutes the replicas must compute the prompts, one after the other, and their batches must turn
/// out the tokens; whichever takes longer is counted. Replicas may be fractions, start and stop at once, and the on-premises
/// ones come first; at least the smallest fleet is there. Of the dearest work as much is left out as the share of requests
/// that may be missed, each taken for as large as the largest hundredth is in the mean. Work that is done later than its
/// window is counted in it: over a window's edge that is seconds.
#[must_use]
pub fn gpu_hours(scenario: &Scenario, seed: u64) -> (f64, f64) {
    let workload = &scenario.workload;
    let rates = Rates::new(&scenario.model);
    let windows = (workload.seconds() / WINDOW).ceil().max(1.0) as usize;
    let (mut prompts, mut tokens) = (vec![0.0; windows], vec![0.0; windows]);
    let most = scenario.model.serving.max_running as usize;
    let per_token = (1..=most).map(|batch| rates.step(batch) / batch as f64).fold(f64::INFINITY, f64::min);
    let mut sizes: Vec<f64> = Vec::new();
    for request in workload.arrivals(seed).filter(|request| request.at >= workload.warmup) {
        let at = (((request.at - workload.warmup) / WINDOW) as usize).min(windows - 1);
        let (prompt, answer) = (rates.prefill(request.prompt), f64::from(request.output) * per_token);
        prompts[at] += prompt;
        tokens[at] += answer;
        sizes.push(prompt + answer);
    }
    // The dearest requests are those that may be missed.
    sizes.sort_by(|a, b| b.total_cmp(a));
    let spared = ((1.0 - scenario.slo.attainment) * sizes.len() as f64).ceil() as usize;
    let mut spared: f64 = sizes.iter().take(spared).sum();
    let mut replicas: Vec<f64> = prompts.iter().zip(&tokens).map(|(a, b)| a.max(*b) / WINDOW).collect();
    // Above the on-premises pool a second is dearest: it is left out there first, then anywhere.
    let home = f64::from(scenario.on_premises);
    for floor in [home, 0.0] {
        for window in &mut replicas {
            let less = (*window - floor).max(0.0).min(spared / WINDOW);
            *window -= less;
            spared -= less * WINDOW;
        }
    }
    let hours = workload.seconds() / windows as f64 / 3_600.0 * f64::from(scenario.model.serving.gpus_per_replica);
    let pools = &scenario.model.pools;
    let least = f64::from(scenario.min);
    replicas.iter().fold((0.0, 0.0), |(gpu_hours, cost), window| {
        let all = window.max(least);
        let cloud = (all - home).max(0.0);
        let paid = (all - cloud) * pools.on_premises_price + cloud * pools.cloud_price;
        (gpu_hours + all * hours, cost + paid * hours)
    })
}
