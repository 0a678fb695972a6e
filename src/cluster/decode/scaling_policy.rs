//! ScalingPolicies. One whose spec cannot be read is kept all the same, so that its status can say so.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Metadata;
use crate::cluster::view::ScalingPolicy;

#[derive(Deserialize)]
pub(super) struct Wire<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: &'a RawValue,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

impl Wire<'_> {
    pub(super) fn decode(self) -> Result<ScalingPolicy, String> {
        let Self { metadata, spec, status } = self;
        // A status that cannot be read is written anew: only transition times are lost.
        let status: Status = status.and_then(|status| serde_json::from_str(status.get()).ok()).unwrap_or_default();
        Ok(ScalingPolicy {
            key: metadata.key(),
            uid: metadata.uid.clone().ok_or("metadata.uid: expected text, got nothing")?,
            created: metadata.creation_timestamp,
            generation: metadata.generation.unwrap_or(0),
            spec: serde_json::from_str(spec.get()).map_err(|error| Arc::from(error.to_string())),
            conditions: status.conditions,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::{
        Kind,
        decode::{Object, object},
    };

    fn decode(spec: &Value, status: &Value) -> ScalingPolicy {
        let json = json!({
            "metadata": {"name": "llm", "namespace": "prod", "uid": "u-1", "generation": 3},
            "spec": spec, "status": status,
        });
        let Object::ScalingPolicy(policy) = object(Kind::ScalingPolicies, &json.to_string(), &[]).unwrap() else {
            panic!()
        };
        *policy
    }

    fn spec() -> Value {
        json!({"targetRef": {"kind": "InferenceService", "name": "llm"}, "maxReplicas": 3})
    }

    #[test]
    fn a_spec_that_cannot_be_read_keeps_the_policy_and_says_what_is_wrong() {
        assert!(decode(&spec(), &Value::Null).spec.is_ok());
        let policy = decode(&json!({"targetRef": {"kind": "Pod", "name": "llm"}, "maxReplicas": 3}), &Value::Null);
        assert_eq!((&*policy.key.name, &*policy.uid, policy.generation), ("llm", "u-1", 3));
        let why = policy.spec.unwrap_err();
        assert!(why.contains("Pod") && why.contains("InferenceService"), "{why}");
    }

    #[test]
    fn conditions_are_read_back_and_a_status_of_another_form_is_none() {
        let condition = json!({"type": "Ready", "status": "True", "reason": "Deciding", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let policy = decode(&spec(), &json!({"conditions": [condition]}));
        assert_eq!(policy.conditions[0].last_transition_time.0.to_string(), "2026-01-02T03:04:05Z");
        assert!(decode(&spec(), &json!({"conditions": 7})).conditions.is_empty());
    }
}
