//! An oracle: it knows every request that will come, and plans the cheapest schedule of replicas that still keeps the
//! bounds. What it plans is run through the same simulation as every other contender.
//!
//! [`schedule`] finds the cheapest schedule for a capacity of one replica and a price of a missed request, by dynamic
//! programming over short buckets of time and the number of replicas that are ready. The pools need no dimension of their
//! own: the fleet fills the cheaper, faster on-premises pool first, and cloud replicas go first, so that the number of
//! replicas says how many are where. Replicas are asked for as long before they are needed as they take to become ready.
//! [`plan`] then searches capacity and price so that the *simulated* attainment reaches the bound at the least cost.
//!
//! It is not exact, and so an upper bound on the best: queueing inside a bucket is a fluid, of all ways to a number of
//! replicas only the best one's backlog is carried on, node boots and model loads are known as quantiles only, and the
//! search tries a few capacities. [`Bound`](bound::Bound) says how far from the best it can be at most.

use std::sync::Arc;

use jiff::Timestamp;
use statrs::distribution::{ContinuousCDF, Normal};

use super::super::{
    contest::{Contender, side_by_side},
    model::interpolate,
    outcome::Outcome,
    policy::{Autoscaler, Release, Seen, Wanted},
    simulation::Scenario,
};
use schedule::{Costs, Load};

pub mod bound;
pub mod schedule;

/// Seconds between two looks at the plan.
pub const PERIOD_SECONDS: f64 = 5.0;

/// What is tried: misses that a schedule may plan, as shares of what the bound lets be missed (the rest is left for what the
/// fluid does not see), and the quantile of the time to ready by which replicas are asked for before they are needed.
const TRIED: [(f64, f64); 2] = [(0.3, 0.9), (0.7, 0.9)];
/// What is tried where few requests make runs short.
const TRIED_ON_FEW: [(f64, f64); 10] = [
    (0.0, 0.9),
    (0.15, 0.9),
    (0.3, 0.9),
    (0.5, 0.9),
    (0.7, 0.9),
    (0.9, 0.9),
    (0.3, 0.5),
    (0.7, 0.5),
    (0.3, 0.98),
    (0.7, 0.98),
];
/// So many requests are few.
const FEW: f64 = 300_000.0;
/// Capacities that are tried lie between these multiples of one replica's own: several replicas share their bursts.
const CAPACITIES: (f64, f64) = (0.5, 2.5);
/// The first one that is tried.
const FIRST_CAPACITY: f64 = 1.15;
/// Runs for each share of planned misses.
const RUNS: u32 = 6;
/// Two capacities that are closer than this are as good as one.
const CLOSE: f64 = 1.01;
/// Halvings of the price's logarithm.
const PRICE_HALVINGS: u32 = 8;
/// Prices of a missed request, GPU-replica seconds on premises.
const PRICES: (f64, f64) = (1e-3, 1e6);
/// A schedule, and what it was made with.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Seconds from the beginning of the warm-up, and replicas asked for from then on.
    pub steps: Vec<(f64, u32)>,
    /// Capacity of one replica that was planned with, as a multiple of [`Scenario::capacity`].
    pub capacity: f64,
    /// Planned misses, as a share of what may be missed.
    pub misses: f64,
    /// Quantile of the time to ready that was planned with.
    pub lead: f64,
}

/// Plays a [`Plan`].
#[derive(Debug, Clone)]
pub struct Oracle {
    plan: Arc<Plan>,
    start: Timestamp,
    last: f64,
}

impl Oracle {
    /// A plan for this scenario.
    #[must_use]
    pub fn new(plan: Arc<Plan>, scenario: &Scenario) -> Self {
        Self { plan, start: scenario.start(), last: 0.0 }
    }
}

