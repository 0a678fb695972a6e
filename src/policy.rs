//! `ScalingPolicy` (`tidegate.dev/v1alpha1`): what people ask for, and whether it can be done.
//!
//! [`spec`] is the custom resource as types, from which its schema is made; [`settings`] turns a spec into the engine's
//! [`Policy`](crate::engine::Policy), in one place; [`target`] finds the Deployment that it is about and who owns that
//! Deployment's replicas (R18); [`order`] says who orders its pools (R19); [`hpa`] is the HorizontalPodAutoscaler that follows the engine's advice.
//!
//! Nothing here decides how many replicas there should be, and nothing here speaks to the API server.

pub mod hpa;
pub mod implied;
pub mod manifest;
pub mod order;
pub mod schema;
pub mod settings;
pub mod spec;
pub mod target;

pub use spec::{Mode, ScalingPolicy, ScalingPolicySpec, ScalingPolicyStatus, TargetKind, TargetRef};

/// API group of our kinds.
pub const GROUP: &str = "tidegate.dev";

/// Metric that an HPA follows with target `AverageValue: 1`: the replicas that a service should have.
pub const DESIRED_METRIC: &str = "tidegate_desired_replicas";
/// Metric that says how much there is to do, in replica equivalents.
pub const DEMAND_METRIC: &str = "tidegate_demand_replicas";
