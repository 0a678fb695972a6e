//! What came of a run: the figures of the table, and what the report plots.

use serde::Serialize;

/// One contender on one trace with one seed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The contender: `tidegate`, `hpa`, `hpa_tuned`, `keda`, `kpa`, `fixed` or `oracle`.
    pub name: String,
    /// Its settings in words, such as `target 75 %`.
    pub settings: String,
    /// Seed of the run.
    pub seed: u64,
    /// The figures.
    pub figures: Figures,
    /// State over time, at most [`MAX_SAMPLES`] evenly spaced samples.
    pub timeline: Timeline,
    /// Every change of the replicas, in order, the first [`MAX_MOVES`] of them.
    pub moves: Vec<Move>,
}

/// Most samples of a timeline; a longer trace gets longer samples.
pub const MAX_SAMPLES: usize = 2_000;
/// Shortest sample, seconds.
pub const MIN_SAMPLE_SECONDS: f64 = 15.0;
/// Most moves that are kept with their sentences. The figures count them all.
pub const MAX_MOVES: usize = 5_000;

/// The figures of one run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Share of the requests that met both bounds, 0..1. What was never finished has not met them.
    pub slo_attainment: f64,
    /// Share of the minutes in which no request arrived that missed a bound, 0..1.
    pub time_without_violation: f64,
    /// GPU hours: cloud nodes from the moment they are asked for until they are given back, and on-premises GPUs while a
    /// replica holds them.
    pub gpu_hours: f64,
    /// Those of cloud nodes.
    pub cloud_gpu_hours: f64,
    /// GPU hours times each pool's price, in units of an on-premises GPU hour.
    pub cost: f64,
    /// Changes of the replicas.
    pub scale_events: u64,
    /// Changes in the other direction than the change before.
    pub direction_reversals: u64,
    /// Removals after which replicas were added again before one that was removed could have become ready anew.
    pub undone_scale_downs: u64,
    /// Most requests that waited for their first token's computation at one moment.
    pub worst_queue: u64,
    /// Requests that arrived.
    pub requests: u64,
    /// Requests given up, or cut off with their replica.
    pub unfinished: u64,
    /// 99th percentile of the time to first token, seconds, from a histogram of 5 % steps.
    pub ttft_p99: f64,
    /// Most replicas asked for.
    pub max_replicas: u32,
    /// Length of the run, hours.
    pub hours: f64,
    /// Share of the decisions at which the contender said that what it sees does not tell how much load there is, 0..1.
    pub cannot_tell: f64,
}

/// Evenly spaced samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Timeline {
    /// Length of a sample, seconds. Sample `i` is about the seconds from `i` to `i + 1` times this.
    pub seconds: f64,
    /// In order.
    pub samples: Vec<Sample>,
}

/// What happened in one stretch of time. Counts of pods and nodes are those at its end.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Sample {
    /// Offered work, in replicas that would be just busy enough with it within the bounds.
    pub load: f64,
    /// Mean utilization of the ready replicas, percent, without noise; 0 without a ready one.
    pub utilization: f64,
    /// Replicas asked for.
    pub desired: u32,
    /// Ready on premises.
    pub ready_on_premises: u32,
    /// Ready in the cloud.
    pub ready_cloud: u32,
    /// On a node, not ready.
    pub starting: u32,
    /// Without a node.
    pub pending: u32,
    /// Cloud nodes that are paid for, booting and empty ones included.
    pub cloud_nodes: u32,
    /// Most requests waiting.
    pub queue: u32,
    /// Requests being computed.
    pub running: u32,
    /// Requests that arrived.
    pub requests: u32,
    /// Those of them that missed a bound, were given up or cut off.
    pub violations: u32,
    /// What the contender holds for the demand, if it says so.
    pub demand: Option<f64>,
}

/// A change of the replicas.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Move {
    /// Seconds since the trace began.
    pub at: f64,
    /// Replicas before.
    pub from: u32,
    /// Replicas after.
    pub to: u32,
    /// Why, in the contender's words.
    pub why: String,
}
