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

/// Replicas of the target, by its scale subresource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// `spec.replicas`: what was asked for last.
    pub wanted: i32,
    /// `status.replicas`: what there is. Only `averageValue` targets of Object and External metrics look at it.
    pub present: i32,
}

impl From<i32> for Scale {
    /// A target that has caught up with what was asked for.
    fn from(replicas: i32) -> Self {
        Self { wanted: replicas, present: replicas }
    }
}

/// What the metrics API answered about one metric, in thousandths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// By pod, for a Pods metric.
    Items(BTreeMap<String, i64>),
    /// Of an Object or External metric: one value or several.
    Values(Vec<i64>),
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
    /// Condition `ScalingActive=False`: reason and message. Not there where the other metrics were enough to move by.
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
        let mut answers = Vec::with_capacity(self.spec.metrics.len());
        for metric in &self.spec.metrics {
            answers.push(self.ask(client, metric).await);
        }
        self.decide(now, current.into(), pods, &answers)
    }

    async fn ask(&self, client: &mut Client, metric: &Metric) -> Result<Answer, String> {
        let Spec { namespace, selector, .. } = &self.spec;
        let answer = match metric {
            Metric::Pods { name, .. } => {
                let answer = client.pods(namespace, name, selector, "").await.map(Answer::Items);
                return answer.map_err(|error| format!("unable to fetch metrics from custom metrics API: {error}"));
            }
            Metric::Object { resource, object, name, .. } => {
                client.object(namespace, resource, object, name, "").await.map(|value| Answer::Values(vec![value]))
            }
            Metric::External { name, selector, .. } => {
                client.external(namespace, name, selector).await.map(Answer::Values)
            }
        };
        answer.map_err(|error| error.to_string())
    }

    /// Decides by what was answered to each metric of the spec, in its order.
    pub fn decide(
        &mut self,
        now: Timestamp,
        scale: Scale,
        pods: &BTreeMap<String, PodPhase>,
        answers: &[Result<Answer, String>],
    ) -> Sync {
        let metrics = self.spec.metrics.iter().zip(answers);
        let proposals = metrics.map(|(metric, answer)| self.propose(metric, scale, pods, answer)).collect();
        let mut sync = self.choose(now, scale.wanted, proposals);
        if let Some(items) = answers.iter().rev().find_map(|answer| match answer {
            Ok(Answer::Items(items)) => Some(items),
            _ => None,
        }) {
            sync.items.clone_from(items);
        }
        sync
    }

    fn propose(
        &self,
        metric: &Metric,
        scale: Scale,
        pods: &BTreeMap<String, PodPhase>,
        answer: &Result<Answer, String>,
    ) -> Result<Proposal, (&'static str, String)> {
        let tolerance = self.spec.tolerance;
        let proposed = match (metric, answer) {
            (_, Err(error)) => Err(error.clone()),
            (Metric::Pods { average, .. }, Ok(Answer::Items(items))) => {
                desired(items, pods, scale.wanted, *average, tolerance).map_err(|error| error.to_string())
            }
            (Metric::Object { target, .. } | Metric::External { target, .. }, Ok(Answer::Values(values))) => {
                match target {
                    Target::Value(target) => desired_for_value(sum(values), *target, scale.wanted, pods, tolerance)
                        .map_err(|error| error.to_string()),
                    Target::Average(target) => Ok(desired_for_average(sum(values), *target, scale.present, tolerance)),
                }
            }
            (_, Ok(_)) => Err("the answer is of another kind than the metric".into()),
        };
        let namespace = &self.spec.namespace;
        proposed.map_err(|error| match metric {
            Metric::Pods { name, .. } => ("FailedGetPodsMetric", format!("unable to get metric {name}: {error}")),
            Metric::Object { resource, object, name, .. } => {
                ("FailedGetObjectMetric", format!("unable to get metric {name} on {resource}/{object}: {error}"))
            }
            Metric::External { name, .. } => {
                ("FailedGetExternalMetric", format!("unable to get external metric {namespace}/{name}: {error}"))
            }
        })
    }

    /// The highest proposal, if the invalid metrics allow a move: with one invalid metric the rest may add, never remove.
    fn choose(
        &mut self,
        now: Timestamp,
        current: i32,
        proposals: Vec<Result<Proposal, (&'static str, String)>>,
    ) -> Sync {
        self.memory.begin(now, current);
        let usage = proposals.iter().map(|proposal| proposal.as_ref().ok().map(|proposal| proposal.usage)).collect();
        let highest = proposals.iter().flatten().map(|proposal| proposal.replicas).max();
        let mut invalid = proposals.into_iter().find_map(Result::err);
        let Spec { min, max, behavior, down_window, .. } = &self.spec;
        let bounds = (*min, *max);
        let (desired, limit) = match highest {
            _ if current == 0 && *min > 0 => (0, None),
            _ if current > *max => (*max, Some(Limit::TooManyReplicas)),
            _ if current < *min => (*min, Some(Limit::TooFewReplicas)),
            Some(highest) if invalid.is_none() || highest >= current => {
                invalid = None;
                match behavior {
                    None => self.memory.pace(now, current, highest, bounds, *down_window),
                    Some(behavior) => self.memory.pace_with(now, current, highest, bounds, behavior),
                }
            }
            _ => (current, None),
        };
        if let Some(behavior) = behavior {
            self.memory.changed(now, current, desired, behavior);
        }
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
        let later = Timestamp::UNIX_EPOCH + Duration::from_secs(1);
        for (current, proposals, expected, inactive) in [
            (2, vec![replicas(1), replicas(3)], 3, false),
            (2, vec![replicas(1), invalid()], 2, true),
            (2, vec![replicas(2), invalid()], 2, false),
            (2, vec![replicas(3), invalid()], 3, false),
            (2, vec![invalid(), invalid()], 2, true),
            (2, vec![replicas(1), replicas(1)], 1, false),
            (0, vec![replicas(3)], 0, false),
            (5, vec![replicas(1)], 3, false),
        ] {
            let text = format!("{current} {proposals:?}");
            let mut hpa = hpa();
            hpa.memory.begin(Timestamp::UNIX_EPOCH, 0);
            let sync = hpa.choose(later, current, proposals);
            assert_eq!(sync.desired, expected, "{text}");
            assert_eq!(sync.invalid.is_some(), inactive, "{text}");
        }
    }

    #[test]
    fn what_it_finds_at_first_counts_as_a_proposal() {
        let one = || vec![Ok(Proposal { replicas: 1, usage: 0 })];
        let mut hpa = hpa();
        hpa.spec.down_window = Duration::from_secs(10);
        let desired = [0, 10, 11].map(|second| {
            let sync = hpa.choose(Timestamp::UNIX_EPOCH + Duration::from_secs(second), 3, one());
            sync.desired
        });
        assert_eq!(desired, [3, 3, 1]);
    }
}
