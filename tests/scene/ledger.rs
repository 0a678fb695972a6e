//! When pods got a node and went, when nodes were asked for, came and went: by the API server's own events. What others count
//! is compared with this.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::Instant};

use super::{fleet::PREDICTORS, karpenter::POOL};

/// A node that is gone, and how it went. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Return {
    /// From its last pod's end to the node autoscaler's decision; `None` if nobody saw one.
    pub given_up: Option<f64>,
    /// From its last pod's end to its own.
    pub gone: f64,
}

/// A pod of a predictor.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its namespace.
    pub namespace: String,
    /// The node that it has got, and when.
    pub bound: Option<(String, Instant)>,
    /// When it was gone.
    pub gone: Option<Instant>,
}

/// A node of a pool.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Its pool.
    pub pool: String,
    /// When the node autoscaler asked for it; `None` for one that nobody asked for.
    pub asked: Option<Instant>,
    /// When it was there.
    pub there: Option<Instant>,
    /// When the node autoscaler gave it up.
    pub given_up: Option<Instant>,
    /// When it was gone.
    pub gone: Option<Instant>,
}

impl Machine {
    /// Seconds that it was there; one that still is counts to the present.
    fn seconds(&self) -> f64 {
        let now = Instant::now();
        self.gone.unwrap_or(now).duration_since(self.there.unwrap_or(now)).as_secs_f64()
    }
}

#[derive(Debug, Default)]
struct Book {
    /// By UID.
    replicas: BTreeMap<String, Replica>,
    /// By name.
    machines: BTreeMap<String, Machine>,
    /// Requests for nodes that have no name yet, by their own name.
    asked: BTreeMap<String, Instant>,
}

/// Follows the API server for as long as it lives.
#[derive(Debug)]
pub struct Ledger {
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

/// What an event says.
enum Change {
    Pod {
        uid: String,
        namespace: String,
        node: Option<String>,
    },
    PodGone {
        uid: String,
    },
    Node {
        name: String,
        pool: String,
    },
    NodeGone {
        name: String,
    },
    /// Karpenter's NodeClaim, and the node that it has become.
    Claim {
        name: String,
        node: Option<String>,
        given_up: bool,
    },
    Nothing,
}

fn pod(event: Event<Pod>) -> Change {
    match event {
        Event::Apply(pod) | Event::InitApply(pod) => Change::Pod {
            uid: pod.uid().unwrap_or_default(),
            namespace: pod.namespace().unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name),
        },
        Event::Delete(pod) => Change::PodGone { uid: pod.uid().unwrap_or_default() },
        Event::Init | Event::InitDone => Change::Nothing,
    }
}

fn node(event: Event<Node>) -> Change {
    match event {
        Event::Apply(node) | Event::InitApply(node) => {
            Change::Node { name: node.name_any(), pool: node.labels().get(POOL).cloned().unwrap_or_default() }
        }
        Event::Delete(node) => Change::NodeGone { name: node.name_any() },
        Event::Init | Event::InitDone => Change::Nothing,
    }
}

fn claim(event: Event<DynamicObject>) -> Change {
    match event {
        Event::Apply(claim) | Event::InitApply(claim) => {
            let node = claim.data["status"]["nodeName"].as_str().map(str::to_owned);
            Change::Claim { name: claim.name_any(), node, given_up: claim.metadata.deletion_timestamp.is_some() }
        }
        _ => Change::Nothing,
    }
}

