//! Bursting: which pools a service may use, in which order its replicas fill them, and which replica goes first.
//!
//! On-premises first, the cloud for the overflow, the cloud given back first (R19). Where the cluster's scheduler honours
//! a ResourcePolicy, all of that is the scheduler's and nothing is written to pods; elsewhere [`affinity`] orders the way
//! out and [`release`] the way back. Everything here is pure; whoever talks to the API server is elsewhere.

pub mod affinity;
pub mod release;
pub mod resource_policy;

pub use resource_policy::{ResourcePolicy, Unit};
