//! What the Kubernetes API says: pods, the services they belong to, nodes, autoscalers.

pub mod view;

pub use view::{Autoscaler, CoreService, Deployment, InferenceService, Node, ObjectKey, Phase, Pod, PodState, View};
