//! One run: requests go to replicas, scrapes see them, the contender decides, the fleet follows.
//!
//! Time goes from one event of the fleet, the scrapes and the contender to the next; between two of them arrivals are
//! routed one by one, each to the ready replica with the fewest outstanding requests. A request that finds no ready replica
//! waits for the first. Without a clock and without I/O: the same scenario, contender and seed give the same outcome.

use std::{collections::VecDeque, iter::Peekable};

use jiff::Timestamp;

use super::{
    arrivals::{Arrivals, Workload},
    exporter::{Probe, Signals, Words},
    fleet::{CLOUD, Fleet, Place},
    model::{Exporter, Model, Slo},
    outcome::Outcome,
    policy::{Autoscaler, Seen},
    random::Random,
    serving::{Ledger, Rates, Replica, Request, Served},
};
use crate::signal::{Observation, Pod as SeenPod, Stage, Work};

mod tally;

use tally::Tally;

/// What is the same for every contender and seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The load.
    pub workload: Workload,
    /// The serving system.
    pub model: Model,
    /// The bounds.
    pub slo: Slo,
    /// Replicas that fit on premises. So many are ready when the warm-up begins.
    pub on_premises: u32,
    /// Least replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// What the pods offer.
    pub signals: Signals,
    /// Work, in seconds of a full replica per second, with which one replica alone just keeps the bounds.
    pub capacity: f64,
}

/// The time of a trace's first second if it does not say: a Monday, 00:00.
pub const EPOCH: i64 = 1_767_571_200;

impl Scenario {
    /// The time at which the warm-up begins.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        let epoch = Timestamp::from_second(EPOCH).unwrap_or_default();
        let nanos = ((self.workload.from - self.workload.warmup) * 1e9) as i64;
        let from = jiff::SignedDuration::from_nanos(nanos);
        self.workload.trace.start.unwrap_or(epoch).checked_add(from).unwrap_or(epoch)
    }

    /// Replicas at the beginning.
    #[must_use]
    pub fn initial(&self) -> u32 {
        self.on_premises.clamp(self.min, self.max)
    }
}

/// Random numbers for scrapes come from a stream of their own.
const STREAM: u64 = 3;

/// Runs one contender, but only until more requests than this have missed a bound. `None` if they have.
#[must_use]
pub fn simulate_within(
    scenario: &Scenario,
    autoscaler: &mut dyn Autoscaler,
    seed: u64,
    most_violations: u64,
) -> Option<Outcome> {
    let mut run = Run::new(scenario, seed);
    run.most_violations = most_violations;
    run.play(autoscaler);
    let outcome = (!run.stopped()).then(|| run.close("", "", seed))?;
    let figures = &outcome.figures;
    let violations = figures.requests as f64 * (1.0 - figures.slo_attainment);
    (violations.round() as u64 <= most_violations).then_some(outcome)
}

/// Runs one contender.
#[must_use]
pub fn simulate(
    scenario: &Scenario,
    name: &str,
    settings: &str,
    autoscaler: &mut dyn Autoscaler,
    seed: u64,
) -> Outcome {
    let mut run = Run::new(scenario, seed);
    run.play(autoscaler);
    run.close(name, settings, seed)
}

/// A ready replica, or one that is being drained.
struct Server {
    pod: u64,
    replica: Replica,
    probe: Probe,
    probe_at: f64,
    /// When it is cut off, if it is leaving.
    cut_off: Option<f64>,
}

