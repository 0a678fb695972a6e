//! What is worth an event: another number of replicas wanted, or a condition that has turned. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, ObjectMeta},
};

use crate::{
    control::{round::Outcome, words},
    policy::Mode,
};

/// Events of one policy that may come in a row.
const BURST: f64 = 10.0;
/// After that one in so many seconds.
const REFILL_SECONDS: f64 = 30.0;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    pub(super) warning: bool,
    pub(super) reason: String,
    pub(super) action: &'static str,
    pub(super) note: String,
}

impl News {
    /// Something that is not as it should be.
    pub(crate) fn warning(reason: &str, action: &'static str, note: &str) -> Self {
        Self { warning: true, reason: reason.to_owned(), action, note: shortened(note) }
    }

    /// The event, `events.k8s.io/v1`, beside that object. Not kube's recorder: it counts repetitions by patches, and here
    /// there are none.
    pub(crate) fn event(&self, regarding: ObjectReference, by: &str, now: Timestamp) -> Event {
        let Self { warning, reason, action, note } = self;
        // As Kubernetes' own clients name events: unique by the time.
        let name: String = regarding.name.iter().flat_map(|name| name.chars()).take(200).collect();
        Event {
            metadata: ObjectMeta {
                name: Some(
                    format!("{}.{:x}.{reason}", name.trim_end_matches(['-', '.']), now.as_nanosecond()).to_lowercase(),
                ),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            type_: Some(if *warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(reason.clone()),
            action: Some((*action).to_owned()),
            note: Some(note.clone()),
            regarding: Some(regarding),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some("tidegate.dev/control".to_owned()),
            reporting_instance: Some(by.chars().take(128).collect()),
            ..Event::default()
        }
    }
}

/// What was said of a policy, as far as it is worth an event when it changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// From how many replicas to how many, who moves, and why. `None` while nothing moves.
    wanted: Option<(u32, u32, Mode, String)>,
    /// Whether each condition holds, its reason and message.
    conditions: BTreeMap<String, (bool, String, String)>,
}

impl Told {
    pub(super) fn of(outcome: &Outcome, conditions: &[Condition]) -> Self {
        let decision = outcome.verdict.as_ref().ok().map(|settled| &settled.decision);
        let wanted = decision.filter(|decision| decision.desired != decision.current);
        let wanted = wanted.map(|decision| (decision.current, decision.desired, outcome.mode, decision.sentence()));
        Self { wanted, conditions: by_kind(conditions) }
    }

    /// What must have been said before, by what the status says: nothing of it is said again after a restart.
    pub(super) fn from_conditions(_: &Outcome, conditions: &[Condition]) -> Self {
        Self { wanted: None, conditions: by_kind(conditions) }
    }

    /// What has changed since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Vec<News> {
        let mut all = Vec::new();
        let step = |told: &Self| told.wanted.as_ref().map(|(from, to, mode, _)| (*from, *to, *mode));
        if let Some((from, to, mode, why)) = &self.wanted
            && step(self) != step(earlier)
        {
            let up = to > from;
            let reason = match (mode, up) {
                (Mode::Act, true) => "ScaleUp",
                (Mode::Act, false) => "ScaleDown",
                (Mode::Advise, true) => "AdviseUp",
                (Mode::Advise, false) => "AdviseDown",
            };
            all.push(News { warning: false, reason: reason.into(), action: "Scale", note: shortened(why) });
        }
        for (kind, (holds, reason, message)) in &self.conditions {
            let good = matches!(kind.as_str(), "Ready" | "Active" | words::POOLS_ORDERED);
            // What is as it should be from the beginning is no news.
            let before = earlier.conditions.get(kind).map_or(good, |(held, ..)| *held);
            if before == *holds {
                continue;
            }
            // That the cloud helps out is what it is for.
            let neutral = matches!(kind.as_str(), "Bursting" | "MovingHome");
            let warning = *holds != good && !neutral;
            let note = if message.is_empty() { format!("no longer {}", spaced(kind)) } else { message.clone() };
            all.push(News { warning, reason: reason.clone(), action: "Decide", note: shortened(&note) });
        }
        all
    }
}

fn by_kind(conditions: &[Condition]) -> BTreeMap<String, (bool, String, String)> {
    let entry = |c: &Condition| (c.type_.clone(), (c.status == "True", c.reason.clone(), c.message.clone()));
    conditions.iter().map(entry).collect()
}

