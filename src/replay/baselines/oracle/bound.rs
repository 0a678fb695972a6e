//! How little any schedule could do with, whoever makes it: what is between this and the oracle's plan is what is not known
//! of the best.
//!
//! Two things that no schedule gets around, each a lower bound by itself; the higher one counts.
//!
//! - [`fluid`]: in the mean over some minutes the replicas must do the work, were they fractions and for free to start.
//! - [`deadlines`]: prompts that come together must be computed together, and replicas take their time to start.

use super::super::super::{
    model::{Model, interpolate},
    serving::{Rates, Request},
    simulation::Scenario,
};

mod deadlines;
mod fluid;

/// GPU hours, and cost, below which no schedule keeps the bounds for the requests of a seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// GPU hours.
    pub gpu_hours: f64,
    /// Cost, in on-premises GPU hours.
    pub cost: f64,
}

impl Bound {
    /// The higher of both bounds.
    #[must_use]
    pub fn of(scenario: &Scenario, seed: u64) -> Self {
        let pools = &scenario.model.pools;
        let hours = f64::from(scenario.model.serving.gpus_per_replica) / 3_600.0;
        let higher = |cloud_price: f64| {
            fluid::seconds(scenario, seed, cloud_price).max(deadlines::seconds(scenario, seed, cloud_price)) * hours
        };
        Self {
            gpu_hours: higher(1.0),
            cost: higher(pools.cloud_price / pools.on_premises_price) * pools.on_premises_price,
        }
    }
}

/// The requests that count.
fn requests(scenario: &Scenario, seed: u64) -> impl Iterator<Item = Request> {
    let warmup = scenario.workload.warmup;
    let arrivals = scenario.workload.arrivals(seed).filter(move |request| request.at >= warmup);
    arrivals.map(move |request| Request { at: request.at - warmup, ..request })
}

/// How many requests may be missed.
fn may_miss(scenario: &Scenario, requests: usize) -> f64 {
    ((1.0 - scenario.slo.attainment) * requests as f64).max(0.0)
}
