//! An object's JSON → the few fields that are used. Everything else, managed fields first of all, is skipped unread.
//!
//! The API server's own types are not used: they would have to be built whole for each object, and a field that a newer
//! server writes differently would take the object away although nobody here reads that field.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    Kind, ResourcePolicy,
    view::{
        Autoscaler, CoreService, Deployment, InferenceService, Labels, Node, ObjectKey, Pod, ScaledObject,
        ScalingPolicy,
    },
};

mod autoscaler;
mod containers;
mod inference_service;
mod page;
mod pod;
mod scaled_object;
mod scaling_policy;
mod workload;

/// One decoded object.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A pod.
    Pod(Pod),
    /// A Deployment.
    Deployment(Deployment),
    /// An InferenceService.
    InferenceService(InferenceService),
    /// A core Service.
    CoreService(CoreService),
    /// A node.
    Node(Node),
    /// An HPA.
    Autoscaler(Autoscaler),
    /// A ScalingPolicy.
    ScalingPolicy(Box<ScalingPolicy>),
    /// A KEDA ScaledObject.
    ScaledObject(ScaledObject),
    /// Alibaba's ResourcePolicy.
    ResourcePolicy(ResourcePolicy),
    /// scheduler-plugins' ResourcePolicy.
    PluginResourcePolicy(ResourcePolicy),
}

impl Object {
    /// Namespace (empty for objects of cluster scope) and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Pod(object) => object.key.clone(),
            Self::Deployment(object) => object.key.clone(),
            Self::InferenceService(object) => object.key.clone(),
            Self::CoreService(object) => object.key.clone(),
            Self::Node(object) => ObjectKey { namespace: "".into(), name: Arc::clone(&object.name) },
            Self::Autoscaler(object) => object.key.clone(),
            Self::ScalingPolicy(object) => object.key.clone(),
            Self::ScaledObject(object) => object.key.clone(),
            Self::ResourcePolicy(object) | Self::PluginResourcePolicy(object) => object.key.clone(),
        }
    }
}

/// An object that could not be read. It counts as deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {} cannot be read: {reason}", key.as_ref().map_or_else(|| "an object without a name".into(), |k| format!("{}/{}", k.namespace, k.name)))]
pub struct Undecodable {
    /// Its kind.
    pub kind: Kind,
    /// Which object it is, if that much can be read.
    pub key: Option<ObjectKey>,
    /// What is wrong, with the place in the JSON text.
    pub reason: String,
}

/// Reads namespace (empty for objects of cluster scope) and name: all that a deletion needs.
pub fn key(json: &str) -> Result<ObjectKey, serde_json::Error> {
    #[derive(Deserialize)]
    struct Wire {
        metadata: WireMetadata,
    }
    #[derive(Deserialize)]
    struct WireMetadata {
        name: Arc<str>,
        #[serde(default)]
        namespace: Option<Arc<str>>,
    }
    let Wire { metadata: WireMetadata { name, namespace } } = serde_json::from_str(json)?;
    Ok(ObjectKey { namespace: namespace.unwrap_or_else(|| "".into()), name })
}

/// Reads an object of that kind. `gpu_resources` are the resource names that count as GPUs.
pub fn object(kind: Kind, json: &str, gpu_resources: &[String]) -> Result<Object, Undecodable> {
    match kind {
        Kind::Pods => wire::<pod::Wire>(json).and_then(|wire| wire.decode(gpu_resources)).map(Object::Pod),
        Kind::Deployments => {
            wire::<workload::WireDeployment>(json).and_then(|wire| wire.decode(gpu_resources)).map(Object::Deployment)
        }
        Kind::InferenceServices => {
            wire::<inference_service::Wire>(json).map(|wire| Object::InferenceService(wire.decode()))
        }
        Kind::CoreServices => wire::<workload::WireService>(json).map(|wire| Object::CoreService(wire.decode())),
        Kind::Nodes => wire::<workload::WireNode>(json).and_then(|wire| wire.decode(gpu_resources)).map(Object::Node),
        Kind::Autoscalers => wire::<autoscaler::Wire>(json).and_then(autoscaler::Wire::decode).map(Object::Autoscaler),
        Kind::ScalingPolicies => wire::<scaling_policy::Wire<'_>>(json)
            .and_then(scaling_policy::Wire::decode)
            .map(|policy| Object::ScalingPolicy(Box::new(policy))),
        Kind::ScaledObjects => wire::<scaled_object::Wire>(json).map(|wire| Object::ScaledObject(wire.decode())),
        Kind::ResourcePolicies => resource_policy(json).map(Object::ResourcePolicy),
        Kind::PluginResourcePolicies => resource_policy(json).map(Object::PluginResourcePolicy),
    }
    .map_err(|reason| Undecodable { kind, key: key(json).ok(), reason })
}

fn resource_policy(json: &str) -> Result<ResourcePolicy, String> {
    ResourcePolicy::from_json(json).map_err(|error| error.to_string())
}

fn wire<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// The used part of `metadata`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Arc<str>,
    #[serde(default)]
    namespace: Option<Arc<str>>,
    #[serde(default)]
    uid: Option<Arc<str>>,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    annotations: Option<page::Annotations>,
    #[serde(default)]
    creation_timestamp: Option<Timestamp>,
    #[serde(default)]
    deletion_timestamp: Option<Timestamp>,
}

impl Metadata {
    fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace.clone().unwrap_or_else(|| "".into()), name: Arc::clone(&self.name) }
    }
}

/// A `resource.Quantity` as it stands in JSON: the API server writes text, people and custom resources also numbers.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum WireQuantity {
    Text(String),
    Number(serde_json::Number),
}

impl WireQuantity {
    fn value(&self, field: &str) -> Result<f64, String> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        };
        text.parse::<apiservice::Quantity>()
            .map(apiservice::Quantity::as_f64)
            .map_err(|error| format!("{field}: expected a quantity such as 500m or 2, got {text:?}: {error}"))
    }
}
