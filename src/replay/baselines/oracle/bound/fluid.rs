//! The bound by work alone.

use super::{Rates, Scenario, may_miss, requests};

/// Windows over which work may be spread, seconds.
const WINDOW: f64 = 300.0;

/// What a window asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    /// Seconds of prompts.
    prompts: f64,
    /// Chunks in which they are computed.
    chunks: f64,
    /// Tokens after the first ones.
    tokens: f64,
}

/// Seconds of replicas, those above the on-premises pool times `cloud_price`.
///
/// In each window the replicas compute the prompts one after the other, and turn out the tokens: beside chunks of prompts at
/// what a larger batch adds to a step, beyond that in full batches. Replicas may be fractions and start and stop at once; at
/// least the smallest fleet is there. Of the dearest windows as much is left out as the largest requests that may be missed
/// come to. Work that is done later than its window counts in it: over a window's edge that is seconds.
pub(super) fn seconds(scenario: &Scenario, seed: u64, cloud_price: f64) -> f64 {
    let rates = Rates::new(&scenario.model);
    let serving = &scenario.model.serving;
    let most = serving.max_running as usize;
    let per_token = (1..=most).map(|batch| rates.step(batch) / batch as f64).fold(f64::INFINITY, f64::min);
    let beside = Beside::new(&rates, most);
    // Without one token a window is done sooner by no more than this.
    let dearest = per_token.max(beside.seconds(most as f64) - beside.seconds(most as f64 - 1.0));
    let length = scenario.workload.seconds();
    let count = (length / WINDOW).ceil().max(1.0) as usize;
    let width = length / count as f64;
    let mut windows = vec![Window::default(); count];
    let mut sizes: Vec<f64> = Vec::new();
    for request in requests(scenario, seed) {
        let window = &mut windows[((request.at / width) as usize).min(count - 1)];
        let prompt = rates.prefill(request.prompt);
        let tokens = f64::from(request.output.saturating_sub(1));
        window.prompts += prompt;
        window.tokens += tokens;
        if serving.chunk_tokens > 0 {
            window.chunks += f64::from(request.prompt.div_ceil(serving.chunk_tokens).max(1));
        }
        sizes.push(prompt + tokens * dearest);
    }
    let mut busy: Vec<f64> = windows.iter().map(|window| window.seconds(&beside, per_token, most) / width).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let mut spared: f64 = sizes.iter().take(may_miss(scenario, sizes.len()).ceil() as usize).sum();
    let home = f64::from(scenario.on_premises);
    // Above the on-premises pool a second is dearest: it is left out there first, then anywhere.
    for floor in [home, 0.0] {
        for window in &mut busy {
            let less = (*window - floor).max(0.0).min(spared / width);
            *window -= less;
            spared -= less * width;
        }
    }
    let paid = |replicas: f64| replicas.min(home) + (replicas - home).max(0.0) * cloud_price;
    busy.iter().map(|window| paid(window.max(f64::from(scenario.min))) * width).sum()
}

impl Window {
    fn seconds(self, beside: &Beside, per_token: f64, most: usize) -> f64 {
        let Self { prompts, chunks, tokens } = self;
        let room = chunks * most as f64;
        let along = tokens.min(room);
        let added = if chunks > 0.0 { chunks * beside.seconds(along / chunks) } else { 0.0 };
        prompts + (added + (tokens - along) * per_token).min(tokens * per_token)
    }
}

/// What so many running requests add to a chunk at least: the convex hull from below, so that the mean over chunks of any
/// batches is no less than this of their mean.
struct Beside(Vec<(f64, f64)>);

impl Beside {
    fn new(rates: &Rates, most: usize) -> Self {
        let mut hull: Vec<(f64, f64)> = vec![(0.0, 0.0)];
        for batch in 1..=most {
            let point = (batch as f64, (rates.step(batch) - rates.step(1)).max(0.0));
            let above = |a: (f64, f64), b: (f64, f64)| (b.1 - a.1) * (point.0 - a.0) >= (point.1 - a.1) * (b.0 - a.0);
            while hull.len() > 1 && above(hull[hull.len() - 2], hull[hull.len() - 1]) {
                hull.pop();
            }
            hull.push(point);
        }
        Self(hull)
    }

    fn seconds(&self, batch: f64) -> f64 {
        super::interpolate(&self.0, batch)
    }
}
