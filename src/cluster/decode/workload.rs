//! Deployments, Services, and the kinds of which only the labels are read.

use std::sync::Arc;

use apiservice::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use super::{
    Metadata,
    containers::{Amounts, Spec, resources},
};
use crate::cluster::view::{CoreService, Deployment, Labels, Node};

/// Label that KServe puts on the pods of an InferenceService's components.
const INFERENCE_SERVICE_LABEL: &str = "serving.kserve.io/inferenceservice";
/// Label that tells a predictor from a transformer or an explainer: only the predictor has the GPUs (R6).
const COMPONENT_LABEL: &str = "component";
const PREDICTOR: &str = "predictor";

#[derive(Deserialize)]
pub(super) struct WireDeployment {
    metadata: Metadata,
    spec: DeploymentSpec,
}

#[derive(Deserialize)]
struct DeploymentSpec {
    #[serde(default)]
    replicas: Option<i32>,
    selector: LabelSelector,
    template: Template,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    metadata: TemplateMetadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize, Default)]
struct TemplateMetadata {
    #[serde(default)]
    labels: Option<Labels>,
}

impl WireDeployment {
    pub(super) fn decode(self, gpu_resources: &[String]) -> Result<Deployment, String> {
        let Self { metadata, spec: DeploymentSpec { replicas, selector, template } } = self;
        let labels = template.metadata.labels.unwrap_or_default();
        let predictor = labels.get(COMPONENT_LABEL).is_some_and(|component| **component == *PREDICTOR);
        let selector = Selector::try_from(&selector).map_err(|error| format!("spec.selector: {error}"))?;
        if selector.is_everything() {
            return Err("spec.selector: expected at least one requirement, as apps/v1 demands".into());
        }
        Ok(Deployment {
            key: metadata.key(),
            selector,
            replicas: replicas.unwrap_or(1),
            inference_service: labels.get(INFERENCE_SERVICE_LABEL).filter(|_| predictor).map(Arc::clone),
            requests: template.spec.requests(gpu_resources)?,
            labels: metadata.labels.unwrap_or_default(),
            template_labels: labels,
        })
    }
}

