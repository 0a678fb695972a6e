//! Pods, nodes and what they cost: the ReplicaSet controller, the scheduler, the kubelet and the node autoscaler in short.
//!
//! On-premises nodes are always there; a cloud node is asked for when a pod finds no place, boots, and is given back when
//! it has been empty for long enough. Pods without a place take the first that becomes free, on premises first.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
};

use super::{
    model::{Model, interpolate},
    policy::Release,
    random::Random,
};
use crate::signal::{Room, Stage};

/// Index of the on-premises pool in the policy's pools.
pub const ON_PREMISES: usize = 0;
/// Index of the cloud pool.
pub const CLOUD: usize = 1;

/// A pod, from its creation until it is gone.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Number, in the order of creation.
    pub id: u64,
    /// UID, by chance.
    pub uid: Arc<str>,
    /// Name; sorts like `id`.
    pub name: Arc<str>,
    /// Its node.
    pub place: Option<Place>,
    /// When it was created, seconds.
    pub created: f64,
    /// When it was bound to its node.
    pub scheduled: Option<f64>,
    /// When its container began to run.
    pub running: Option<f64>,
    /// When it became ready.
    pub ready: Option<f64>,
    /// It is being removed: no longer counted, no longer sent anything.
    pub leaving: bool,
}

/// Where a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On premises.
    OnPremises,
    /// On this cloud node.
    Cloud(u64),
}

impl Place {
    /// Index of its pool.
    #[must_use]
    pub fn pool(self) -> usize {
        match self {
            Self::OnPremises => ON_PREMISES,
            Self::Cloud(_) => CLOUD,
        }
    }
}

impl Pod {
    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match (self.scheduled, self.ready) {
            (None, _) => Stage::Pending,
            (Some(_), None) => Stage::Starting,
            (Some(_), Some(_)) => Stage::Ready,
        }
    }
}

