//! The engine as a contender: the same function that the controller calls (R17).

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    policy::{Autoscaler, Release, Seen, Wanted},
    simulation::Scenario,
};
use crate::engine::{Decision, Objective, Policy, Pool, State, decide};

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

/// A policy for a scenario: its bounds, its objective and its two pools with their prices. What takes how long is left to
/// the engine's own priors and to what it learns.
#[must_use]
pub fn policy_for(scenario: &Scenario) -> Policy {
    let pools = &scenario.model.pools;
    Policy {
        min: scenario.min,
        max: scenario.max,
        objective: Objective {
            time_to_first_token_seconds: scenario.slo.ttft_seconds,
            time_per_output_token_seconds: scenario.slo.tpot_seconds,
        },
        pools: vec![
            Pool {
                name: "on-premises".into(),
                cost: pools.on_premises_price,
                max: Some(scenario.on_premises),
                ..Pool::default()
            },
            Pool {
                name: "cloud".into(),
                cost: pools.cloud_price,
                elastic: true,
                node_release_seconds: pools.cloud_release_seconds,
                ..Pool::default()
            },
        ],
        ..Policy::default()
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
        self.last.as_ref().map(Decision::sentence).unwrap_or_default()
    }

    fn demand(&self) -> Option<f64> {
        self.last.as_ref()?.demand
    }

    fn cannot_tell(&self) -> bool {
        self.last.as_ref().is_some_and(|decision| decision.flags.cannot_tell.is_some())
    }
}
