//! What the schema says of types that are read by their text, and the whole CustomResourceDefinition.

use std::borrow::Cow;

use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::ScalingPolicy;
use crate::config::Duration;

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// [`Duration`]'s own form; Kubernetes' `duration()` in CEL reads the same.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$", "maxLength": 20})
    }
}

/// `metav1.Condition` as Kubernetes' own types have it, merged by type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024},
                "message": {"type": "string", "maxLength": 32768},
            },
        },
    })
}

/// The CustomResourceDefinition, as `deploy/crds/scalingpolicy.yaml` has it.
#[must_use]
pub fn definition() -> Value {
    // Types of ours that have nothing but text and numbers in them become JSON.
    let mut definition = serde_json::to_value(ScalingPolicy::crd()).unwrap_or_default();
    known_formats(&mut definition);
    definition
}

/// Kubernetes has no unsigned formats, and warns of each that it does not know. `minimum` says it all.
fn known_formats(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("format").is_some_and(|format| format == "uint32") {
                map.insert("format".into(), "int32".into());
            }
            map.values_mut().for_each(known_formats);
        }
        Value::Array(items) => items.iter_mut().for_each(known_formats),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds/scalingpolicy.yaml");
    const HEAD: &str = "# Made from src/policy/spec.rs; TIDEGATE_WRITE=1 cargo test policy::schema writes it anew.\n";

    #[test]
    fn the_definition_that_is_deployed_is_the_one_that_the_types_say() {
        let yaml = format!("{HEAD}{}", serde_saphyr::to_string(&definition()).unwrap());
        if std::env::var_os("TIDEGATE_WRITE").is_some() {
            std::fs::write(FILE, &yaml).unwrap();
        }
        assert_eq!(std::fs::read_to_string(FILE).unwrap(), yaml, "{FILE} is not what the types say");
    }
}
