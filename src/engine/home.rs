//! The steps of a decision that move replicas between pools, as [`drift`] says.

use std::sync::Arc;

use super::{Reason, Step, Verdict, burst, burst::PoolView, demand, drift};
use crate::signal::Stage;

impl Step<'_> {
    /// What moves between pools go by; `None` where the policy asks for none.
    pub(super) fn moves(&self, pools: &[PoolView], wanted: u32, known: bool) -> Option<drift::Case> {
        let Self { observation, policy, .. } = self;
        let unready = observation.pods.iter().filter(|pod| pod.stage != Stage::Ready);
        let oldest = unready.map(|pod| pod.created).min();
        policy.pools.iter().any(|pool| pool.return_after_seconds.is_some()).then(|| drift::Case {
            current: self.decision.current,
            max: policy.max,
            wanted,
            known,
            unready_seconds: oldest.map_or(0.0, |created| self.now - demand::seconds(created)),
            pending: observation.pods.iter().filter(|pod| pod.stage == Stage::Pending).count() as u32,
            pods: observation.pods.len() as u32,
            pools: burst::places(observation, policy, pools),
        })
    }

    /// The next step of a move between pools. Whether one is under way.
    pub(super) fn go_on(&mut self, moves: &drift::Case) -> bool {
        let Some(asks) = self.state.drift.go_on(moves, self.now) else { return false };
        self.ask(asks);
        true
    }

    pub(super) fn begin(&mut self, moves: &drift::Case) {
        if let Some(asks) = self.state.drift.begin(moves, self.now) {
            self.ask(asks);
        }
    }

    fn ask(&mut self, drift::Asks { replicas, between: (away, home), phase }: drift::Asks) {
        let name = |pool: usize| Arc::clone(&self.policy.pools[pool].name);
        let reason = Reason::MovingHome { away: name(away), home: name(home), phase };
        if phase != drift::Phase::AtMax {
            self.decision.flags.moving = Some(reason.to_string().into());
        }
        self.decision.reasons.push(reason);
        let current = self.decision.current;
        self.decision.desired = replicas;
        match replicas.cmp(&current) {
            std::cmp::Ordering::Greater => self.decision.up = Verdict::Done,
            std::cmp::Ordering::Less => self.decision.down = Verdict::Done,
            std::cmp::Ordering::Equal => {}
        }
    }

    pub(super) fn comes_home(&mut self) {
        self.limit(self.decision.current);
        self.decision.down = Verdict::Held;
        self.decision.reasons.push(Reason::ComesHome);
    }
}