impl Autoscaler for Oracle {
    fn period(&self) -> f64 {
        PERIOD_SECONDS
    }

    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted {
        self.last = now.duration_since(self.start).as_secs_f64();
        let next = self.plan.steps.partition_point(|(at, _)| *at <= self.last + 1e-6);
        let planned = next.checked_sub(1).and_then(|at| self.plan.steps.get(at)).map(|(_, replicas)| *replicas);
        Wanted { desired: planned.unwrap_or(seen.observation.replicas), release: Release::Ordered(None) }
    }

    fn sentence(&self) -> String {
        "planned with knowledge of every request to come".into()
    }
}

/// The cheapest plan found for the requests of a seed whose simulated attainment reaches the bound; the one that attains
/// most if none does.
#[must_use]
pub fn plan(scenario: &Scenario, seed: u64) -> Plan {
    let load = Load::of(scenario, seed);
    let ways: &[(f64, f64)] = if load.requests() < FEW { &TRIED_ON_FEW } else { &TRIED };
    let tried = side_by_side(ways.len(), |i| search(scenario, &load, ways[i], seed));
    let best = tried.into_iter().flatten().min_by(|(_, a), (_, b)| {
        let bound = scenario.slo.attainment;
        let keeps = |outcome: &Outcome| outcome.figures.slo_attainment >= bound;
        let by_attainment = || b.figures.slo_attainment.total_cmp(&a.figures.slo_attainment);
        keeps(b)
            .cmp(&keeps(a))
            .then_with(|| if keeps(a) { a.figures.cost.total_cmp(&b.figures.cost) } else { by_attainment() })
    });
    best.map_or_else(|| Plan { steps: Vec::new(), capacity: 1.0, misses: 0.0, lead: 0.0 }, |(plan, _)| plan)
}

/// The greatest capacity with which the simulated attainment reaches the bound: the more a replica is taken to do, the fewer
/// there are. Between one that keeps the bound and one that does not, the next try is where a straight line through the
/// logarithms of what they miss meets the bound.
fn search(scenario: &Scenario, load: &Load, (misses, lead): (f64, f64), seed: u64) -> Option<(Plan, Outcome)> {
    let bound = (1.0 - scenario.slo.attainment).max(1e-6);
    let attempt = |capacity: f64| {
        let plan = priced(scenario, load, capacity, misses, lead);
        let outcome = Contender::Oracle(Arc::new(plan.clone())).play(scenario, "oracle", seed);
        let over = ((1.0 - outcome.figures.slo_attainment).max(bound / 1e3) / bound).ln();
        (over, plan, outcome)
    };
    let mut keeps: Option<(f64, f64)> = None;
    let mut fails: Option<(f64, f64)> = None;
    let mut best: Option<(f64, Plan, Outcome)> = None;
    let mut capacity = FIRST_CAPACITY;
    for _ in 0..RUNS {
        let (over, plan, outcome) = attempt(capacity);
        let side = if over <= 0.0 { &mut keeps } else { &mut fails };
        *side = Some((capacity, over));
        let better = best.as_ref().is_none_or(|(best_over, _, best)| match (over <= 0.0, *best_over <= 0.0) {
            (true, true) => outcome.figures.cost < best.figures.cost,
            (false, false) => over < *best_over,
            (keeps, _) => keeps,
        });
        if better {
            best = Some((over, plan, outcome));
        }
        capacity = match (keeps, fails) {
            (Some((low, under)), Some((high, over))) => {
                // Not right at either end: a line through two points of a curve is nearer to one of them.
                let share = (under / (under - over)).clamp(0.15, 0.85);
                low * (high / low).powf(share)
            }
            (Some((low, _)), None) => (low * 1.25).min(CAPACITIES.1),
            (None, Some((high, _))) => (high / 1.25).max(CAPACITIES.0),
            (None, None) => capacity,
        };
        let near = |side: Option<(f64, f64)>| side.is_some_and(|(at, _)| (capacity / at).max(at / capacity) < CLOSE);
        if near(keeps) || near(fails) {
            break;
        }
    }
    best.map(|(_, plan, outcome)| (plan, outcome))
}

