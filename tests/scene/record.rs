//! What happened in one service of the scene, as JSON and as a picture that is read at a glance.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::Mutex;
use serde::Serialize;
use tidegate::policy::{ScalingPolicy, ScalingPolicyStatus};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    chart,
    cluster::{
        process::target,
        timeline::{Moment, Timeline},
    },
    fleet::{Fleet, ONPREM, Picture},
    karpenter::CLOUD,
    ledger::Ledger,
    stage::Stage,
};

/// How often the picture is taken.
const INTERVAL: Duration = Duration::from_millis(250);

/// One moment.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Seconds since the record began.
    pub seconds: f64,
    /// Requests that are computed or wait.
    pub requests: usize,
    /// Mean utilization over ready replicas, percent; `null` without one.
    pub utilization: Option<f64>,
    /// Replicas that are asked for: the Deployment's own number.
    pub asked: usize,
    /// Ready replicas on premises.
    pub onprem: usize,
    /// Ready replicas in the cloud.
    pub cloud: usize,
    /// Replicas with a node that are not ready.
    pub starting: usize,
    /// Replicas without a node.
    pub pending: usize,
    /// Nodes on premises that this service uses.
    pub onprem_nodes: usize,
    /// Nodes in the cloud that this service uses, or has used and that are still there.
    pub cloud_nodes: usize,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Something that happened.
    Fact,
    /// Another number of replicas is asked for.
    Move,
    /// A number of replicas that was decided.
    Decision,
    /// The same number as before, for another reason.
    Reason,
}

/// Something that happened or was decided.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Seconds since the record began.
    pub seconds: f64,
    /// Which.
    pub kind: Kind,
    /// Replicas, where it is about their number.
    pub replicas: Option<u32>,
    /// In words.
    pub what: String,
}

/// A running record of one namespace.
pub struct Record {
    name: String,
    title: String,
    started: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    events: Arc<Mutex<Vec<Event>>>,
    timeline: Timeline,
    tasks: [JoinHandle<()>; 2],
}

fn sample(picture: &Picture, ledger: &Ledger, namespace: &str, seconds: f64) -> Sample {
    let doing: Vec<_> = picture.of(namespace).filter_map(|pod| pod.doing).collect();
    let mean = doing.iter().map(|doing| doing.utilization).sum::<f64>() / doing.len() as f64;
    let nodes = |pool: &str| {
        let used = ledger.replicas(namespace, pool);
        let standing = used.iter().filter(|(_, machine)| machine.gone.is_none());
        standing.filter_map(|(replica, _)| Some(&replica.bound.as_ref()?.0)).collect::<BTreeSet<_>>().len()
    };
    Sample {
        seconds: (seconds * 100.0).round() / 100.0,
        requests: doing.iter().map(|doing| doing.running + doing.waiting).sum(),
        utilization: (!doing.is_empty()).then(|| (mean * 10.0).round() / 10.0),
        asked: 0, // known by the timeline
        onprem: picture.ready(namespace, ONPREM),
        cloud: picture.ready(namespace, CLOUD),
        starting: picture.of(namespace).filter(|pod| !pod.ready && pod.pool.is_some()).count(),
        pending: picture.of(namespace).filter(|pod| !pod.ready && pod.pool.is_none()).count(),
        onprem_nodes: nodes(ONPREM),
        cloud_nodes: nodes(CLOUD),
    }
}

impl Record {
    /// Begins. `timeline` adds what was asked for.
    pub fn begin(name: &str, title: &str, stage: &Stage, namespace: &str, timeline: Timeline) -> Self {
        let started = Instant::now();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::new(Mutex::new(Vec::new()));
        let looking = look(
            Arc::clone(&stage.fleet),
            Arc::clone(&stage.ledger),
            namespace.to_owned(),
            started,
            Arc::clone(&samples),
        );
        let listening = listen(stage.client.clone(), namespace.to_owned(), started, Arc::clone(&events));
        let tasks = [tokio::spawn(looking), tokio::spawn(listening)];
        Self { name: name.into(), title: title.into(), started, samples, events, timeline, tasks }
    }

