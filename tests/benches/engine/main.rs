//! The engine: how long a decision takes, and what its filter is worth on real duty cycles.
//!
//! `decide` is measured in the middle of a day's work: histories and errors are full, pods report everything. The comparison
//! of filters needs a file that is not part of the project: with `TIDEGATE_DUTY_CYCLE=…/gentd26_pod_gpu_duty_cycle.csv.gz`
//! (alibaba/clusterdata, cluster-trace-v2026-GenAI: `value,timestamp_anon,container_ip`) it is made, without it it is left
//! out and says so.

use std::sync::Arc;

use divan::{Bencher, black_box, counter::ItemsCount};
use jiff::{SignedDuration, Timestamp};
use tidegate::{
    engine::{Policy, Pool, State, decide},
    signal::{Observation, Pod, Room, Signal, Stage, Work},
};

mod filters;

const PODS: usize = 14;
const SERVICES: usize = 2_000;
/// Seconds between two decisions, and how many make the histories full: eight hours of errors.
const STEP: i64 = 15;
const WARM: usize = 2_000;

fn main() {
    filters::compare();
    divan::main();
}

fn policy() -> Policy {
    let pool = |name: &str, cost, elastic| Pool { name: name.into(), cost, elastic, ..Pool::default() };
    Policy { max: 40, pools: vec![pool("on-premises", 1.0, false), pool("cloud", 3.0, true)], ..Policy::default() }
}

/// A service with so many ready pods at step `i`; demand swings within the hour.
fn observation(i: usize, now: Timestamp) -> Observation {
    let known = |value: f64| Signal::Known { value, at: now };
    let swing = ((i % 240) as f64 / 240.0 * std::f64::consts::TAU).sin();
    let pods = (0..PODS).map(|n| {
        let running = 20.0 + 10.0 * swing + ((i * 7 + n * 13) % 9) as f64;
        let name: Arc<str> = format!("llm-predictor-6c9f7d5b8-{n:05}").into();
        Pod {
            uid: Arc::clone(&name),
            name,
            pool: Some(usize::from(n >= 8)),
            stage: Stage::Ready,
            created: Timestamp::UNIX_EPOCH,
            scheduled: Some(Timestamp::UNIX_EPOCH),
            running: Some(Timestamp::UNIX_EPOCH),
            ready_since: Some(Timestamp::UNIX_EPOCH),
            work: Work {
                utilization: known(60.0),
                running: known(running),
                waiting: known(((i + n) % 3) as f64),
                kv_cache: known(0.4),
                prompt_tokens: known(900.0),
                generated_tokens: known(running / (0.002 * (running + 20.0))),
                finished: known(2.0),
            },
        }
    });
    let room = vec![Room::Fixed(0), Room::Elastic(0)];
    Observation { replicas: PODS as u32, pods: pods.collect(), room, cluster_unknown: None }
}

fn at(i: usize) -> Timestamp {
    let seconds = 86_400 * 365 + i64::try_from(i).expect("a few thousand") * STEP;
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn warmed(policy: &Policy) -> State {
    (0..WARM).fold(State::default(), |state, i| decide(state, &observation(i, at(i)), policy, at(i)).0)
}

/// One decision of a service with 14 pods; one in four also keeps errors of forecasts and learns.
#[divan::bench]
fn one_decision(bencher: Bencher<'_, '_>) {
    let policy = policy();
    let steps: Vec<(Timestamp, Observation)> = (WARM..WARM + 400).map(|i| (at(i), observation(i, at(i)))).collect();
    let state = warmed(&policy);
    bencher.counter(ItemsCount::new(steps.len())).with_inputs(|| state.clone()).bench_values(|mut state| {
        for (now, observation) in &steps {
            let decision;
            (state, decision) = decide(state, black_box(observation), &policy, *now);
            black_box(decision);
        }
        state
    });
}

/// One tick in which 2,000 services of 14 pods are decided, each with a history of its own.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn two_thousand_services(bencher: Bencher<'_, '_>) {
    let policy = policy();
    let state = warmed(&policy);
    let mut states = vec![state; SERVICES];
    let mut i = WARM;
    bencher.counter(ItemsCount::new(SERVICES)).bench_local(|| {
        let (now, observation) = (at(i), observation(i, at(i)));
        i += 1;
        for state in &mut states {
            let (next, decision) = decide(std::mem::take(state), black_box(&observation), &policy, now);
            *state = next;
            black_box(decision);
        }
    });
}
