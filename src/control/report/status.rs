//! A policy's status, from an outcome.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use crate::{
    control::{
        round::Outcome,
        words::{self, Failed},
    },
    policy::ScalingPolicyStatus,
};

/// A status that can be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status(ScalingPolicyStatus);

impl Status {
    pub(super) fn of(
        outcome: &Outcome,
        failed: Option<&Failed>,
        before: &[Condition],
        generation: i64,
        now: Timestamp,
    ) -> Self {
        let conditions = words::since(&words::conditions(outcome, failed), before, generation, now);
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
                    desired_replicas: Some(decision.desired),
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
