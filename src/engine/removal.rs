//! Whether replicas may go (R15).
//!
//! All of these must hold; each that does not is a reason.
//!
//! 1. Everything that it depends on is known: the cluster, every ready pod.
//! 2. A full window was measured, also after a restart.
//! 3. The cooldown is over.
//! 4. Within the window nothing was wanted that the remaining could not serve with margin. The window is the time in which
//!    the replica could be back.
//! 5. Nothing is expected within [`REGRET_WINDOWS`] that the remaining could not serve: what stays, and the rise within that
//!    time that history says to reckon with. On steady demand this allows a removal soon, on restless demand it does not,
//!    without a hold that would have to be right for both.

use super::{
    forecast::Ahead,
    policy::{Down, Policy},
    reasons::{Direction, Reason},
};

/// A removal that would be regretted within so many windows is not made.
pub const REGRET_WINDOWS: f64 = 2.0;
/// Share of demand that the rise within that time must leave served: of the first pool's replicas, and of dearer ones, which
/// are kept for less (the newsvendor's ratio).
pub const REGRET_QUANTILES: [f64; 2] = [0.9, 0.7];
/// Seconds between two removals unless the policy says: one shows its effect on the next page.
const COOLDOWN: f64 = 15.0;

/// The horizons of regret: for removals from the first pool, and from others.
pub(super) fn regret(policy: &Policy) -> [Ahead; 2] {
    let seconds = REGRET_WINDOWS * window(policy, 0.0);
    REGRET_QUANTILES.map(|quantile| Ahead { seconds, quantile, experts: 1 })
}

/// What a removal is judged by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Case {
    /// Replicas asked for now.
    pub current: u32,
    /// Whole replicas that are wanted.
    pub wanted: u32,
    /// The greatest of what was wanted within the window, replica equivalents.
    pub peak: f64,
    /// Level and rise to reckon with, replica equivalents.
    pub regret: f64,
    /// Length of the window.
    pub window: f64,
    /// Seconds of uninterrupted measurement up to now.
    pub measured: f64,
    /// Seconds since the last addition and removal.
    pub since: (Option<f64>, Option<f64>),
}

/// How long nobody may have been needed, by the time in which the replica could be back.
pub(super) fn window(policy: &Policy, ready_seconds: f64) -> f64 {
    policy.behavior.down.window_seconds.unwrap_or(ready_seconds.max(Down::SHORTEST_WINDOW))
}

/// Replicas that remain; the reasons say what holds the others.
pub(super) fn judge(case: &Case, policy: &Policy, reasons: &mut Vec<Reason>) -> u32 {
    let Case { current, wanted, peak, regret, window, measured, since } = *case;
    let Down { step, margin, cooldown_seconds, window_seconds: _ } = policy.behavior.down;
    let held = reasons.len();
    if measured < window {
        reasons.push(Reason::WarmUp { measured_seconds: measured, needed_seconds: window });
    }
    let (after_up, after_down) = (cooldown_seconds.unwrap_or(0.0), cooldown_seconds.unwrap_or(COOLDOWN));
    let left = [(since.0, after_up), (since.1, after_down)];
    let left = left.iter().filter_map(|(since, cooldown)| Some(cooldown - (*since)?)).fold(0.0, f64::max);
    if left > 0.0 {
        reasons.push(Reason::Cooldown { direction: Direction::Down, left_seconds: left });
    }
    if reasons.len() > held {
        return current;
    }
    // As many as the step allows and both looks back and ahead bear out.
    let lowest = current.saturating_sub(step).max(wanted).max(policy.min).min(current);
    let bears = |remaining: u32| {
        let limit = f64::from(remaining) * (1.0 - margin);
        (peak <= limit, regret <= f64::from(remaining))
    };
    let mut remaining = lowest;
    while remaining < current && bears(remaining) != (true, true) {
        remaining += 1;
    }
    if remaining == current {
        let limit = f64::from(current.saturating_sub(1)) * (1.0 - margin);
        match bears(current.saturating_sub(1)) {
            (false, _) => reasons.push(Reason::Window { peak, window_seconds: window }),
            (true, false) => {
                reasons.push(Reason::NMinusOne { remaining: current.saturating_sub(1), limit, demand: regret });
            }
            (true, true) => {}
        }
    } else if current.saturating_sub(step) > wanted.max(policy.min) {
        reasons.push(Reason::Step { direction: Direction::Down, limit: step });
    }
    remaining
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{decision::Source, recommendation},
        *,
    };

    fn case() -> Case {
        Case {
            current: 5,
            wanted: 2,
            peak: 2.0,
            regret: 2.0,
            window: 60.0,
            measured: 1e6,
            since: (Some(1e6), Some(1e6)),
        }
    }

    fn judged(case: &Case) -> (u32, Vec<Reason>) {
        let mut reasons = Vec::new();
        (judge(case, &Policy::default(), &mut reasons), reasons)
    }

    #[test]
    fn one_goes_at_a_time_where_nothing_holds_it() {
        assert_eq!(judged(&case()), (4, vec![Reason::Step { direction: Direction::Down, limit: 1 }]));
        assert_eq!(judged(&Case { wanted: 4, peak: 3.8, ..case() }), (4, vec![]));
    }

    #[test]
    fn each_check_holds_by_itself_and_says_so() {
        let cases = [
            (Case { measured: 59.0, ..case() }, Reason::WarmUp { measured_seconds: 59.0, needed_seconds: 60.0 }),
            (
                Case { since: (None, Some(5.0)), ..case() },
                Reason::Cooldown { direction: Direction::Down, left_seconds: 10.0 },
            ),
            (Case { peak: 3.9, ..case() }, Reason::Window { peak: 3.9, window_seconds: 60.0 }),
            (Case { regret: 4.1, ..case() }, Reason::NMinusOne { remaining: 4, limit: 3.8, demand: 4.1 }),
        ];
        for (case, reason) in cases {
            assert_eq!(judged(&case), (5, vec![reason]));
        }
    }

    #[test]
    fn one_and_two_do_not_chase_each_other() {
        // Two are asked for above 1.2; back to one only below 0.95.
        assert_eq!(recommendation::whole(1.2, Source::Queue), 1);
        assert_eq!(recommendation::whole(1.21, Source::Queue), 2);
        let two = |peak| judged(&Case { current: 2, wanted: 1, peak, regret: peak, ..case() }).0;
        assert_eq!((two(0.96), two(0.95)), (2, 1));
    }

    proptest! {
        #[test]
        fn what_remains_bears_what_was_and_what_may_come(
            current in 1_u32..100, wanted in 0.0..100.0_f64, more in 0.0..50.0_f64, regret in 0.0..120.0_f64, step in 1_u32..10,
        ) {
            let mut policy = Policy { max: 100, ..Policy::default() };
            policy.behavior.down.step = step;
            let peak = wanted + more;
            let wanted = recommendation::whole(wanted, Source::Queue);
            let case = Case { current, wanted, peak, regret, ..case() };
            let remaining = judge(&case, &policy, &mut Vec::new());
            prop_assert!(remaining <= current && remaining + step >= current);
            if remaining < current {
                prop_assert!(remaining >= policy.min && peak <= f64::from(remaining) && regret <= f64::from(remaining));
            }
        }
    }
}
