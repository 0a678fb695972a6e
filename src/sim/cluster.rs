//! A simulated cluster: one KServe service whose pods follow `desired` as a Deployment's would.
//!
//! A pod is created at once, is scheduled after a delay to the first node with enough free GPUs, or waits for one, and is
//! ready once its model is loaded. Of too many pods the least advanced goes first, then the youngest, as the ReplicaSet
//! controller does it. Simplified: nothing crashes, deletion takes no time, and nobody else uses the GPUs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::cluster::{
    Autoscaler, AutoscalerClass, CoreService, Deployment, InferenceService, Node, ObjectKey, PageHint, Phase, Pod,
    PodState, Resources, View,
};

/// The resource name of a GPU.
const GPU: &str = "nvidia.com/gpu";
/// A kubelet's default.
const PODS_PER_NODE: u64 = 110;

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
}

/// The cluster at its present moment.
#[derive(Debug, Clone)]
pub struct Cluster {
    settings: Settings,
    nodes: Vec<(Arc<str>, usize)>,
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
    /// A pod is gone, from that node if it had one.
    Removed {
        /// The pod.
        pod: ObjectKey,
        /// Index of its node.
        node: Option<usize>,
    },
}

impl Cluster {
    /// Nodes by name and number of GPUs, without pods.
    #[must_use]
    pub fn new(settings: Settings, nodes: impl Into<Vec<(Arc<str>, usize)>>) -> Self {
        Self { settings, nodes: nodes.into(), pods: Vec::new(), created: 0, desired: 0 }
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
            // The least advanced, then the youngest.
            let rank = |pod: &SimPod| (pod.placed.is_some(), pod.ready.is_some(), std::cmp::Reverse(pod.created));
            let Some(i) = (0..self.pods.len()).rev().min_by_key(|i| rank(&self.pods[*i])) else { break };
            let gone = self.pods.remove(i);
            events.push(Event::Removed { pod: gone.key, node: gone.placed.map(|placed| placed.node) });
        }
        while self.pods.len() < desired {
            let pod = self.new_pod(now);
            events.push(Event::Created(pod.key.clone()));
            self.pods.push(pod);
        }
        for i in 0..self.pods.len() {
            self.advance(i, now, &mut events);
        }
        events
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
        }
    }

    fn advance(&mut self, i: usize, now: Timestamp, events: &mut Vec<Event>) {
        let pod = &self.pods[i];
        if pod.placed.is_none() && now >= pod.created + self.settings.scheduling {
            let free = (0..self.nodes.len()).map(|node| (node, self.free_cards(node)));
            let fits = free.into_iter().find(|(_, cards)| cards.len() >= self.settings.gpus);
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

    fn free_cards(&self, node: usize) -> Vec<usize> {
        let taken: Vec<usize> = self
            .pods
            .iter()
            .filter_map(|pod| pod.placed.as_ref())
            .filter(|placed| placed.node == node)
            .flat_map(|placed| placed.cards.iter().copied())
            .collect();
        (0..self.nodes[node].1).filter(|card| !taken.contains(card)).collect()
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
        let Settings { namespace, service, gpus, scheduling: _, load: _, autoscaler } = &self.settings;
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
            let node = pod.placed.as_ref().map(|placed| &self.nodes[placed.node].0);
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
                deletion_cost: None,
                page: PageHint::default(),
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
            nodes: self.nodes.iter().map(|(name, cards)| (Arc::clone(name), Arc::new(node(name, *cards)))).collect(),
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

fn node(name: &Arc<str>, cards: usize) -> Node {
    Node {
        name: Arc::clone(name),
        labels: BTreeMap::new(),
        created: None,
        open: true,
        lost: false,
        allocatable: resources(cards, PODS_PER_NODE),
    }
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
mod tests {
    use super::*;

    fn cluster(nodes: &[(&str, usize)]) -> Cluster {
        let settings = Settings {
            namespace: "default".into(),
            service: "qwen-chat".into(),
            gpus: 1,
            scheduling: Duration::from_secs(2),
            load: Duration::from_mins(1),
            autoscaler: None,
        };
        Cluster::new(settings, nodes.iter().map(|(name, gpus)| (Arc::from(*name), *gpus)).collect::<Vec<_>>())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("in range")
    }

    fn states(cluster: &Cluster) -> Vec<PodState> {
        let mut states: Vec<_> = cluster.view().pods.values().map(|pod| pod.state).collect();
        states.sort();
        states
    }

    #[test]
    fn a_pod_is_pending_then_starting_then_ready() {
        use PodState::{Pending, Ready, Starting};
        let mut cluster = cluster(&[("a", 1)]);
        for (second, expected) in [(0, Pending), (1, Pending), (2, Starting), (61, Starting), (62, Ready)] {
            cluster.step(at(second), 1);
            assert_eq!(states(&cluster), [expected], "at {second}");
        }
    }

    #[test]
    fn pods_spread_over_free_cards_and_wait_where_there_is_none() {
        let mut cluster = cluster(&[("a", 1), ("b", 2)]);
        cluster.step(at(0), 4);
        let events = cluster.step(at(2), 4);
        let placed: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Scheduled { node, cards, .. } => Some((*node, cards.clone())),
                _ => None,
            })
            .collect();
        assert_eq!(placed, [(0, vec![0]), (1, vec![0]), (1, vec![1])]);
        assert_eq!(states(&cluster), [PodState::Starting, PodState::Starting, PodState::Starting, PodState::Pending]);
        cluster.step(at(70), 3);
        assert_eq!(states(&cluster), [PodState::Ready; 3], "the pending pod goes first");
    }

    #[test]
    fn of_ready_pods_the_youngest_goes_first_and_its_card_is_free_again() {
        let mut cluster = cluster(&[("a", 1), ("b", 1)]);
        cluster.step(at(0), 1);
        cluster.step(at(2), 2);
        cluster.step(at(4), 2);
        cluster.step(at(70), 2);
        let oldest = cluster.pods().next().expect("two pods").0.clone();
        let events = cluster.step(at(71), 1);
        assert!(matches!(&events[..], [Event::Removed { node: Some(1), .. }]), "{events:?}");
        assert_eq!(*cluster.pods().next().expect("one pod").0, oldest);
        cluster.step(at(72), 2);
        let events = cluster.step(at(74), 2);
        assert!(matches!(&events[..], [Event::Scheduled { node: 1, .. }]), "{events:?}");
    }

    #[test]
    fn the_view_has_what_kserve_makes() {
        let mut cluster = cluster(&[("a", 1)]);
        cluster.step(at(0), 1);
        let view = cluster.view();
        let deployment = view.deployments.values().next().expect("one");
        assert_eq!(&*deployment.key.name, "qwen-chat-predictor");
        assert_eq!(deployment.inference_service.as_deref(), Some("qwen-chat"));
        let pod = view.pods.values().next().expect("one");
        assert!(deployment.selector.matches(|label| pod.labels.get(label).map(|value| &**value)));
        assert_eq!(pod.labels.get("app").map(|app| &**app), Some("isvc.qwen-chat-predictor"));
        assert!(view.unsynced.is_empty());
    }

    #[test]
    fn no_two_pods_share_a_name() {
        let names: std::collections::BTreeSet<_> = (0..10_000).map(suffix).collect();
        assert_eq!(names.len(), 10_000);
    }
}
