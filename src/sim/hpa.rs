//! A model of the HorizontalPodAutoscaler controller: what it asks ([`client`]), how it reads the answer ([`decode`]), its
//! arithmetic ([`arithmetic`]) and its pace ([`pace`]).
//!
//! Written from the controller's source and from what the real one was seen to send, so that a scene needs no cluster. It
//! is a model: CPU and memory metrics, events, and the scale subresource are left out. Time is an argument.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

pub mod arithmetic;
pub mod client;
pub mod decode;
pub mod pace;

pub use arithmetic::{PodPhase, Tolerance, desired};
pub use client::Client;
pub use decode::QueryError;
pub use pace::{Behavior, Limit};

use arithmetic::{Proposal, desired_for_average, desired_for_value, sum};
use pace::Memory;

/// The parts of an HPA's `spec` that are modelled. Targets are in thousandths.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Namespace of the HPA and its target.
    pub namespace: String,
    /// The target's pod selector.
    pub selector: String,
    /// `minReplicas`.
    pub min: i32,
    /// `maxReplicas`.
    pub max: i32,
    /// `metrics`.
    pub metrics: Vec<Metric>,
    /// `behavior`.
    pub behavior: Option<Behavior>,
    /// The controller's downscale stabilization, where there is no `behavior`.
    pub down_window: Duration,
    /// The cluster's tolerance.
    pub tolerance: Tolerance,
}

/// One metric of an HPA, without a selector on the metric itself unless named.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// `type: Pods` with an `averageValue`.
    Pods {
        /// Name of the metric.
        name: String,
        /// `averageValue`.
        average: i64,
    },
    /// `type: Object`.
    Object {
        /// Plural resource with its group.
        resource: String,
        /// Name of the object.
        object: String,
        /// Name of the metric.
        name: String,
        /// The target.
        target: Target,
    },
    /// `type: External`.
    External {
        /// Name of the metric.
        name: String,
        /// Selector on the metric's labels.
        selector: String,
        /// The target.
        target: Target,
    },
}

/// Target of an Object or External metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `value`.
    Value(i64),
    /// `averageValue`.
    Average(i64),
}

/// What one sync came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Replicas to set; the present ones if nothing could be decided.
    pub desired: i32,
    /// What held it back or bounded it.
    pub limit: Option<Limit>,
    /// Usage per pod in thousandths, of each metric that has a value, in the spec's order.
    pub usage: Vec<Option<i64>>,
    /// Values by pod of the last Pods metric that was answered, in thousandths.
    pub items: BTreeMap<String, i64>,
    /// Condition `ScalingActive=False`: reason and message.
    pub invalid: Option<(&'static str, String)>,
}

/// One HPA and what it remembers.
#[derive(Debug)]
pub struct Hpa {
    spec: Spec,
    memory: Memory,
}

