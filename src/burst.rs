//! Bursting: which pools a service may use, in which order its replicas fill them, and which replica goes first.
//!
//! On-premises first, the cloud for the overflow, the cloud given back first (R19), in the order that
//! [`policy::order`](crate::policy::order) finds. Where the cluster's own scheduler honours ResourcePolicies, all of it is the
//! scheduler's and nothing is written to pods; elsewhere [`affinity`] orders the way out and [`release`] the way back,
//! [`webhook`] and [`controller`] write what they say.

pub mod affinity;
pub mod announce;
pub mod controller;
pub mod findings;
pub mod maximum;
pub mod near;
pub mod release;
pub mod wanted;
pub mod webhook;