#[derive(Deserialize)]
pub(super) struct WireService {
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
struct ServiceSpec {
    #[serde(default)]
    selector: Option<Labels>,
}

impl WireService {
    pub(super) fn decode(self) -> CoreService {
        let Self { metadata, spec } = self;
        CoreService {
            key: metadata.key(),
            selector: spec.selector.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct WireNode {
    metadata: Metadata,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeSpec {
    unschedulable: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeStatus {
    capacity: Option<Amounts>,
    allocatable: Option<Amounts>,
    conditions: Option<Vec<NodeCondition>>,
}

#[derive(Deserialize)]
struct NodeCondition {
    r#type: String,
    status: String,
}

impl WireNode {
    pub(super) fn decode(self, gpu_resources: &[String]) -> Result<Node, String> {
        let Self { metadata, spec, status: NodeStatus { capacity, allocatable, conditions } } = self;
        let ready = conditions.iter().flatten().find(|c| c.r#type == "Ready").map(|c| &*c.status);
        let counted = |amounts: Option<&Amounts>, field| {
            resources(|name| amounts.and_then(|amounts| amounts.get(name)), gpu_resources, field)
        };
        Ok(Node {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            created: metadata.creation_timestamp,
            open: ready == Some("True") && !spec.unschedulable,
            lost: ready == Some("Unknown"),
            gpus: counted(capacity.as_ref(), "status.capacity")?.gpus.iter().map(|(_, count)| count).sum(),
            allocatable: counted(allocatable.as_ref(), "status.allocatable")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::cluster::{
        Deployment, Kind, Resources,
        decode::{Object, object},
    };

    fn predictor() -> Value {
        json!({
            "metadata": {"name": "qwen-chat-predictor", "namespace": "default", "uid": "d-1", "labels": {"release": "qwen-chat"}},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": "isvc.qwen-chat-predictor"}},
                "template": {"metadata": {"creationTimestamp": null, "labels": {
                    "app": "isvc.qwen-chat-predictor", "component": "predictor", "serving.kserve.io/inferenceservice": "qwen-chat",
                }}, "spec": {"containers": []}},
            },
        })
    }

    fn decode(json: &Value) -> Deployment {
        match object(Kind::Deployments, &json.to_string(), &[]).unwrap() {
            Object::Deployment(deployment) => deployment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_predictor_belongs_to_the_inference_service_that_its_pod_template_names() {
        assert_eq!(decode(&predictor()).inference_service.as_deref(), Some("qwen-chat"));
        for component in [json!("transformer"), json!("explainer")] {
            let mut other = predictor();
            other["spec"]["template"]["metadata"]["labels"]["component"] = component;
            assert_eq!(decode(&other).inference_service, None, "{other}");
        }
        let mut plain = predictor();
        plain["spec"]["template"]["metadata"] = json!({});
        assert_eq!(decode(&plain).inference_service, None);
    }

    #[test]
    fn one_more_pod_takes_what_the_template_says() {
        let mut asking = predictor();
        asking["spec"]["template"]["spec"]["containers"] = json!([
            {"name": "kserve-container", "resources": {"limits": {"cpu": 4, "memory": "12Gi", "nvidia.com/gpu": 1}}},
        ]);
        let gpu = vec!["nvidia.com/gpu".to_owned()];
        let Object::Deployment(deployment) = object(Kind::Deployments, &asking.to_string(), &gpu).unwrap() else {
            panic!()
        };
        let gpus = vec![("nvidia.com/gpu".into(), 1)];
        assert_eq!(deployment.requests, Resources { cpu_millis: 4000, memory_bytes: 12 << 30, gpus, pods: 1 });
    }

    #[test]
    fn pods_can_come_to_a_node_that_is_ready_and_not_cordoned_and_one_that_is_unknown_is_lost() {
        let gpu = vec!["nvidia.com/gpu".to_owned()];
        let node = |spec: Value, ready: &str| {
            let node = json!({
                "metadata": {"name": "n", "creationTimestamp": "2026-01-02T03:00:00Z"}, "spec": spec,
                "status": {
                    "capacity": {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"},
                    "allocatable": {"cpu": "95500m", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": "7"},
                    "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
                },
            });
            let Object::Node(node) = object(Kind::Nodes, &node.to_string(), &gpu).unwrap() else { panic!() };
            node
        };
        for (spec, ready, open, lost) in [
            (json!({}), "True", true, false),
            (json!({"unschedulable": false}), "True", true, false),
            (json!({"unschedulable": true}), "True", false, false),
            (json!({}), "False", false, false),
            (json!({}), "Unknown", false, true),
        ] {
            let node = node(spec.clone(), ready);
            assert_eq!((node.open, node.lost), (open, lost), "{spec} {ready}");
        }
        let known = node(json!({}), "True");
        let gpus = vec![("nvidia.com/gpu".into(), 7)];
        assert_eq!(known.allocatable, Resources { cpu_millis: 95_500, memory_bytes: 1000 << 30, gpus, pods: 110 });
        assert_eq!(known.gpus, 8, "one of them is out of order");
        assert_eq!(known.created, Some("2026-01-02T03:00:00Z".parse().unwrap()));
    }

    #[test]
    fn replicas_default_to_one() {
        assert_eq!(decode(&predictor()).replicas, 3);
        let mut unset = predictor();
        unset["spec"].as_object_mut().unwrap().remove("replicas");
        assert_eq!(decode(&unset).replicas, 1);
    }

    #[test]
    fn match_labels_and_match_expressions_select_together() {
        let mut deployment = predictor();
        deployment["spec"]["selector"]["matchExpressions"] = json!([
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "track", "operator": "NotIn", "values": ["canary"]},
            {"key": "release", "operator": "Exists"},
            {"key": "legacy", "operator": "DoesNotExist"},
        ]);
        let selector = decode(&deployment).selector;
        let labels = |pairs: &'static [(&str, &'static str)]| {
            selector.matches(|key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
        };
        assert!(labels(&[("app", "isvc.qwen-chat-predictor"), ("tier", "b"), ("release", "x")]));
        assert!(!labels(&[("app", "other"), ("tier", "b"), ("release", "x")]));
        assert!(!labels(&[("app", "isvc.qwen-chat-predictor"), ("tier", "c"), ("release", "x")]));
        assert!(!labels(&[("app", "isvc.qwen-chat-predictor"), ("tier", "a"), ("release", "x"), ("track", "canary")]));
        assert!(!labels(&[("app", "isvc.qwen-chat-predictor"), ("tier", "a")]));
        assert!(!labels(&[("app", "isvc.qwen-chat-predictor"), ("tier", "a"), ("release", "x"), ("legacy", "1")]));
    }

    #[test]
    fn a_selector_that_would_select_everything_or_nothing_sensible_is_refused() {
        for (selector, fault) in [
            (json!({}), "at least one requirement"),
            (json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}), "Near"),
        ] {
            let mut deployment = predictor();
            deployment["spec"]["selector"] = selector;
            let error = object(Kind::Deployments, &deployment.to_string(), &[]).unwrap_err();
            assert!(error.reason.contains(fault), "{error}");
        }
    }

    #[test]
    fn services_and_nodes_keep_their_labels() {
        let service = json!({"metadata": {"name": "s", "namespace": "n", "labels": {"a": "b"}}, "spec": {"clusterIP": "None", "selector": {"app": "x"}}});
        let Object::CoreService(service) = object(Kind::CoreServices, &service.to_string(), &[]).unwrap() else {
            panic!()
        };
        assert_eq!((service.selector.len(), service.labels.len()), (1, 1));
        let external =
            json!({"metadata": {"name": "s", "namespace": "n"}, "spec": {"type": "ExternalName", "externalName": "x"}});
        let Object::CoreService(external) = object(Kind::CoreServices, &external.to_string(), &[]).unwrap() else {
            panic!()
        };
        assert!(external.selector.is_empty());
        let node =
            json!({"metadata": {"name": "gpu-1", "labels": {"pool": "cloud"}}, "status": {"capacity": {"cpu": "1"}}});
        let Object::Node(node) = object(Kind::Nodes, &node.to_string(), &[]).unwrap() else { panic!() };
        assert_eq!((&*node.name, node.labels.len()), ("gpu-1", 1));
    }
}
