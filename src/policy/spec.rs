//! The custom resource: spec and status as types, with the rules that the API server checks.
//!
//! What is left out of `behavior` stays left out in the stored object: the engine's defaults may get better without anybody
//! having to edit their policies. Everything that a reader wants to see at a glance has its default written in by the API
//! server.

#![allow(clippy::duplicated_attributes, reason = "each printer column has a type and a path")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::conditions;
use crate::config::Duration;

/// Scales one service by what its GPUs and queues do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "ScalingPolicy",
    namespaced,
    status = "ScalingPolicyStatus",
    derive = "PartialEq",
    shortname = "tgp",
    doc = "Scales one model-serving service by what its GPUs and queues do.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetRef.name"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.currentReplicas"),
    printcolumn(name = "Demand", type_ = "string", json_path = ".status.demand"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must be at most maxReplicas").field_path(".minReplicas"),
    validation = Rule::new("self.minReplicas > 0 || !has(self.signals.use) || self.signals.use != 'Utilization'").message("minReplicas 0 cannot work with utilization alone: nothing measures it while there are no replicas").field_path(".minReplicas"),
    validation = Rule::new("!has(self.pools) || size(self.pools) == 0 || self.pools.exists(p, !has(p.maxReplicas)) || self.pools.map(p, p.maxReplicas).sum() >= self.minReplicas").message("the pools together hold fewer than minReplicas").field_path(".pools")
)]
pub struct ScalingPolicySpec {
    /// What is scaled. A policy keeps its target for life: what was learned is about that one.
    #[x_kube(validation = Rule::new("self == oldSelf").message("targetRef cannot be changed: make another policy"))]
    pub target_ref: TargetRef,
    /// Advise: an HPA follows the metric tidegate_desired_replicas. Act: Tidegate writes the replicas itself.
    #[serde(default)]
    pub mode: Mode,
    /// Least replicas.
    #[serde(default = "one")]
    #[schemars(range(max = 10_000))]
    pub min_replicas: u32,
    /// Most replicas.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: u32,
    /// Utilization, percent, at which a replica counts as fully used, where utilization is all there is and the service has
    /// not shown yet what a full replica reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub target_utilization: Option<u32>,
    /// What demand is made of.
    #[serde(default)]
    pub signals: Signals,
    /// Bounds that a request should keep. They say how full a replica may be.
    #[serde(default, skip_serializing_if = "Objective::is_empty")]
    pub objective: Objective,
    /// Sets of nodes in the order in which they are to be filled: on-premises before cloud. Left out: all nodes are alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = Rule::new("self.all(p, self.exists_one(q, q.name == p.name))").message("each pool needs a name of its own"))]
    pub pools: Vec<Pool>,
    /// How quickly it may move. Whatever is left out is the engine's to choose.
    #[serde(default, skip_serializing_if = "Behavior::is_empty")]
    pub behavior: Behavior,
}

const fn one() -> u32 {
    1
}

/// One object of the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What can be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// serving.kserve.io InferenceService, by the Deployment of its predictor.
    InferenceService,
    /// apps/v1 Deployment.
    Deployment,
}

/// Who writes the replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// An HPA that follows our metric.
    #[default]
    Advise,
    /// Tidegate.
    Act,
}

/// What demand is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// Auto: the model server's own figures where every ready pod offers them, utilization otherwise. Queue and Utilization:
    /// that alone.
    pub r#use: Use,
    /// Family that tells a pod's utilization, such as DCGM_CUSTOM_PROCESS_SM_UTIL. Left out: the first usual one that the
    /// pods report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub utilization_metric: Option<String>,
}

/// Which signals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Use {
    /// Queue where it is there, utilization otherwise.
    #[default]
    Auto,
    /// The model server's own figures.
    Queue,
    /// GPU utilization.
    Utilization,
}

/// Bounds that a request should keep.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Objective {
    /// Longest time to the first token, queueing included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_first_token: Option<Duration>,
    /// Longest time per output token after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_per_output_token: Option<Duration>,
}

impl Objective {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A set of nodes that replicas can land on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name, for people.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Labels that its nodes have, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,
    /// A node autoscaler adds nodes to it.
    #[serde(default)]
    pub elastic: bool,
    /// What an hour of a replica costs here, relative to the other pools; above 0.
    #[serde(default = "one_unit")]
    #[schemars(range(max = 1_000_000.0), extend("minimum" = 0.0, "exclusiveMinimum" = true))]
    pub cost: f64,
    /// Most replicas of this service in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<u32>,
    /// A replica leaves this pool for an earlier one that has had room for so long. One at a time: one more comes there and is
    /// Ready before one goes here. Left out: none leaves. Needs maxReplicas of one more than demand does, and burst.enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_after: Option<Duration>,
    /// How long a node of it stays after its last pod has left: the node autoscaler's own delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_release_after: Option<Duration>,
    /// What a pod needs to become ready here, until that has been measured.
    #[serde(default, skip_serializing_if = "Boot::is_empty")]
    pub boot: Boot,
}

/// Typical times of the three stretches from a pod's creation to Ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Boot {
    /// Until it is bound to a node, where a node has to come first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Duration>,
    /// From there until its container runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Duration>,
    /// From there until it is ready: the model is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Duration>,
}

impl Boot {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

const fn one_unit() -> f64 {
    1.0
}

/// How quickly it may move, and how cautiously.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Behavior {
    /// Towards more replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScaleUp>,
    /// Towards fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScaleDown>,
    /// Reserve against what the forecast does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headroom: Option<Headroom>,
}

impl Behavior {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Towards more replicas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleUp {
    /// Least time between two additions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// Most replicas added at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_step: Option<u32>,
    /// What waits should be worked off within so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clear_backlog: Option<Duration>,
}

/// Towards fewer replicas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// A replica goes only when nothing within so long would have needed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// Least time after an addition, and between two removals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Duration>,
    /// Most replicas removed at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_step: Option<u32>,
    /// A removal leaves this share of the remaining capacity free.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 0.5))]
    pub margin: Option<f64>,
}

/// Reserve, as the quantile of the forecast's own error that is covered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Headroom {
    /// In the first pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 0.999))]
    pub quantile: Option<f64>,
    /// In the pools after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 0.999))]
    pub burst_quantile: Option<f64>,
}

/// What Tidegate says of the policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScalingPolicyStatus {
    /// The generation of the spec that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The Deployment that is scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Replicas that should be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<u32>,
    /// Replicas that are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_replicas: Option<u32>,
    /// Replicas that serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<u32>,
    /// Demand in replica equivalents; left out while it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub demand: Option<String>,
    /// What bound the last decision, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last decision, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the number of replicas that are asked for was last seen to change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time")]
    pub last_scale_time: Option<Time>,
    /// Ready, Active, Unknown, Saturated, Limited, Unplaced, Bursting, MovingHome, CannotTell, StepsSwallowed, PoolsOrdered.
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

fn time(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "string", "format": "date-time"})
}
