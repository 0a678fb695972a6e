//! Decisions in words: what bound one, in one word, and what the conditions of a policy's status say.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::round::{Outcome, Settled, unknown};
use crate::{
    engine::{Decision, Reason},
    policy::{
        Mode,
        hpa::{SWALLOWS_FROM, TOLERANCE_SINCE},
        target::Following,
    },
};

/// What bound the decision last, in one word: the steps are taken in order, and the last one that bound has the last word.
#[must_use]
pub fn reason(decision: &Decision) -> &'static str {
    if unknown(decision).is_some() {
        return "Unknown";
    }
    decision.reasons.last().map_or("Steady", word)
}

const fn word(reason: &Reason) -> &'static str {
    match reason {
        Reason::Unknown { .. } => "Unknown",
        Reason::Demand { .. } => "Demand",
        Reason::Forecast { .. } => "Forecast",
        Reason::Saturated { .. } => "Saturated",
        Reason::CannotTell { .. } => "CannotTell",
        Reason::OnItsWay { .. } => "OnItsWay",
        Reason::WarmUp { .. } => "WarmUp",
        Reason::Cooldown { .. } => "Cooldown",
        Reason::Window { .. } => "Window",
        Reason::NMinusOne { .. } => "NMinusOne",
        Reason::DeadBand { .. } => "DeadBand",
        Reason::Step { .. } => "Step",
        Reason::Min { .. } => "Min",
        Reason::Max { .. } => "Max",
        Reason::PoolsFull { .. } => "PoolsFull",
        Reason::Burst { .. } => "Burst",
        Reason::TooLate { .. } => "TooLate",
    }
}

/// A condition before it is known since when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// `type`.
    pub kind: &'static str,
    /// `status`.
    pub holds: bool,
    /// `reason`.
    pub reason: &'static str,
    /// `message`.
    pub message: Arc<str>,
}

/// What became of the last move that Tidegate made itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed(pub Arc<str>);

/// What is to be said of a policy. `failed`: why its last move was not made.
#[must_use]
pub fn conditions(outcome: &Outcome, failed: Option<&Failed>) -> Vec<Draft> {
    let settled = match &outcome.verdict {
        Ok(settled) => settled,
        Err(refusal) => {
            let message: Arc<str> = refusal.to_string().into();
            let draft = |kind| Draft { kind, holds: false, reason: refusal.reason(), message: Arc::clone(&message) };
            return vec![draft("Ready"), draft("Active")];
        }
    };
    let Settled { decision, following, max, .. } = settled;
    let deployment = outcome.target.as_ref().map_or("", |(deployment, _)| &deployment.name);
    let ready = format!("deciding for Deployment {deployment}");
    let mut drafts = vec![
        Draft { kind: "Ready", holds: true, reason: "Deciding", message: ready.into() },
        match outcome.mode {
            Mode::Act => acting(deployment, failed),
            Mode::Advise => advising(following),
        },
    ];
    let flags = &decision.flags;
    for (kind, no, flag) in [
        ("Unknown", "Known", &flags.unknown),
        ("Saturated", "NotSaturated", &flags.saturated),
        ("Limited", "WithinLimits", &flags.limited),
        ("Bursting", "NotBursting", &flags.bursting),
        ("CannotTell", "SignalsTell", &flags.cannot_tell),
    ] {
        let (holds, reason) = if flag.is_some() { (true, kind) } else { (false, no) };
        drafts.push(Draft { kind, holds, reason, message: flag.clone().unwrap_or_else(|| "".into()) });
    }
    if outcome.mode == Mode::Advise {
        drafts.push(swallowed(following, *max));
    }
    drafts
}

fn acting(deployment: &str, failed: Option<&Failed>) -> Draft {
    match failed {
        None => Draft {
            kind: "Active",
            holds: true,
            reason: "Acting",
            message: format!("Tidegate writes the replicas of Deployment {deployment}").into(),
        },
        Some(Failed(why)) => {
            let message = format!("the replicas of Deployment {deployment} cannot be written: {why}").into();
            Draft { kind: "Active", holds: false, reason: "ScaleFailed", message }
        }
    }
}

fn advising(following: &Following) -> Draft {
    let (holds, reason, message) = match following {
        Following::By { autoscaler, .. } => (true, "Followed", format!("HorizontalPodAutoscaler {autoscaler} follows")),
        Following::Nobody => {
            let message = "no HorizontalPodAutoscaler follows the advice; `tidegate policy hpa NAME` prints one, and mode Act needs none";
            (false, "NoFollower", message.to_owned())
        }
        Following::Other(owner) => (false, "OtherOwner", format!("{owner} scales it, and not by this advice")),
        Following::Several(names) => {
            let message =
                format!("several HorizontalPodAutoscalers scale it ({}), so that none of them does", names.join(", "));
            (false, "SeveralFollowers", message)
        }
    };
    Draft { kind: "Active", holds, reason, message: message.into() }
}

/// An HPA does nothing within 10 % of what is there: from ten replicas up that is every single step.
fn swallowed(following: &Following, max: u32) -> Draft {
    let kind = "StepsSwallowed";
    match following {
        Following::By { autoscaler, exact: false } if max > SWALLOWS_FROM => {
            let message = format!(
                "HorizontalPodAutoscaler {autoscaler} does not follow single steps from {SWALLOWS_FROM} replicas up, because its \
                 tolerance is 10 %: set behavior.scaleUp.tolerance and behavior.scaleDown.tolerance to 0, which Kubernetes has \
                 from 1.{TOLERANCE_SINCE} on; before that, use mode Act"
            );
            Draft { kind, holds: true, reason: "Tolerance", message: message.into() }
        }
        _ => Draft { kind, holds: false, reason: "Exact", message: "".into() },
    }
}

/// The drafts as conditions; what holds as before has held since then.
#[must_use]
pub fn since(drafts: &[Draft], before: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
    drafts
        .iter()
        .map(|Draft { kind, holds, reason, message }| {
            let status = if *holds { "True" } else { "False" };
            let same = before.iter().find(|condition| condition.type_ == *kind && condition.status == status);
            Condition {
                type_: (*kind).to_owned(),
                status: status.to_owned(),
                reason: (*reason).to_owned(),
                message: message.to_string(),
                observed_generation: Some(generation),
                last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            }
        })
        .collect()
}
