//! What happens when: the load, the faults, and the times that Kubernetes' own parts take, in scene time.

use std::time::Duration;

use crate::sim::{exporter::Fault, load::Curve};

/// Namespace of the service.
pub const NAMESPACE: &str = "default";
/// Name of the InferenceService.
pub const SERVICE: &str = "qwen-chat";
/// The metric that the HPA follows, as `arena serve kserve --scale-metric` names it.
pub const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
/// `--scale-target`, percent.
pub const TARGET: i32 = 50;
/// `--min-replicas`.
pub const MIN_REPLICAS: i32 = 1;
/// `--max-replicas`.
pub const MAX_REPLICAS: i32 = 3;
/// Nodes, in the order in which pods take them. Each has one GPU.
pub const NODES: [&str; 3] = ["onprem-1", "cloud-1", "cloud-2"];

/// Time between two scrapes: the adapter's default.
pub const SCRAPE_INTERVAL: Duration = Duration::from_secs(10);
/// Age beyond which a sample is unknown: the adapter's default.
pub const MAX_AGE: Duration = Duration::from_secs(30);
/// The HPA's sync period: Kubernetes' default.
pub const SYNC: Duration = Duration::from_secs(15);
/// The HPA's downscale stabilization: Kubernetes' default.
pub const STABILIZATION: Duration = crate::sim::hpa::pace::DOWN_WINDOW;
/// From a pod's creation to its node.
pub const SCHEDULING: Duration = Duration::from_secs(5);
/// From its node to Ready: a model of a few gigabytes from a near disk.
pub const MODEL_LOAD: Duration = Duration::from_mins(1);
/// How often load, pods and faults move.
pub const STEP: Duration = Duration::from_secs(5);

/// Utilization of a replica without requests, percent.
pub const IDLE: f64 = 2.0;
/// Largest deviation of one reading from the model, percentage points.
pub const NOISE: f64 = 2.0;

/// The curtain falls: long enough after the load for the stabilization window to pass.
pub const END: Duration = Duration::from_mins(20);
/// If the service is not down to its minimum at [`END`], the scene waits for it this long.
pub const GRACE: Duration = Duration::from_mins(3);

/// Something that goes wrong, from when to when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mishap {
    /// Index of the node whose exporter it is.
    pub node: usize,
    /// What is wrong.
    pub fault: Fault,
    /// When it begins.
    pub from: Duration,
    /// When it is over.
    pub until: Duration,
    /// For people.
    pub story: &'static str,
}

const fn at(minutes: u64, seconds: u64) -> Duration {
    Duration::from_secs(minutes * 60 + seconds)
}

/// Quiet, a rise to more than two replicas' worth, a long peak, and the fall.
#[must_use]
pub fn load() -> Curve {
    Curve::new([(at(1, 0), 0.3), (at(2, 30), 1.4), (at(12, 45), 1.4), (at(13, 45), 0.2)])
}

/// Both at peak and one after the other, so that the pod is unknown for longer than the stabilization window: nothing but
/// the adapter's answers keeps the replicas up.
pub const MISHAPS: [Mishap; 2] = [
    Mishap {
        node: 1,
        fault: Fault::Dead,
        from: at(5, 30),
        until: at(8, 30),
        story: "the exporter of cloud-1 is killed",
    },
    Mishap {
        node: 1,
        fault: Fault::ZeroAttribution,
        from: at(8, 30),
        until: at(12, 15),
        story: "it is back, blind to processes: its pod reads 0, its card 95",
    },
];

/// What is wrong at that time.
#[must_use]
pub fn mishap(time: Duration) -> Option<&'static Mishap> {
    MISHAPS.iter().find(|mishap| mishap.from <= time && time < mishap.until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::load::warranted;

    #[test]
    fn the_load_warrants_one_then_three_then_one() {
        let replicas = |time| warranted(load().at(time), IDLE, f64::from(TARGET), 0.1, NODES.len());
        assert_eq!([replicas(at(0, 0)), replicas(at(7, 0)), replicas(at(14, 0))], [1, 3, 1]);
    }

    #[test]
    fn the_mishaps_happen_at_peak_and_outlast_the_stabilization_window() {
        let total: Duration = MISHAPS.iter().map(|mishap| mishap.until.saturating_sub(mishap.from)).sum();
        assert!(total > STABILIZATION + MAX_AGE, "{total:?}");
        for mishap in MISHAPS {
            for time in [mishap.from, mishap.until] {
                assert!((load().at(time) - 1.4).abs() < 1e-9, "{mishap:?}");
            }
        }
    }

    #[test]
    fn the_scene_outlasts_the_last_stabilization_window() {
        assert!(at(13, 45) + STABILIZATION + SYNC * 2 < END);
    }
}
