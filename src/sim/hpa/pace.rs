//! From a proposal to `spec.replicas`: stabilization windows and limits, with the time as an argument.
//!
//! After `horizontal.go` of Kubernetes' podautoscaler: `normalizeDesiredReplicas` where the HPA has no `behavior`, and
//! `normalizeDesiredReplicasWithBehaviors` where it has one.

use std::{cmp::Ordering, collections::VecDeque, time::Duration};

use jiff::Timestamp;

/// `spec.behavior`, with Kubernetes' defaults for what is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Behavior {
    /// Adding.
    pub up: Rules,
    /// Removing.
    pub down: Rules,
}

/// One direction of [`Behavior`].
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// `stabilizationWindowSeconds`.
    pub window: Duration,
    /// `policies`.
    pub policies: Vec<Policy>,
    /// `selectPolicy`.
    pub select: Select,
}

/// One policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How much.
    pub amount: Amount,
    /// `periodSeconds`.
    pub period: Duration,
}

/// How much a policy lets change in its period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Pods.
    Pods(i32),
    /// Percent of the replicas at the period's start.
    Percent(i32),
}

/// Which policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The one that lets change most.
    Max,
    /// The one that lets change least.
    Min,
    /// None: this direction is off.
    Disabled,
}

/// What the HPA remembers between syncs.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// Proposals, before stabilization.
    recommendations: VecDeque<(Timestamp, i32)>,
    /// Replicas added.
    added: Vec<(Timestamp, i32)>,
    /// Replicas removed.
    removed: Vec<(Timestamp, i32)>,
}

/// Why the result is not the proposal, in the words of the HPA's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// An older, higher proposal within the window.
    ScaleDownStabilized,
    /// An older, lower proposal within the window.
    ScaleUpStabilized,
    /// `maxReplicas`.
    TooManyReplicas,
    /// `minReplicas`.
    TooFewReplicas,
    /// At most so many at once.
    ScaleUpLimit,
    /// At most so few at once.
    ScaleDownLimit,
}

impl Limit {
    /// The condition's reason.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ScaleDownStabilized => "ScaleDownStabilized",
            Self::ScaleUpStabilized => "ScaleUpStabilized",
            Self::TooManyReplicas => "TooManyReplicas",
            Self::TooFewReplicas => "TooFewReplicas",
            Self::ScaleUpLimit => "ScaleUpLimit",
            Self::ScaleDownLimit => "ScaleDownLimit",
        }
    }
}

/// Kubernetes' default downscale stabilization.
pub const DOWN_WINDOW: Duration = Duration::from_mins(5);
/// Longest memory: `periodSeconds` and windows are bounded by an hour in the API.
const MEMORY: Duration = Duration::from_hours(1);

impl Default for Behavior {
    fn default() -> Self {
        let period = Duration::from_secs(15);
        let percent = Policy { amount: Amount::Percent(100), period };
        Self {
            up: Rules {
                window: Duration::ZERO,
                policies: vec![Policy { amount: Amount::Pods(4), period }, percent],
                select: Select::Max,
            },
            down: Rules { window: DOWN_WINDOW, policies: vec![percent], select: Select::Max },
        }
    }
}

impl Memory {
    /// At its first sync, a controller that knows nothing yet takes the replicas it finds for a proposal.
    pub fn begin(&mut self, now: Timestamp, current: i32) {
        if self.recommendations.is_empty() {
            self.recommendations.push_back((now, current));
        }
    }

    /// The replicas to set, without `behavior`: the highest proposal of the window, at most doubled (or 4), within bounds.
    pub fn pace(
        &mut self,
        now: Timestamp,
        current: i32,
        proposed: i32,
        bounds: (i32, i32),
        window: Duration,
    ) -> (i32, Option<Limit>) {
        self.recommend(now, proposed);
        // This cutoff is inclusive, those of `behavior` are not.
        let recent = self.recommendations.iter().filter(|(at, _)| *at + window >= now).map(|(_, replicas)| *replicas);
        let stable = recent.max().unwrap_or(proposed);
        let stabilized = (stable > proposed).then_some(Limit::ScaleDownStabilized);
        let (min, max) = bounds;
        let limit = current.saturating_mul(2).max(4);
        let (replicas, limited) = if stable > limit.min(max) {
            if limit < max { (limit, Some(Limit::ScaleUpLimit)) } else { (max, Some(Limit::TooManyReplicas)) }
        } else if stable < min {
            (min, Some(Limit::TooFewReplicas))
        } else {
            (stable, None)
        };
        (replicas, limited.or(stabilized))
    }

