//! A simulated cluster: one KServe service whose pods follow `desired` as a Deployment's would.
//!
//! A pod is created at once, is scheduled after a delay to the first node with enough free GPUs, or waits for one, and is
//! ready once its model is loaded. For a pod that waits, a node autoscaler buys a node where it can ([`nodes`]). Of too many
//! pods the least advanced goes first, then the one with the lowest deletion cost, then the youngest, as the ReplicaSet
//! controller does it. Simplified: nothing crashes, deletion takes no time, and nobody else uses the GPUs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::cluster::{
    Autoscaler, AutoscalerClass, CoreService, Deployment, InferenceService, ObjectKey, PageHint, Phase, Pod, PodState,
    Resources, ScalingPolicy, View,
};

pub mod nodes;

pub use nodes::Node;

use nodes::{Change, Nodes};

/// The resource name of a GPU.
const GPU: &str = "nvidia.com/gpu";

/// The service and how long its pods take.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Namespace of everything.
    pub namespace: Arc<str>,
    /// Name of the InferenceService; its Deployment is `…-predictor`, as KServe names it.
    pub service: Arc<str>,
    /// GPUs per pod.
    pub gpus: usize,
    /// From creation to scheduling.
    pub scheduling: Duration,
    /// From scheduling to Ready: image, weights, warm-up.
    pub load: Duration,
    /// The HPA that follows the service, for readers of its targets.
    pub autoscaler: Option<Autoscaler>,
    /// Its ScalingPolicy.
    pub policy: Option<Arc<ScalingPolicy>>,
}

/// The cluster at its present moment.
#[derive(Debug, Clone)]
pub struct Cluster {
    settings: Settings,
    nodes: Nodes,
    pods: Vec<SimPod>,
    created: u64,
    desired: usize,
}

#[derive(Debug, Clone)]
struct SimPod {
    key: ObjectKey,
    uid: Arc<str>,
    created: Timestamp,
    placed: Option<Placed>,
    ready: Option<Timestamp>,
    deletion_cost: Option<i32>,
    /// Where its model server's page is.
    page: Option<u16>,
}

#[derive(Debug, Clone)]
struct Placed {
    node: usize,
    cards: Vec<usize>,
    at: Timestamp,
}

/// What a step has changed: exporters and the story line follow.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A pod exists, unscheduled.
    Created(ObjectKey),
    /// A pod has got cards of a node; its processes start.
    Scheduled {
        /// The pod.
        pod: ObjectKey,
        /// Its UID.
        uid: Arc<str>,
        /// Index of the node.
        node: usize,
        /// Cards by index on the node.
        cards: Vec<usize>,
    },
    /// A pod serves.
    Ready(ObjectKey),
    /// The node of that index is bought.
    NodeOrdered(usize),
    /// It is there.
    NodeUp(usize),
    /// It was empty, and is given back.
    NodeReturned(usize),
    /// A pod is gone, from that node if it had one.
    Removed {
        /// The pod.
        pod: ObjectKey,
        /// Index of its node.
        node: Option<usize>,
    },
}

impl Cluster {
    /// These nodes, without pods. Pods take them in this order.
    #[must_use]
    pub fn new(settings: Settings, nodes: impl Into<Vec<Node>>) -> Self {
        Self { settings, nodes: Nodes::new(nodes), pods: Vec::new(), created: 0, desired: 0 }
    }

    /// Name of the Deployment.
    #[must_use]
    pub fn deployment(&self) -> String {
        format!("{}-predictor", self.settings.service)
    }

