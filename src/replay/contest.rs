//! Contenders and seeds side by side, on all processors.

use std::{
    num::NonZero,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    baselines::{
        fixed::Fixed,
        hpa,
        hpa::Hpa,
        keda::Keda,
        kpa::Kpa,
        oracle::{self, Oracle, Plan},
    },
    outcome::Outcome,
    policy::Autoscaler,
    simulation::{Scenario, simulate, simulate_within},
    tidegate::Tidegate,
    tune::{Knob, Tuner},
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
    /// A plan made for one seed.
    Oracle(Arc<Plan>),
}

/// A place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// The engine.
    Tidegate,
    /// The HPA with the seed's recipe.
    Hpa,
    /// The HPA with the cheapest target that keeps the bounds on this trace.
    HpaTuned,
    /// KEDA, its target tuned in the same way.
    Keda,
    /// The KPA, its target tuned in the same way.
    Kpa,
    /// The smallest constant fleet that keeps the bounds.
    Fixed,
    /// The cheapest schedule found by one who knows the future, made anew for each seed.
    Oracle,
}

impl Name {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::Tidegate, Self::Hpa, Self::HpaTuned, Self::Keda, Self::Kpa, Self::Fixed, Self::Oracle];

    /// The name in tables, JSON and options.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Hpa => "hpa",
            Self::HpaTuned => "hpa_tuned",
            Self::Keda => "keda",
            Self::Kpa => "kpa",
            Self::Fixed => "fixed",
            Self::Oracle => "oracle",
        }
    }

    /// The contender for this place, tuned over the seeds where it is one that is tuned. `seed` is for who sees its future.
    fn contender(
        self,
        scenario: &Scenario,
        policy: &Policy,
        seed: u64,
        seeds: u64,
        done: &(impl Fn(&str) + Sync),
    ) -> Contender {
        let knob = match self {
            Self::Tidegate => return Contender::Tidegate(Box::new(policy.clone())),
            Self::Hpa => return Contender::Hpa(hpa::SEED_TARGET),
            Self::HpaTuned => Knob::HPA,
            Self::Keda => Knob::KEDA,
            Self::Kpa => Knob::KPA,
            Self::Fixed => Knob::fixed(scenario.max),
            Self::Oracle => return Contender::Oracle(Arc::new(oracle::plan(scenario, seed))),
        };
        let mut tuner = Tuner::new(scenario, knob, seeds);
        tuner.thriftiest(scenario.slo.attainment, done).contender
    }
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
            Self::Oracle(_) => "knows the future".to_owned(),
        }
    }

    /// Runs it from the beginning.
    #[must_use]
    pub fn play(&self, scenario: &Scenario, name: &str, seed: u64) -> Outcome {
        simulate(scenario, name, &self.settings(), self.start(scenario).as_mut(), seed)
    }

    /// Runs it until more requests than this have missed a bound; `None` if they have.
    #[must_use]
    pub fn play_within(&self, scenario: &Scenario, seed: u64, most_violations: u64) -> Option<Outcome> {
        simulate_within(scenario, self.start(scenario).as_mut(), seed, most_violations)
    }

    fn start(&self, scenario: &Scenario) -> Box<dyn Autoscaler> {
        let (min, max) = (scenario.min, scenario.max);
        match self {
            Self::Tidegate(policy) => Box::new(Tidegate::new(Policy::clone(policy))),
            Self::Hpa(target) => Box::new(Hpa::new(*target, min, max)),
            Self::Keda(target) => Box::new(Keda::new(*target, min, max)),
            Self::Kpa(target) => Box::new(Kpa::new(*target)),
            Self::Fixed(replicas) => Box::new(Fixed(*replicas)),
            Self::Oracle(plan) => Box::new(Oracle::new(Arc::clone(plan), scenario)),
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

/// Every named contender with every seed from 1 to `seeds`, in that order. What is tuned is tuned over these seeds. `done` is
/// told in words of each run that has ended.
pub fn contest(
    scenario: &Scenario,
    policy: &Policy,
    names: &[Name],
    seeds: u64,
    done: impl Fn(&str) + Sync,
) -> Vec<Outcome> {
    // Only who knows the future needs to know which.
    let last_seed = |name: Name| if name == Name::Oracle { seeds } else { 1 };
    let made: Vec<(Name, u64)> =
        names.iter().flat_map(|name| (1..=last_seed(*name)).map(|seed| (*name, seed))).collect();
    let contenders = side_by_side(made.len(), |i| {
        let (name, seed) = made[i];
        name.contender(scenario, policy, seed, seeds, &|tried: &str| {
            done(&format!("tuning {}: {tried}", name.as_str()));
        })
    });
    let entries: Vec<Entry<'_>> = names
        .iter()
        .flat_map(|name| (1..=seeds).map(move |seed| (*name, seed)))
        .filter_map(|(name, seed)| {
            let at = made.iter().position(|one| *one == (name, seed.min(last_seed(name))))?;
            Some(Entry { scenario, name: name.as_str(), contender: contenders[at].clone(), seed })
        })
        .collect();
    run_all(&entries, |entry, _| done(&format!("{} seed {}", entry.name, entry.seed)))
}

/// Makes all runs, several at once, and gives the outcomes in the order of the entries. `done` is told of each one that
/// has ended, in whatever order.
pub fn run_all(entries: &[Entry<'_>], done: impl Fn(&Entry<'_>, &Outcome) + Sync) -> Vec<Outcome> {
    side_by_side(entries.len(), |i| {
        let entry = &entries[i];
        let outcome = entry.contender.play(entry.scenario, entry.name, entry.seed);
        done(entry, &outcome);
        outcome
    })
}

/// `work(0)` to `work(count - 1)` on all processors, the results in order.
pub fn side_by_side<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(count);
    let next = AtomicUsize::new(0);
    let results = Mutex::new((0..count).map(|_| None).collect::<Vec<Option<T>>>());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        return;
                    }
                    let result = work(i);
                    if let Ok(mut results) = results.lock() {
                        results[i] = Some(result);
                    }
                }
            });
        }
    });
    // A thread that panicked has made the scope panic: every result is there.
    results.into_inner().map(|results| results.into_iter().flatten().collect()).unwrap_or_default()
}
