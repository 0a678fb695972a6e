//! What bound a decision, in figures and in words.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    decision::{Decision, Source},
    drift::Phase,
};

/// Up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// More replicas.
    Up,
    /// Fewer.
    Down,
}

/// What bound a decision, with its figures. In the order in which the steps were taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "because")]
#[non_exhaustive]
pub enum Reason {
    /// The state of the cluster, or demand, is not known: this direction holds.
    Unknown {
        /// Which direction.
        direction: Direction,
        /// What is not known.
        why: Arc<str>,
    },
    /// Demand as it is measured now.
    Demand {
        /// Replica equivalents, filtered, backlog included.
        replicas: f64,
        /// Part of it that only works off what waits.
        backlog: f64,
        /// Made of what.
        source: Source,
        /// Ready pods that it was measured on.
        measured: u32,
        /// Ready pods.
        ready: u32,
    },
    /// What is expected when a replica asked for now could serve.
    Forecast {
        /// Index of the pool whose time to ready is the horizon.
        pool: usize,
        /// Seconds.
        horizon_seconds: f64,
        /// Replica equivalents.
        replicas: f64,
        /// Added for the error of such forecasts.
        margin: f64,
    },
    /// More work than the service can do: overrides a falling utilization (R16).
    Saturated {
        /// Requests that wait.
        waiting: f64,
        /// Highest used share of a KV cache, 0..1, if known.
        kv_cache: Option<f64>,
    },
    /// Utilization is all there is, and it does not tell how much load there is (R16).
    CannotTell {
        /// In words.
        why: Arc<str>,
    },
    /// So many replicas are asked for, booting or loading, and enough for what is expected (R14).
    OnItsWay {
        /// Pods that are not ready yet, and replicas without a pod yet.
        replicas: u32,
    },
    /// Demand still rises: it is answered as a whole (R14).
    Rising {
        /// In so many seconds at the latest.
        within_seconds: f64,
    },
    /// This demand was answered by replicas that are on their way (R14).
    Answered {
        /// So many.
        replicas: u32,
        /// More is asked for when demand peaks beyond this, replica equivalents.
        beyond: f64,
    },
    /// After a restart nothing is removed until a full window was measured.
    WarmUp {
        /// Seconds measured.
        measured_seconds: f64,
        /// Seconds needed.
        needed_seconds: f64,
    },
    /// Too soon after the last move.
    Cooldown {
        /// Which direction waits.
        direction: Direction,
        /// For so long, seconds.
        left_seconds: f64,
    },
    /// Within the window there was need for more than what would remain.
    Window {
        /// Most that was wanted within it, replica equivalents.
        peak: f64,
        /// Its length.
        window_seconds: f64,
    },
    /// The remaining replicas would not stay under the target with margin (R15).
    NMinusOne {
        /// Replicas that would remain.
        remaining: u32,
        /// What they may carry with margin, replica equivalents.
        limit: f64,
        /// What is expected.
        demand: f64,
    },
    /// More than the current replicas by less than counts: no addition for a sliver of a replica.
    DeadBand {
        /// What is wanted, replica equivalents.
        wanted: f64,
        /// Replicas there are.
        replicas: u32,
    },
    /// It is only the margin for the forecast's error that asks for more, soon after a removal: not for that.
    HeadroomAlone {
        /// Replicas that would be wanted with it.
        wanted: u32,
        /// Seconds since the removal.
        since_seconds: f64,
    },
    /// At most so many at once.
    Step {
        /// Which direction.
        direction: Direction,
        /// Most that may be moved by one decision.
        limit: u32,
    },
    /// Not below the policy's `min`.
    Min {
        /// `min`.
        min: u32,
    },
    /// Not above the policy's `max`.
    Max {
        /// `max`.
        max: u32,
        /// Replicas that would be wanted.
        wanted: u32,
    },
    /// The pools have no room for more.
    PoolsFull {
        /// Replicas that would be wanted.
        wanted: u32,
        /// Replicas that fit.
        fit: u32,
    },
    /// The first pool is full and what is expected outlasts the time to ready of the next: a replica is asked for there
    /// (R20).
    Burst {
        /// Index of the pool.
        pool: usize,
        /// Cost of a replica-hour there.
        cost: f64,
    },
    /// More would be wanted, and those that are asked for find no place.
    Unplaced {
        /// In words.
        why: Arc<str>,
    },
    /// A replica moves from a later pool to an earlier one.
    MovingHome {
        /// The pool that it leaves.
        away: Arc<str>,
        /// The pool that it goes to.
        home: Arc<str>,
        /// Where the move stands.
        phase: Phase,
    },
    /// A replica comes to an earlier pool: it is waited for, because one that is not Ready would go first.
    ComesHome,
    /// The first pool is full, and what is expected is over before a replica elsewhere could help (R20).
    TooLate {
        /// Index of the pool that would be next.
        pool: usize,
        /// Seconds until it could serve.
        ready_seconds: f64,
    },
}

