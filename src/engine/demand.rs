//! What the pods say of their work now, as load in replica equivalents; and what can be learned from it.
//!
//! Where every ready pod offers the model server's own figures, a pod's load is that of its running requests
//! ([`super::capacity`]), and what waits is counted apart. Otherwise it is that of its utilization
//! ([`super::utilization`]). A ready pod that has no fresh value is missing: it adds nothing, so that growth rests on what is
//! known, and while one is missing nothing is removed (R9, R15). So is one that runs requests while its counters stand
//! still, page after page: it is stuck, or what it says is old, and either way it is not known to have room. Pods that are
//! not ready are not looked at here (R8).

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    capacity::Minute,
    decision::Source,
    policy::{Policy, SignalUse},
    readiness::{Readiness, Stretches},
    state::Durable,
    utilization::Fleet,
};
use crate::signal::{Mean, Observation, Pod, Signal, Stage, Work};

/// Below this share of ready pods with a value, demand is unknown (R9).
pub const COVERAGE: f64 = 0.5;
/// A queue that a full replica works off within this share of the time it may take needs nobody's help.
const HARMLESS_SHARE: f64 = 0.25;
/// A queue stands if it would take this share of the time to first token to work off, for so many pages in a row, while the
/// pod takes on no more than a little.
const STANDING_SHARE: f64 = 0.5;
const STANDING_PAGES: u32 = 3;
const NO_LONGER_RISING: (f64, f64) = (1.05, 0.5);
/// A pod that ran requests on so many pages in a row, of which no token was computed and none finished, stands still. One
/// page is nothing: requests may have come just before it. Nor are three within so few seconds: a long prompt takes that.
const STILL_PAGES: u32 = 3;
const STILL_SECONDS: f64 = 15.0;
/// Seconds over which the means are taken that capacity is learned from, and how many of them must be covered.
const MINUTE: f64 = 60.0;
const COVERED: f64 = 45.0;
/// A value counts for at most so long.
const HOLD: f64 = 30.0;

/// What was seen of the work.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measured {
    /// Made of what; `None` while nothing is known.
    pub source: Option<Source>,
    /// Load of the ready pods, replica equivalents; at most one each, unless utilization is beyond the target.
    pub load: f64,
    /// Requests that run or wait; 0 where they are not counted.
    pub requests: f64,
    /// Requests that wait.
    pub waiting: f64,
    /// Those of them that are more than a pod's harmless queue.
    pub backlog: f64,
    /// Requests per second that a full replica finishes.
    pub rate: f64,
    /// Highest used share of a KV cache.
    pub kv_cache: Option<f64>,
    /// Ready pods with a value.
    pub known: u32,
    /// Ready pods without one because their counters stand still.
    pub still: u32,
    /// Ready pods.
    pub ready: u32,
}

/// What is remembered of the pods between two decisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    pods: Vec<Remembered>,
    running: Mean,
    squares: Mean,
    load: Mean,
    generated: Mean,
    finished: Mean,
    learned: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    uid: Arc<str>,
    ready: bool,
    /// Time of the last page, seconds.
    page: f64,
    running: f64,
    /// Pages in a row with a standing queue.
    standing: u32,
    /// Pages in a row on which requests ran and no counter moved.
    #[serde(default)]
    still: u32,
    /// Time of the first of them, seconds.
    #[serde(default)]
    still_since: f64,
}

/// Sums over the ready pods with a value.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    running: f64,
    /// Of the source's own figure: running requests, or utilization.
    squares: f64,
    generated: f64,
    finished: f64,
    /// Pods that offered each of the two.
    rates: (u32, u32),
    cache: (f64, u32),
    utilization: f64,
}

