//! What the engine is told to do for one service. Every default has its reason beside it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod validate;

pub use validate::Invalid;

/// What the engine is told to do for one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Least replicas. Default 1: with none, nobody measures anything and the first request waits for a model load.
    pub min: u32,
    /// Most replicas. Default 10: a slip elsewhere costs at most ten replicas, and who needs more says so.
    pub max: u32,
    /// Which signals demand is made of.
    pub signals: SignalUse,
    /// Utilization, percent, at which a replica counts as fully used, where utilization is all there is and the service has
    /// not shown yet what a full replica reads. Default 70: below the 72..80 % at which the servers that we know of begin
    /// to queue, and the best single target of an HPA on a week of real load was 75.
    pub target_utilization: f64,
    /// Bounds that a request should keep. They say how full a replica may be.
    pub objective: Objective,
    /// Pools in rank order, the first to be filled first and emptied last (R19). Empty: one pool without a limit.
    pub pools: Vec<Pool>,
    /// How fast, how cautious.
    pub behavior: Behavior,
}

/// Which signals demand is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SignalUse {
    /// The model server's own figures where every ready pod offers them, utilization otherwise. Utilization rises when more
    /// is going on, on most servers, but by how much has to be learned (R16); a count of requests says it.
    #[default]
    Auto,
    /// The model server's own figures alone; unknown where they are not offered.
    Queue,
    /// Utilization alone, even where there is more.
    Utilization,
}

/// Bounds that a request should keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Objective {
    /// Longest time to the first token, seconds, queueing included. Default 5: a person waits that long for an answer to
    /// begin.
    pub time_to_first_token_seconds: f64,
    /// Longest time per output token after the first, seconds. Default 0.2: five tokens a second, about reading speed.
    pub time_per_output_token_seconds: f64,
}

/// A set of nodes that replicas can land on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pool {
    /// Name.
    pub name: Arc<str>,
    /// Cost of one replica-hour, relative to the other pools; above 0. Default 1.
    pub cost: f64,
    /// Most replicas of this service in it. Default: none, what fits.
    pub max: Option<u32>,
    /// A node autoscaler adds nodes to it. Default: no.
    pub elastic: bool,
    /// What a pod needs to become ready here, until there are observations.
    pub boot: Boot,
    /// A replica leaves this pool for an earlier one that has had room for so many seconds. Default: none leaves; a move loads
    /// the model once more.
    pub return_after_seconds: Option<f64>,
    /// An empty node is paid for so many seconds more. Default 60: Karpenter with a short `consolidateAfter` takes half a
    /// minute; cluster-autoscaler's default is 600.
    pub node_release_seconds: f64,
}

/// Medians, seconds, of the three stretches from a pod's creation to Ready; the prior of what is learned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Boot {
    /// Created → bound to a node, where a node has to come first. Default 240: cloud GPU nodes take three to five minutes.
    pub node_seconds: f64,
    /// Bound → serving container runs. Default 10: the image is on the node or streamed.
    pub image_seconds: f64,
    /// Container runs → Ready. Default 40: the 0.85 quantile of 7,531 model loads in production
    /// (Alibaba's cluster-trace-v2026-GenAI); the median of a prior had better be late than early.
    pub load_seconds: f64,
}

/// How fast, how cautious.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behavior {
    /// Upwards.
    pub up: Up,
    /// Downwards.
    pub down: Down,
    /// Reserve against what the forecast does not know.
    pub headroom: Headroom,
}

/// Upwards.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Up {
    /// Seconds between two additions. Default 0: what is on its way counts (R14), so one rise causes one addition anyway.
    pub cooldown_seconds: f64,
    /// Most replicas added by one decision. Default: no limit, for the same reason.
    pub step: Option<u32>,
    /// A backlog should be worked off within so many seconds. Default: the objective's time to first token, for that is how
    /// long the last one in it may wait.
    pub clear_backlog_seconds: Option<f64>,
}

/// Downwards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Down {
    /// A replica goes only when nothing within so many seconds needed it, and nothing is to be expected in twice that time.
    /// Default: the time in which it could be back (p90 of the learned time to ready of its pool), at least
    /// [`Down::SHORTEST_WINDOW`].
    pub window_seconds: Option<f64>,
    /// Seconds after an addition, and between two removals. Default: 15 between two removals, so that one shows its effect
    /// before the next, and none after an addition, which the window guards.
    pub cooldown_seconds: Option<f64>,
    /// Most replicas removed by one decision. Default 1: a wrong removal costs a model load.
    pub step: u32,
    /// A removal leaves this share of the remaining capacity free (R15). Default 0.05: more than the noise of a filtered
    /// demand, so that a removal is not undone by it.
    pub margin: f64,
}

impl Down {
    /// Who is needed again within a quarter of an hour, about twice this, was not worth removing: a model load, a cold cache,
    /// and one reversal more for those who watch. What more and less of it cost is in `regain.rs`.
    pub const SHORTEST_WINDOW: f64 = 500.0;
}

/// Reserve against what the forecast does not know, as the quantile of its own error that is covered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Headroom {
    /// In the first pool, 0.5..1. Default 0.95: the rest of the way to 99 % of requests in time is what a queue may take.
    pub quantile: f64,
    /// In the pools after it, 0.5..1. Default 0.95.
    pub burst_quantile: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min: 1,
            max: 10,
            signals: SignalUse::Auto,
            target_utilization: 70.0,
            objective: Objective::default(),
            pools: Vec::new(),
            behavior: Behavior::default(),
        }
    }
}

impl Default for Objective {
    fn default() -> Self {
        Self { time_to_first_token_seconds: 5.0, time_per_output_token_seconds: 0.2 }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            name: "default".into(),
            cost: 1.0,
            max: None,
            elastic: false,
            boot: Boot::default(),
            return_after_seconds: None,
            node_release_seconds: 60.0,
        }
    }
}

impl Default for Boot {
    fn default() -> Self {
        Self { node_seconds: 240.0, image_seconds: 10.0, load_seconds: 40.0 }
    }
}

impl Default for Down {
    fn default() -> Self {
        Self { window_seconds: None, cooldown_seconds: None, step: 1, margin: 0.05 }
    }
}

impl Default for Headroom {
    fn default() -> Self {
        Self { quantile: 0.95, burst_quantile: 0.95 }
    }
}
