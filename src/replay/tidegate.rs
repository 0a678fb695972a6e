//! The engine as a contender: the same function that the controller calls (R17).

use std::sync::Arc;

use jiff::Timestamp;

use super::policy::{Autoscaler, Release, Seen, Wanted};
use crate::engine::{Decision, Policy, State, decide};

/// Seconds between two decisions.
pub const PERIOD_SECONDS: f64 = 5.0;

/// [`decide`] with its state.
#[derive(Debug, Clone)]
pub struct Tidegate {
    policy: Policy,
    state: State,
    last: Option<Decision>,
}

impl Tidegate {
    /// The engine with a policy, remembering nothing.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::default(), last: None }
    }
}

impl Autoscaler for Tidegate {
    fn period(&self) -> f64 {
        PERIOD_SECONDS
    }

    fn decide(&mut self, seen: &Seen<'_>, now: Timestamp) -> Wanted {
        let (state, decision) = decide(std::mem::take(&mut self.state), seen.observation, &self.policy, now);
        self.state = state;
        let wanted =
            Wanted { desired: decision.desired, release: Release::Ordered(decision.release.as_ref().map(Arc::clone)) };
        self.last = Some(decision);
        wanted
    }

    fn sentence(&self) -> String {
        self.last.as_ref().map(|decision| format!("{:?}", decision.reasons)).unwrap_or_default()
    }

    fn demand(&self) -> Option<f64> {
        self.last.as_ref()?.demand
    }
}
