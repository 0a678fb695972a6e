//! How many replicas are wanted: what is expected, in the pools that could serve it.
//!
//! For pool `i` the target is `T_i = forecast + margin` at its time to ready, plus what works off the backlog that there will
//! be by then ([`super::backlog`]). That should be gone within the objective's time to first token, but nobody who is asked
//! for now can help sooner than its time to ready: for pool `i` it is `W_i / max(clear, ready_i)`, `W_i` in replica-seconds.
//!
//! Wanted is `min(T_0, C_0)` with `C_i` the replicas that the pools up to `i` hold; a pool `i` beyond the first is wanted
//! only if `T_i > C_{i-1}`: what is expected when a replica could serve there is still more than cheaper pools can serve
//! (R20).

use super::{burst::PoolView, decision::Source, forecast::Expectation, policy::Policy, reasons::Reason};

/// A sliver of a replica that is not worth one: less than the noise of a filtered demand, and less than a queue is felt by.
const SLIVER: f64 = 0.2;
/// The same where no queue is seen that would tell of a missing sliver.
const UNSEEN_SLIVER: f64 = 0.1;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Replica equivalents.
    pub replicas: f64,
    /// More than the pools hold.
    pub beyond: bool,
}

/// The target of a pool whose replicas need `ready_seconds`, when `waiting` replica-seconds of work will wait by then.
pub(super) fn target(expected: Expectation, waiting: f64, ready_seconds: f64, policy: &Policy) -> f64 {
    let objective = policy.objective.time_to_first_token_seconds;
    let clear = policy.behavior.up.clear_backlog_seconds.unwrap_or(objective).max(ready_seconds).max(f64::MIN_POSITIVE);
    expected.value + expected.margin + waiting / clear
}

/// Fills the pools in their order. Says when another pool is, or is not, resorted to.
pub(super) fn wanted(pools: &[PoolView], targets: &[f64], reasons: &mut Vec<Reason>) -> Wanted {
    let mut held = 0_u32;
    let mut replicas: f64 = 0.0;
    for (index, (pool, target)) in pools.iter().zip(targets).enumerate() {
        let below = f64::from(held);
        if index > 0 {
            if *target <= below {
                if targets[0] > below + SLIVER {
                    reasons.push(Reason::TooLate { pool: index, ready_seconds: pool.expected.p50 });
                }
                return Wanted { replicas, beyond: false };
            }
            reasons.push(Reason::Burst { pool: index, cost: pool.cost });
        }
        held = held.saturating_add(pool.capacity);
        replicas = target.min(f64::from(held)).max(replicas);
        if *target <= f64::from(held) && targets[0] <= f64::from(held) {
            return Wanted { replicas, beyond: false };
        }
    }
    Wanted { replicas, beyond: true }
}

/// Whole replicas for a wanted number of replica equivalents, told by `source`.
#[must_use]
pub fn whole(wanted: f64, source: Source) -> u32 {
    let sliver = match source {
        Source::Queue => SLIVER,
        Source::Utilization => UNSEEN_SLIVER,
    };
    (wanted - sliver).ceil().max(0.0) as u32
}