    /// The pod label that KServe sets and the HPA selects by.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("app=isvc.{}", self.deployment())
    }

    /// Moves to `now` with that many replicas asked for.
    pub fn step(&mut self, now: Timestamp, desired: usize) -> Vec<Event> {
        let mut events = Vec::new();
        self.desired = desired;
        while self.pods.len() > desired {
            // The least advanced, then the cheapest to delete, then the youngest.
            let rank = |pod: &SimPod| {
                let cost = pod.deletion_cost.unwrap_or(0);
                (pod.placed.is_some(), pod.ready.is_some(), cost, std::cmp::Reverse(pod.created))
            };
            let Some(i) = (0..self.pods.len()).rev().min_by_key(|i| rank(&self.pods[*i])) else { break };
            let gone = self.pods.remove(i);
            events.push(Event::Removed { pod: gone.key, node: gone.placed.map(|placed| placed.node) });
        }
        while self.pods.len() < desired {
            let pod = self.new_pod(now);
            events.push(Event::Created(pod.key.clone()));
            self.pods.push(pod);
        }
        // What has come is there for those who wait for it.
        events.extend(self.nodes.arrive(now).map(Event::NodeUp));
        for i in 0..self.pods.len() {
            self.advance(i, now, &mut events);
        }
        let due = |pod: &&SimPod| pod.placed.is_none() && now >= pod.created + self.settings.scheduling;
        let waiting = self.pods.iter().filter(due).count() * self.settings.gpus;
        let used: Vec<usize> = self.pods.iter().filter_map(|pod| Some(pod.placed.as_ref()?.node)).collect();
        events.extend(self.nodes.follow(now, waiting, |node| used.contains(&node)).into_iter().map(
            |change| match change {
                Change::Ordered(node) => Event::NodeOrdered(node),
                Change::Returned(node) => Event::NodeReturned(node),
            },
        ));
        events
    }

    /// Writes these deletion costs on pods, by UID, and takes them off all others.
    pub fn annotate(&mut self, costs: &BTreeMap<Arc<str>, i32>) {
        for pod in &mut self.pods {
            pod.deletion_cost = costs.get(&pod.uid).copied();
        }
    }

    /// The pod tells that its model server's page is at that port of this machine.
    pub fn tell_page(&mut self, pod: &ObjectKey, port: u16) {
        for known in self.pods.iter_mut().filter(|known| known.key == *pod) {
            known.page = Some(port);
        }
    }

    fn new_pod(&mut self, now: Timestamp) -> SimPod {
        self.created += 1;
        let name = format!("{}-6c9f7d8b54-{}", self.deployment(), suffix(self.created));
        SimPod {
            key: ObjectKey { namespace: Arc::clone(&self.settings.namespace), name: name.into() },
            uid: format!("00000000-0000-4000-8000-{:012x}", self.created).into(),
            created: now,
            placed: None,
            ready: None,
            deletion_cost: None,
            page: None,
        }
    }

    fn advance(&mut self, i: usize, now: Timestamp, events: &mut Vec<Event>) {
        let pod = &self.pods[i];
        if pod.placed.is_none() && now >= pod.created + self.settings.scheduling {
            let mut free = self.nodes.there().map(|(node, all)| (node, self.free_cards(node, all.cards)));
            let fits = free.find(|(_, cards)| cards.len() >= self.settings.gpus);
            if let Some((node, mut cards)) = fits {
                cards.truncate(self.settings.gpus);
                let pod = &mut self.pods[i];
                pod.placed = Some(Placed { node, cards: cards.clone(), at: now });
                events.push(Event::Scheduled { pod: pod.key.clone(), uid: Arc::clone(&pod.uid), node, cards });
            }
        }
        let pod = &mut self.pods[i];
        if let Some(placed) = &pod.placed
            && pod.ready.is_none()
            && now >= placed.at + self.settings.load
        {
            pod.ready = Some(now);
            events.push(Event::Ready(pod.key.clone()));
        }
    }

    fn free_cards(&self, node: usize, cards: usize) -> Vec<usize> {
        let taken: Vec<usize> = self
            .pods
            .iter()
            .filter_map(|pod| pod.placed.as_ref())
            .filter(|placed| placed.node == node)
            .flat_map(|placed| placed.cards.iter().copied())
            .collect();
        (0..cards).filter(|card| !taken.contains(card)).collect()
    }

    /// Names of the pods, their nodes by index, and whether they are ready, oldest first.
    pub fn pods(&self) -> impl Iterator<Item = (&ObjectKey, Option<usize>, bool)> {
        self.pods.iter().map(|pod| (&pod.key, pod.placed.as_ref().map(|placed| placed.node), pod.ready.is_some()))
    }

    /// Ready pods.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.pods.iter().filter(|pod| pod.ready.is_some()).count()
    }

    /// What the watches of a real cluster would have made of it.
    #[must_use]
    pub fn view(&self) -> View {
        let Settings { namespace, service, gpus, scheduling: _, load: _, autoscaler, policy } = &self.settings;
        let deployment: Arc<str> = self.deployment().into();
        let key = |name: &Arc<str>| ObjectKey { namespace: Arc::clone(namespace), name: Arc::clone(name) };
        let label = |key: &str, value: &str| (Arc::<str>::from(key), Arc::<str>::from(value));
        let labels: BTreeMap<_, _> = [
            label("app", &format!("isvc.{deployment}")),
            label("component", "predictor"),
            label("serving.kserve.io/inferenceservice", service),
        ]
        .into();
        let pods = self.pods.iter().map(|pod| {
            let node = pod.placed.as_ref().map(|placed| self.nodes.name(placed.node));
            let pod = Pod {
                key: pod.key.clone(),
                uid: Arc::clone(&pod.uid),
                labels: labels.clone(),
                node: node.cloned(),
                ip: node.map(|_| "127.0.0.1".into()),
                ports: vec![(Some("http".into()), 8080)],
                phase: if pod.placed.is_some() { Phase::Running } else { Phase::Pending },
                state: match (&pod.placed, pod.ready) {
                    (None, _) => PodState::Pending,
                    (Some(_), None) => PodState::Starting,
                    (Some(_), Some(_)) => PodState::Ready,
                },
                created: Some(pod.created),
                scheduled: pod.placed.as_ref().map(|placed| placed.at),
                started: pod.placed.as_ref().map(|placed| placed.at),
                running: pod.placed.as_ref().map(|placed| placed.at),
                ready_since: pod.ready,
                gpus: *gpus as u32,
                requests: resources(*gpus, 1),
                deletion_cost: pod.deletion_cost,
                page: PageHint { port: pod.page, ..PageHint::default() },
            };
            (pod.key.clone(), Arc::new(pod))
        });
        let core_service = CoreService {
            key: key(&deployment),
            labels: labels.clone(),
            selector: [label("app", &format!("isvc.{deployment}"))].into(),
        };
        View {
            pods: pods.collect(),
            deployments: [(
                key(&deployment),
                Arc::new(Deployment {
                    key: key(&deployment),
                    labels: labels.clone(),
                    // The text is made three lines above in a form that any selector grammar accepts.
                    selector: self.selector().parse().unwrap_or_default(),
                    replicas: i32::try_from(self.desired).unwrap_or(i32::MAX),
                    template_labels: labels.clone(),
                    inference_service: Some(Arc::clone(service)),
                    requests: resources(*gpus, 1),
                }),
            )]
            .into(),
            inference_services: [(
                key(service),
                Arc::new(InferenceService {
                    key: key(service),
                    labels: BTreeMap::new(),
                    autoscaler: AutoscalerClass::External,
                    multi_node: false,
                }),
            )]
            .into(),
            core_services: [(key(&deployment), Arc::new(core_service))].into(),
            nodes: self.nodes.view(),
            policies: policy.iter().map(|policy| (policy.key.clone(), Arc::clone(policy))).collect(),
            autoscalers: autoscaler
                .iter()
                .map(|hpa| {
                    let current = i32::try_from(self.pods.len()).unwrap_or(i32::MAX);
                    let desired = i32::try_from(self.desired).unwrap_or(i32::MAX);
                    (hpa.key.clone(), Arc::new(Autoscaler { current, desired, ..hpa.clone() }))
                })
                .collect(),
            ..View::default()
        }
    }
}

/// So many GPUs, for so many pods; nothing else is scarce.
fn resources(gpus: usize, pods: u64) -> Resources {
    Resources { gpus: vec![(GPU.into(), gpus as u64)], pods, ..Resources::default() }
}

/// Five letters and digits, as a ReplicaSet names its pods; different for each of the first 27^5 pods.
fn suffix(n: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut n = n.wrapping_mul(6_700_417) % 27_u64.pow(5);
    (0..5)
        .map(|_| {
            let letter = LETTERS[(n % 27) as usize];
            n /= 27;
            char::from(letter)
        })
        .collect()
}

#[cfg(test)]
mod tests;