#[derive(Debug, Clone)]
struct Node {
    id: u64,
    asked: f64,
    up: bool,
    pod: Option<u64>,
    empty_since: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Timer {
    NodeUp(u64),
    NodeEmpty(u64),
    Running(u64),
    Ready(u64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Due {
    at: f64,
    /// Breaks ties in the order in which timers were set.
    order: u64,
    timer: Timer,
}

impl Eq for Due {}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.total_cmp(&other.at).then(self.order.cmp(&other.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Pods and nodes of one service.
#[derive(Debug)]
pub struct Fleet {
    pods: Vec<Pod>,
    nodes: Vec<Node>,
    /// Replicas that fit on premises.
    on_premises: u32,
    cloud_max: u32,
    timers: BinaryHeap<Reverse<Due>>,
    timers_set: u64,
    pods_made: u64,
    nodes_made: u64,
    random: Random,
    model: Model,
    /// Replica seconds on premises of pods that are gone.
    on_premises_seconds: f64,
    /// Node seconds of nodes that are gone.
    cloud_seconds: f64,
}

/// Random numbers for boots and loads come from a stream of their own.
const STREAM: u64 = 2;

impl Fleet {
    /// A fleet with so many ready replicas, on premises first.
    #[must_use]
    pub fn new(model: &Model, on_premises: u32, initial: u32, seed: u64) -> Self {
        let mut fleet = Self {
            pods: Vec::new(),
            nodes: Vec::new(),
            on_premises,
            cloud_max: model.pools.cloud_max,
            timers: BinaryHeap::new(),
            timers_set: 0,
            pods_made: 0,
            nodes_made: 0,
            random: Random::new(seed, STREAM),
            model: model.clone(),
            on_premises_seconds: 0.0,
            cloud_seconds: 0.0,
        };
        for _ in 0..initial {
            fleet.create(0.0);
        }
        // What is there at the beginning has been there: ready, and on nodes that are up.
        for pod in &mut fleet.pods {
            let place = if (pod.id as u32) < on_premises {
                Place::OnPremises
            } else {
                fleet.nodes_made += 1;
                let id = fleet.nodes_made;
                fleet.nodes.push(Node { id, asked: 0.0, up: true, pod: Some(pod.id), empty_since: 0.0 });
                Place::Cloud(id)
            };
            (pod.place, pod.scheduled, pod.running, pod.ready) = (Some(place), Some(0.0), Some(0.0), Some(0.0));
        }
        fleet
    }

    /// All pods that are not gone, in the order of creation.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Pods that count as replicas.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.pods.iter().filter(|pod| !pod.leaving).count() as u32
    }

    /// Cloud nodes that are paid for.
    #[must_use]
    pub fn cloud_nodes(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Room for more pods by pool, those already waiting for a place aside.
    #[must_use]
    pub fn room(&self) -> [Room; 2] {
        let empty = self.nodes.iter().filter(|node| node.up && node.pod.is_none()).count() as u32;
        [Room::Fixed(self.free_on_premises()), Room::Elastic(empty)]
    }

    /// Replica seconds on premises and node seconds in the cloud, up to `now`.
    #[must_use]
    pub fn bill(&self, now: f64) -> (f64, f64) {
        let on_premises: f64 = self
            .pods
            .iter()
            .filter(|pod| pod.place == Some(Place::OnPremises))
            .filter_map(|pod| pod.scheduled)
            .map(|scheduled| now - scheduled)
            .sum();
        let cloud: f64 = self.nodes.iter().map(|node| now - node.asked).sum();
        (self.on_premises_seconds + on_premises, self.cloud_seconds + cloud)
    }

    /// Creates or removes pods. Returns those that are removed; they stay, leaving, until [`gone`](Self::gone).
    pub fn scale(&mut self, desired: u32, release: &Release, now: f64) -> Vec<u64> {
        let replicas = self.replicas();
        for _ in replicas..desired {
            self.create(now);
        }
        let mut candidates: Vec<&Pod> = self.pods.iter().filter(|pod| !pod.leaving).collect();
        candidates.sort_by(|a, b| first_to_go(a, b, release, now));
        let leaving: Vec<u64> =
            candidates.iter().take(replicas.saturating_sub(desired) as usize).map(|pod| pod.id).collect();
        for pod in &mut self.pods {
            pod.leaving |= leaving.contains(&pod.id);
        }
        self.place(now);
        leaving
    }

    /// A leaving pod is gone: its place is free.
    pub fn gone(&mut self, id: u64, now: f64) {
        let Some(at) = self.pods.iter().position(|pod| pod.id == id) else { return };
        let pod = self.pods.remove(at);
        match (pod.place, pod.scheduled) {
            (Some(Place::OnPremises), Some(scheduled)) => self.on_premises_seconds += now - scheduled,
            (Some(Place::Cloud(node)), _) => {
                if let Some(node) = self.nodes.iter_mut().find(|other| other.id == node) {
                    node.pod = None;
                    node.empty_since = now;
                    let id = node.id;
                    self.set(now + self.model.pools.cloud_release_seconds, Timer::NodeEmpty(id));
                }
            }
            _ => {}
        }
        self.place(now);
    }

    /// When something happens here next.
    #[must_use]
    pub fn next_event(&self) -> f64 {
        self.timers.peek().map_or(f64::INFINITY, |Reverse(due)| due.at)
    }

    /// Lets happen what is due at `now`. Returns the pods that became ready.
    pub fn fire(&mut self, now: f64) -> Vec<u64> {
        let mut ready = Vec::new();
        while let Some(Reverse(due)) = self.timers.peek().copied().filter(|Reverse(due)| due.at <= now) {
            self.timers.pop();
            match due.timer {
                Timer::NodeUp(id) => {
                    if let Some(node) = self.nodes.iter_mut().find(|node| node.id == id) {
                        node.up = true;
                        node.empty_since = now;
                        self.set(now + self.model.pools.cloud_release_seconds, Timer::NodeEmpty(id));
                        self.place(now);
                    }
                }
                Timer::NodeEmpty(id) => {
                    let release = self.model.pools.cloud_release_seconds;
                    let empty = |node: &Node| {
                        node.id == id && node.up && node.pod.is_none() && node.empty_since + release <= now + 1e-9
                    };
                    if let Some(at) = self.nodes.iter().position(empty) {
                        self.cloud_seconds += now - self.nodes.remove(at).asked;
                    }
                }
                Timer::Running(id) => {
                    if let Some(pod) = self.pods.iter_mut().find(|pod| pod.id == id) {
                        pod.running = Some(now);
                    }
                }
                Timer::Ready(id) => {
                    if let Some(pod) = self.pods.iter_mut().find(|pod| pod.id == id && !pod.leaving) {
                        pod.ready = Some(now);
                        ready.push(id);
                    }
                }
            }
        }
        ready
    }

    /// Median of the seconds from a pod's creation to ready in a pool, if it waits for a node there.
    #[must_use]
    pub fn time_to_ready(model: &Model, pool: Option<usize>) -> f64 {
        let boot = if pool == Some(ON_PREMISES) { 0.0 } else { model.pools.cloud_boot_seconds };
        boot + model.startup.container_start_seconds + interpolate(&model.startup.model_load_quantiles, 0.5)
    }

    fn set(&mut self, at: f64, timer: Timer) {
        self.timers_set += 1;
        self.timers.push(Reverse(Due { at, order: self.timers_set, timer }));
    }

    fn create(&mut self, now: f64) {
        let id = self.pods_made;
        self.pods_made += 1;
        let uid = format!("{:016x}", self.random.next());
        self.pods.push(Pod {
            id,
            uid: uid.into(),
            name: format!("replica-{id:06}").into(),
            place: None,
            created: now,
            scheduled: None,
            running: None,
            ready: None,
            leaving: false,
        });
    }

    fn free_on_premises(&self) -> u32 {
        let taken = self.pods.iter().filter(|pod| pod.place == Some(Place::OnPremises)).count() as u32;
        self.on_premises.saturating_sub(taken)
    }

    /// Binds pods without a place, oldest first, and asks for nodes for those that find none.
    fn place(&mut self, now: f64) {
        let waiting: Vec<u64> =
            self.pods.iter().filter(|pod| pod.place.is_none() && !pod.leaving).map(|pod| pod.id).collect();
        let mut on_premises = self.free_on_premises();
        let mut homeless = 0;
        for id in waiting {
            let place = if on_premises > 0 {
                on_premises -= 1;
                Place::OnPremises
            } else if homeless > 0 {
                // None was found for the pod before this one either.
                homeless += 1;
                continue;
            } else if let Some(node) = self.nodes.iter_mut().find(|node| node.up && node.pod.is_none()) {
                node.pod = Some(id);
                Place::Cloud(node.id)
            } else {
                homeless += 1;
                continue;
            };
            let container = now + self.model.startup.container_start_seconds;
            let load = interpolate(&self.model.startup.model_load_quantiles, self.random.unit());
            self.set(container, Timer::Running(id));
            self.set(container + load, Timer::Ready(id));
            if let Some(pod) = self.pods.iter_mut().find(|pod| pod.id == id) {
                pod.place = Some(place);
                pod.scheduled = Some(now);
            }
        }
        let booting = self.nodes.iter().filter(|node| !node.up).count();
        for _ in booting..homeless {
            if self.nodes.len() as u32 >= self.cloud_max {
                break;
            }
            self.nodes_made += 1;
            let id = self.nodes_made;
            self.nodes.push(Node { id, asked: now, up: false, pod: None, empty_since: now });
            let pools = &self.model.pools;
            let boot = pools.cloud_boot_seconds * (pools.cloud_boot_sigma * self.random.normal()).exp();
            self.set(now + boot, Timer::NodeUp(id));
        }
    }
}

/// Who goes first: the ReplicaSet controller's `ActivePodsWithRanks`, for one replica a node and no restarts.
fn first_to_go(a: &Pod, b: &Pod, release: &Release, now: f64) -> Ordering {
    let cost = |pod: &Pod| match release {
        Release::Chance => 0,
        Release::Ordered(Some(uid)) if *uid == pod.uid => 0,
        Release::Ordered(_) => 1 + CLOUD - pod.place.map_or(ON_PREMISES, Place::pool),
    };
    // Younger first, but only by powers of two of the age in nanoseconds.
    let age = |since: Option<f64>| since.map_or(-1, |since| ((now - since) * 1e9).max(1.0).log2() as i64);
    (a.scheduled.is_some().cmp(&b.scheduled.is_some()))
        .then(a.running.is_some().cmp(&b.running.is_some()))
        .then(a.ready.is_some().cmp(&b.ready.is_some()))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| age(a.ready).cmp(&age(b.ready)))
        .then_with(|| age(Some(a.created)).cmp(&age(Some(b.created))))
        .then_with(|| a.uid.cmp(&b.uid))
}

#[cfg(test)]
mod tests;
