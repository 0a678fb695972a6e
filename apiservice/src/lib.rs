//! A Kubernetes metrics API server as a library: `custom.metrics.k8s.io` (v1beta1, v1beta2) and `external.metrics.k8s.io`
//! (v1beta1) behind one narrow [`Provider`] trait. What custom-metrics-apiserver is for Go, this crate is for Rust.
//!
//! Implement [`Provider`] over what you know about the world, and hand it to [`router()`]: out comes an `axum::Router` that
//! answers values, discovery (legacy and aggregated), OpenAPI 2 and 3, health, `/version` and `/metrics`, in JSON and YAML.
//! It answers anyone: put [`secure()`] in front of it (who is asking, and may they) and give the result to [`serve()`] (TLS,
//! and a bound on everything). `examples/fixture` is a complete server.
//!
//! ```
//! use std::sync::Arc;
//!
//! use apiservice::{CustomMetric, ExternalMetricName, ExternalValue, MetricValue, Provider, Resource, Selector, Status};
//!
//! struct Nothing;
//!
//! impl Provider for Nothing {
//!     async fn custom_by_name(
//!         &self, resource: &Resource, _: Option<&str>, name: &str, metric: &str, _: &Selector,
//!     ) -> Result<MetricValue, Status> {
//!         Err(Status::not_found(format!("{metric} of {resource} {name} is not measured")))
//!     }
//!
//!     async fn custom_by_selector(
//!         &self, _: &Resource, _: Option<&str>, _: &Selector, _: &str, _: &Selector,
//!     ) -> Result<Vec<MetricValue>, Status> {
//!         Ok(Vec::new())
//!     }
//!
//!     async fn external(&self, _: &str, _: &str, _: &Selector) -> Result<Vec<ExternalValue>, Status> {
//!         Ok(Vec::new())
//!     }
//!
//!     fn custom_metrics(&self) -> Vec<CustomMetric> {
//!         Vec::new()
//!     }
//!
//!     fn external_metrics(&self) -> Vec<ExternalMetricName> {
//!         Vec::new()
//!     }
//! }
//!
//! let options = apiservice::Options::new(Default::default(), || jiff::Timestamp::UNIX_EPOCH);
//! let app = apiservice::router(Arc::new(Nothing), options);
//! # drop(app);
//! ```
//!
//! Rules that hold on every path: a value that is not known is never a number; a failure is a `metav1.Status` with a code
//! of 400 or more; no answer carries `Retry-After`, because the Horizontal Pod Autoscaler would sleep on it; the only verb
//! is `get`.
//!
//! The final binary picks the Kubernetes version: it enables one `v1_*` feature (or `latest`) of `k8s-openapi`. This crate
//! enables none, so building it alone, without its development dependencies, needs `K8S_OPENAPI_ENABLED_VERSION`.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod api;
pub mod authentication;
pub mod authorization;
pub mod ca_bundle;
mod causes;
mod decision_cache;
mod discovery;
mod files;
pub mod health;
pub mod metrics;
mod negotiation;
mod openapi;
pub mod path;
pub mod provider;
pub mod quantity;
mod query;
pub mod request_path;
mod response;
mod review;
pub mod router;
mod secure;
pub mod selector;
pub mod server;
pub mod status;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod version;
mod wire;

pub use api::{Api, Group};
pub use authentication::{Authenticator, User};
pub use authorization::Authorizer;
pub use causes::causes;
pub use provider::{
    CustomMetric, ExternalMetricName, ExternalValue, MetricValue, ObjectName, Provider, Resource, Scope,
};
pub use quantity::Quantity;
pub use router::{Options, router};
pub use secure::secure;
pub use selector::Selector;
pub use server::{Limits, serve};
pub use status::Status;
pub use tls::Tls;
pub use version::VersionInfo;