    /// The replicas to set, with `behavior`.
    pub fn pace_with(
        &mut self,
        now: Timestamp,
        current: i32,
        proposed: i32,
        bounds: (i32, i32),
        behavior: &Behavior,
    ) -> (i32, Option<Limit>) {
        let (min, max) = bounds;
        self.recommend(now, proposed);
        let floor = self.within(now, behavior.up.window).min().map_or(proposed, |least| least.min(proposed));
        let ceiling = self.within(now, behavior.down.window).max().map_or(proposed, |most| most.max(proposed));
        let stable = current.max(floor).min(ceiling);
        let stabilized = match stable {
            _ if stable == proposed => None,
            _ if proposed > stable => Some(Limit::ScaleUpStabilized),
            _ => Some(Limit::ScaleDownStabilized),
        };
        let (replicas, limited) = match stable.cmp(&current) {
            Ordering::Greater => {
                let limit = self.up_limit(now, current, &behavior.up).max(current);
                match stable {
                    _ if stable > limit && limit < max => (limit, Some(Limit::ScaleUpLimit)),
                    _ if stable > max => (max, Some(Limit::TooManyReplicas)),
                    _ => (stable, None),
                }
            }
            Ordering::Less => {
                let limit = self.down_limit(now, current, &behavior.down).min(current);
                match stable {
                    _ if stable < limit && limit > min => (limit, Some(Limit::ScaleDownLimit)),
                    _ if stable < min => (min, Some(Limit::TooFewReplicas)),
                    _ => (stable, None),
                }
            }
            Ordering::Equal => (stable.clamp(min, max), None),
        };
        (replicas, limited.or(stabilized))
    }

    /// Remembers that the replicas were changed: policies count it against their period.
    ///
    /// One change that has outlived the longest period of its own direction makes room for the new one, although a policy
    /// of the other direction may look further back: then it counts there no more.
    pub fn changed(&mut self, now: Timestamp, from: i32, to: i32, behavior: &Behavior) {
        let (changes, rules) = match to.cmp(&from) {
            Ordering::Greater => (&mut self.added, &behavior.up),
            Ordering::Less => (&mut self.removed, &behavior.down),
            Ordering::Equal => return,
        };
        let longest = rules.policies.iter().map(|policy| policy.period).max().unwrap_or_default();
        let change = (now, (to - from).abs());
        match changes.iter_mut().rfind(|(at, _)| *at + longest < now) {
            Some(outdated) => *outdated = change,
            None => changes.push(change),
        }
    }

    fn recommend(&mut self, now: Timestamp, proposed: i32) {
        while self.recommendations.front().is_some_and(|(at, _)| *at + MEMORY < now) {
            self.recommendations.pop_front();
        }
        self.recommendations.push_back((now, proposed));
    }

