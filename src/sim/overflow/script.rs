//! What happens when in the engine's scene, in scene time, and the policy by which it is decided.

use std::time::Duration;

use crate::sim::load::Curve;

pub use crate::sim::scene::script::{MAX_AGE, NAMESPACE, SCRAPE_INTERVAL, SERVICE, STEP, SYNC};

/// Name of the policy.
pub const POLICY: &str = "qwen-chat";
/// Least replicas.
pub const MIN_REPLICAS: u32 = 1;
/// Replicas that the load of the peak needs.
pub const PEAK_REPLICAS: usize = 3;
/// Pools in the order in which they are filled.
pub const POOLS: [&str; 2] = ["onprem", "cloud"];

/// What an operator would apply.
pub const SCALING_POLICY: &str = include_str!("policy.yaml");

/// A node of the scene. Each has one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Name.
    pub name: &'static str,
    /// Index of its pool.
    pub pool: usize,
}

/// Nodes, in the order in which pods take them.
pub const NODES: [Place; 4] = [
    Place { name: "onprem-1", pool: 0 },
    Place { name: "onprem-2", pool: 0 },
    Place { name: "cloud-1", pool: 1 },
    Place { name: "cloud-2", pool: 1 },
];

/// From a pod's creation to its node, where there is one.
pub const SCHEDULING: Duration = Duration::from_secs(5);
/// From its node to Ready: a model of a few gigabytes from a near disk.
pub const MODEL_LOAD: Duration = Duration::from_mins(1);
/// From a pod that finds no place to a cloud node that is ready for it.
pub const NODE_BOOT: Duration = Duration::from_mins(2);
/// How long an empty cloud node is kept.
pub const NODE_RELEASE: Duration = Duration::from_mins(1);

/// Largest deviation of one reading of utilization from the model, percentage points.
pub const NOISE: f64 = 2.0;

const fn at(minutes: u64, seconds: u64) -> Duration {
    Duration::from_secs(minutes * 60 + seconds)
}

/// The load falls while nobody can know.
pub const FALL: Duration = at(11, 0);
/// The curtain falls: long enough after the fall for windows and cooldowns to pass.
pub const END: Duration = at(20, 0);
/// If the service is not down to its minimum at [`END`], the scene waits for it this long.
pub const GRACE: Duration = at(5, 0);

/// In replicas kept fully busy: quiet, a rise to more than the on-premises nodes can do, a long peak, and the fall.
#[must_use]
pub fn load() -> Curve {
    Curve::new([(at(2, 0), 0.4), (at(2, 30), 2.0), (FALL, 2.0), (at(11, 30), 0.3)])
}

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The GPU exporter of a node.
    Exporter,
    /// The page of the model server on a node.
    ModelServer,
}

/// Something that goes wrong on a node, from when to when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mishap {
    /// Index of the node.
    pub node: usize,
    /// What fails.
    pub part: Part,
    /// When it begins.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
    /// For people.
    pub story: &'static str,
}

/// First what the engine can do without, then what it cannot: over the end of the peak, so that what it knows last is wrong.
pub const MISHAPS: [Mishap; 2] = [
    Mishap {
        node: 0,
        part: Part::Exporter,
        from: at(7, 0),
        until: at(13, 30),
        story: "the GPU exporter of onprem-1 is killed; the model servers' own queues still tell",
    },
    Mishap {
        node: 0,
        part: Part::ModelServer,
        from: at(9, 0),
        until: at(13, 30),
        story: "the page of the model server on onprem-1 is gone as well",
    },
];

/// The one after which the service is unknown.
pub const BLIND: Mishap = MISHAPS[1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_falls_while_the_service_is_unknown_and_time_is_left_afterwards() {
        assert!(BLIND.from + MAX_AGE < FALL && FALL + Duration::from_mins(1) < BLIND.until && BLIND.until < END);
    }

    #[test]
    fn the_peak_needs_the_cloud_and_the_rest_does_not() {
        let onprem = NODES.iter().filter(|node| node.pool == 0).count() as f64;
        let most = |from: Duration, until: Duration| {
            (from.as_secs()..until.as_secs()).map(|s| load().at(Duration::from_secs(s))).fold(0.0, f64::max)
        };
        assert!(most(Duration::ZERO, at(2, 0)) < 1.0 && most(BLIND.until, END) < 1.0);
        // A replica that keeps its bounds is not kept busy all the time.
        assert!(most(at(3, 0), FALL) > 0.9 * onprem);
    }
}
