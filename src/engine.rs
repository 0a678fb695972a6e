//! The decision core: how many replicas a service should have, and why.
//!
//! [`decide`] is one pure function: no clock, no I/O, no globals (R17). The controller, `replay` and `demo` call the same
//! one; the same state, observation, policy and time give the same decision, bit for bit.

use jiff::Timestamp;

use crate::signal::Observation;

pub mod decision;
pub mod policy;
pub mod reasons;
pub mod state;

pub use decision::{Decision, Flags, Forecast, Landing, Source, Verdict};
pub use policy::{Behavior, Boot, Down, Headroom, Invalid, Objective, Policy, Pool, SignalUse, Up};
pub use reasons::{Direction, Reason};
pub use state::{Durable, State, Unreadable};

/// What should be done with the service, given what was known before and what is seen now.
///
/// Called at a steady pace, about every 5 to 15 s; every time it is called is remembered as having been looked at.
#[must_use]
pub fn decide(state: State, observation: &Observation, policy: &Policy, now: Timestamp) -> (State, Decision) {
    let _ = policy;
    let current = observation.replicas;
    let decision = Decision {
        at: now,
        current,
        desired: current,
        demand: None,
        source: None,
        forecasts: Vec::new(),
        up: Verdict::Unknown,
        down: Verdict::Unknown,
        landing: None,
        release: None,
        flags: Flags::default(),
        reasons: Vec::new(),
    };
    (state, decision)
}
