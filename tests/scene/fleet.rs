//! The GPUs of the scene: an exporter on each node that there is, reading what the replicas on that node really compute.
//!
//! kwok plays the nodes, whoever makes them. On each that belongs to a pool this starts a simulated exporter on a real
//! socket, and the exporter's pod, which carries its port and is owned by its node as a static pod is: node autoscalers
//! do not count it, and it goes with its node.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future::select};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::PostParams,
    runtime::{WatchStreamExt, reflector, watcher},
};
use parking_lot::Mutex;
use serde_json::json;
use tidegate::sim::{
    exporter::{Dialect, Exporter, Fault},
    gpus::{GpuNode, GpuPod},
};
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    cluster::{
        adapter::{EXPORTER_LABEL, EXPORTER_PORT, UNTRUSTED},
        controlplane::ControlPlane,
        kubectl::kubectl,
        namespace::Namespace,
        wait::eventually_or_error,
    },
    gateway::{Doing, Gateway, Replica},
    karpenter::POOL,
};

/// The pool of fixed size.
pub const ONPREM: &str = "onprem";
/// The InferenceService, as arena names it.
pub const SERVICE: &str = "qwen-chat";
/// KServe's label on a predictor's pods.
pub const PREDICTORS: &str = "component=predictor";
/// Fleets that were started, for the names of their namespaces.
static FLEETS: AtomicUsize = AtomicUsize::new(0);
/// Value of kwok's annotation on the nodes of the kwok that all tests share.
pub const KUBELETS: &str = "fake";
/// How often the exporters are told what the replicas do.
const LOOK: Duration = Duration::from_millis(250);

/// A replica and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// Namespace: one service in each.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Its node, once it has one.
    pub node: Option<String>,
    /// `pool` label of its node; `None` while it has none.
    pub pool: Option<String>,
    /// Kubernetes `Ready`, and not being deleted.
    pub ready: bool,
    /// What it computes; `None` while it is not ready.
    pub doing: Option<Doing>,
}

/// A node of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Name.
    pub name: String,
    /// Its `pool` label.
    pub pool: String,
    /// When the API server made the object.
    pub created: Timestamp,
}

/// What there is at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// Replicas that exist and are not being deleted, by namespace and name.
    pub pods: Vec<Placed>,
    /// Nodes of pools.
    pub nodes: Vec<Machine>,
}

impl Picture {
    /// Replicas of one namespace.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Placed> {
        self.pods.iter().filter(move |pod| pod.namespace == namespace)
    }

    /// Ready replicas of one namespace in one pool.
    pub fn ready(&self, namespace: &str, pool: &str) -> usize {
        self.of(namespace).filter(|pod| pod.ready && pod.pool.as_deref() == Some(pool)).count()
    }

    /// Nodes of one pool.
    pub fn machines(&self, pool: &str) -> usize {
        self.nodes.iter().filter(|node| node.pool == pool).count()
    }
}

/// Follows nodes and pods for as long as it lives.
pub struct Fleet {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    client: Client,
    gateway: Gateway,
    /// Namespace of the exporters' pods.
    namespace: String,
    exporters: tokio::sync::Mutex<BTreeMap<String, Exporter>>,
    picture: Mutex<Picture>,
    replicas: Mutex<HashMap<(String, String), Arc<Replica>>>,
    /// Ready replicas that an exporter reports.
    seated: Mutex<HashSet<(String, String)>>,
    /// Utilization that replicas of a namespace read whatever they do, percent.
    forced: Mutex<HashMap<String, f64>>,
    changed: Notify,
}

impl Fleet {
    /// Makes the on-premises nodes, one GPU each, and follows what comes.
    pub async fn start(plane: &'static ControlPlane, client: &Client, onprem: usize) -> Result<Self, String> {
        // The nodes of the other tests have room for everything.
        kubectl(plane, &["delete", "nodes", "--all"]).await?;
        let exporters = Namespace::new(&format!("gpu-exporters-{}", FLEETS.fetch_add(1, Ordering::Relaxed))).await;
        for i in 0..onprem {
            add_node(client, &format!("onprem-{i}"), KUBELETS).await?;
        }
        let shared = Arc::new(Shared {
            client: client.clone(),
            gateway: Gateway::start().await.map_err(|error| format!("the gateway: {error}"))?,
            namespace: exporters.name.clone(),
            exporters: tokio::sync::Mutex::default(),
            picture: Mutex::default(),
            replicas: Mutex::default(),
            seated: Mutex::default(),
            forced: Mutex::default(),
            changed: Notify::new(),
        });
        let tasks = [tokio::spawn(follow(Arc::clone(&shared))), tokio::spawn(measure(Arc::clone(&shared)))];
        Ok(Self { shared, tasks })
    }

