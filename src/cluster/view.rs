//! An immutable picture of the cluster at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::policy::ScalingPolicySpec;

use super::{Kind, ResourcePolicy, Resources};

/// Labels of an object.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// `status.phase` of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, not all containers started.
    Pending,
    /// Bound to a node, at least one container runs.
    Running,
    /// Ended: never again a source of readings.
    Finished,
    /// The node does not answer.
    Unknown,
}

/// The contract's words for where a pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PodState {
    /// Kubernetes `Ready`.
    Ready,
    /// Scheduled but not Ready.
    Starting,
    /// Not scheduled.
    Pending,
    /// Succeeded, failed, or being deleted.
    Leaving,
    /// Kubernetes `Ready` when its node was last heard of. Nobody knows what it does now, until its node is heard of again or
    /// the cluster gives the pod up and deletes it: after five minutes by default, at once if the Node object is deleted.
    CutOff,
}

/// The fields of a pod that are used; everything else is dropped at the door.
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID: a pod recreated under the same name is a different pod.
    pub uid: Arc<str>,
    /// Labels.
    pub labels: Labels,
    /// Node, once scheduled.
    pub node: Option<Arc<str>>,
    /// Pod IP, once it has one.
    pub ip: Option<Arc<str>>,
    /// Container ports by name and number.
    pub ports: Vec<(Option<Arc<str>>, u16)>,
    /// Phase.
    pub phase: Phase,
    /// Where it stands.
    pub state: PodState,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `PodScheduled` became true.
    pub scheduled: Option<Timestamp>,
    /// `status.startTime`: samples from before are not its own.
    pub started: Option<Timestamp>,
    /// When the container with the model server began to run, while it runs: its image is there.
    pub running: Option<Timestamp>,
    /// `Ready` became true no later than this.
    pub ready_since: Option<Timestamp>,
    /// GPUs in the resource limits (`nvidia.com/gpu` and configured names), over all containers.
    pub gpus: u32,
    /// What it takes of its node, from when it is bound until it has ended.
    pub requests: Resources,
    /// Annotation `controller.kubernetes.io/pod-deletion-cost`, whoever wrote it.
    pub deletion_cost: Option<i32>,
    /// Where the page of its model server is, as far as the pod says.
    pub page: PageHint,
}

/// What a pod says about the page of metrics that its model server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageHint {
    /// Port: by annotation, by the server's `--port`, or the container's own.
    pub port: Option<u16>,
    /// Path, by annotation.
    pub path: Option<Arc<str>>,
    /// The annotations ask not to scrape the pod.
    pub declined: bool,
}

/// A Deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Labels of the Deployment itself.
    pub labels: Labels,
    /// `spec.selector`.
    pub selector: apiservice::Selector,
    /// `spec.replicas`.
    pub replicas: i32,
    /// Labels of its pod template.
    pub template_labels: Labels,
    /// The InferenceService that its pod template names, if it is a KServe predictor (R6).
    pub inference_service: Option<Arc<str>>,
    /// What one more pod of it would take of a node.
    pub requests: Resources,
}

/// A KServe InferenceService.
#[derive(Debug, Clone, PartialEq)]
pub struct InferenceService {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Labels.
    pub labels: Labels,
    /// Who KServe is told scales it.
    pub autoscaler: AutoscalerClass,
    /// `spec.predictor.workerSpec` is set: one replica is a group of Deployments.
    pub multi_node: bool,
}

/// Annotation `serving.kserve.io/autoscalerClass`: who owns `spec.replicas` of the predictor's Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AutoscalerClass {
    /// Absent or `hpa`: KServe makes an HPA of the Deployment's name.
    Hpa,
    /// `keda`: KServe makes a ScaledObject.
    Keda,
    /// `external`: KServe leaves the replicas alone.
    External,
    /// `none`: KServe sets the replicas back at each reconcile.
    None,
    /// Anything else; KServe refuses it.
    Other(Arc<str>),
}

/// A KEDA ScaledObject: what it scales.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaledObject {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Kind of `scaleTargetRef`; a Deployment if it says nothing.
    pub target_kind: Arc<str>,
    /// Name of `scaleTargetRef`.
    pub target_name: Arc<str>,
}

/// A ScalingPolicy, and what its status said last.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingPolicy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID: a policy made again under the same name has learned nothing.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp`: of two policies for one target the older one counts.
    pub created: Option<Timestamp>,
    /// `metadata.generation`: which spec the status is about.
    pub generation: i64,
    /// The spec, or why it cannot be read: an object of another version of the CRD.
    pub spec: Result<ScalingPolicySpec, Arc<str>>,
    /// `status.conditions`, for their transition times.
    pub conditions: Vec<Condition>,
}

