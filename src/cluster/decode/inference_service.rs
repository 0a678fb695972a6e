//! KServe's InferenceServices: their labels, and who owns their replicas.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, de::IgnoredAny};

use crate::cluster::view::{AutoscalerClass, InferenceService, Labels, ObjectKey};

/// Annotation that says who scales it.
const CLASS: &str = "serving.kserve.io/autoscalerClass";

#[derive(Deserialize)]
pub(super) struct Wire {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: Arc<str>,
    #[serde(default)]
    namespace: Option<Arc<str>>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, Arc<str>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Spec {
    predictor: Predictor,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Predictor {
    worker_spec: Option<IgnoredAny>,
}

impl Wire {
    pub(super) fn decode(self) -> InferenceService {
        let Self { metadata: Metadata { name, namespace, labels, mut annotations }, spec } = self;
        let autoscaler = match annotations.as_mut().and_then(|annotations| annotations.remove(CLASS)) {
            None => AutoscalerClass::Hpa,
            Some(class) => match &*class {
                "hpa" => AutoscalerClass::Hpa,
                "keda" => AutoscalerClass::Keda,
                "external" => AutoscalerClass::External,
                "none" => AutoscalerClass::None,
                _ => AutoscalerClass::Other(class),
            },
        };
        InferenceService {
            key: ObjectKey { namespace: namespace.unwrap_or_else(|| "".into()), name },
            labels: labels.unwrap_or_default(),
            autoscaler,
            multi_node: spec.predictor.worker_spec.is_some(),
        }
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

    fn decode(json: &Value) -> InferenceService {
        match object(Kind::InferenceServices, &json.to_string(), &[]).unwrap() {
            Object::InferenceService(service) => service,
            other => panic!("{other:?}"),
        }
    }

    fn named(annotations: &Value, spec: &Value) -> Value {
        json!({"metadata": {"name": "qwen-chat", "namespace": "default", "labels": {"release": "qwen-chat"}, "annotations": annotations}, "spec": spec})
    }

    #[test]
    fn an_inference_service_says_who_scales_it_and_is_its_hpas_if_it_says_nothing() {
        for (class, expected) in [
            (json!("external"), AutoscalerClass::External),
            (json!("none"), AutoscalerClass::None),
            (json!("keda"), AutoscalerClass::Keda),
            (json!("hpa"), AutoscalerClass::Hpa),
            (json!("kpa"), AutoscalerClass::Other("kpa".into())),
        ] {
            let service = decode(&named(&json!({CLASS: class}), &json!({"predictor": {"model": {}}})));
            assert_eq!(service.autoscaler, expected);
            assert_eq!((&*service.key.name, service.labels.len()), ("qwen-chat", 1));
        }
        let silent = decode(&json!({"metadata": {"name": "a", "namespace": "b"}}));
        assert_eq!((silent.autoscaler, silent.multi_node), (AutoscalerClass::Hpa, false));
    }

    #[test]
    fn a_worker_spec_makes_it_multi_node_whatever_stands_in_it() {
        let workers = json!({"predictor": {"workerSpec": {"pipelineParallelSize": 2}}});
        assert!(decode(&named(&json!({}), &workers)).multi_node);
        assert!(!decode(&named(&json!({}), &json!({"predictor": {"workerSpec": null}}))).multi_node);
    }
}
