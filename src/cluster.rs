//! What the Kubernetes API says: pods, the services they belong to, nodes, autoscalers.
//!
//! Which pod belongs to which service is the Kubernetes API's to say, never an exporter's label (R6). [`watch`] lists
//! and watches each kind, [`decode`] keeps the few fields that are used, [`Index`] holds them, and everybody else reads
//! an immutable [`View`].
//!
//! This module decides nothing and writes nothing to the cluster.

pub mod decode;
pub mod index;
pub mod kind;
pub mod resource_policy;
pub mod resources;
pub mod said;
pub mod services;
pub mod view;
pub mod watch;

pub use index::Index;
pub use kind::{Kind, Scope};
pub use resource_policy::{ResourcePolicy, Unit};
pub use resources::Resources;
pub use services::Service;
pub use view::{
    Autoscaler, AutoscalerClass, CoreService, Deployment, InferenceService, Node, ObjectKey, PageHint, Phase, Pod,
    PodState, ScaledObject, ScalingPolicy, View,
};