    fn within(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = i32> {
        self.recommendations.iter().filter(move |(at, _)| *at + window > now).map(|(_, replicas)| *replicas)
    }

    /// Replicas at the period's start.
    fn start(&self, now: Timestamp, current: i32, period: Duration) -> i32 {
        let within = |changes: &[(Timestamp, i32)]| -> i32 {
            changes.iter().filter(|(at, _)| *at + period > now).map(|(_, change)| change).sum()
        };
        current - within(&self.added) + within(&self.removed)
    }

    fn up_limit(&self, now: Timestamp, current: i32, rules: &Rules) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(now, current, policy.period);
            match policy.amount {
                Amount::Pods(pods) => start + pods,
                Amount::Percent(percent) => (f64::from(start) * (1.0 + f64::from(percent) / 100.0)).ceil() as i32,
            }
        });
        match rules.select {
            Select::Max => limits.max(),
            Select::Min => limits.min(),
            Select::Disabled => None,
        }
        .unwrap_or(current)
    }

    fn down_limit(&self, now: Timestamp, current: i32, rules: &Rules) -> i32 {
        let limits = rules.policies.iter().map(|policy| {
            let start = self.start(now, current, policy.period);
            match policy.amount {
                Amount::Pods(pods) => start - pods,
                Amount::Percent(percent) => (f64::from(start) * (1.0 - f64::from(percent) / 100.0)) as i32,
            }
        });
        match rules.select {
            Select::Max => limits.min(),
            Select::Min => limits.max(),
            Select::Disabled => None,
        }
        .unwrap_or(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).expect("in range")
    }

    const BOUNDS: (i32, i32) = (1, 10);

    #[test]
    fn without_behavior_a_lower_proposal_waits_until_the_window_has_forgotten_the_higher() {
        let mut memory = Memory::default();
        let timeline = [
            (0, 3, 3, None),
            (15, 1, 3, Some(Limit::ScaleDownStabilized)),
            (300, 1, 3, Some(Limit::ScaleDownStabilized)),
            (301, 1, 1, None),
        ];
        for (second, proposed, expected, limit) in timeline {
            assert_eq!(memory.pace(at(second), 3, proposed, BOUNDS, DOWN_WINDOW), (expected, limit), "at {second}");
        }
    }

    #[test]
    fn without_behavior_replicas_at_most_double_or_reach_four() {
        for (current, proposed, expected, limit) in [
            (1, 9, 4, Some(Limit::ScaleUpLimit)),
            (3, 9, 6, Some(Limit::ScaleUpLimit)),
            (5, 99, 10, Some(Limit::TooManyReplicas)),
            (2, 0, 1, Some(Limit::TooFewReplicas)),
            (2, 3, 3, None),
        ] {
            let paced = Memory::default().pace(at(0), current, proposed, BOUNDS, DOWN_WINDOW);
            assert_eq!(paced, (expected, limit), "{current} to {proposed}");
        }
    }

    #[test]
    fn with_behavior_the_defaults_add_four_or_double_within_15_seconds() {
        let behavior = Behavior::default();
        let mut memory = Memory::default();
        assert_eq!(memory.pace_with(at(0), 1, 9, BOUNDS, &behavior), (5, Some(Limit::ScaleUpLimit)));
        memory.changed(at(0), 1, 5, &behavior);
        assert_eq!(memory.pace_with(at(14), 5, 9, BOUNDS, &behavior), (5, Some(Limit::ScaleUpLimit)), "same period");
        assert_eq!(memory.pace_with(at(15), 5, 9, BOUNDS, &behavior), (9, None));
    }

    #[test]
    fn with_behavior_windows_hold_both_ways_and_policies_slow_removal() {
        let mut behavior = Behavior::default();
        behavior.up.window = Duration::from_mins(1);
        behavior.down = Rules {
            window: Duration::from_secs(30),
            policies: vec![Policy { amount: Amount::Pods(1), period: Duration::from_mins(1) }],
            select: Select::Min,
        };
        let mut memory = Memory::default();
        assert_eq!(memory.pace_with(at(0), 4, 4, BOUNDS, &behavior), (4, None));
        assert_eq!(memory.pace_with(at(10), 4, 8, BOUNDS, &behavior), (4, Some(Limit::ScaleUpStabilized)));
        assert_eq!(memory.pace_with(at(20), 4, 1, BOUNDS, &behavior), (4, Some(Limit::ScaleDownStabilized)));
        assert_eq!(memory.pace_with(at(50), 4, 1, BOUNDS, &behavior), (3, Some(Limit::ScaleDownLimit)));
        memory.changed(at(50), 4, 3, &behavior);
        assert_eq!(memory.pace_with(at(60), 3, 1, BOUNDS, &behavior), (3, Some(Limit::ScaleDownLimit)), "one a minute");
        assert_eq!(memory.pace_with(at(111), 3, 1, BOUNDS, &behavior), (2, Some(Limit::ScaleDownLimit)));
        behavior.down.select = Select::Disabled;
        assert_eq!(memory.pace_with(at(300), 2, 1, BOUNDS, &behavior), (2, Some(Limit::ScaleDownLimit)));
    }

    #[test]
    fn a_change_outlived_by_its_own_directions_periods_is_forgotten_at_the_next_one() {
        let policy = |pods, seconds| Policy { amount: Amount::Pods(pods), period: Duration::from_secs(seconds) };
        let rules = |policy| Rules { window: Duration::ZERO, policies: vec![policy], select: Select::Max };
        let behavior = Behavior { up: rules(policy(9, 10)), down: rules(policy(1, 60)) };
        let mut memory = Memory::default();
        memory.changed(at(0), 1, 5, &behavior);
        assert_eq!(memory.pace_with(at(20), 5, 1, BOUNDS, &behavior).0, 1, "one less than 60 s ago");
        memory.changed(at(21), 5, 7, &behavior);
        assert_eq!(memory.pace_with(at(22), 7, 1, BOUNDS, &behavior).0, 4, "of two rises only the later is known");
    }
}
