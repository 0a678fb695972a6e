//! A served model as KServe and arena make it, and the GPUs under it: what an exporter on its nodes would report.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, reflector, watcher},
};
use parking_lot::Mutex;
use serde_json::json;
use tidegate::sim::{
    exporter::{Dialect, Exporter, Fault},
    gpus::{GpuNode, GpuPod},
};
use tokio::task::JoinHandle;

use super::{
    adapter::{EXPORTER_LABEL, EXPORTER_PORT, TRUSTED, UNTRUSTED},
    kubectl,
    namespace::Namespace,
    timeline::Timeline,
    wait::eventually_or_error,
};

/// The InferenceService, as arena names it.
pub const SERVICE: &str = "qwen-chat";
/// The Deployment that KServe makes of it.
pub const DEPLOYMENT: &str = "qwen-chat-predictor";
/// The HPA that arena makes for it: 1 to 3 replicas at 50 %.
pub const AUTOSCALER: &str = "qwen-chat-hpa";
/// The metric that this HPA reads.
pub const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
/// The selector of that Deployment.
pub const SELECTOR: &str = "app=isvc.qwen-chat-predictor";

/// How busy the pods' GPUs are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// Every ready pod reads this, percent.
    Each(f64),
    /// This, percent of one GPU, is shared by the ready pods; none reads more than 100.
    Shared(f64),
    /// The pods read this, by name: `first`, `first + step`, …
    Steps {
        /// Percent of the first.
        first: f64,
        /// Percent more for each further one.
        step: f64,
    },
}

/// The exporters that share a workload's pods between them.
#[derive(Debug, Clone, Copy)]
pub struct Exporters {
    /// How many.
    pub count: usize,
    /// Whether the adapter trusts the timestamps on their pages.
    pub trusted: bool,
}

impl From<usize> for Exporters {
    fn from(count: usize) -> Self {
        Self { count, trusted: false }
    }
}

/// A Deployment with its exporters. Exporters end with it; objects stay until the namespace goes.
pub struct Workload<'a> {
    namespace: &'a Namespace,
    stage: Arc<Stage>,
    follow: JoinHandle<()>,
}

struct Stage {
    exporters: Vec<Exporter>,
    scene: Mutex<Scene>,
}

struct Scene {
    load: Load,
    /// Ready pods by name. A pod never moves.
    pods: BTreeMap<String, Seat>,
}

#[derive(Debug, Clone)]
struct Seat {
    uid: String,
    /// Which exporter reports the pod.
    exporter: usize,
    /// Its card there.
    card: usize,
}

impl<'a> Workload<'a> {
    /// What arena and KServe create for the seed's command, with this many replicas at first.
    pub async fn arena(
        namespace: &'a Namespace,
        replicas: i32,
        exporters: impl Into<Exporters>,
        load: Load,
    ) -> Result<Workload<'a>, String> {
        create_arena(namespace).await?;
        Self::deploy(namespace, replicas, exporters, load).await
    }

    /// The Deployment that KServe makes, without InferenceService and HPA.
    pub async fn deploy(
        namespace: &'a Namespace,
        replicas: i32,
        exporters: impl Into<Exporters>,
        load: Load,
    ) -> Result<Workload<'a>, String> {
        Self::deploy_as(namespace, deployment(replicas), replicas, exporters, load).await
    }

    /// That Deployment, changed.
    pub async fn deploy_as(
        namespace: &'a Namespace,
        deployment: serde_json::Value,
        replicas: i32,
        exporters: impl Into<Exporters>,
        load: Load,
    ) -> Result<Workload<'a>, String> {
        namespace.create::<Deployment>(deployment).await;
        let Exporters { count, trusted } = exporters.into();
        let cards = usize::try_from(replicas).unwrap_or(0).div_ceil(count).max(8);
        let mut started = Vec::new();
        for i in 0..count {
            started.push(start_exporter(namespace, i, cards, trusted).await?);
        }
        let scene = Mutex::new(Scene { load, pods: BTreeMap::new() });
        let stage = Arc::new(Stage { exporters: started, scene });
        let follow = tokio::spawn(follow(namespace.api(), namespace.name.clone(), Arc::clone(&stage)));
        let this = Self { namespace, stage, follow };
        this.ready(usize::try_from(replicas).unwrap_or(0)).await?;
        Ok(this)
    }

    /// Waits for that many ready pods.
    pub async fn ready(&self, count: usize) -> Result<(), String> {
        eventually_or_error("ready pods", async || {
            let ready = self.stage.scene.lock().pods.len();
            if ready == count { Ok(()) } else { Err(format!("{ready} of {count} pods are ready")) }
        })
        .await
    }

    /// What the ready pods read now, by pod.
    pub fn expected(&self) -> BTreeMap<String, f64> {
        let scene = self.stage.scene.lock();
        scene.pods.keys().enumerate().map(|(i, name)| (name.clone(), scene.percent(i))).collect()
    }

    /// Changes the load.
    pub fn set_load(&self, load: Load) {
        self.stage.scene.lock().load = load;
        self.stage.show(&self.namespace.name, &[]);
    }

    /// Makes all exporters misbehave, or behave.
    pub fn set_fault(&self, fault: Fault) {
        for exporter in &self.stage.exporters {
            exporter.set_fault(fault);
        }
    }

    /// Makes one exporter misbehave, or behave.
    pub fn set_fault_of(&self, exporter: usize, fault: Fault) {
        self.stage.exporters[exporter].set_fault(fault);
    }

    /// The record of the Deployment and its HPA from now on.
    pub fn timeline(&self) -> Timeline {
        Timeline::watch(&self.namespace.client, &self.namespace.name, DEPLOYMENT, AUTOSCALER)
    }
}

