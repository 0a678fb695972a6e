//! What a filter is worth: how often its answer turns round when nothing happens, and how late it is when something does.
//!
//! Eight pods of the trace make a service; its samples are played 10 s apart, so that what counts is the noise from sample to
//! sample (67 % zeros, neighbour steps of 25 points). Demand is the sum of duty cycles over 70; each contender says how many
//! replicas it wants. Then the same again with demand tripled in the second half, from one sample to the next: the lag is the
//! time until a contender wants the replicas that the mean demand of the following ten minutes needs. The engine keeps a
//! reserve that the others do not, so their lag is also told with as many replicas more as make their mean the engine's.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead as _, BufReader},
    sync::Arc,
};

use flate2::read::MultiGzDecoder;
use jiff::{SignedDuration, Timestamp};
use tidegate::{
    engine::{Policy, SignalUse, State, decide},
    signal::{Observation, Pod, Signal, Stage, Work},
};

const VARIABLE: &str = "TIDEGATE_DUTY_CYCLE";
const PODS: usize = 8;
const SECONDS: f64 = 10.0;
const TARGET: f64 = 70.0;
const STEP: f64 = 3.0;

/// One sample of each pod; `None` is a hole.
type Sample = [Option<f64>; PODS];

pub fn compare() {
    let Ok(path) = std::env::var(VARIABLE) else {
        println!("filters: set {VARIABLE} to the duty cycles' file to compare filters; left out\n");
        return;
    };
    let services = read(&path);
    let hours = services.iter().map(|samples| samples.len() as f64 * SECONDS / 3_600.0).sum::<f64>();
    println!("filters on {} services of {PODS} pods, {hours:.0} h, samples played {SECONDS} s apart", services.len());
    println!(
        "{:<34} {:>13} {:>14} {:>11} {:>31}",
        "", "turns an hour", "mean replicas", "lag p90, s", "lag p90 at the engine's mean, s"
    );
    let rich = mean_of(services.iter().flat_map(|samples| engine(samples)).map(f64::from));
    for (name, contender) in CONTENDERS {
        let calm: Vec<Vec<u32>> = services.iter().map(|samples| contender(samples)).collect();
        let turns = calm.iter().map(|replicas| reversals(replicas)).sum::<u32>();
        let mean = mean_of(calm.iter().flatten().map(|replicas| f64::from(*replicas)));
        // As many replicas more, always, as the engine has in the mean.
        let lags =
            [0.0, rich - mean].map(|more| quantile(services.iter().filter_map(|s| lag(s, contender, more)), 0.9));
        let turns = f64::from(turns) / hours;
        println!("{name:<34} {turns:>13.2} {mean:>14.2} {:>11.0} {:>31.0}", lags[0], lags[1]);
    }
    println!();
}

/// Seconds until a contender, and so many replicas more, are as many as are needed after the step. None where the service
/// has so little to do that three times that is little too.
fn lag(samples: &[Sample], contender: Contender, more: f64) -> Option<f64> {
    let half = samples.len() / 2;
    let needed = mean_of(samples[half..(half + 60).min(samples.len())].iter().map(|sample| STEP * demand(sample)));
    let before = mean_of(samples[half - 60..half].iter().map(demand));
    if needed < before + 1.0 {
        return None;
    }
    let step = |(i, sample): (usize, &Sample)| {
        if i < half { *sample } else { sample.map(|value| value.map(|value| value * STEP)) }
    };
    let stepped: Vec<Sample> = samples.iter().enumerate().map(step).collect();
    let reached = contender(&stepped)[half..].iter().position(|replicas| f64::from(*replicas) + more >= needed);
    Some(reached.map_or(f64::INFINITY, |after| after as f64 * SECONDS))
}

