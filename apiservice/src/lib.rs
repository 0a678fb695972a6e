//! A Kubernetes metrics API server as a library: `custom.metrics.k8s.io` and `external.metrics.k8s.io` behind one
//! narrow [`Provider`] trait.
//!
//! The final binary picks the Kubernetes version: it enables one `v1_*` feature (or `latest`) of `k8s-openapi`. This crate
//! enables none, so building it alone, without its development dependencies, needs `K8S_OPENAPI_ENABLED_VERSION`.

#![deny(missing_docs)]

pub mod authentication;
pub mod authorization;
pub mod ca_bundle;
mod decision_cache;
pub mod provider;
pub mod quantity;
mod refusal;
pub mod request_path;
mod review;
mod secure;
pub mod selector;
pub mod server;
pub mod status;
#[cfg(test)]
mod testing;
pub mod tls;

pub use authentication::{Authenticator, User};
pub use authorization::Authorizer;
pub use provider::{
    CustomMetric, ExternalMetricName, ExternalValue, MetricValue, ObjectName, Provider, Resource, Scope,
};
pub use quantity::Quantity;
pub use secure::secure;
pub use selector::Selector;
pub use server::{Limits, serve};
pub use status::Status;
pub use tls::Tls;
