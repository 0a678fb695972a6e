//! Contenders and seeds side by side, on all processors.

use std::{
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    baselines::{fixed::Fixed, hpa::Hpa, keda::Keda, kpa::Kpa},
    outcome::Outcome,
    policy::Autoscaler,
    simulation::{Scenario, simulate},
    tidegate::Tidegate,
};
use crate::engine::Policy;

/// A contender before it runs: each seed gets a fresh one.
#[derive(Debug, Clone, PartialEq)]
pub enum Contender {
    /// The engine.
    Tidegate(Box<Policy>),
    /// The HPA on utilization, target in percent.
    Hpa(f64),
    /// KEDA on running and waiting requests per replica.
    Keda(f64),
    /// Knative's KPA on requests per replica.
    Kpa(f64),
    /// So many replicas always.
    Fixed(u32),
}

impl Contender {
    /// Its settings in words.
    #[must_use]
    pub fn settings(&self) -> String {
        match self {
            Self::Tidegate(_) => String::new(),
            Self::Hpa(target) => format!("target {target:.0} %"),
            Self::Keda(target) | Self::Kpa(target) => format!("{target:.0} requests a replica"),
            Self::Fixed(replicas) => format!("{replicas} replicas"),
        }
    }

    fn start(&self, scenario: &Scenario) -> Box<dyn Autoscaler> {
        let (min, max) = (scenario.min, scenario.max);
        match self {
            Self::Tidegate(policy) => Box::new(Tidegate::new(Policy::clone(policy))),
            Self::Hpa(target) => Box::new(Hpa::new(*target, min, max)),
            Self::Keda(target) => Box::new(Keda::new(*target, min, max)),
            Self::Kpa(target) => Box::new(Kpa::new(*target)),
            Self::Fixed(replicas) => Box::new(Fixed(*replicas)),
        }
    }
}

/// One run that is to be made.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// Where.
    pub scenario: &'a Scenario,
    /// Name in tables.
    pub name: &'static str,
    /// Who.
    pub contender: Contender,
    /// With which chance.
    pub seed: u64,
}

/// Makes all runs, several at once, and gives the outcomes in the order of the entries. `done` is told of each one that
/// has ended, in whatever order.
pub fn run_all(entries: &[Entry<'_>], done: impl Fn(&Entry<'_>, &Outcome) + Sync) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(entries.len());
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![None; entries.len()]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, entry)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, entries.get(i)?)))
                {
                    let mut contender = entry.contender.start(entry.scenario);
                    let settings = entry.contender.settings();
                    let outcome = simulate(entry.scenario, entry.name, &settings, contender.as_mut(), entry.seed);
                    done(entry, &outcome);
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes[i] = Some(outcome);
                    }
                }
            });
        }
    });
    // A thread that panicked has already made the scope panic.
    outcomes.into_inner().map(|outcomes| outcomes.into_iter().flatten().collect()).unwrap_or_default()
}
