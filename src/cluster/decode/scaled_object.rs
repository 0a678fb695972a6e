//! KEDA's ScaledObjects: which workload has an owner already (R18).

use std::sync::Arc;

use serde::Deserialize;

use super::Metadata;
use crate::cluster::view::ScaledObject;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Wire {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: TargetRef,
}

#[derive(Deserialize)]
struct TargetRef {
    #[serde(default)]
    kind: Option<Arc<str>>,
    name: Arc<str>,
}

impl Wire {
    pub(super) fn decode(self) -> ScaledObject {
        let Self { metadata, spec: Spec { scale_target_ref: TargetRef { kind, name } } } = self;
        let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "Deployment".into());
        ScaledObject { key: metadata.key(), target_kind: kind, target_name: name }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cluster::{
        Kind,
        decode::{Object, object},
    };

    #[test]
    fn a_scaled_object_scales_a_deployment_unless_it_says_otherwise() {
        for (target, kind) in [
            (json!({"name": "llm"}), "Deployment"),
            (json!({"name": "llm", "kind": ""}), "Deployment"),
            (json!({"name": "llm", "kind": "StatefulSet"}), "StatefulSet"),
        ] {
            let json = json!({"metadata": {"name": "so", "namespace": "n"}, "spec": {"scaleTargetRef": target, "triggers": []}});
            let Object::ScaledObject(object) = object(Kind::ScaledObjects, &json.to_string(), &[]).unwrap() else {
                panic!()
            };
            assert_eq!((&*object.target_kind, &*object.target_name), (kind, "llm"));
        }
    }
}
