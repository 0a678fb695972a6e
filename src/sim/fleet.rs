//! The model servers of one simulated service, and the requests that they share.
//!
//! Each is [`replay`](crate::replay)'s model of a replica under continuous batching, here in a scene's time. Requests come at
//! random and go to the replica with the fewest; with none there they wait for the first. A removed replica takes nothing new
//! and finishes what it has. Load is counted in replicas kept fully busy: at 1.0 as much work comes in as one gets done that
//! always has a queue.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    cluster::ObjectKey,
    replay::{
        Model, Slo,
        random::Random,
        serving::{Ledger, Page, Rates, Replica, Request, Served},
    },
};

/// Mean tokens of a prompt and of an answer: about those of Azure's 2023 conversation trace, whose distributions are
/// [`Requests`](crate::replay::model::Requests)' defaults.
const PROMPT: f64 = 1_155.0;
/// See [`PROMPT`].
const ANSWER: f64 = 211.0;
/// Shape of both distributions: gamma with a coefficient of variation of a half.
const SHAPE: f64 = 4.0;
/// So many requests are more than a replica gets done in [`MEASURED`].
const MANY: usize = 2_000;
/// From when to when a replica is watched that always has a queue, seconds.
const MEASURED: (f64, f64) = (60.0, 240.0);
/// The least load, so that the next request comes at some time.
const LEAST_LOAD: f64 = 1e-3;

/// What became of the requests so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Answered, or given up.
    pub requests: u64,
    /// Those that kept both bounds.
    pub in_time: u64,
    slo: Slo,
}

/// The replicas by pod.
#[derive(Debug)]
pub struct Fleet {
    rates: Rates,
    random: Random,
    /// Seconds of one replica that a mean request takes.
    work: f64,
    /// Scene time, seconds.
    now: f64,
    next: f64,
    serving: BTreeMap<ObjectKey, Replica>,
    leaving: Vec<Replica>,
    waiting: VecDeque<Request>,
    tally: Tally,
}

impl Ledger for Tally {
    fn ended(&mut self, served: Served) {
        let slo = self.slo;
        let first = served.ttft.is_some_and(|seconds| seconds <= slo.ttft_seconds);
        self.requests += 1;
        self.in_time += u64::from(first && served.tpot <= slo.tpot_seconds);
    }

    fn waiting(&mut self, _: i64) {}
}

impl Fleet {
    /// No replica yet, at second 0.
    #[must_use]
    pub fn new(model: &Model, slo: Slo, seed: u64) -> Self {
        let rates = Rates::new(model);
        Self {
            work: work(&rates, &mut Random::new(seed, 1)),
            rates,
            random: Random::new(seed, 0),
            now: 0.0,
            next: 0.0,
            serving: BTreeMap::new(),
            leaving: Vec::new(),
            waiting: VecDeque::new(),
            tally: Tally { slo, ..Tally::default() },
        }
    }

    /// A pod serves from now on.
    pub fn add(&mut self, pod: &ObjectKey) {
        let mut replica = Replica::new(self.now);
        for request in self.waiting.drain(..) {
            replica.enqueue(request, self.now, &self.rates, &mut self.tally);
        }
        self.serving.insert(pod.clone(), replica);
    }

    /// A pod takes nothing new, and is forgotten once it has finished what it has.
    pub fn remove(&mut self, pod: &ObjectKey) {
        self.leaving.extend(self.serving.remove(pod));
    }

    /// Lives up to that second of the scene, with that load from where it is.
    pub fn advance(&mut self, until: f64, load: f64) {
        while self.next <= until {
            self.now = self.next.max(self.now);
            self.settle();
            let request = request(self.now, &mut self.random);
            match self.serving.values_mut().min_by_key(|replica| replica.outstanding()) {
                Some(replica) => replica.enqueue(request, self.now, &self.rates, &mut self.tally),
                None => self.waiting.push_back(request),
            }
            self.next = self.now + self.random.exponential() * self.work / load.max(LEAST_LOAD);
        }
        self.now = until.max(self.now);
        self.settle();
    }

    fn settle(&mut self) {
        for replica in self.serving.values_mut().chain(&mut self.leaving) {
            replica.advance(self.now, &self.rates, &mut self.tally);
        }
        self.leaving.retain(|replica| replica.outstanding() > 0);
    }

    /// What that pod's server says of itself now.
    pub fn page(&mut self, pod: &ObjectKey) -> Option<Page> {
        let Self { serving, rates, now, tally, .. } = self;
        serving.get_mut(pod).map(|replica| replica.page(*now, rates, tally))
    }

    /// Requests that wait in all of them together.
    pub fn queued(&mut self) -> u64 {
        let Self { serving, rates, now, tally, waiting, .. } = self;
        let queues = serving.values_mut().map(|replica| u64::from(replica.page(*now, rates, tally).waiting));
        queues.sum::<u64>() + waiting.len() as u64
    }

    /// What became of the requests so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

/// A request at that second.
fn request(at: f64, random: &mut Random) -> Request {
    let mut tokens = |mean: f64| (mean * random.gamma(SHAPE)).round().max(1.0) as u32;
    Request { at, prompt: tokens(PROMPT), output: tokens(ANSWER) }
}

/// Seconds that a mean request takes of a replica that always has a queue: measured, because prompts and answers of many
/// requests share its steps.
fn work(rates: &Rates, random: &mut Random) -> f64 {
    let (from, until) = MEASURED;
    let mut tally = Tally::default();
    let mut replica = Replica::new(0.0);
    for _ in 0..MANY {
        replica.enqueue(request(0.0, random), 0.0, rates, &mut tally);
    }
    let mut finished = |at: f64| {
        replica.advance(at, rates, &mut tally);
        replica.page(at, rates, &mut tally).finished
    };
    let before = finished(from);
    (until - from) / finished(until).saturating_sub(before).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> ObjectKey {
        ObjectKey { namespace: "default".into(), name: name.into() }
    }

    /// After ten minutes of that load on so many replicas: the share of requests in time, and how many wait.
    fn after(load: f64, replicas: usize) -> (f64, u64) {
        let mut fleet = Fleet::new(&Model::default(), Slo::default(), 1);
        (0..replicas).for_each(|i| fleet.add(&pod(&i.to_string())));
        (1..=120).for_each(|step| fleet.advance(f64::from(step) * 5.0, load));
        let Tally { requests, in_time, .. } = fleet.tally();
        (in_time as f64 / requests as f64, fleet.queued())
    }

    #[test]
    fn a_load_beyond_one_is_more_than_one_replica_serves_and_a_load_of_one_is_easy_for_two() {
        let ((alone, queue), (two, none)) = (after(1.3, 1), after(1.0, 2));
        assert!(alone < 0.5 && queue > 100, "{alone} in time, {queue} wait");
        assert!(two > 0.99 && none == 0, "{two} in time, {none} wait");
    }

    #[test]
    fn requests_wait_for_the_first_replica_and_a_removed_one_finishes_what_it_has() {
        let mut fleet = Fleet::new(&Model::default(), Slo::default(), 1);
        fleet.advance(20.0, 0.5);
        let waiting = fleet.queued();
        assert!(waiting > 5, "{waiting}");
        fleet.add(&pod("first"));
        fleet.remove(&pod("first"));
        assert_eq!(fleet.page(&pod("first")), None);
        fleet.next = f64::INFINITY;
        fleet.advance(600.0, 0.0);
        assert_eq!(fleet.tally().requests, waiting, "each was answered");
    }
}
