//! The demo's scene: a service that goes from one replica to three and back, while an exporter fails at peak.
//!
//! Simulated are GPUs, pods, load and the HPA; in between runs what `tidegate adapter` runs ([`adapter`]): it scrapes over
//! sockets, attributes, and serves the metrics API over TLS. All times of the [`script`] are Kubernetes' defaults or usual
//! ones, divided by one factor, so that proportions are true.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub mod act;
pub mod adapter;
pub(super) mod certificates;
pub mod script;

pub use act::{Flop, PodTick, Summary, Tick};

use act::Critic;
use adapter::Adapter;
use certificates::Certificates;

use super::{
    cluster::{Cluster, Event, Node},
    exporter::{Dialect, Exporter, Fault},
    gpus::{GpuNode, GpuPod},
    hpa::{Answer, Client, Hpa, Metric, PodPhase, Spec, Tolerance},
    load::{self, Noise},
};
use crate::{
    attribution::Statistic,
    clock::Clock,
    cluster::{Autoscaler, ObjectKey},
    gpu::FamilyId,
    publish::Snapshot,
    reading::{Measured, Reading, Unknown, fresh},
};

/// At speed 1 the scene's twenty minutes take one.
pub const COMPRESSION: f64 = 20.0;
/// Slowest and fastest play: real time, and what a busy laptop still follows.
pub const SPEEDS: std::ops::RangeInclusive<f64> = 0.05..=20.0;
/// A sample may always be this old: scheduling delays of the machine are not compressed.
const LEAST_MAX_AGE: Duration = Duration::from_millis(250);

/// How the scene is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Times as fast as one minute.
    pub speed: f64,
    /// Seed of the noise in the readings.
    pub seed: u64,
    /// Address of the adapter's own metrics (HTTP), if they are wanted.
    pub metrics: Option<SocketAddr>,
}