fn mean_of(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

fn quantile(values: impl Iterator<Item = f64>, quantile: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(((values.len().max(1) - 1) as f64 * quantile) as usize).copied().unwrap_or(f64::NAN)
}

type Contender = fn(&[Sample]) -> Vec<u32>;

const CONTENDERS: [(&str, Contender); 5] = [
    ("raw value, HPA's ±10 %", raw),
    ("moving average, 60 s", |samples| average(samples, 6)),
    ("moving average, 300 s", |samples| average(samples, 30)),
    ("stable 60 s and panic 10 s", panic_pair),
    ("the engine", engine),
];

fn demand(sample: &Sample) -> f64 {
    sample.iter().flatten().sum::<f64>() / TARGET
}

fn whole(demand: f64) -> u32 {
    demand.ceil().max(1.0) as u32
}

fn raw(samples: &[Sample]) -> Vec<u32> {
    let mut replicas = 1;
    let follow = |sample: &Sample| {
        let ratio = demand(sample) / f64::from(replicas);
        if (ratio - 1.0).abs() > 0.1 {
            replicas = whole(demand(sample));
        }
        replicas
    };
    samples.iter().map(follow).collect()
}

fn mean(window: &VecDeque<f64>, last: usize) -> f64 {
    let last = last.min(window.len());
    window.iter().rev().take(last).sum::<f64>() / last.max(1) as f64
}

fn windowed(samples: &[Sample], length: usize, mut answer: impl FnMut(&VecDeque<f64>) -> u32) -> Vec<u32> {
    let mut window = VecDeque::new();
    let next = |sample: &Sample| {
        window.push_back(demand(sample));
        if window.len() > length {
            window.pop_front();
        }
        answer(&window)
    };
    samples.iter().map(next).collect()
}

fn average(samples: &[Sample], length: usize) -> Vec<u32> {
    windowed(samples, length, |window| whole(mean(window, length)))
}

/// Knative's pair: in panic, the higher of both and never down, until a minute after the last reason.
fn panic_pair(samples: &[Sample]) -> Vec<u32> {
    let (mut replicas, mut calm) = (1, 6);
    windowed(samples, 6, |window| {
        let (stable, panic) = (whole(mean(window, 6)), whole(mean(window, 1)));
        calm = if panic >= 2 * replicas { 0 } else { calm + 1 };
        replicas = if calm < 6 { replicas.max(stable).max(panic) } else { stable };
        replicas
    })
}

fn engine(samples: &[Sample]) -> Vec<u32> {
    let policy = Policy { max: 100, signals: SignalUse::Utilization, target_utilization: TARGET, ..Policy::default() };
    let mut state = State::default();
    let mut replicas = 1;
    let mut now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24);
    let names: Vec<Arc<str>> = (0..PODS).map(|n| format!("pod-{n}").into()).collect();
    let next = |sample: &Sample| {
        let pods = names.iter().zip(sample).map(|(name, value)| Pod {
            uid: Arc::clone(name),
            name: Arc::clone(name),
            pool: None,
            stage: Stage::Ready,
            created: Timestamp::UNIX_EPOCH,
            scheduled: Some(Timestamp::UNIX_EPOCH),
            running: Some(Timestamp::UNIX_EPOCH),
            ready_since: Some(Timestamp::UNIX_EPOCH),
            work: Work {
                utilization: value
                    .map_or_else(|| Signal::Unknown("hole".into()), |value| Signal::Known { value, at: now }),
                ..Work::default()
            },
        });
        let observation = Observation { replicas, pods: pods.collect(), room: Vec::new(), cluster_unknown: None };
        let (after, decision) = decide(std::mem::take(&mut state), &observation, &policy, now);
        state = after;
        replicas = decision.desired;
        now += SignedDuration::from_secs(SECONDS as i64);
        replicas
    };
    samples.iter().map(next).collect()
}

fn reversals(replicas: &[u32]) -> u32 {
    let mut last = None;
    let mut turns = 0;
    for pair in replicas.windows(2).filter(|pair| pair[0] != pair[1]) {
        let up = pair[1] > pair[0];
        turns += u32::from(last.is_some_and(|last| last != up));
        last = Some(up);
    }
    turns
}

/// Pods in the order of their names, eight to a service; a pod without a sample at a time has a hole there.
fn read(path: &str) -> Vec<Vec<Sample>> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{VARIABLE}={path}: {error}"));
    let mut pods: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
    let mut times = std::collections::BTreeSet::new();
    for line in BufReader::new(MultiGzDecoder::new(file)).lines().skip(1) {
        let line = line.unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut fields = line.split(',');
        let mut field = || fields.next().unwrap_or_default();
        let (value, at, pod) = (field(), field(), field());
        let (Ok(value), Ok(at)) = (value.parse::<f64>(), at.parse::<f64>()) else { continue };
        times.insert(at as i64);
        pods.entry(pod.to_owned()).or_default().insert(at as i64, value);
    }
    let pods: Vec<BTreeMap<i64, f64>> = pods.into_values().collect();
    let service = |pods: &[BTreeMap<i64, f64>]| {
        times.iter().map(|at| std::array::from_fn(|pod| pods[pod].get(at).copied())).collect()
    };
    pods.chunks_exact(PODS).map(service).collect()
}
