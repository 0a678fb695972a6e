//! The decision core: how many replicas a service should have, and why.
//!
//! [`decide`] is one pure function: no clock, no I/O, no globals (R17). The controller, `replay` and `demo` call the same
//! one; the same state, observation, policy and time give the same decision, bit for bit.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signal::Observation;

/// A set of nodes that replicas can land on, in the order of [`Policy::pools`]: the cheapest rank first (R19).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name.
    pub name: Arc<str>,
    /// Cost of one replica-hour, relative to the other pools.
    pub cost: f64,
    /// Most replicas of this service in it.
    pub max: Option<u32>,
}

/// What the engine is told to do for one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Least replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Pools in rank order; empty: one pool without a limit.
    pub pools: Vec<Pool>,
}

/// What the engine remembers of a service. Bounded, serializable, opaque.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {}

/// What bound a decision, with its figures. In the order in which the steps were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "because")]
pub enum Reason {}

/// What should be, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Replicas that were asked for at that time.
    pub current: u32,
    /// Replicas that should be asked for; `current` while nothing may move.
    pub desired: u32,
    /// Filtered demand in replica equivalents; `None` while it is unknown.
    pub demand: Option<f64>,
    /// The ordered reasons.
    pub reasons: Vec<Reason>,
    /// UID of the pod that should go first if one is to go (R19).
    pub release: Option<Arc<str>>,
}

/// What should be done with the service, given what was known before and what is seen now.
#[must_use]
pub fn decide(state: State, observation: &Observation, policy: &Policy, now: Timestamp) -> (State, Decision) {
    let _ = policy;
    let current = observation.replicas;
    (state, Decision { at: now, current, desired: current, demand: None, reasons: Vec::new(), release: None })
}