/// Names of the direction in sentences.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { direction, why } => write!(f, "{direction} is held because it is unknown: {why}"),
            Self::Demand { replicas, backlog, source, measured, ready } => {
                let source = match source {
                    Source::Queue => "requests",
                    Source::Utilization => "utilization",
                };
                write!(f, "{source} of {measured} of {ready} ready pods tell a demand of {replicas:.1} replicas")?;
                if *backlog >= 0.05 { write!(f, ", {backlog:.1} of it to work off what waits") } else { Ok(()) }
            }
            Self::Forecast { pool: _, horizon_seconds, replicas, margin } => {
                write!(f, "in {horizon_seconds:.0} s {replicas:.1} are expected, and {margin:.1} more for its error")
            }
            Self::Saturated { waiting, kv_cache } => {
                write!(f, "it is saturated: {waiting:.0} requests wait")?;
                kv_cache.map_or(Ok(()), |used| write!(f, ", KV cache {:.0} % full", used * 100.0))
            }
            Self::CannotTell { why } => write!(f, "utilization alone cannot tell: {why}"),
            Self::OnItsWay { replicas } => write!(f, "{replicas} on their way are enough"),
            Self::Rising { within_seconds } => {
                write!(f, "it still rises, and is answered as a whole within {within_seconds:.0} s")
            }
            Self::Answered { replicas, beyond } => {
                write!(f, "{replicas} on their way are the answer to it, unless it peaks beyond {beyond:.1}")
            }
            Self::WarmUp { measured_seconds, needed_seconds } => {
                write!(f, "nothing is removed before {needed_seconds:.0} s are measured, {measured_seconds:.0} s are")
            }
            Self::Cooldown { direction, left_seconds } => write!(f, "{direction} waits {left_seconds:.0} s more"),
            Self::Window { peak, window_seconds } => {
                write!(f, "{peak:.1} were needed within the last {window_seconds:.0} s")
            }
            Self::NMinusOne { remaining, limit, demand } => {
                write!(f, "the remaining {remaining} may carry {limit:.1} and {demand:.1} are expected")
            }
            Self::DeadBand { wanted, replicas } => {
                write!(f, "{wanted:.2} is too little above {replicas} to add one")
            }
            Self::HeadroomAlone { wanted, since_seconds } => {
                write!(f, "only headroom asks for {wanted}, {since_seconds:.0} s after one was let go")
            }
            Self::Step { direction, limit } => write!(f, "at most {limit} {direction} at once"),
            Self::Min { min } => write!(f, "min is {min}"),
            Self::Max { max, wanted } => write!(f, "max is {max}, {wanted} would be wanted"),
            Self::PoolsFull { wanted, fit } => write!(f, "the pools hold {fit}, {wanted} would be wanted"),
            Self::Burst { pool: _, cost } => {
                write!(f, "the first pool is full for longer than the next needs, at {cost:.1} times the cost")
            }
            Self::Unplaced { why } => write!(f, "no more are asked for: {why}"),
            Self::MovingHome { away, home, phase } => match phase {
                Phase::Coming => write!(f, "{home} has room: one more is asked for there before one of {away} goes"),
                Phase::Ready => write!(f, "the replica in {home} is ready: one of {away} goes in a moment"),
                Phase::Released => write!(f, "one of {away} goes: its place has been taken in {home}"),
                Phase::GivenUp => write!(f, "the move from {away} to {home} is given up and tried again later"),
                Phase::AtMax => {
                    write!(
                        f,
                        "{home} has room for one of {away}, and the move would need one replica more than max for a while"
                    )
                }
            },
            Self::ComesHome => write!(f, "a replica comes to an earlier pool and is waited for"),
            Self::TooLate { pool: _, ready_seconds } => {
                write!(f, "a replica beyond the first pool would need {ready_seconds:.0} s and come too late")
            }
        }
    }
}

/// What is done, then what bound it.
pub(super) fn sentence(decision: &Decision) -> String {
    use std::cmp::Ordering;
    let Decision { current, desired, reasons, .. } = decision;
    let mut text = match desired.cmp(current) {
        Ordering::Equal => format!("{current} stay"),
        Ordering::Greater => format!("{current} become {desired}"),
        Ordering::Less => format!("{current} shrink to {desired}"),
    };
    for (i, reason) in reasons.iter().enumerate() {
        text.push_str(if i == 0 { ": " } else { "; " });
        text.push_str(&reason.to_string());
    }
    text
}