/// `StepsSwallowed` → `steps swallowed`.
fn spaced(kind: &str) -> String {
    let mut text = String::new();
    for letter in kind.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The API server refuses notes longer than 1 KiB.
fn shortened(note: &str) -> String {
    const LONGEST: usize = 1000;
    match note.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= LONGEST).last() {
        Some(end) if end < note.len() => format!("{}…", &note[..end]),
        _ => note.to_owned(),
    }
}

/// How many events a policy may still have.
#[derive(Debug)]
pub(super) struct Bucket {
    left: f64,
    filled: Option<Timestamp>,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { left: BURST, filled: None }
    }
}

impl Bucket {
    /// As many as may be told now; the rest is left out, since the status says it, too.
    pub(super) fn let_through(&mut self, news: Vec<News>, now: Timestamp) -> Vec<News> {
        let passed = self.filled.replace(now).map_or(0.0, |last| now.duration_since(last).as_secs_f64().max(0.0));
        self.left = (self.left + passed / REFILL_SECONDS).min(BURST);
        news.into_iter()
            .filter(|_| {
                let may = self.left >= 1.0;
                if may {
                    self.left -= 1.0;
                }
                may
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(kind: &str, holds: bool) -> Condition {
        Condition {
            type_: kind.into(),
            status: if holds { "True" } else { "False" }.into(),
            reason: if holds { kind.into() } else { format!("Not{kind}") },
            message: if holds { format!("{kind} it is") } else { String::new() },
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    fn told(wanted: Option<(u32, u32, Mode)>, conditions: &[(&str, bool)]) -> Told {
        let conditions: Vec<_> = conditions.iter().map(|(kind, holds)| condition(kind, *holds)).collect();
        let wanted = wanted.map(|(from, to, mode)| (from, to, mode, format!("{from} become {to}")));
        Told { wanted, conditions: by_kind(&conditions) }
    }

    fn reasons(news: &[News]) -> Vec<(&str, bool)> {
        news.iter().map(|news| (&*news.reason, news.warning)).collect()
    }

    #[test]
    fn a_number_that_is_wanted_is_told_once_until_it_is_another() {
        let nothing = told(None, &[]);
        let up = told(Some((1, 3, Mode::Act)), &[]);
        assert_eq!(reasons(&up.since(&nothing)), [("ScaleUp", false)]);
        assert_eq!(up.since(&up), []);
        assert_eq!(nothing.since(&up), [], "it is there");
        let down = told(Some((3, 2, Mode::Advise)), &[]);
        assert_eq!(reasons(&down.since(&up)), [("AdviseDown", false)]);
    }

    #[test]
    fn a_condition_that_turns_is_told_and_is_a_warning_if_it_turns_for_the_worse() {
        let fine = told(None, &[("Ready", true), ("Unknown", false)]);
        let bad = told(None, &[("Ready", false), ("Unknown", true)]);
        assert_eq!(reasons(&bad.since(&fine)), [("NotReady", true), ("Unknown", true)]);
        assert_eq!(reasons(&fine.since(&bad)), [("Ready", false), ("NotUnknown", false)]);
        assert_eq!(fine.since(&told(None, &[])), [], "as it should be from the beginning");
        assert_eq!(reasons(&bad.since(&told(None, &[]))).len(), 2);
        assert_eq!(fine.since(&bad)[1].note, "no longer unknown");
        let bursts = told(None, &[("Bursting", true)]);
        assert_eq!(reasons(&bursts.since(&told(None, &[]))), [("Bursting", false)], "nothing is wrong with that");
    }

    #[test]
    fn events_are_bounded_per_policy() {
        let mut bucket = Bucket::default();
        let news = || vec![News { warning: false, reason: "A".into(), action: "B", note: String::new() }];
        let start = Timestamp::UNIX_EPOCH;
        let told = (0..100).filter(|_| !bucket.let_through(news(), start).is_empty()).count();
        assert_eq!(told, 10);
        assert_eq!(bucket.let_through(news(), start + SignedDuration::from_secs(29)).len(), 0);
        assert_eq!(bucket.let_through(news(), start + SignedDuration::from_secs(31)).len(), 1);
    }

    #[test]
    fn a_long_note_is_cut_at_a_letter() {
        let note = shortened(&"ä".repeat(600));
        assert!(note.len() <= 1024 && note.ends_with('…'));
        assert_eq!(shortened("short"), "short");
    }
}