/// Reads the pods.
pub(super) fn measure(
    memory: &mut Memory,
    learned: &mut Durable,
    observation: &Observation,
    policy: &Policy,
    now: f64,
) -> Measured {
    let ready = || observation.pods.iter().filter(|pod| pod.stage == Stage::Ready);
    let source = source(policy.signals, ready());
    let objective = policy.objective;
    let curve = learned.capacity.curve(objective.time_per_output_token_seconds);
    let clear = policy.behavior.up.clear_backlog_seconds.unwrap_or(objective.time_to_first_token_seconds);
    let mut measured = Measured { rate: curve.rate, ..Measured::default() };
    let mut sums = Sums::default();
    for (i, pod) in observation.pods.iter().enumerate() {
        let remembered = recall(&mut memory.pods, i, pod);
        if pod.stage != Stage::Ready {
            continue;
        }
        measured.ready += 1;
        if !std::mem::replace(&mut remembered.ready, true) {
            learn_readiness(&mut learned.readiness, pod, policy);
        }
        if let Some(used) = pod.work.kv_cache.value() {
            measured.kv_cache = Some(measured.kv_cache.map_or(used, |most: f64| most.max(used)));
            sums.cache = (sums.cache.0 + used, sums.cache.1 + 1);
        }
        match source {
            Some(Source::Queue) => {
                let (Some(running), Some(waiting)) = (pod.work.running.value(), pod.work.waiting.value()) else {
                    continue;
                };
                let standing = STANDING_SHARE * objective.time_to_first_token_seconds * curve.rate;
                let standing = remembered.turn(&pod.work, waiting >= standing.max(1.0));
                if remembered.stands_still() {
                    measured.still += 1;
                    continue;
                }
                if standing {
                    learned.capacity.learn_saturated(running);
                }
                measured.known += 1;
                measured.load += curve.load(running);
                measured.waiting += waiting;
                measured.requests += running + waiting;
                measured.backlog += (waiting - HARMLESS_SHARE * clear * curve.rate).max(0.0);
                sums.running += running;
                sums.squares += running * running;
                for (sum, count, signal) in [
                    (&mut sums.generated, &mut sums.rates.0, &pod.work.generated_tokens),
                    (&mut sums.finished, &mut sums.rates.1, &pod.work.finished),
                ] {
                    if let Some(rate) = signal.value() {
                        *sum += rate;
                        *count += 1;
                    }
                }
            }
            Some(Source::Utilization) => {
                let Some(utilization) = pod.work.utilization.value() else { continue };
                measured.known += 1;
                measured.load += learned.utilization.load(utilization, policy.target_utilization);
                sums.utilization += utilization;
                sums.squares += utilization * utilization;
            }
            None => {}
        }
    }
    memory.pods.truncate(observation.pods.len());
    measured.source = source.filter(|_| measured.known > 0);
    match measured.source {
        Some(Source::Queue) if measured.known == measured.ready => memory.minute(learned, &measured, &sums, now),
        Some(Source::Utilization) if measured.known == measured.ready => {
            let ready = f64::from(measured.ready);
            let (mean, squares) = (sums.utilization / ready, sums.squares / ready);
            learned.utilization.learn(now, Fleet { ready: measured.ready, mean, squares }, policy.target_utilization);
            measured.load = learned.utilization.load_of_all(measured.load, measured.ready);
        }
        _ => {}
    }
    measured
}

/// The model server's figures count where each ready pod offers them.
fn source<'a>(signals: SignalUse, ready: impl Iterator<Item = &'a Pod>) -> Option<Source> {
    let (mut queue, mut utilization) = (true, false);
    for Pod { work, .. } in ready {
        queue &= work.running != Signal::NotOffered && work.waiting != Signal::NotOffered;
        utilization |= work.utilization != Signal::NotOffered;
    }
    match signals {
        SignalUse::Auto if queue => Some(Source::Queue),
        SignalUse::Queue => queue.then_some(Source::Queue),
        SignalUse::Auto | SignalUse::Utilization => utilization.then_some(Source::Utilization),
    }
}

