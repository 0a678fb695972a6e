//! What Tidegate is compared with. Each is an [`Autoscaler`](super::Autoscaler) like any other.

pub mod fixed;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod oracle;