    /// Notes an event, and says when it was.
    pub fn note(&self, what: impl Into<String>) -> f64 {
        let seconds = self.seconds();
        self.events.lock().push(Event { seconds, kind: Kind::Fact, replicas: None, what: what.into() });
        seconds
    }

    /// Seconds since it began.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Seconds from the beginning to then.
    pub fn when(&self, then: Instant) -> f64 {
        then.saturating_duration_since(self.started).as_secs_f64()
    }

    /// All samples so far.
    pub fn samples(&self) -> Vec<Sample> {
        let moments = self.timeline.moments();
        let asked = |seconds: f64| {
            let last = moments.iter().rev().find(|moment| moment.at.as_secs_f64() <= seconds);
            last.map_or(0, |moment| usize::try_from(moment.replicas).unwrap_or(0))
        };
        let mut samples = self.samples.lock().clone();
        for sample in &mut samples {
            sample.asked = asked(sample.seconds);
        }
        samples
    }

    /// The Deployment and its HPA.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// All events so far, by time.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.events.lock().clone();
        let mut before: Option<i32> = None;
        for Moment { at, replicas, value, .. } in self.timeline.moments().iter() {
            if before.replace(*replicas).is_some_and(|before| before != *replicas) {
                let read = value.as_ref().map_or_else(String::new, |value| format!(" (the HPA has read {value} %)"));
                let what = format!("{replicas} replicas are asked for{read}");
                let replicas = u32::try_from(*replicas).ok();
                events.push(Event { seconds: at.as_secs_f64(), kind: Kind::Move, replicas, what });
            }
        }
        events.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        events
    }

    /// Writes `NAME.json` and `NAME.svg` below the target folder, and says where. `outcome`: what came of it, in a line.
    pub fn write(&self, outcome: &str) -> Result<PathBuf, String> {
        let (samples, events) = (self.samples(), self.events());
        let json = serde_json::json!({
            "scene": self.name, "title": self.title, "outcome": outcome, "samples": samples, "events": events,
        });
        write(&format!("{}.json", self.name), &json.to_string())?;
        write(&format!("{}.svg", self.name), &chart::svg([&self.title, outcome], &samples, &events))
    }
}

/// Writes a file of results, `target/scene/NAME`.
pub fn write(name: &str, text: &str) -> Result<PathBuf, String> {
    let file = target().join("scene").join(name);
    fs::create_dir_all(target().join("scene"))
        .and_then(|()| fs::write(&file, text))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

impl Drop for Record {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn look(
    fleet: Arc<Fleet>,
    ledger: Arc<Ledger>,
    namespace: String,
    started: Instant,
    into: Arc<Mutex<Vec<Sample>>>,
) {
    loop {
        let seconds = started.elapsed().as_secs_f64();
        into.lock().push(sample(&fleet.picture(), &ledger, &namespace, seconds));
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Notes what the status of the namespace's ScalingPolicy says, whenever number or reason change.
async fn listen(client: Client, namespace: String, started: Instant, into: Arc<Mutex<Vec<Event>>>) {
    let policies = watcher(Api::<ScalingPolicy>::namespaced(client, &namespace), watcher::Config::default());
    let mut policies = policies.default_backoff().applied_objects().boxed();
    let mut before = None;
    while let Some(policy) = policies.next().await {
        let Ok(Some(status)) = policy.map(|policy| policy.status) else { continue };
        let ScalingPolicyStatus { desired_replicas, reason, message, .. } = status;
        let number = before.as_ref().map(|(desired, _)| desired) != Some(&desired_replicas);
        let now = (desired_replicas, reason);
        if before.as_ref() != Some(&now) {
            let kind = if number { Kind::Decision } else { Kind::Reason };
            let word = now.1.as_deref().unwrap_or("");
            let what = format!("{word}: {}", message.unwrap_or_default());
            let seconds = started.elapsed().as_secs_f64();
            into.lock().push(Event { seconds, kind, replicas: now.0, what });
            before = Some(now);
        }
    }
}