/// The scene cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// Sockets.
    #[error("a socket failed: {0}")]
    Socket(#[from] io::Error),
    /// Whoever shows the scene.
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    /// Certificates of the scene.
    #[error("the scene's certificates cannot be made: {0}")]
    Certificates(#[from] rcgen::Error),
    /// Serving certificate.
    #[error(transparent)]
    Tls(#[from] apiservice::tls::TlsError),
    /// Client certificate authority.
    #[error(transparent)]
    Trust(#[from] apiservice::authentication::TrustError),
    /// The HPA model's client.
    #[error(transparent)]
    Client(#[from] super::hpa::client::ClientError),
    /// The client that is never used.
    #[error("the authorizer's client cannot be made: {0}")]
    Kube(#[from] kube::Error),
    /// The scraper died.
    #[error(transparent)]
    Scraper(#[from] crate::scrape::ScraperError),
    /// A part died.
    #[error("a part of the adapter died: {0}")]
    Died(String),
}

/// Plays the scene; `show` is called after each sync of the HPA. A TLS crypto provider must have been installed.
///
/// # Errors
/// [`SceneError`]. That the scene did not play as described is for [`Summary::judge`] to say.
pub async fn play(settings: Settings, mut show: impl FnMut(&Tick) -> io::Result<()>) -> Result<Summary, SceneError> {
    let mut director = Director::start(settings).await?;
    let played = director.play(&mut show).await;
    let Director { adapter, exporters, .. } = director;
    adapter.stop().await?;
    for exporter in exporters {
        exporter.stop().await;
    }
    played
}

/// Moves everything that is simulated.
struct Director {
    compression: f64,
    clock: Clock,
    started: Instant,
    noise: Noise,
    cluster: Cluster,
    exporters: Vec<Exporter>,
    adapter: Adapter,
    client: Client,
    hpa: Hpa,
    naive: Hpa,
    family: FamilyId,
    desired: usize,
    critic: Critic,
    events: Vec<String>,
}

impl Director {
    async fn start(settings: Settings) -> Result<Self, SceneError> {
        let Settings { speed, seed, metrics } = settings;
        let compression = COMPRESSION * speed.clamp(*SPEEDS.start(), *SPEEDS.end());
        let wall = |time: Duration| time.div_f64(compression);
        let clock = Clock::start();
        let mut exporters = Vec::with_capacity(script::NODES.len());
        for node in script::NODES {
            exporters.push(Exporter::start(([127, 0, 0, 1], 0).into(), GpuNode::new(node, 1), Dialect::Ack).await?);
        }
        let urls = exporters.iter().map(Exporter::url).zip(script::NODES);
        let certificates = Certificates::make()?;
        let max_age = wall(script::MAX_AGE).max(LEAST_MAX_AGE);
        let scrape = adapter::exporters(urls, wall(script::SCRAPE_INTERVAL), max_age);
        let adapter = Adapter::start(clock, scrape, metrics, Registry::default(), &certificates).await?;
        let client =
            Client::new(&format!("https://{}", adapter.address), &certificates.authority, &certificates.client)?;
        let cluster = Cluster::new(
            super::cluster::Settings {
                namespace: script::NAMESPACE.into(),
                service: script::SERVICE.into(),
                gpus: 1,
                scheduling: wall(script::SCHEDULING),
                load: wall(script::MODEL_LOAD),
                autoscaler: Some(autoscaler()),
                policy: None,
            },
            script::NODES.map(|node| Node::fixed(node, 1)),
        );
        let spec = Spec {
            namespace: script::NAMESPACE.into(),
            selector: cluster.selector(),
            min: script::MIN_REPLICAS,
            max: script::MAX_REPLICAS,
            metrics: vec![Metric::Pods { name: script::METRIC.into(), average: i64::from(script::TARGET) * 1000 }],
            behavior: None,
            down_window: wall(script::STABILIZATION),
            tolerance: Tolerance::default(),
        };
        let family = adapter.vocabulary.by_name(script::METRIC);
        Ok(Self {
            compression,
            clock,
            started: Instant::now(),
            noise: Noise::new(seed),
            cluster,
            exporters,
            client,
            hpa: Hpa::new(spec.clone()),
            naive: Hpa::new(spec),
            family: family.ok_or_else(|| SceneError::Died(format!("the vocabulary lacks {}", script::METRIC)))?,
            adapter,
            desired: script::MIN_REPLICAS as usize,
            critic: Critic::default(),
            events: Vec::new(),
        })
    }

    /// Scene time.
    fn time(&self) -> Duration {
        self.started.elapsed().mul_f64(self.compression)
    }

    async fn play(&mut self, show: &mut impl FnMut(&Tick) -> io::Result<()>) -> Result<Summary, SceneError> {
        // The one replica of the beginning has been there for a while; its first page has yet to be read.
        let now = self.clock.now();
        for ago in [script::SCHEDULING + script::MODEL_LOAD, script::MODEL_LOAD, Duration::ZERO] {
            self.move_pods(now - ago.div_f64(self.compression));
        }
        self.events.clear();
        self.started = Instant::now();
        let mut sync = Duration::ZERO;
        let mut step = Duration::ZERO;
        loop {
            let time = self.time();
            self.act(time);
            if time >= sync {
                let tick = self.sync(time).await;
                show(&tick).map_err(SceneError::Output)?;
                // A late sync is not made up for.
                while sync <= time {
                    sync += script::SYNC;
                }
                let down = tick.ready <= script::MIN_REPLICAS as usize && self.desired == tick.ready;
                if time >= script::END && (down || time >= script::END + script::GRACE) {
                    return Ok(self.critic.summary(self.started.elapsed()));
                }
            }
            while step <= time {
                step += script::STEP;
            }
            let wake = self.started + step.div_f64(self.compression);
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                error = self.adapter.ended() => return Err(error),
            }
        }
    }

    /// Moves pods, faults and load to that time.
    fn act(&mut self, time: Duration) {
        self.move_pods(self.clock.now());
        let mishap = script::mishap(time);
        for (node, exporter) in self.exporters.iter().enumerate() {
            let here = mishap.filter(|mishap| mishap.node == node);
            let fault = here.map_or(Fault::None, |mishap| mishap.fault);
            if exporter.fault() != fault {
                exporter.set_fault(fault);
                let healed = || format!("the exporter of {} is well again", script::NODES[node]);
                self.events.push(here.map_or_else(healed, |mishap| mishap.story.to_owned()));
            }
        }
        let busy = load::utilization(script::load().at(time), self.cluster.ready(), script::IDLE);
        for (pod, node, ready) in self.cluster.pods() {
            let Some(node) = node else { continue };
            let noisy = (busy + script::NOISE * self.noise.draw()).clamp(0.0, 100.0);
            let percent = if ready { (noisy * 10.0).round() / 10.0 } else { 0.0 };
            self.exporters[node].set_load(&pod.namespace, &pod.name, percent);
        }
    }

    /// Lets the cluster follow the wish for replicas, and the exporters follow the cluster.
    fn move_pods(&mut self, now: Timestamp) {
        let events = self.cluster.step(now, self.desired);
        // At each step, changed or not: the publishing cycle's longest pause would otherwise be the one time that is not
        // compressed.
        self.adapter.see(self.cluster.view());
        for event in events {
            let told = match event {
                Event::Scheduled { pod: ObjectKey { namespace, name }, uid, node, cards } => {
                    self.exporters[node].add_pod(GpuPod::new(&namespace, &name, &uid, cards));
                    Some(format!("a pod starts on {} and loads its model", script::NODES[node]))
                }
                Event::Ready(pod) => {
                    let node = self.cluster.pods().find(|(key, ..)| **key == pod).and_then(|(_, node, _)| node);
                    Some(format!("the pod on {} is ready", node.map_or("no node", |node| script::NODES[node])))
                }
                Event::Removed { pod, node } => node.map(|node| {
                    self.exporters[node].remove_pod(&pod.namespace, &pod.name);
                    format!("the pod on {} is removed", script::NODES[node])
                }),
                // These nodes are always there.
                Event::Created(_) | Event::NodeOrdered(_) | Event::NodeUp(_) | Event::NodeReturned(_) => None,
            };
            self.events.extend(told);
        }
    }

    /// Lets the HPA ask and decide.
    async fn sync(&mut self, time: Duration) -> Tick {
        let before = self.desired;
        let current = i32::try_from(before).unwrap_or(i32::MAX);
        let phases: BTreeMap<String, PodPhase> = self
            .cluster
            .pods()
            .map(|(pod, node, ready)| {
                (pod.name.to_string(), node.map_or(PodPhase::Pending, |_| PodPhase::Running { ready }))
            })
            .collect();
        let now = self.clock.now();
        let sync = self.hpa.sync(&mut self.client, now, current, &phases).await;
        let running = phases.iter().filter(|(_, phase)| matches!(phase, PodPhase::Running { ready: true }));
        let mut zeros: BTreeMap<String, i64> = running.map(|(name, _)| (name.clone(), 0)).collect();
        zeros.extend(sync.items.clone());
        let naive = self.naive.decide(now, current.into(), &phases, &[Ok(Answer::Items(zeros))]).desired;
        self.desired = usize::try_from(sync.desired).unwrap_or_default();

        let offered = script::load().at(time);
        let tolerance = Tolerance::default().up;
        let snapshot = self.adapter.publisher.snapshot();
        let service = self.service(&snapshot);
        let tick = Tick {
            time: time.as_secs_f64().round(),
            offered: (offered * 100.0).round() / 100.0,
            warranted: load::warranted(
                offered,
                script::IDLE,
                f64::from(script::TARGET),
                tolerance,
                script::NODES.len(),
            ),
            utilization: service.as_ref().ok().map(|measured| tenths(measured.value)),
            unknown: service.err().map(|unknown| self.words(unknown)),
            pods: self.cluster.pods().map(|(pod, node, ready)| self.pod(&snapshot, pod, node, ready)).collect(),
            ready: self.cluster.ready(),
            desired: self.desired,
            answered: sync.items.len(),
            limit: sync.limit.map(super::hpa::Limit::reason),
            invalid: sync.invalid.map(|(reason, message)| format!("{reason}: {message}")),
            desired_if_unknown_were_zero: usize::try_from(naive).unwrap_or_default(),
            events: std::mem::take(&mut self.events),
        };
        // What was measured just before a fault is answered until it is too old, by the next sync.
        let late = self.adapter.scrape.max_age().mul_f64(self.compression) + script::SCRAPE_INTERVAL + script::STEP;
        self.critic.watch(&tick, before, late);
        tick
    }

    fn service(&self, snapshot: &Snapshot) -> Reading {
        let key = ObjectKey { namespace: script::NAMESPACE.into(), name: self.cluster.deployment().into() };
        let service = snapshot.readings.services.get(&key);
        let group = service.and_then(|service| service.families.get(&self.family));
        let reading = group.and_then(|group| group.statistics.get(&Statistic::Mean));
        self.still(reading)
    }

    fn pod(&self, snapshot: &Snapshot, pod: &ObjectKey, node: Option<usize>, ready: bool) -> PodTick {
        let families = snapshot.readings.pods.get(pod);
        let reading = families.and_then(|families| families.get(&self.family)).map(|pod| &pod.reading);
        let reading = if ready { self.still(reading) } else { Err(Unknown::NotReady) };
        PodTick {
            name: pod.name.to_string(),
            node: node.map(|node| script::NODES[node]),
            ready,
            value: reading.as_ref().ok().map(|measured| tenths(measured.value)),
            unknown: reading.err().map(|unknown| self.words(unknown)),
        }
    }

    /// A reason in scene time: ages would otherwise be told in compressed seconds.
    fn words(&self, unknown: Unknown) -> String {
        match unknown {
            Unknown::Stale { age, max_age } => {
                let scene =
                    |time: Duration| Duration::from_secs_f64(time.mul_f64(self.compression).as_secs_f64().round());
                Unknown::Stale { age: scene(age), max_age: scene(max_age) }.to_string()
            }
            other => other.to_string(),
        }
    }

    fn still(&self, reading: Option<&Reading>) -> Reading {
        let measured: Measured = reading.cloned().unwrap_or(Err(Unknown::Absent))?;
        fresh(measured, self.clock.now(), self.adapter.scrape.max_age())
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What `arena serve kserve … --scale-metric --scale-target` makes.
fn autoscaler() -> Autoscaler {
    Autoscaler {
        key: ObjectKey { namespace: script::NAMESPACE.into(), name: format!("{}-hpa", script::SERVICE).into() },
        target_kind: "Deployment".into(),
        target_name: format!("{}-predictor", script::SERVICE).into(),
        metrics: vec![(Arc::from(script::METRIC), f64::from(script::TARGET))],
        exact: false,
        min: script::MIN_REPLICAS,
        max: script::MAX_REPLICAS,
        current: script::MIN_REPLICAS,
        desired: script::MIN_REPLICAS,
    }
}
