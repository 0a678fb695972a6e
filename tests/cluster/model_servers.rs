//! A vLLM server in each ready pod of a workload: one simulated server on this machine for each.
//!
//! With the host's network a pod's address is its node's, and that is this machine's. The pods of one Deployment would all
//! have one port; here each has a port of its own, which an annotation of the pod tells, as it may on a real cluster.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, reflector, watcher},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate::sim::{
    exporter::Fault,
    server::{ModelServer, Vllm},
};
use tokio::task::JoinHandle;

use super::{
    namespace::Namespace,
    workload::{SELECTOR, deployment, is_ready},
};

/// Requests that a server runs at once.
const PLACES: u64 = 32;

/// The Deployment whose pods have servers.
pub fn served_deployment(replicas: i32) -> Value {
    let mut deployment = deployment(replicas);
    deployment["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    deployment
}

/// The servers of the ready pods. They end with this.
pub struct ModelServers {
    scene: Arc<Mutex<Scene>>,
    follow: JoinHandle<()>,
}

struct Scene {
    /// Running requests of each pod.
    running: u64,
    /// Waiting requests, spread over all pods.
    waiting: u64,
    /// All requests, where the pods share them: as many run in each as it has [`PLACES`], and the rest waits.
    shared: Option<u64>,
    fault: Fault,
    servers: BTreeMap<String, ModelServer>,
}

impl ModelServers {
    /// Starts a server for each pod of the workload that is or becomes ready.
    pub fn follow(namespace: &Namespace, waiting: u64) -> Self {
        let scene = Arc::new(Mutex::new(Scene {
            running: 64,
            waiting,
            shared: None,
            fault: Fault::None,
            servers: BTreeMap::new(),
        }));
        let follow = tokio::spawn(follow(namespace.api(), Arc::clone(&scene)));
        Self { scene, follow }
    }

    /// Changes how many requests wait, in all pods together.
    pub fn set_waiting(&self, waiting: u64) {
        let mut scene = self.scene.lock();
        scene.waiting = waiting;
        scene.show();
    }

    /// So many requests, shared by the pods.
    pub fn share(&self, requests: u64) {
        let mut scene = self.scene.lock();
        scene.shared = Some(requests);
        scene.show();
    }

    /// Makes all servers misbehave, or behave.
    pub fn set_fault(&self, fault: Fault) {
        let mut scene = self.scene.lock();
        scene.fault = fault;
        scene.show();
    }
}

impl Drop for ModelServers {
    fn drop(&mut self) {
        self.follow.abort();
    }
}

impl Scene {
    fn show(&mut self) {
        let pods = self.servers.len().max(1) as u64;
        if let Some(requests) = self.shared {
            self.running = (requests / pods).min(PLACES);
            self.waiting = requests.saturating_sub(PLACES * pods);
        }
        for (server, ordinal) in self.servers.values().zip(0..) {
            let share = self.waiting / pods + u64::from(ordinal < self.waiting % pods);
            server.change(|vllm| (vllm.waiting, vllm.running, vllm.kv_cache) = (share, self.running, 0.3));
            if server.fault() != self.fault {
                server.set_fault(self.fault);
            }
        }
    }
}

async fn follow(api: Api<Pod>, scene: Arc<Mutex<Scene>>) {
    let (reader, writer) = reflector::store();
    let events = watcher(api.clone(), watcher::Config::default().labels(SELECTOR)).default_backoff().reflect(writer);
    let mut events = events.map_err(|_| ()).boxed();
    while let Some(event) = events.next().await {
        if event.is_err() {
            continue; // the watcher itself starts again
        }
        let ready: Vec<String> = reader.state().iter().filter(|pod| is_ready(pod)).map(|pod| pod.name_any()).collect();
        scene.lock().servers.retain(|name, _| ready.contains(name));
        for name in ready {
            if scene.lock().servers.contains_key(&name) {
                continue;
            }
            let server = ModelServer::serve(([127, 0, 0, 1], 0).into(), Vllm::new("qwen")).await.expect("a port");
            let port = server.address().port().to_string();
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"prometheus.io/port": port}}}));
            // An error: the pod is gone, which the next event tells.
            let _ = api.patch(&name, &PatchParams::default(), &patch).await;
            let mut scene = scene.lock();
            scene.servers.insert(name, server);
            scene.show();
        }
        scene.lock().show();
    }
}