    /// Where requests go.
    pub fn gateway(&self) -> std::net::SocketAddr {
        self.shared.gateway.address
    }

    /// What there is now.
    pub fn picture(&self) -> Picture {
        self.shared.picture.lock().clone()
    }

    /// Lets all replicas of a namespace read this, percent, whatever they do; `None`: what they do.
    pub fn force(&self, namespace: &str, percent: Option<f64>) {
        let mut forced = self.shared.forced.lock();
        match percent {
            Some(percent) => drop(forced.insert(namespace.into(), percent)),
            None => drop(forced.remove(namespace)),
        }
    }

    /// Sets what is wrong with the exporters of these nodes.
    pub async fn set_fault(&self, nodes: &[String], fault: Fault) {
        let exporters = self.shared.exporters.lock().await;
        nodes.iter().filter_map(|node| exporters.get(node)).for_each(|exporter| exporter.set_fault(fault));
    }

    /// Waits until the picture is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Picture) -> bool) -> Result<Picture, String> {
        eventually_or_error(what, async || {
            let picture = self.picture();
            if wanted(&picture) { Ok(picture) } else { Err(format!("{picture:#?}")) }
        })
        .await
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A small node with one GPU on premises: by its scores alone the scheduler would rather take an empty cloud node. `kubelets`:
/// the value of kwok's annotation, which tells who plays its kubelet.
pub async fn add_node(client: &Client, name: &str, kubelets: &str) -> Result<(), String> {
    let room = json!({"cpu": "5", "memory": "16Gi", "pods": "20", "nvidia.com/gpu": "1"});
    let node = json!({
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": kubelets},
            "labels": {
                POOL: ONPREM, "type": "kwok",
                "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            },
        },
        "status": {"capacity": room, "allocatable": room},
    });
    let node: Node = serde_json::from_value(node).map_err(|error| error.to_string())?;
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &node).await.map(drop).map_err(|error| format!("node {name}: {error}"))
}

/// Keeps picture, routes and exporters at what the API server says.
async fn follow(shared: Arc<Shared>) {
    let (pods, pod_writer) = reflector::store();
    let (nodes, node_writer) = reflector::store();
    let pod_events = watcher(Api::<Pod>::all(shared.client.clone()), watcher::Config::default().labels(PREDICTORS))
        .default_backoff()
        .reflect(pod_writer)
        .map_ok(drop);
    let node_events = watcher(Api::<Node>::all(shared.client.clone()), watcher::Config::default().labels(POOL))
        .default_backoff()
        .reflect(node_writer)
        .map_ok(drop);
    let mut events = futures::stream::select(pod_events.boxed(), node_events.boxed());
    while let Some(event) = events.next().await {
        if event.is_err() {
            continue; // the watcher itself starts again
        }
        shared.see(&nodes.state(), &pods.state()).await;
    }
}

impl Shared {
    async fn see(&self, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) {
        let mut machines: Vec<_> = nodes.iter().filter_map(|node| machine(node)).collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        let mut placed: Vec<_> = pods.iter().filter_map(|pod| place(pod, nodes)).collect();
        placed.sort_by(|a, b| (&a.0.namespace, &a.0.name).cmp(&(&b.0.namespace, &b.0.name)));
        self.equip(&machines, nodes).await;

        let mut replicas = HashMap::new();
        let mut by_namespace: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (pod, _) in &placed {
            let ready = by_namespace.entry(&pod.namespace).or_default();
            ready.extend(pod.ready.then(|| pod.name.clone()));
        }
        for (namespace, ready) in by_namespace {
            let routed = self.gateway.route(&Gateway::host(namespace, SERVICE), ready);
            replicas.extend(routed.into_iter().map(|(pod, replica)| ((namespace.to_owned(), pod), replica)));
        }
        let exporters = self.exporters.lock().await;
        let gone: Vec<_> = self.replicas.lock().keys().filter(|key| !replicas.contains_key(*key)).cloned().collect();
        for exporter in exporters.values() {
            for (namespace, name) in &gone {
                exporter.remove_pod(namespace, name);
            }
        }
        for (pod, node) in placed.iter().filter(|(pod, _)| pod.ready) {
            // The node may be seen after its pod: a pod counts as seated once an exporter has it.
            let key = (pod.namespace.clone(), pod.name.clone());
            let mut seated = self.seated.lock();
            if !seated.contains(&key)
                && let Some(exporter) = node.as_ref().and_then(|node| exporters.get(node))
            {
                exporter.add_pod(GpuPod::new(&pod.namespace, &pod.name, &pod.uid, [0]));
                seated.insert(key);
            }
        }
        self.seated.lock().retain(|key| replicas.contains_key(key));
        *self.replicas.lock() = replicas;
        let pods = placed.into_iter().map(|(pod, _)| pod).collect();
        *self.picture.lock() = Picture { pods, nodes: machines };
        self.changed.notify_one();
    }

