//! What happens when in the engine's scene, in scene time, and the policy by which it is decided.

use std::time::Duration;

use crate::{replay::Slo, sim::load::Curve};

pub use crate::sim::scene::script::{MAX_AGE, NAMESPACE, SCRAPE_INTERVAL, SERVICE, STEP, SYNC};

/// Name of the policy.
pub const POLICY: &str = "qwen-chat";
/// Replicas at the beginning: the policy's minimum.
pub const FIRST_REPLICAS: u32 = 1;
/// Nodes on premises, which are there anyway: how many replicas stay on them in the end is the engine's to say, by what it
/// has seen of how quickly the load can rise.
pub const ON_PREMISES: usize = 2;
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

/// What a request should keep: the policy's objective.
pub const BOUNDS: Slo = Slo { ttft_seconds: 5.0, tpot_seconds: 0.1, attainment: 0.99 };

/// Largest deviation of one reading of utilization from the model, percentage points.
pub const NOISE: f64 = 2.0;

const fn at(minutes: u64, seconds: u64) -> Duration {
    Duration::from_secs(minutes * 60 + seconds)
}

/// The load falls while nobody can know.
pub const FALL: Duration = at(10, 30);
/// The curtain falls: long enough after the fall for windows and cooldowns to pass.
pub const END: Duration = at(17, 0);
/// If the cloud is not given back at [`END`], the scene waits for it this long.
pub const GRACE: Duration = at(5, 0);

/// In replicas kept fully busy: quiet, a rise to more than the on-premises nodes can do in time, a long peak, and the fall.
#[must_use]
pub fn load() -> Curve {
    Curve::new([(at(1, 0), 0.4), (at(6, 0), 1.6), (FALL, 1.6), (at(13, 0), 0.2)])
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
        from: at(7, 45),
        until: at(13, 0),
        story: "the GPU exporter of onprem-1 is killed; the model servers' own queues still tell",
    },
    Mishap {
        node: 0,
        part: Part::ModelServer,
        from: at(9, 0),
        until: at(13, 0),
        story: "the page of the model server on onprem-1 is gone as well",
    },
];

/// The one after which the service is unknown.
pub const BLIND: Mishap = MISHAPS[1];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{gpu::Vocabulary, policy::settings::Settings};

    #[test]
    fn the_policy_is_valid_and_asks_for_the_bounds_by_which_requests_are_counted() {
        let policy: crate::policy::ScalingPolicy = serde_saphyr::from_str(SCALING_POLICY).expect("a ScalingPolicy");
        let settings = Settings::of(&policy.spec, &Vocabulary::default()).expect("valid");
        let objective = settings.engine.objective;
        let bounds = (objective.time_to_first_token_seconds, objective.time_per_output_token_seconds);
        assert_eq!(bounds, (BOUNDS.ttft_seconds, BOUNDS.tpot_seconds));
        assert_eq!(settings.engine.pools.iter().map(|pool| &*pool.name).collect::<Vec<_>>(), POOLS);
    }

    #[test]
    fn the_load_falls_while_the_service_is_unknown_and_time_is_left_afterwards() {
        assert!(BLIND.from + MAX_AGE < FALL && BLIND.until < END);
        assert!(load().at(BLIND.until) < 0.5 * load().at(FALL));
    }

    #[test]
    fn the_peak_needs_the_cloud_and_the_rest_does_not() {
        let onprem = NODES.iter().filter(|node| node.pool == 0).count();
        assert_eq!(onprem, ON_PREMISES);
        let onprem = onprem as f64;
        let most = |from: Duration, until: Duration| {
            (from.as_secs()..until.as_secs()).map(|s| load().at(Duration::from_secs(s))).fold(0.0, f64::max)
        };
        assert!(most(Duration::ZERO, at(1, 0)) < 1.0 && most(BLIND.until, END) < 1.0);
        // Two would be so full that answers come too slowly.
        assert!(most(at(6, 0), FALL) > 0.75 * onprem);
    }
}