/// The memory of a pod, at the same place as the pod: both are in the order of names, with few changes.
fn recall<'a>(pods: &'a mut Vec<Remembered>, place: usize, pod: &Pod) -> &'a mut Remembered {
    let found = pods.iter().skip(place).position(|remembered| remembered.uid == pod.uid);
    if let Some(offset) = found {
        pods.swap(place, place + offset);
    } else {
        // A pod that is Ready when it is first seen became so unseen: nothing is learned of it.
        let ready = pod.stage == Stage::Ready;
        let new = Remembered {
            uid: Arc::clone(&pod.uid),
            ready,
            page: 0.0,
            running: 0.0,
            standing: 0,
            still: 0,
            still_since: 0.0,
        };
        pods.insert(place, new);
    }
    &mut pods[place]
}

fn learn_readiness(readiness: &mut Vec<Readiness>, pod: &Pod, policy: &Policy) {
    let pool = pod.pool.unwrap_or(0);
    let (Some(scheduled), Some(ready)) = (pod.scheduled, pod.ready_since) else { return };
    if pool >= policy.pools.len().max(1) {
        return;
    }
    if readiness.len() <= pool {
        readiness.resize_with(pool + 1, Readiness::default);
    }
    let between = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
    readiness[pool].learn(Stretches {
        node: between(pod.created, scheduled),
        image: pod.running.map(|running| between(scheduled, running)),
        load: between(pod.running.unwrap_or(scheduled), ready),
    });
}

impl Remembered {
    fn stands_still(&self) -> bool {
        self.still >= STILL_PAGES && self.page - self.still_since >= STILL_SECONDS
    }

    /// Whether a new page shows a queue that stands, of a pod that takes on no more.
    fn turn(&mut self, work: &Work, stands: bool) -> bool {
        let Signal::Known { value, at } = &work.running else { return false };
        let page = seconds(*at);
        if page <= self.page {
            return false;
        }
        self.page = page;
        self.standing = if stands { self.standing.saturating_add(1) } else { 0 };
        // Answers may take longer than some pages, their tokens do not: without that counter nothing is said.
        let still = work.generated_tokens.value() == Some(0.0)
            && [&work.prompt_tokens, &work.finished].iter().all(|rate| rate.value().is_none_or(|rate| rate == 0.0));
        if !still || *value <= 0.0 {
            self.still = 0;
        } else {
            if self.still == 0 {
                self.still_since = page;
            }
            self.still = self.still.saturating_add(1);
        }
        let before = std::mem::replace(&mut self.running, *value);
        let (times, plus) = NO_LONGER_RISING;
        self.standing >= STANDING_PAGES && *value <= before * times + plus
    }
}

impl Memory {
    /// Once a minute, capacity learns from the means over it, if every ready pod was known.
    fn minute(&mut self, learned: &mut Durable, measured: &Measured, sums: &Sums, now: f64) {
        let ready = f64::from(measured.ready);
        let all = |(sum, count): (f64, u32)| (count == measured.ready).then_some(sum / ready);
        self.running.push(now, sums.running / ready, MINUTE);
        self.squares.push(now, sums.squares / ready, MINUTE);
        self.load.push(now, measured.load / ready, MINUTE);
        let generated = all((sums.generated, sums.rates.0));
        let finished = all((sums.finished, sums.rates.1));
        for (mean, rate) in [(&mut self.generated, generated), (&mut self.finished, finished)] {
            if let Some(rate) = rate {
                mean.push(now, rate, MINUTE);
            }
        }
        if now < self.learned + MINUTE && now >= self.learned {
            return;
        }
        self.learned = now;
        let mean = |mean: &Mean| mean.over(MINUTE, now, HOLD).filter(|(_, covered)| *covered >= COVERED);
        let (Some((running, _)), Some((squares, _)), Some((load, _))) =
            (mean(&self.running), mean(&self.squares), mean(&self.load))
        else {
            return;
        };
        learned.capacity.learn(&Minute {
            running,
            shared: if running > 0.0 { squares / running } else { 0.0 },
            load,
            generated: mean(&self.generated).map(|(rate, _)| rate),
            finished: mean(&self.finished).map(|(rate, _)| rate),
            cache: all(sums.cache),
            replicas: ready,
            calm: measured.waiting < ready,
        });
    }
}

/// Seconds since the epoch.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1e3
}