impl Hpa {
    /// An HPA that remembers nothing yet.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        Self { spec, memory: Memory::default() }
    }

    /// Asks for every metric and decides.
    pub async fn sync(
        &mut self,
        client: &mut Client,
        now: Timestamp,
        current: i32,
        pods: &BTreeMap<String, PodPhase>,
    ) -> Sync {
        client.forget_version();
        let mut proposals = Vec::with_capacity(self.spec.metrics.len());
        let mut items = BTreeMap::new();
        for metric in &self.spec.metrics {
            proposals.push(self.propose(client, metric, current, pods, &mut items).await);
        }
        let mut sync = self.decide(now, current, proposals);
        sync.items = items;
        sync
    }

    /// Decides as if its first metric, a Pods metric, had been answered with these items.
    pub fn assume(
        &mut self,
        now: Timestamp,
        current: i32,
        items: &BTreeMap<String, i64>,
        pods: &BTreeMap<String, PodPhase>,
    ) -> i32 {
        let Some(Metric::Pods { average, .. }) = self.spec.metrics.first() else { return current };
        let proposal = desired(items, pods, current, *average, self.spec.tolerance);
        let proposal = proposal.map_err(|error| ("FailedGetPodsMetric", error.to_string()));
        self.decide(now, current, vec![proposal]).desired
    }

    async fn propose(
        &self,
        client: &mut Client,
        metric: &Metric,
        current: i32,
        pods: &BTreeMap<String, PodPhase>,
        items: &mut BTreeMap<String, i64>,
    ) -> Result<Proposal, (&'static str, String)> {
        let Spec { namespace, selector, tolerance, .. } = &self.spec;
        let ready = pods.values().filter(|phase| **phase == PodPhase::Running { ready: true }).count();
        let from_sum = |usage, target| match target {
            Target::Value(target) => desired_for_value(usage, target, current, ready, *tolerance),
            Target::Average(target) => desired_for_average(usage, target, current, *tolerance),
        };
        match metric {
            Metric::Pods { name, average } => {
                const REASON: &str = "FailedGetPodsMetric";
                let failed = |error: String| (REASON, format!("unable to get metric {name}: {error}"));
                let answered = client.pods(namespace, name, selector, "").await;
                let answered = answered
                    .map_err(|error| failed(format!("unable to fetch metrics from custom metrics API: {error}")))?;
                items.clone_from(&answered);
                desired(&answered, pods, current, *average, *tolerance).map_err(|error| failed(error.to_string()))
            }
            Metric::Object { resource, object, name, target } => {
                let answered = client.object(namespace, resource, object, name, "").await;
                let usage = answered.map_err(|error| {
                    ("FailedGetObjectMetric", format!("unable to get metric {name} on {resource}/{object}: {error}"))
                })?;
                Ok(from_sum(usage, *target))
            }
            Metric::External { name, selector, target } => {
                let answered = client.external(namespace, name, selector).await;
                let values = answered.map_err(|error| {
                    ("FailedGetExternalMetric", format!("unable to get external metric {namespace}/{name}: {error}"))
                })?;
                Ok(from_sum(sum(&values), *target))
            }
        }
    }

    /// The highest proposal, if the invalid metrics allow a move: with one invalid metric the rest may add, never remove.
    fn decide(
        &mut self,
        now: Timestamp,
        current: i32,
        proposals: Vec<Result<Proposal, (&'static str, String)>>,
    ) -> Sync {
        let usage = proposals.iter().map(|proposal| proposal.as_ref().ok().map(|proposal| proposal.usage)).collect();
        let highest = proposals.iter().flatten().map(|proposal| proposal.replicas).max();
        let invalid = proposals.into_iter().find_map(Result::err);
        let Spec { min, max, behavior, down_window, .. } = &self.spec;
        let bounds = (*min, *max);
        let (desired, limit) = match (highest, &invalid) {
            _ if current == 0 && *min > 0 => (0, None),
            _ if current > *max => (*max, Some(Limit::TooManyReplicas)),
            _ if current < *min => (*min, Some(Limit::TooFewReplicas)),
            (None, _) => (current, None),
            (Some(highest), Some(_)) if highest < current => (current, None),
            (Some(highest), _) => match behavior {
                None => self.memory.pace(now, current, highest, bounds, *down_window),
                Some(behavior) => self.memory.pace_with(now, current, highest, bounds, behavior),
            },
        };
        self.memory.changed(now, current, desired);
        Sync { desired, limit, usage, items: BTreeMap::new(), invalid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hpa() -> Hpa {
        Hpa::new(Spec {
            namespace: "default".into(),
            selector: "app=isvc.qwen-chat-predictor".into(),
            min: 1,
            max: 3,
            metrics: Vec::new(),
            behavior: None,
            down_window: Duration::ZERO,
            tolerance: Tolerance::default(),
        })
    }

    #[test]
    fn of_several_metrics_the_highest_counts_and_an_invalid_one_forbids_removing() {
        let replicas = |replicas| Ok(Proposal { replicas, usage: 0 });
        let invalid = || Err(("FailedGetPodsMetric", "no value".to_owned()));
        for (current, proposals, expected) in [
            (2, vec![replicas(1), replicas(3)], 3),
            (2, vec![replicas(1), invalid()], 2),
            (2, vec![replicas(3), invalid()], 3),
            (2, vec![invalid(), invalid()], 2),
            (2, vec![replicas(1), replicas(1)], 1),
            (0, vec![replicas(3)], 0),
            (5, vec![invalid()], 3),
        ] {
            let text = format!("{current} {proposals:?}");
            let has_invalid = proposals.iter().any(Result::is_err);
            let sync = hpa().decide(Timestamp::UNIX_EPOCH, current, proposals);
            assert_eq!(sync.desired, expected, "{text}");
            assert_eq!(sync.invalid.is_some(), has_invalid, "{text}");
        }
    }
}
