//! What a contender is: it sees, at its own pace, and says how many replicas there should be.

use std::sync::Arc;

use jiff::Timestamp;

use crate::signal::Observation;

/// Decides the number of replicas of one service. Every contender is one, `tidegate` like the baselines; the simulation
/// knows nothing else of it.
pub trait Autoscaler {
    /// Seconds between two calls of [`decide`](Self::decide); above 0.
    fn period(&self) -> f64;

    /// How many replicas there should be from now on.
    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted;

    /// One sentence that says why the last decision is what it is. Asked for only when the replicas change.
    fn sentence(&self) -> String;

    /// Whether the contender says that what it sees does not tell how much load there is (R16).
    fn cannot_tell(&self) -> bool {
        false
    }

    /// Demand in replica equivalents as the contender understands it, for the plots; `None` if it has no such idea or does
    /// not know.
    fn demand(&self) -> Option<f64> {
        None
    }
}

/// What a contender is shown.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The service as the metrics path shows it: sampled, with noise, holes and staleness.
    pub observation: &'a Observation,
    /// Requests in the system now: computed, queued at replicas, and waiting for a first replica. It is what Knative's
    /// queue proxies and activator count themselves, and so exact; contenders that live on GPU metrics do not look at it.
    pub concurrency: u32,
}

/// What a contender wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// `spec.replicas`.
    pub desired: u32,
    /// Which replicas go if some are to go.
    pub release: Release,
}

/// The order of release. Whatever it says, pods without a node go first and pods that are not ready next: the ReplicaSet
/// controller looks at the deletion cost only after these (`ActivePodsWithRanks`).
#[derive(Debug, Clone, PartialEq)]
pub enum Release {
    /// Nobody writes deletion costs: young ready pods before old by powers of two of their age, then chance
    /// (the ReplicaSet controller's rule).
    Chance,
    /// By deletion cost: this pod first if one is named, then the pools from the last to the first.
    Ordered(Option<Arc<str>>),
}