/// The InferenceService and the HPA that arena creates for the seed's command.
pub async fn create_arena(namespace: &Namespace) -> Result<(), String> {
    let objects =
        include_str!("arena_qwen_chat.yaml").replace("namespace: default", &format!("namespace: {}", namespace.name));
    kubectl::create(namespace.plane, &objects).await.map(drop)
}

impl Drop for Workload<'_> {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

impl Scene {
    fn percent(&self, ordinal: usize) -> f64 {
        match self.load {
            Load::Each(percent) => percent,
            Load::Shared(demand) => (demand / self.pods.len().max(1) as f64).min(100.0),
            Load::Steps { first, step } => first + step * ordinal as f64,
        }
    }
}

impl Stage {
    /// Tells each exporter which pods it has and how busy they are.
    fn show(&self, namespace: &str, gone: &[(String, Seat)]) {
        let scene = self.scene.lock();
        for (name, seat) in gone {
            self.exporters[seat.exporter].remove_pod(namespace, name);
        }
        for (ordinal, (name, seat)) in scene.pods.iter().enumerate() {
            let mut pod = GpuPod::new(namespace, name, &seat.uid, [seat.card]);
            pod.percent = scene.percent(ordinal);
            self.exporters[seat.exporter].add_pod(pod);
        }
    }

    /// Seats the pods that are ready now; those that were keep their seats.
    fn seat(&self, namespace: &str, ready: impl Iterator<Item = (String, String)>) {
        let mut scene = self.scene.lock();
        let mut before = std::mem::take(&mut scene.pods);
        let (stay, come): (Vec<_>, Vec<_>) =
            ready.partition(|(name, uid)| before.get(name).is_some_and(|seat| seat.uid == *uid));
        for (name, _) in stay {
            scene.pods.extend(before.remove_entry(&name));
        }
        for (name, uid) in come {
            let taken = |seat: &(usize, usize)| scene.pods.values().any(|other| (other.exporter, other.card) == *seat);
            let exporters = self.exporters.len();
            // One seat more than there are others: one of them is free.
            let free = (0..=scene.pods.len()).map(|n| (n % exporters, n / exporters)).find(|seat| !taken(seat));
            let (exporter, card) = free.unwrap_or_default();
            scene.pods.insert(name, Seat { uid, exporter, card });
        }
        drop(scene);
        self.show(namespace, &before.into_iter().collect::<Vec<_>>());
    }
}

/// Cards are named after their node, and each test has GPUs of its own.
fn node_name(namespace: &str, exporter: usize) -> String {
    format!("{namespace}-{exporter}")
}

/// A Deployment with the labels that KServe's reconciler writes.
pub fn deployment(replicas: i32) -> serde_json::Value {
    let app = format!("isvc.{DEPLOYMENT}");
    let labels = json!({
        "app": app, "component": "predictor", "serving.kserve.io/inferenceservice": SERVICE,
        "release": SERVICE, "servingName": SERVICE, "servingType": "kserve",
    });
    let container = json!({
        "name": "kserve-container", "image": "vllm",
        "resources": {"limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1}},
    });
    json!({
        "metadata": {"name": DEPLOYMENT, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}

/// The exporter, and its pod: with the host's network, as an exporter's DaemonSet has it, the pod's address is the node's,
/// and that is this machine's.
async fn start_exporter(namespace: &Namespace, i: usize, cards: usize, trusted: bool) -> Result<Exporter, String> {
    let node = GpuNode::new(&node_name(&namespace.name, i), cards);
    let label = if trusted { TRUSTED } else { UNTRUSTED };
    let exporter = Exporter::start(([127, 0, 0, 1], 0).into(), node, Dialect::Ack).await.map_err(|e| e.to_string())?;
    namespace
        .create::<Pod>(json!({
            "metadata": {"name": format!("exporter-{i}"), "labels": {EXPORTER_LABEL: label}},
            "spec": {
                "hostNetwork": true,
                "nodeName": format!("gpu-{}", i % super::kwok::NODES),
                "containers": [{
                    "name": "exporter", "image": "none",
                    "ports": [{"name": EXPORTER_PORT, "containerPort": exporter.address().port()}],
                }],
            },
        }))
        .await;
    Ok(exporter)
}

/// Keeps the exporters' pages about the pods that are ready: a model that still loads uses no GPU time.
async fn follow(api: Api<Pod>, namespace: String, stage: Arc<Stage>) {
    let (reader, writer) = reflector::store();
    let events = watcher(api, watcher::Config::default().labels(SELECTOR)).default_backoff().reflect(writer);
    let mut events = events.map_err(|_| ()).boxed();
    while let Some(event) = events.next().await {
        if event.is_err() {
            continue; // the watcher itself starts again
        }
        let pods = reader.state();
        let ready = pods.iter().filter(|pod| is_ready(pod));
        stage.seat(&namespace, ready.map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())));
    }
}

/// A pod that serves.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready =
        conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Longer than the HPA's stabilization (10 s) and some of its looks (2 s) together: what it has not done by then, it does
/// not do.
pub const HPA_WOULD_HAVE_ACTED: Duration = Duration::from_secs(16);
