//! A policy's status, from an outcome.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use crate::{
    burst::findings::Standing,
    control::{
        round::{self, Outcome},
        words::{self, Beside, Draft},
    },
    policy::ScalingPolicyStatus,
};

/// Reason of `Ready=False` while nothing is decided for anybody.
const CLUSTER_UNKNOWN: &str = "ClusterUnknown";

/// A status that can be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status(ScalingPolicyStatus);

impl Status {
    pub(super) fn of(
        outcome: &Outcome,
        beside: &Beside<'_>,
        before: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Self {
        let mut conditions = words::since(&words::conditions(outcome, beside), before, generation, now);
        if outcome.pools == Standing::Unknown {
            // Not everything is listed, as at each start: what was said of the order stands.
            conditions.extend(before.iter().filter(|condition| condition.type_ == words::POOLS_ORDERED).cloned());
        }
        let deployment = outcome.target.as_ref().map(|(deployment, _)| deployment.name.to_string());
        let common = ScalingPolicyStatus {
            observed_generation: Some(generation),
            deployment,
            conditions,
            ..ScalingPolicyStatus::default()
        };
        Self(match &outcome.verdict {
            Ok(settled) => {
                let decision = &settled.decision;
                ScalingPolicyStatus {
                    // R1: what the metric does not say is not said here either.
                    desired_replicas: round::unknown(decision).is_none().then_some(decision.desired),
                    current_replicas: Some(decision.current),
                    ready_replicas: Some(settled.ready),
                    demand: decision.demand.map(|demand| format!("{demand:.2}")),
                    reason: Some(words::reason(decision).to_owned()),
                    message: Some(decision.sentence()),
                    last_scale_time: settled.last_scale.map(Time),
                    ..common
                }
            }
            Err(refusal) => ScalingPolicyStatus {
                reason: Some(refusal.reason().to_owned()),
                message: Some(refusal.to_string()),
                ..common
            },
        })
    }

    /// The same policy once nothing is known of the whole cluster.
    pub(super) fn blind(&self, why: &Arc<str>, now: Timestamp) -> Self {
        let Self(last) = self;
        let draft = |kind| Draft { kind, holds: false, reason: CLUSTER_UNKNOWN, message: Arc::clone(why) };
        let generation = last.observed_generation.unwrap_or_default();
        let drafts = [draft("Ready"), draft("Active")];
        Self(ScalingPolicyStatus {
            observed_generation: last.observed_generation,
            deployment: last.deployment.clone(),
            reason: Some(CLUSTER_UNKNOWN.to_owned()),
            message: Some(why.to_string()),
            conditions: words::since(&drafts, &last.conditions, generation, now),
            ..ScalingPolicyStatus::default()
        })
    }

    pub(super) fn conditions(&self) -> &[Condition] {
        &self.0.conditions
    }

    /// Demand, and figures in sentences, differ from tick to tick.
    pub(super) fn differs_by_more_than_figures(&self, other: &Self) -> bool {
        let rough = |Self(status): &Self| ScalingPolicyStatus {
            demand: status.demand.as_ref().map(|_| String::new()),
            message: None,
            conditions: status
                .conditions
                .iter()
                .map(|condition| Condition { message: String::new(), ..condition.clone() })
                .collect(),
            ..status.clone()
        };
        rough(self) != rough(other)
    }

    /// The whole status as a merge patch: what is left out is removed, except for the time of the last move, which is not
    /// known after a restart.
    pub(super) fn patch(&self) -> Value {
        let ScalingPolicyStatus {
            observed_generation,
            deployment,
            desired_replicas,
            current_replicas,
            ready_replicas,
            demand,
            reason,
            message,
            last_scale_time,
            conditions,
        } = &self.0;
        let mut status = json!({
            "observedGeneration": observed_generation,
            "deployment": deployment,
            "desiredReplicas": desired_replicas,
            "currentReplicas": current_replicas,
            "readyReplicas": ready_replicas,
            "demand": demand,
            "reason": reason,
            "message": message,
            "conditions": conditions,
        });
        if let Some(time) = last_scale_time {
            status["lastScaleTime"] = json!(time);
        }
        json!({ "status": status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(change: impl FnOnce(&mut ScalingPolicyStatus)) -> Status {
        let condition = Condition {
            type_: "Unknown".into(),
            status: "True".into(),
            reason: "Unknown".into(),
            message: "last measured 31s ago".into(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        let mut status = ScalingPolicyStatus {
            desired_replicas: Some(2),
            demand: Some("1.41".into()),
            message: Some("2 stay".into()),
            conditions: vec![condition],
            ..ScalingPolicyStatus::default()
        };
        change(&mut status);
        Status(status)
    }

    #[test]
    fn figures_alone_are_nobodys_news() {
        let before = status(|_| ());
        for figures in [
            status(|status| status.demand = Some("1.42".into())),
            status(|status| status.message = Some("2 stay: 1.42".into())),
            status(|status| status.conditions[0].message = "last measured 36s ago".into()),
        ] {
            assert!(figures != before && !figures.differs_by_more_than_figures(&before), "{figures:?}");
        }
        for news in [
            status(|status| status.demand = None),
            status(|status| status.desired_replicas = Some(3)),
            status(|status| status.conditions[0].status = "False".into()),
            status(|status| status.reason = Some("Window".into())),
        ] {
            assert!(news.differs_by_more_than_figures(&before), "{news:?}");
        }
    }

    #[test]
    fn r1_while_the_cluster_is_unknown_no_number_stands_and_ready_is_false() {
        let why: Arc<str> = "pods are not listed".into();
        let Status(blind) = status(|_| ()).blind(&why, Timestamp::UNIX_EPOCH);
        assert_eq!((blind.desired_replicas, blind.demand), (None, None));
        assert_eq!((blind.reason.as_deref(), blind.message.as_deref()), (Some("ClusterUnknown"), Some(&*why)));
        let ready = blind.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ClusterUnknown"));
    }

    #[test]
    fn what_is_left_out_is_removed_but_not_the_time_of_the_last_move() {
        let patch = status(|status| status.demand = None).patch();
        let status = patch["status"].as_object().unwrap();
        assert!(status["demand"].is_null() && status.contains_key("demand"), "a merge patch removes what is null");
        assert!(!status.contains_key("lastScaleTime"));
    }
}