impl Ledger {
    /// Begins. The definition of NodeClaims must be there.
    pub fn follow(client: &Client) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default().labels(PREDICTORS));
        let nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default().labels(POOL));
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("karpenter.sh", "v1", "NodeClaim"));
        let claims = watcher(Api::<DynamicObject>::all_with(client.clone(), &kind), watcher::Config::default());
        let mut changes = futures::stream::select_all([
            pods.default_backoff().map_ok(pod).boxed(),
            nodes.default_backoff().map_ok(node).boxed(),
            claims.default_backoff().map_ok(claim).boxed(),
        ]);
        let into = Arc::clone(&book);
        let task = tokio::spawn(async move {
            while let Some(change) = changes.next().await {
                // The watcher itself starts again after an error.
                if let Ok(change) = change {
                    into.lock().note(change, Instant::now());
                }
            }
        });
        Self { book, task }
    }

    /// Pods of one namespace in one pool that have, or had, a node; with that node.
    pub fn replicas(&self, namespace: &str, pool: &str) -> Vec<(Replica, Machine)> {
        let book = self.book.lock();
        let of = book.replicas.values().filter(|replica| replica.namespace == namespace);
        let with_node = |replica: &Replica| {
            let machine = book.machines.get(&replica.bound.as_ref()?.0)?;
            (machine.pool == pool).then(|| (replica.clone(), machine.clone()))
        };
        of.filter_map(with_node).collect()
    }

    /// Seconds that the pods of one namespace had a node in one pool, added up; one that is still there counts to the present.
    pub fn held_seconds(&self, namespace: &str, pool: &str) -> f64 {
        let now = Instant::now();
        let held = |(replica, _): &(Replica, Machine)| {
            let since = replica.bound.as_ref().map_or(now, |(_, since)| *since);
            replica.gone.unwrap_or(now).duration_since(since)
        };
        self.replicas(namespace, pool).iter().map(held).sum::<Duration>().as_secs_f64()
    }

    /// How many nodes of one pool there were, and the seconds that they were there, added up: what a cloud would bill.
    pub fn billed(&self, pool: &str) -> (usize, f64) {
        let book = self.book.lock();
        let there = book.machines.values().filter(|machine| machine.pool == pool && machine.there.is_some());
        let seconds: Vec<f64> = there.map(Machine::seconds).collect();
        (seconds.len(), seconds.iter().sum())
    }

    /// How the nodes of one pool went that had a pod and are gone.
    pub fn returns(&self, pool: &str) -> Vec<Return> {
        let book = self.book.lock();
        let last_pod = |node: &str| {
            let on_it = book.replicas.values().filter(|replica| replica.bound.as_ref().is_some_and(|b| b.0 == node));
            on_it.filter_map(|replica| replica.gone).max()
        };
        let of_pool = book.machines.iter().filter(|(_, machine)| machine.pool == pool);
        let returned = of_pool.filter_map(|(name, machine)| {
            let empty = last_pod(name)?;
            let after = |then: Instant| then.saturating_duration_since(empty).as_secs_f64();
            Some(Return { given_up: machine.given_up.map(after), gone: after(machine.gone?) })
        });
        returned.collect()
    }

    /// Seconds that the nodes under those pods were there.
    pub fn node_seconds(&self, namespace: &str, pool: &str) -> f64 {
        let named = |(replica, machine): (Replica, Machine)| Some((replica.bound?.0, machine));
        let nodes: BTreeMap<String, Machine> = self.replicas(namespace, pool).into_iter().filter_map(named).collect();
        nodes.values().map(Machine::seconds).sum()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Book {
    fn note(&mut self, change: Change, now: Instant) {
        match change {
            Change::Pod { uid, namespace, node } => {
                let replica = self.replicas.entry(uid).or_insert(Replica { namespace, bound: None, gone: None });
                if replica.bound.is_none() {
                    replica.bound = node.map(|node| (node, now));
                }
            }
            Change::PodGone { uid } => {
                if let Some(replica) = self.replicas.get_mut(&uid) {
                    replica.gone = Some(now);
                }
            }
            Change::Node { name, pool } => {
                let machine = self.machines.entry(name).or_default();
                machine.pool = pool;
                machine.there.get_or_insert(now);
            }
            Change::NodeGone { name } => {
                if let Some(machine) = self.machines.get_mut(&name) {
                    machine.gone = Some(now);
                }
            }
            Change::Claim { name, node, given_up } => {
                let asked = *self.asked.entry(name).or_insert(now);
                if let Some(node) = node {
                    let machine = self.machines.entry(node).or_default();
                    machine.asked.get_or_insert(asked);
                    machine.given_up = machine.given_up.or(given_up.then_some(now));
                }
            }
            Change::Nothing => {}
        }
    }
}