/// A core/v1 Service.
#[derive(Debug, Clone, PartialEq)]
pub struct CoreService {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Labels.
    pub labels: Labels,
    /// `spec.selector`; empty selects nothing.
    pub selector: Labels,
}

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: Labels,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `Ready`, and not cordoned (`spec.unschedulable`): pods can come.
    pub open: bool,
    /// Condition `Ready` is `Unknown`: its kubelet has not been heard of for longer than the cluster waits.
    pub lost: bool,
    /// GPUs that it has (`status.capacity`), those that no pod may take at present among them.
    pub gpus: u64,
    /// What its pods together may take.
    pub allocatable: Resources,
}

/// A HorizontalPodAutoscaler: what it scales, and which metrics it reads with which target.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscaler {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Kind of `scaleTargetRef`.
    pub target_kind: Arc<str>,
    /// Name of `scaleTargetRef`.
    pub target_name: Arc<str>,
    /// Metric name of each Pods, Object and External metric, and the value at which the HPA stays as it is: the target,
    /// times the current replicas where the HPA divides one value among them (`averageValue` of Object and External).
    pub metrics: Vec<(Arc<str>, f64)>,
    /// `behavior.scaleUp.tolerance` and `behavior.scaleDown.tolerance` are 0: every single step is followed. Where a cluster
    /// does not have these fields its API server drops them, and so this is never true there.
    pub exact: bool,
    /// `spec.minReplicas`.
    pub min: i32,
    /// `spec.maxReplicas`.
    pub max: i32,
    /// `status.currentReplicas`.
    pub current: i32,
    /// `status.desiredReplicas`.
    pub desired: i32,
}

/// The cluster at one moment. Maps are sorted, so that whatever is made from them is stable.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Kinds of which nothing is known anywhere: no watch of theirs has delivered its first list, or none has shown life for
    /// too long.
    pub unsynced: BTreeSet<&'static str>,
    /// By watched namespace, the kinds of which that holds there, while they are known elsewhere.
    pub unsynced_in: BTreeMap<Arc<str>, BTreeSet<&'static str>>,
    /// The namespaces that are watched; empty: all. If there are some, pods that nobody here sees may take room on the nodes.
    pub namespaces: BTreeSet<Arc<str>>,
    /// The order of pools is kept here: ResourcePolicies are watched.
    pub ordered: bool,
    /// All pods of watched namespaces.
    pub pods: BTreeMap<ObjectKey, Arc<Pod>>,
    /// Deployments.
    pub deployments: BTreeMap<ObjectKey, Arc<Deployment>>,
    /// InferenceServices; empty where the CRD is absent.
    pub inference_services: BTreeMap<ObjectKey, Arc<InferenceService>>,
    /// Core Services.
    pub core_services: BTreeMap<ObjectKey, Arc<CoreService>>,
    /// Nodes by name.
    pub nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// HPAs.
    pub autoscalers: BTreeMap<ObjectKey, Arc<Autoscaler>>,
    /// ScalingPolicies; empty where the CRD is absent, or where nothing is decided.
    pub policies: BTreeMap<ObjectKey, Arc<ScalingPolicy>>,
    /// KEDA's ScaledObjects; empty where the CRD is absent, or where nothing is decided.
    pub scaled_objects: BTreeMap<ObjectKey, Arc<ScaledObject>>,
    /// Alibaba's ResourcePolicies; empty where the CRD is absent, or where nothing is decided.
    pub resource_policies: BTreeMap<ObjectKey, Arc<ResourcePolicy>>,
    /// scheduler-plugins' ResourcePolicies, likewise.
    pub plugin_resource_policies: BTreeMap<ObjectKey, Arc<ResourcePolicy>>,
}

impl View {
    /// Whether what is held of that kind in that namespace is what there is. For kinds outside of namespaces it does not matter
    /// which one is given.
    #[must_use]
    pub fn knows(&self, kind: Kind, namespace: &str) -> bool {
        let here = || {
            let missing = self.unsynced_in.get(namespace);
            self.watches(namespace) && !missing.is_some_and(|kinds| kinds.contains(kind.name()))
        };
        !self.unsynced.contains(kind.name()) && (!kind.namespaced() || here())
    }

    /// Why nothing can be said about that namespace for which these kinds are needed; `None`: all of them are known.
    #[must_use]
    pub fn unknown(&self, kinds: &[Kind], namespace: &str) -> Option<String> {
        let missing = kinds.iter().find(|kind| !self.knows(**kind, namespace))?;
        Some(if self.unsynced.contains(missing.name()) {
            format!("{missing} are not listed")
        } else if self.watches(namespace) {
            format!("{missing} in namespace {namespace} are not listed")
        } else {
            format!("namespace {namespace} is not among those that are watched (aggregate.namespaces)")
        })
    }

    fn watches(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
}
