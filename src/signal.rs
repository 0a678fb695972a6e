//! What is known about one service at one moment: the engine's input.
//!
//! An [`Observation`] is made from the published snapshot ([`crate::publish`]) or by the simulator, is recorded as it is,
//! and is all that [`crate::engine::decide`] learns of the world. Everything in it is a value with the time it was
//! measured, or unknown with a reason (R1); nothing is smoothed here.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub mod maximum;
pub mod mean;
mod observe;
pub mod quantile;
mod room;
pub mod sorted;
pub mod weighted;

pub use maximum::Maximum;
pub use mean::Mean;
pub use observe::{Known, Observer};
pub use quantile::Quantiles;
pub use room::PoolNodes;
pub use weighted::WeightedQuantiles;

/// One signal of one pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signal {
    /// This pod does not offer it and is not expected to: no exporter of that kind, a runtime without queue metrics.
    #[default]
    NotOffered,
    /// It should be there and is not (R1). Never counted as a number.
    Unknown(Arc<str>),
    /// A value and when it was measured.
    Known {
        /// Finite, in the unit of the field.
        value: f64,
        /// When the oldest sample in `value` was measured (R2).
        at: Timestamp,
    },
}

impl Signal {
    /// The value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        if let Self::Known { value, .. } = self { Some(*value) } else { None }
    }
}

/// What a pod says of its own work.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Work {
    /// SM utilization over the pod's cards, percent 0..100.
    pub utilization: Signal,
    /// Requests being computed (`vllm:num_requests_running`).
    pub running: Signal,
    /// Requests that wait for a place (`vllm:num_requests_waiting`).
    pub waiting: Signal,
    /// Used share of the KV cache, 0..1 (`vllm:kv_cache_usage_perc`).
    pub kv_cache: Signal,
    /// Prompt tokens computed per second, since the previous page.
    pub prompt_tokens: Signal,
    /// Tokens generated per second, since the previous page.
    pub generated_tokens: Signal,
    /// Requests finished per second, since the previous page (`vllm:request_success_total`).
    pub finished: Signal,
}

/// Where a pod stands (R8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Not scheduled.
    Pending,
    /// Scheduled, not Ready: the image is pulled, the model is loaded.
    Starting,
    /// Kubernetes `Ready`, or so until its node was no longer heard of: then all of its work is `Unknown`.
    Ready,
}

/// One pod of the service. Pods that have finished or are being deleted are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// UID: a pod recreated under the same name is a different pod.
    pub uid: Arc<str>,
    /// Name, for people.
    pub name: Arc<str>,
    /// Index into the policy's pools; `None` while it has no node, or if its node is in no pool.
    pub pool: Option<usize>,
    /// Where it stands.
    pub stage: Stage,
    /// When it was created.
    pub created: Timestamp,
    /// When it was bound to a node.
    pub scheduled: Option<Timestamp>,
    /// When its serving container began to run: the image is there, the model begins to load.
    pub running: Option<Timestamp>,
    /// When it became Ready, if it is.
    pub ready_since: Option<Timestamp>,
    /// What it says of its work; all `NotOffered` while it is not Ready.
    pub work: Work,
}

/// How many more pods of the service a pool could take at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Room {
    /// So many on the nodes that are there, and no node will come.
    Fixed(u32),
    /// So many on the nodes that are there; a node autoscaler adds nodes beyond that, up to the pool's `max`.
    Elastic(u32),
    /// Not known: nodes or pods are not listed.
    Unknown,
}

/// One service at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Replicas that are asked for now: `spec.replicas` of the Deployment.
    pub replicas: u32,
    /// Its pods, by name.
    pub pods: Vec<Pod>,
    /// By index of the policy's pools.
    pub room: Vec<Room>,
    /// Why the cluster's state is not known, if it is not: then nothing moves.
    pub cluster_unknown: Option<Arc<str>>,
}

#[cfg(test)]
mod tests;