struct Run<'a> {
    scenario: &'a Scenario,
    rates: Rates,
    arrivals: Peekable<Arrivals>,
    fleet: Fleet,
    servers: Vec<Server>,
    /// By server: when something changes by itself. Apart from the servers, since it is read at each arrival.
    next: Vec<f64>,
    /// By server: outstanding requests, or `u32::MAX` while it is leaving.
    load: Vec<u32>,
    /// Where the search for the least loaded begins, so that ties go round.
    turn: usize,
    /// Requests without a ready replica.
    gateway: VecDeque<Request>,
    tally: Tally,
    random: Random,
    words: Words,
    start: Timestamp,
    now: f64,
    next_decision: f64,
    desired: u32,
    observation: Observation,
    /// What was spent before the warm-up was over.
    unbilled: (f64, f64),
    most_violations: u64,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let model = &scenario.model;
        let initial = scenario.initial();
        let mut run = Self {
            scenario,
            rates: Rates::new(model),
            arrivals: scenario.workload.arrivals(seed).peekable(),
            fleet: Fleet::new(model, scenario.on_premises, initial, seed),
            servers: Vec::new(),
            next: Vec::new(),
            load: Vec::new(),
            turn: 0,
            gateway: VecDeque::new(),
            tally: Tally::new(scenario),
            random: Random::new(seed, STREAM),
            words: Words::new(&model.exporter),
            start: scenario.start(),
            now: 0.0,
            next_decision: 0.0,
            desired: initial,
            observation: Observation { replicas: initial, pods: Vec::new(), room: Vec::new(), cluster_unknown: None },
            unbilled: (0.0, 0.0),
            most_violations: u64::MAX,
        };
        let pods: Vec<u64> = run.fleet.pods().iter().map(|pod| pod.id).collect();
        for pod in pods {
            run.serve(pod);
        }
        run
    }

    fn play(&mut self, autoscaler: &mut dyn Autoscaler) {
        let Workload { warmup, .. } = self.scenario.workload;
        let end = self.scenario.workload.end();
        self.play_until(warmup, autoscaler);
        self.unbilled = self.fleet.bill(warmup);
        self.tally.begin();
        self.play_until(end, autoscaler);
        self.sample(autoscaler.demand());
    }

    fn stopped(&self) -> bool {
        self.tally.violations() > self.most_violations
    }

    fn play_until(&mut self, end: f64, autoscaler: &mut dyn Autoscaler) {
        loop {
            let (sample, decision) = (self.tally.next_sample(), self.next_decision);
            let at = decision.min(sample).min(self.fleet.next_event()).min(self.next_probe()).min(self.next_cut_off());
            let at = at.min(end);
            self.live_until(at);
            if at >= end || self.stopped() {
                return;
            }
            for pod in self.fleet.fire(at) {
                self.serve(pod);
            }
            self.probe(at);
            self.drain(at);
            if sample <= at {
                self.sample(autoscaler.demand());
            }
            if decision <= at {
                self.decide(autoscaler);
                self.next_decision += autoscaler.period();
            }
        }
    }

    /// What is under way when the trace ends may end, without further decisions.
    fn close(mut self, name: &str, settings: &str, seed: u64) -> Outcome {
        let end = self.now;
        let (on_premises, cloud) = self.fleet.bill(end);
        let bill = (on_premises - self.unbilled.0, cloud - self.unbilled.1);
        let patience = self.scenario.model.serving.give_up_seconds;
        while self.now < end + patience && self.tally.under_way() > 0 {
            let at = self.fleet.next_event().min(self.now + 10.0);
            self.live_until(at);
            for pod in self.fleet.fire(at) {
                self.serve(pod);
            }
        }
        for server in &mut self.servers {
            server.replica.cut_off(&mut self.tally);
        }
        for request in self.gateway.drain(..) {
            self.tally.waiting(-1);
            self.tally.ended(Served { at: request.at, ttft: None, tpot: 0.0 });
        }
        self.tally.outcome(name, settings, seed, bill, self.scenario)
    }

    /// Arrivals before `at`, and everything that the replicas do up to then.
    fn live_until(&mut self, at: f64) {
        while let Some(request) = self.arrivals.next_if(|request| request.at < at) {
            self.advance(request.at);
            self.tally.arrived(&request, &self.rates);
            self.route(request, request.at);
        }
        self.advance(at);
        self.now = at;
    }

    fn advance(&mut self, now: f64) {
        for i in 0..self.next.len() {
            if self.next[i] <= now {
                let server = &mut self.servers[i];
                server.replica.advance(now, &self.rates, &mut self.tally);
                self.next[i] = server.replica.next_event();
                if server.cut_off.is_none() {
                    self.load[i] = server.replica.outstanding();
                }
            }
        }
    }

    fn route(&mut self, request: Request, now: f64) {
        let count = self.load.len();
        let mut best = None;
        let mut least = u32::MAX;
        for offset in 0..count {
            let i = if self.turn + offset >= count { self.turn + offset - count } else { self.turn + offset };
            if self.load[i] < least {
                least = self.load[i];
                best = Some(i);
            }
        }
        let Some(i) = best else {
            self.tally.waiting(1);
            self.gateway.push_back(request);
            return;
        };
        self.turn = if i + 1 >= count { 0 } else { i + 1 };
        let replica = &mut self.servers[i].replica;
        replica.enqueue(request, now, &self.rates, &mut self.tally);
        self.next[i] = replica.next_event();
        self.load[i] = replica.outstanding();
    }

    /// A pod is ready: requests may go to it.
    fn serve(&mut self, id: u64) {
        let probe = Probe::new(self.now, self.exporter(), &mut self.random);
        let probe_at = probe.next_event(self.exporter());
        self.servers.push(Server { pod: id, replica: Replica::new(self.now), probe, probe_at, cut_off: None });
        self.next.push(f64::INFINITY);
        self.load.push(0);
        let patience = self.scenario.model.serving.give_up_seconds;
        for request in std::mem::take(&mut self.gateway) {
            self.tally.waiting(-1);
            if request.at + patience < self.now {
                self.tally.ended(Served { at: request.at, ttft: None, tpot: 0.0 });
            } else {
                self.route(request, self.now);
            }
        }
    }

    fn exporter(&self) -> &'a Exporter {
        &self.scenario.model.exporter
    }

    fn next_probe(&self) -> f64 {
        self.servers.iter().map(|server| server.probe_at).fold(f64::INFINITY, f64::min)
    }

    fn next_cut_off(&self) -> f64 {
        self.servers.iter().filter_map(|server| server.cut_off).fold(f64::INFINITY, f64::min)
    }

    fn probe(&mut self, now: f64) {
        let exporter = self.exporter();
        for (i, server) in self.servers.iter_mut().enumerate() {
            if server.probe_at <= now {
                let Server { probe, replica, probe_at, .. } = server;
                probe.look(now, replica, exporter, &self.rates, &mut self.random, &mut self.tally);
                *probe_at = probe.next_event(exporter);
                if server.cut_off.is_none() {
                    self.load[i] = server.replica.outstanding();
                }
            }
        }
    }

    /// Leaving replicas that have nothing left, or no time left, are gone.
    fn drain(&mut self, now: f64) {
        let mut i = 0;
        while i < self.servers.len() {
            let server = &mut self.servers[i];
            let over = server.cut_off.is_some_and(|at| at <= now || server.replica.outstanding() == 0);
            if over {
                server.replica.cut_off(&mut self.tally);
                self.fleet.gone(server.pod, now);
                self.servers.swap_remove(i);
                self.next.swap_remove(i);
                self.load.swap_remove(i);
            } else {
                i += 1;
            }
        }
        if self.turn >= self.servers.len() {
            self.turn = 0;
        }
    }

    fn decide(&mut self, autoscaler: &mut dyn Autoscaler) {
        self.observe();
        let now = self.time(self.now);
        let concurrency = self.servers.iter().filter(|server| server.cut_off.is_none());
        let concurrency =
            concurrency.map(|server| server.replica.outstanding()).sum::<u32>() + self.gateway.len() as u32;
        let seen = Seen { observation: &self.observation, concurrency };
        let wanted = autoscaler.decide(&seen, now);
        self.tally.decided(self.now, autoscaler.cannot_tell());
        let desired = wanted.desired.clamp(self.scenario.min, self.scenario.max);
        if desired == self.desired {
            return;
        }
        let leaving = self.fleet.scale(desired, &wanted.release, self.now);
        let lost = leaving.iter().map(|id| self.pool_of(*id));
        let horizon = lost.map(|pool| Fleet::time_to_ready(&self.scenario.model, pool)).fold(0.0, f64::max);
        self.tally.moved(self.now, self.desired, desired, horizon, || autoscaler.sentence());
        self.desired = desired;
        let grace = self.scenario.model.serving.drain_grace_seconds;
        for id in leaving {
            if let Some(i) = self.servers.iter().position(|server| server.pod == id) {
                self.servers[i].cut_off = Some(self.now + grace);
                self.load[i] = u32::MAX;
            } else {
                self.fleet.gone(id, self.now);
            }
        }
        self.drain(self.now);
    }

    fn pool_of(&self, id: u64) -> Option<usize> {
        self.fleet.pods().iter().find(|pod| pod.id == id)?.place.map(Place::pool)
    }

    fn time(&self, seconds: f64) -> Timestamp {
        let elapsed = jiff::SignedDuration::from_nanos((seconds * 1e9) as i64);
        self.start.checked_add(elapsed).unwrap_or(self.start)
    }

    fn observe(&mut self) {
        let mut pods = std::mem::take(&mut self.observation.pods);
        pods.clear();
        for pod in self.fleet.pods().iter().filter(|pod| !pod.leaving) {
            let server = self.servers.iter().find(|server| server.pod == pod.id);
            let signals = self.scenario.signals;
            let work = server.map_or_else(Work::default, |server| {
                server.probe.work(self.now, self.exporter(), signals, &self.words, |at| self.time(at))
            });
            pods.push(SeenPod {
                uid: pod.uid.clone(),
                name: pod.name.clone(),
                pool: pod.place.map(Place::pool),
                stage: pod.stage(),
                created: self.time(pod.created),
                scheduled: pod.scheduled.map(|at| self.time(at)),
                running: pod.running.map(|at| self.time(at)),
                ready_since: pod.ready.map(|at| self.time(at)),
                work,
            });
        }
        self.observation.pods = pods;
        self.observation.replicas = self.desired;
        self.observation.room.clear();
        self.observation.room.extend(self.fleet.room());
    }

    fn sample(&mut self, demand: Option<f64>) {
        let mut sample = self.tally.begin_sample();
        sample.desired = self.desired;
        sample.cloud_nodes = self.fleet.cloud_nodes();
        sample.demand = demand;
        for pod in self.fleet.pods().iter().filter(|pod| !pod.leaving) {
            match (pod.stage(), pod.place.map(Place::pool)) {
                (Stage::Pending, _) => sample.pending += 1,
                (Stage::Starting, _) => sample.starting += 1,
                (Stage::Ready, Some(CLOUD)) => sample.ready_cloud += 1,
                (Stage::Ready, _) => sample.ready_on_premises += 1,
            }
        }
        let mut busy = 0.0;
        for server in &self.servers {
            sample.running += server.replica.computing() as u32;
            busy += self.rates.utilization(server.replica.computing());
        }
        sample.utilization = busy / self.servers.len().max(1) as f64;
        self.tally.sampled(sample);
    }
}

#[cfg(test)]
mod tests;
