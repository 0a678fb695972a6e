//! Decisions as they were made, line by line, so that they can be made again (R17).
//!
//! A recording is JSON lines: a [`Line::Begin`] with the state and the policy from which the [`Line::Step`]s of that service
//! go on, each with what was seen and what was decided. Services may alternate. A new `Begin` stands wherever something
//! changed that a step does not carry: a new file, a restart, another policy, lost lines.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Decision, Policy, State, decide};
use crate::signal::Observation;

/// Changes when old recordings can no longer be replayed.
pub const VERSION: u32 = 1;

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "line")]
pub enum Line {
    /// From here on the steps follow from this state and this policy.
    Begin {
        /// [`VERSION`] of the writer.
        version: u32,
        /// `namespace/name` of the service's Deployment.
        service: Arc<str>,
        /// What the engine remembered.
        state: Box<State>,
        /// What it was told.
        policy: Box<Policy>,
    },
    /// One decision, at [`Decision::at`].
    Step {
        /// As in [`Line::Begin`].
        service: Arc<str>,
        /// What was seen.
        observation: Box<Observation>,
        /// What was decided.
        decision: Box<Decision>,
    },
}

/// Why a recording is not, or not to its end, what this engine does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// Another decision than the recorded one.
    #[error("line {line}: this engine decides differently\nrecorded: {recorded}\nreplayed: {replayed}")]
    Decision {
        /// Line, from 1.
        line: usize,
        /// The recorded decision, as JSON.
        recorded: String,
        /// The decision made now.
        replayed: String,
    },
    /// A line that cannot be read.
    #[error("line {line}: not a line of a recording: {why}")]
    Unreadable {
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A recording of another version.
    #[error("line {line}: recorded in version {found}, and this reads version {VERSION}")]
    Version {
        /// Line, from 1.
        line: usize,
        /// What was found.
        found: u32,
    },
    /// A step before any state.
    #[error("line {line}: a step before the state and policy that it follows from")]
    NoBeginning {
        /// Line, from 1.
        line: usize,
    },
}

/// Makes recorded decisions again, one line at a time.
#[derive(Debug, Default)]
pub struct Replay {
    under: BTreeMap<Arc<str>, (State, Policy)>,
    lines: usize,
    steps: usize,
}

impl Replay {
    /// Steps that were replayed and found equal.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The next line. Decisions are compared as JSON text, in which two numbers are the same only if all their bits are.
    ///
    /// # Errors
    /// The first [`Difference`].
    pub fn line(&mut self, text: &str) -> Result<(), Difference> {
        self.lines += 1;
        let line = self.lines;
        if text.trim().is_empty() {
            return Ok(());
        }
        let unreadable = |error: serde_json::Error| Difference::Unreadable { line, why: error.to_string() };
        match serde_json::from_str(text).map_err(unreadable)? {
            Line::Begin { version, .. } if version != VERSION => Err(Difference::Version { line, found: version }),
            Line::Begin { service, state, policy, .. } => {
                self.under.insert(service, (*state, *policy));
                Ok(())
            }
            Line::Step { service, observation, decision: recorded } => {
                let Some((state, policy)) = self.under.remove(&service) else {
                    return Err(Difference::NoBeginning { line });
                };
                let (state, replayed) = decide(state, &observation, &policy, recorded.at);
                self.under.insert(service, (state, policy));
                let recorded = serde_json::to_string(&recorded).map_err(unreadable)?;
                let replayed = serde_json::to_string(&replayed).map_err(unreadable)?;
                if recorded != replayed {
                    return Err(Difference::Decision { line, recorded, replayed });
                }
                self.steps += 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::signal::{Pod, Room, Signal, Stage, Work};

    fn observation(at: Timestamp, utilization: f64) -> Observation {
        let pod = Pod {
            uid: "uid".into(),
            name: "pod".into(),
            pool: None,
            stage: Stage::Ready,
            created: at,
            scheduled: Some(at),
            running: Some(at),
            ready_since: Some(at),
            work: Work { utilization: Signal::Known { value: utilization, at }, ..Work::default() },
        };
        Observation { replicas: 1, pods: vec![pod], room: vec![Room::Unknown], cluster_unknown: None }
    }

    /// A recording of so many steps, 15 s apart, of a load that rises.
    fn recording(steps: i32) -> Vec<String> {
        let policy = Policy::default();
        let mut state = State::default();
        let begin = Line::Begin {
            version: VERSION,
            service: "prod/chat".into(),
            state: Box::new(state.clone()),
            policy: Box::new(policy.clone()),
        };
        let mut lines = vec![serde_json::to_string(&begin).expect("JSON")];
        for i in 0..steps {
            let at = Timestamp::from_second(1_700_000_000 + i64::from(15 * i)).expect("in range");
            // Thirds have no short form: what is read back must be the same to the last bit.
            let observation = observation(at, 10.0 + f64::from(i) / 3.0);
            let (next, decision) = decide(state, &observation, &policy, at);
            state = next;
            let service = "prod/chat".into();
            let step = Line::Step { service, observation: Box::new(observation), decision: Box::new(decision) };
            lines.push(serde_json::to_string(&step).expect("JSON"));
        }
        lines
    }

    fn replay(lines: &[String]) -> (usize, Result<(), Difference>) {
        let mut replay = Replay::default();
        let result = lines.iter().try_for_each(|line| replay.line(line));
        (replay.steps(), result)
    }

    #[test]
    fn what_this_engine_decided_it_decides_again() {
        assert_eq!(replay(&recording(200)), (200, Ok(())));
    }

    #[test]
    fn services_alternate_and_each_goes_on_from_its_own_state() {
        let one = recording(20);
        let other: Vec<String> = one.iter().map(|line| line.replace("prod/chat", "prod/code")).collect();
        let both: Vec<String> = one.iter().zip(&other).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        assert_eq!(replay(&both), (40, Ok(())));
    }

    #[test]
    fn the_first_other_decision_ends_the_replay_and_both_are_shown() {
        let mut lines = recording(20);
        let from = lines[8].find("\"desired\":").expect("a decision");
        let decided = lines[8][from..].split(',').next().expect("a number").to_owned();
        lines[8] = lines[8].replace(&decided, "\"desired\":77");
        let (steps, result) = replay(&lines);
        assert_eq!(steps, 7);
        let error = result.expect_err("another decision").to_string();
        assert!(error.starts_with("line 9: this engine decides differently\nrecorded: {"), "{error}");
        assert!(error.contains("\"desired\":77") && error.contains(&decided), "{error}");
    }

    #[test]
    fn what_is_no_recording_says_where_and_why() {
        let good = recording(3);
        let version = good[0].replace("\"version\":1", "\"version\":9");
        for (lines, expected) in [
            (vec![good[1].clone()], "line 1: a step before the state and policy"),
            (vec![version], "line 1: recorded in version 9, and this reads version 1"),
            (vec![good[0].clone(), String::new(), "{}".to_owned()], "line 3: not a line of a recording"),
        ] {
            let error = replay(&lines).1.expect_err("no recording").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
