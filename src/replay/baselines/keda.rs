//! KEDA on the inference server's queue: an HPA on one external metric, the sum of running and waiting requests over the
//! pods, with a target per replica (`AverageValue`), as KEDA's prometheus trigger makes it.

use jiff::Timestamp;

use super::{
    super::policy::{Autoscaler, Release, Seen, Wanted},
    hpa::SYNC_SECONDS,
};
use crate::{
    signal::Stage,
    sim::hpa::{
        arithmetic::{Tolerance, desired_for_average},
        pace::{DOWN_WINDOW, Limit, Memory},
    },
};

/// KEDA's ScaledObject with a prometheus trigger on `sum(vllm:num_requests_running + vllm:num_requests_waiting)`.
///
/// KEDA hands the trigger to an HPA and leaves its pace to it; its own polling only decides between zero and one, which is
/// not used here. A query over pods of which some have no fresh value sums the others, as PromQL does.
#[derive(Debug, Clone)]
pub struct Keda {
    target: i64,
    bounds: (i32, i32),
    memory: Memory,
    why: Option<(f64, i32, Option<Limit>)>,
}

impl Keda {
    /// Requests per replica as the target.
    #[must_use]
    pub fn new(target: f64, min: u32, max: u32) -> Self {
        let bounds = (min.max(1).cast_signed(), max.cast_signed());
        Self { target: (target * 1e3) as i64, bounds, memory: Memory::default(), why: None }
    }
}

impl Autoscaler for Keda {
    fn period(&self) -> f64 {
        SYNC_SECONDS
    }

    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted {
        let current = seen.observation.replicas.cast_signed();
        self.memory.begin(now, current);
        let ready = seen.observation.pods.iter().filter(|pod| pod.stage == Stage::Ready);
        let known: Vec<f64> =
            ready.filter_map(|pod| Some(pod.work.running.value()? + pod.work.waiting.value()?)).collect();
        // PromQL's sum over nothing is nothing: the HPA holds.
        let replicas = if known.is_empty() {
            self.why = None;
            current
        } else {
            let sum: f64 = known.iter().sum();
            let proposal = desired_for_average((sum * 1e3) as i64, self.target, current, Tolerance::default());
            let (replicas, limit) = self.memory.pace(now, current, proposal.replicas, self.bounds, DOWN_WINDOW);
            self.why = Some((sum, proposal.replicas, limit));
            replicas
        };
        Wanted { desired: replicas.max(0) as u32, release: Release::Chance }
    }

    fn sentence(&self) -> String {
        let Some((sum, proposed, limit)) = self.why else { return "no value".to_owned() };
        let limit = limit.map(|limit| format!(", {}", limit.reason())).unwrap_or_default();
        format!("{sum:.0} requests at {:.0} a replica propose {proposed}{limit}", self.target as f64 / 1e3)
    }
}