/// The schedule at the lowest price of a miss at which no more is planned to be missed than may be.
fn priced(scenario: &Scenario, load: &Load, capacity: f64, misses: f64, lead: f64) -> Plan {
    let times = Times::of(scenario, lead);
    let costs = costs(scenario, capacity * scenario.capacity, times);
    let may_miss = (1.0 - scenario.slo.attainment) * misses * load.requests();
    let (mut low, mut high) = PRICES;
    let mut ready = schedule::cheapest(load, &costs, high).0;
    if misses > 0.0 {
        for _ in 0..PRICE_HALVINGS {
            let middle = (low * high).sqrt();
            let (tried, missed) = schedule::cheapest(load, &costs, middle);
            if missed <= may_miss {
                high = middle;
                ready = tried;
            } else {
                low = middle;
            }
        }
    }
    Plan { steps: asked(scenario, &ready, load.seconds, times), capacity, misses, lead }
}

/// When replicas must be asked for to be ready as scheduled: the most that is needed within the time that a replica of the
/// pool takes.
fn asked(scenario: &Scenario, ready: &[u32], seconds: f64, times: Times) -> Vec<(f64, u32)> {
    let within = |lead: f64| most_within(ready, (lead / seconds).ceil() as usize);
    let (soon, later) = (within(times.load), within(times.load + times.boot));
    let mut steps: Vec<(f64, u32)> = Vec::new();
    for (bucket, (soon, later)) in soon.into_iter().zip(later).enumerate() {
        // On premises only the near future counts, past it the far one too.
        let asked = if later > scenario.on_premises { later } else { soon };
        if steps.last().is_none_or(|(_, last)| *last != asked) {
            steps.push((bucket as f64 * seconds, asked));
        }
    }
    steps
}

/// The greatest of each value and the `ahead` values after it.
fn most_within(values: &[u32], ahead: usize) -> Vec<u32> {
    let mut most = vec![0; values.len()];
    let mut greatest: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
    for i in (0..values.len()).rev() {
        while greatest.back().is_some_and(|at| values[*at] <= values[i]) {
            greatest.pop_back();
        }
        greatest.push_back(i);
        while greatest.front().is_some_and(|at| *at > i + ahead) {
            greatest.pop_front();
        }
        most[i] = greatest.front().map_or(values[i], |at| values[*at]);
    }
    most
}

/// Seconds that are planned with, from a node to ready and from a request for a node to the node.
#[derive(Debug, Clone, Copy)]
struct Times {
    load: f64,
    boot: f64,
}

impl Times {
    fn of(scenario: &Scenario, quantile: f64) -> Self {
        let model = &scenario.model;
        let load = model.startup.container_start_seconds + interpolate(&model.startup.model_load_quantiles, quantile);
        let deviations = Normal::standard().inverse_cdf(quantile);
        let boot = model.pools.cloud_boot_seconds * (deviations * model.pools.cloud_boot_sigma).exp();
        Self { load, boot }
    }
}

fn costs(scenario: &Scenario, capacity: f64, times: Times) -> Costs {
    let model = &scenario.model;
    let pools = &model.pools;
    Costs {
        on_premises: scenario.on_premises,
        replicas: (scenario.min, scenario.max),
        initial: scenario.initial(),
        cloud_price: pools.cloud_price / pools.on_premises_price,
        on_premises_start: times.load,
        cloud_start: times.load + times.boot,
        cloud_release: pools.cloud_release_seconds,
        drain: DRAIN_SECONDS.min(model.serving.drain_grace_seconds),
        capacity,
        patience: scenario.slo.ttft_seconds,
    }
}

/// How long a removed replica's answers go on in the mean: half of a mean answer of some 200 tokens.
const DRAIN_SECONDS: f64 = 10.0;

#[cfg(test)]
mod tests;
