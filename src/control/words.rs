//! Decisions in words: what bound one, in one word, and what the conditions of a policy's status say.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::round::{Outcome, Settled, unknown};
use crate::{
    burst::findings::{Finding, Standing},
    engine::{Decision, Gate, Reason, Unplaced, drift::Phase},
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
        Reason::Rising { .. } => "Rising",
        Reason::Answered { .. } => "Answered",
        Reason::WarmUp { .. } => "WarmUp",
        Reason::Cooldown { .. } => "Cooldown",
        Reason::Window { .. } => "Window",
        Reason::NMinusOne { .. } => "NMinusOne",
        Reason::DeadBand { .. } => "DeadBand",
        Reason::HeadroomAlone { .. } => "HeadroomAlone",
        Reason::Step { .. } => "Step",
        Reason::Min { .. } => "Min",
        Reason::Max { .. } => "Max",
        Reason::PoolsFull { .. } => "PoolsFull",
        Reason::Burst { .. } => "Burst",
        Reason::TooLate { .. } => "TooLate",
        Reason::Unplaced { .. } => "Unplaced",
        Reason::MovingHome { phase: Phase::AtMax, .. } => "MoveAtMax",
        Reason::MovingHome { .. } => "MovingHome",
        Reason::ComesHome => "ComesHome",
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

/// The condition that tells of the order of pools.
pub const POOLS_ORDERED: &str = "PoolsOrdered";

/// What those who write to the cluster have met with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// Why the last move was not made.
    pub failed: Option<&'a Failed>,
    /// Somebody else says which replica goes first.
    pub conflict: Option<&'a Finding>,
}

/// What is to be said of a policy.
#[must_use]
pub fn conditions(outcome: &Outcome, beside: &Beside<'_>) -> Vec<Draft> {
    let Beside { failed, conflict } = *beside;
    let settled = match &outcome.verdict {
        Ok(settled) => settled,
        Err(refusal) => {
            let message: Arc<str> = refusal.to_string().into();
            let draft = |kind| Draft { kind, holds: false, reason: refusal.reason(), message: Arc::clone(&message) };
            return [draft("Ready"), draft("Active")].into_iter().chain(ordered(&outcome.pools, conflict)).collect();
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
        ("MovingHome", "NotMoving", &flags.moving),
        ("CannotTell", "SignalsTell", &flags.cannot_tell),
    ] {
        let (holds, reason) = if flag.is_some() { (true, kind) } else { (false, no) };
        drafts.push(Draft { kind, holds, reason, message: flag.clone().unwrap_or_else(|| "".into()) });
    }
    drafts.push(unplaced(flags.unplaced.as_deref()));
    if outcome.mode == Mode::Advise {
        drafts.push(swallowed(following, *max));
    }
    drafts.extend(ordered(&outcome.pools, conflict));
    drafts
}

/// Replicas that find no place, with the gate that is closed as its reason.
fn unplaced(unplaced: Option<&Unplaced>) -> Draft {
    let kind = "Unplaced";
    match unplaced {
        None => Draft { kind, holds: false, reason: "Placed", message: "".into() },
        Some(Unplaced { gate, message, .. }) => {
            let reason = match gate {
                Gate::PoolsFull => "PoolsFull",
                Gate::NoNode => "NoNode",
                Gate::Unschedulable => "Unschedulable",
            };
            Draft { kind, holds: true, reason, message: Arc::clone(message) }
        }
    }
}

/// Left out where nobody asks for an order.
fn ordered(pools: &Standing, conflict: Option<&Finding>) -> Option<Draft> {
    let Standing::Told { holds, reason, message } = pools else { return None };
    let kind = POOLS_ORDERED;
    Some(match conflict {
        Some(conflict) if *holds => {
            Draft { kind, holds: false, reason: conflict.fault.word(), message: conflict.message.as_str().into() }
        }
        _ => Draft { kind, holds: *holds, reason, message: Arc::clone(message) },
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: &'static str, holds: bool) -> Draft {
        Draft { kind, holds, reason: "Because", message: "so".into() }
    }

    #[test]
    fn what_holds_as_before_has_held_since_then_and_what_turns_begins_now() {
        let [then, now] = [0, 60].map(|second| Timestamp::from_second(second).unwrap());
        let before = since(&[draft("Ready", true), draft("Unknown", false)], &[], 1, then);
        let after = since(&[draft("Ready", true), draft("Unknown", true), draft("Limited", false)], &before, 2, now);
        let times: Vec<_> =
            after.iter().map(|condition| (&*condition.type_, condition.last_transition_time.0)).collect();
        assert_eq!(times, [("Ready", then), ("Unknown", now), ("Limited", now)]);
        assert!(after.iter().all(|condition| condition.observed_generation == Some(2)));
    }

    #[test]
    fn an_hpa_that_tolerates_ten_percent_is_a_condition_only_where_that_swallows_steps() {
        let by = |exact| Following::By { autoscaler: "llm".into(), exact };
        for (following, max, expected) in
            [(by(false), 20, true), (by(true), 20, false), (by(false), 10, false), (Following::Nobody, 20, false)]
        {
            let draft = swallowed(&following, max);
            assert_eq!(draft.holds, expected, "{following:?} {max}");
            assert!(!expected || draft.message.contains("1.35") && draft.message.contains("mode Act"), "{draft:?}");
        }
    }
}
