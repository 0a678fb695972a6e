//! A Kubernetes metrics API server as a library: `custom.metrics.k8s.io` and `external.metrics.k8s.io` behind one
//! narrow [`Provider`] trait.

#![deny(missing_docs)]

pub mod provider;
pub mod quantity;
pub mod selector;
pub mod status;

pub use provider::{
    CustomMetric, ExternalMetricName, ExternalValue, MetricValue, ObjectName, Provider, Resource, Scope,
};
pub use quantity::Quantity;
pub use selector::Selector;
pub use status::Status;
