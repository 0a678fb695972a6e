//! The outcome of one tick, for everybody who makes something of it: what is advised, what is written, what is told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::roster::Subject;
use crate::{
    burst::findings::Standing,
    cluster::ObjectKey,
    engine::{Decision, Reason, Verdict},
    policy::{
        Mode,
        target::{Following, Refusal},
    },
    publish::decided::{Advice, Decided, Desired},
};

/// Everything that was decided at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    /// When.
    pub at: Timestamp,
    /// For whom, or why for nobody.
    pub outcomes: Result<Vec<Outcome>, Arc<str>>,
    /// Everybody is known for whom there is to decide: whoever is not among the outcomes is gone.
    pub whole: bool,
}

/// What was decided for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// On whose behalf.
    pub subject: Subject,
    /// Who writes the replicas.
    pub mode: Mode,
    /// The Deployment and the InferenceService that it serves, as far as one was found.
    pub target: Option<(ObjectKey, Option<Arc<str>>)>,
    /// How the order of its pools stands.
    pub pools: Standing,
    /// What was decided, or why nothing may be.
    pub verdict: Result<Settled, Refusal>,
}

/// A decision and what goes with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// What should be, and why.
    pub decision: Decision,
    /// Replicas that serve.
    pub ready: u32,
    /// When the number of replicas that are asked for was last seen to change.
    pub last_scale: Option<Timestamp>,
    /// Who does what is advised.
    pub following: Following,
    /// Most replicas that may be asked for.
    pub max: u32,
    /// What must outlive a restart, as the engine writes it; left out where nothing is kept.
    pub durable: Option<Arc<str>>,
}

/// Why nothing is known in either direction, if that is so.
#[must_use]
pub fn unknown(decision: &Decision) -> Option<Arc<str>> {
    let Decision { current, desired, up, down, flags, reasons, .. } = decision;
    if desired != current || [up, down] != [&Verdict::Unknown; 2] {
        return None;
    }
    let said = reasons.iter().find_map(|reason| match reason {
        Reason::Unknown { why, .. } => Some(Arc::clone(why)),
        _ => None,
    });
    Some(flags.unknown.clone().or(said).unwrap_or_else(|| "demand is unknown".into()))
}

impl Round {
    /// What is served as metrics. Of what is older than `max_age` nothing is served.
    #[must_use]
    pub fn decided(&self, max_age: Duration) -> Decided {
        let mut advice = BTreeMap::new();
        let outcomes = match &self.outcomes {
            Ok(outcomes) => &outcomes[..],
            Err(why) => {
                return Decided { at: self.at, max_age, advice, nothing: Some(Arc::clone(why)) };
            }
        };
        for outcome in outcomes {
            let Some((deployment, inference_service)) = &outcome.target else { continue };
            let (desired, demand) = match &outcome.verdict {
                Ok(settled) => (desired(&settled.decision), demand(&settled.decision)),
                Err(refusal) => {
                    let why: Arc<str> = refusal.to_string().into();
                    (Err(Arc::clone(&why)), Err(why))
                }
            };
            let removal_near = outcome.verdict.as_ref().is_ok_and(|settled| removal_near(&settled.decision));
            let new = Advice { inference_service: inference_service.clone(), desired, demand, removal_near };
            // A second policy's refusal is not what there is to say about the Deployment.
            if outcome.verdict.is_ok() || !advice.contains_key(deployment) {
                advice.insert(deployment.clone(), new);
            }
        }
        Decided { at: self.at, max_age, advice, nothing: None }
    }
}

fn desired(decision: &Decision) -> Result<Desired, Arc<str>> {
    match unknown(decision) {
        Some(why) => Err(why),
        None if decision.desired == decision.current => Ok(Desired::Hold),
        None => Ok(Desired::Move(decision.desired)),
    }
}

/// Whether a removal may be decided at the next tick: one that is held back, or not known to be wrong.
fn removal_near(decision: &Decision) -> bool {
    decision.flags.moving.is_some() || matches!(decision.down, Verdict::Held | Verdict::Unknown)
}

fn demand(decision: &Decision) -> Result<f64, Arc<str>> {
    let unknown = || decision.flags.unknown.clone().unwrap_or_else(|| "demand is unknown".into());
    decision.demand.ok_or_else(unknown)
}