    /// Starts an exporter on each new node, and ends those of nodes that are gone.
    async fn equip(&self, machines: &[Machine], nodes: &[Arc<Node>]) {
        let mut exporters = self.exporters.lock().await;
        exporters.retain(|name, _| machines.iter().any(|machine| machine.name == *name));
        for machine in machines {
            if exporters.contains_key(&machine.name) {
                continue;
            }
            let node = nodes.iter().find(|node| node.name_any() == machine.name);
            let uid = node.and_then(|node| node.uid()).unwrap_or_default();
            let gpu = GpuNode::new(&machine.name, 1);
            let exporter = match Exporter::start(([127, 0, 0, 1], 0).into(), gpu, Dialect::Ack).await {
                Ok(exporter) => exporter,
                Err(error) => {
                    eprintln!("the exporter of {} does not start: {error}", machine.name);
                    continue;
                }
            };
            let pod = json!({
                "metadata": {
                    "name": format!("exporter-{}", machine.name),
                    "labels": {EXPORTER_LABEL: UNTRUSTED},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": machine.name, "uid": uid}],
                },
                "spec": {
                    "hostNetwork": true, "nodeName": machine.name, "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{
                        "name": "exporter", "image": "none",
                        "ports": [{"name": EXPORTER_PORT, "containerPort": exporter.address().port()}],
                    }],
                },
            });
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
            let created = match serde_json::from_value(pod) {
                Ok(pod) => pods.create(&PostParams::default(), &pod).await.map(drop),
                Err(error) => Err(kube::Error::SerdeError(error)),
            };
            if let Err(error) = created {
                eprintln!("the exporter's pod on {}: {error}", machine.name);
            }
            exporters.insert(machine.name.clone(), exporter);
        }
    }
}

/// Tells the exporters what the replicas do.
async fn measure(shared: Arc<Shared>) {
    loop {
        let _ = select(Box::pin(tokio::time::sleep(LOOK)), Box::pin(shared.changed.notified())).await;
        let replicas = shared.replicas.lock().clone();
        let exporters = shared.exporters.lock().await;
        for ((namespace, name), replica) in replicas {
            let doing = replica.look();
            let percent = shared.forced.lock().get(&namespace).copied().unwrap_or(doing.utilization);
            for exporter in exporters.values() {
                if exporter.set_load(&namespace, &name, percent) {
                    break;
                }
            }
            let mut picture = shared.picture.lock();
            let pod = picture.pods.iter_mut().find(|pod| pod.namespace == namespace && pod.name == name);
            if let Some(pod) = pod {
                pod.doing = Some(Doing { utilization: percent, ..doing });
            }
        }
    }
}

fn machine(node: &Node) -> Option<Machine> {
    let pool = node.labels().get(POOL)?.clone();
    let created = node.creation_timestamp()?.0;
    Some(Machine { name: node.name_any(), pool, created })
}

/// The replica, and its node's name. `None` for one that is being deleted or has no namespace.
fn place(pod: &Pod, nodes: &[Arc<Node>]) -> Option<(Placed, Option<String>)> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let labels = nodes.iter().find(|other| Some(other.name_any()) == node).map(|node| node.labels());
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let placed = Placed {
        namespace: pod.namespace()?,
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        node: node.clone(),
        pool: labels.and_then(|labels| labels.get(POOL).cloned()),
        ready,
        doing: None,
    };
    Some((placed, node))
}
