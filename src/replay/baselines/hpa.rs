//! The HorizontalPodAutoscaler on utilization through a metrics adapter, by the model of its controller in
//! [`crate::sim::hpa`].

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::super::policy::{Autoscaler, Release, Seen, Wanted};
use crate::{
    signal::{Pod, Stage},
    sim::hpa::{
        arithmetic::{PodPhase, Tolerance, desired},
        pace::{DOWN_WINDOW, Limit, Memory},
    },
};

/// Seconds between two syncs (`--horizontal-pod-autoscaler-sync-period`).
pub const SYNC_SECONDS: f64 = 15.0;

/// The target of the seed's recipe (`arena serve kserve --scale-target=50`), percent.
pub const SEED_TARGET: f64 = 50.0;

/// An HPA with one Pods metric, `averageValue: target`, without `behavior`, in a controller with default flags.
#[derive(Debug, Clone)]
pub struct Hpa {
    /// `averageValue` in thousandths of a percent.
    target: i64,
    bounds: (i32, i32),
    memory: Memory,
    why: Why,
}

#[derive(Debug, Clone, Copy, Default)]
struct Why {
    usage: Option<i64>,
    proposed: i32,
    limit: Option<Limit>,
}

impl Hpa {
    /// An HPA with a target in percent.
    #[must_use]
    pub fn new(target: f64, min: u32, max: u32) -> Self {
        let bounds = (min.max(1).cast_signed(), max.cast_signed());
        Self { target: (target * 1e3) as i64, bounds, memory: Memory::default(), why: Why::default() }
    }
}

impl Autoscaler for Hpa {
    fn period(&self) -> f64 {
        SYNC_SECONDS
    }

    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted {
        let observation = seen.observation;
        let current = observation.replicas.cast_signed();
        let pods: BTreeMap<String, PodPhase> =
            observation.pods.iter().map(|pod| (pod.name.to_string(), phase(pod))).collect();
        // The adapter has no item for a pod that is not ready, or of which it knows nothing fresh.
        let items: BTreeMap<String, i64> = observation
            .pods
            .iter()
            .filter(|pod| pod.stage == Stage::Ready)
            .filter_map(|pod| Some((pod.name.to_string(), (pod.work.utilization.value()? * 1e3) as i64)))
            .collect();
        let (min, max) = self.bounds;
        self.memory.begin(now, current);
        // An empty list is an error to the HPA's client: it holds.
        let proposal = if items.is_empty() {
            None
        } else {
            desired(&items, &pods, current, self.target, Tolerance::default()).ok()
        };
        let (replicas, why) = match proposal {
            _ if current > max => (max, Why { limit: Some(Limit::TooManyReplicas), ..Why::default() }),
            _ if current < min => (min, Why { limit: Some(Limit::TooFewReplicas), ..Why::default() }),
            None => (current, Why::default()),
            Some(proposal) => {
                let (replicas, limit) = self.memory.pace(now, current, proposal.replicas, self.bounds, DOWN_WINDOW);
                (replicas, Why { usage: Some(proposal.usage), proposed: proposal.replicas, limit })
            }
        };
        self.why = why;
        Wanted { desired: replicas.max(0) as u32, release: Release::Chance }
    }

    fn sentence(&self) -> String {
        let Why { usage, proposed, limit } = self.why;
        let limit = limit.map(|limit| format!(", {}", limit.reason())).unwrap_or_default();
        match usage {
            Some(usage) => {
                let (usage, target) = (usage as f64 / 1e3, self.target as f64 / 1e3);
                format!("mean utilization {usage:.0} % against a target of {target:.0} % proposes {proposed}{limit}")
            }
            None => format!("no value{limit}"),
        }
    }
}

/// Phase Pending until the containers run; then Running, ready or not.
fn phase(pod: &Pod) -> PodPhase {
    match pod.running {
        None => PodPhase::Pending,
        Some(_) => PodPhase::Running { ready: pod.stage == Stage::Ready },
    }
}
