//! The HPA's replica arithmetic, pure: values and pods in, a proposal out.
//!
//! After `pkg/controller/podautoscaler/replica_calculator.go` and `metrics/utilization.go` of Kubernetes: values are
//! thousandths in 64 bits, means are integer divisions, ratios are floating point.

use std::{cmp::Ordering, collections::BTreeMap};

/// How the HPA sees a pod of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Deleted or failed. Until it has ended, a deleted pod may still be Running and Ready, and is then counted where
    /// ready pods are.
    Ignored {
        /// Phase Running and Kubernetes `Ready`.
        ready: bool,
    },
    /// Phase Pending: not scheduled, or its containers have not started.
    Pending,
    /// Phase Running. For metrics other than CPU the HPA does not look at readiness, except where it counts pods for
    /// Object and External metrics.
    Running {
        /// Kubernetes `Ready`.
        ready: bool,
    },
}

/// Deviation of usage from target that is let pass, as a share of the target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Below the target.
    pub down: f64,
    /// Above the target.
    pub up: f64,
}

/// One metric's proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// Replicas.
    pub replicas: i32,
    /// Mean usage per pod in thousandths, as `status.currentMetrics` shows it.
    pub usage: i64,
}

/// Why a metric that was answered proposes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoProposal {
    /// The target has no pod.
    #[error("no pods returned by selector while calculating replica count")]
    NoPods,
    /// No value survived: every item belonged to a pending or leaving pod.
    #[error("did not receive metrics for targeted pods (pods might be unready)")]
    NoMetrics,
}

impl PodPhase {
    fn is_ready(self) -> bool {
        matches!(self, Self::Running { ready: true } | Self::Ignored { ready: true })
    }
}

impl Default for Tolerance {
    /// The cluster's default, 10 % both ways.
    fn default() -> Self {
        Self { down: 0.1, up: 0.1 }
    }
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// Proposal for a Pods metric: `items` are the answered values by pod name, `target` the `averageValue`, in thousandths.
///
/// Running pods without an item are missing: they count as exactly on target while the others say "fewer", as 0 while the
/// others say "more", and not at all while the others are exactly on target.
///
/// # Errors
/// [`NoProposal`].
pub fn desired(
    items: &BTreeMap<String, i64>,
    pods: &BTreeMap<String, PodPhase>,
    current: i32,
    target: i64,
    tolerance: Tolerance,
) -> Result<Proposal, NoProposal> {
    if pods.is_empty() {
        return Err(NoProposal::NoPods);
    }
    let of = |wanted: fn(PodPhase) -> bool| {
        pods.iter().filter(move |(_, phase)| wanted(**phase)).map(|(name, _)| name.as_str())
    };
    // Items of pods that the HPA does not know stay in: they bias the mean, as they do in the real controller.
    let mut metrics: BTreeMap<&str, i64> = items.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    for name in of(|phase| matches!(phase, PodPhase::Ignored { .. } | PodPhase::Pending)) {
        metrics.remove(name);
    }
    let unready: Vec<&str> = of(|phase| phase == PodPhase::Pending).collect();
    let running: Vec<&str> = of(|phase| matches!(phase, PodPhase::Running { .. })).collect();
    let (known, missing): (Vec<&str>, Vec<&str>) = running.into_iter().partition(|name| items.contains_key(*name));
    let (ratio, usage) = usage_ratio(&metrics, target).ok_or(NoProposal::NoMetrics)?;
    let stay = Ok(Proposal { replicas: current, usage });
    let up_with_unready = !unready.is_empty() && ratio > 1.0;
    if !up_with_unready && missing.is_empty() {
        let replicas = ceil(ratio * known.len() as f64);
        return if tolerance.covers(ratio) { stay } else { Ok(Proposal { replicas, usage }) };
    }
    let assumed = match ratio.total_cmp(&1.0) {
        Ordering::Less => Some(target),
        Ordering::Greater => Some(0),
        Ordering::Equal => None,
    };
    if let Some(assumed) = assumed {
        metrics.extend(missing.into_iter().map(|name| (name, assumed)));
    }
    if up_with_unready {
        metrics.extend(unready.into_iter().map(|name| (name, 0)));
    }
    let (assumed_ratio, _) = usage_ratio(&metrics, target).ok_or(NoProposal::NoMetrics)?;
    let flipped = (ratio < 1.0 && assumed_ratio > 1.0) || (ratio > 1.0 && assumed_ratio < 1.0);
    if tolerance.covers(assumed_ratio) || flipped {
        return stay;
    }
    let replicas = ceil(assumed_ratio * metrics.len() as f64);
    let turned = (assumed_ratio < 1.0 && replicas > current) || (assumed_ratio > 1.0 && replicas < current);
    if turned { stay } else { Ok(Proposal { replicas, usage }) }
}

/// Proposal for an Object or External metric with a `value` target, in thousandths: pods that are Running and Ready count,
/// those that leave among them.
///
/// # Errors
/// [`NoProposal::NoPods`], where they would have to be counted.
pub fn desired_for_value(
    usage: i64,
    target: i64,
    current: i32,
    pods: &BTreeMap<String, PodPhase>,
    tolerance: Tolerance,
) -> Result<Proposal, NoProposal> {
    let ratio = usage as f64 / target as f64;
    let replicas = match current {
        0 => ceil(ratio),
        _ if tolerance.covers(ratio) => current,
        _ if pods.is_empty() => return Err(NoProposal::NoPods),
        _ => ceil(ratio * pods.values().filter(|phase| phase.is_ready()).count() as f64),
    };
    Ok(Proposal { replicas, usage })
}

/// Proposal for an Object or External metric with an `averageValue` target, in thousandths. `current` is
/// `status.replicas`.
#[must_use]
pub fn desired_for_average(usage: i64, target: i64, current: i32, tolerance: Tolerance) -> Proposal {
    let ratio = usage as f64 / (target as f64 * f64::from(current));
    let covered = current != 0 && tolerance.covers(ratio);
    let replicas = if covered { current } else { ceil(usage as f64 / target as f64) };
    let per_pod = match current {
        0 => 0,
        // A sum that was capped is shown as it is.
        _ if usage as f64 >= i64::MAX as f64 => i64::MAX,
        _ => (usage as f64 / f64::from(current)).ceil() as i64,
    };
    Proposal { replicas, usage: per_pod }
}

/// The sum of an External metric's items, capped as the HPA caps it.
#[must_use]
pub fn sum(items: &[i64]) -> i64 {
    items.iter().fold(0_i64, |sum, item| sum.saturating_add(*item))
}

fn usage_ratio(metrics: &BTreeMap<&str, i64>, target: i64) -> Option<(f64, i64)> {
    let count = i64::try_from(metrics.len()).ok().filter(|count| *count > 0)?;
    // Go's sum wraps; that is how huge values turn into small ones.
    let usage = metrics.values().fold(0_i64, |sum, value| sum.wrapping_add(*value)) / count;
    Some((usage as f64 / target as f64, usage))
}

fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: i64 = 50_000;
    const STAY: i32 = -1;

    fn phase(letter: char) -> PodPhase {
        match letter {
            'p' => PodPhase::Pending,
            'i' => PodPhase::Ignored { ready: true },
            's' => PodPhase::Running { ready: false },
            _ => PodPhase::Running { ready: true },
        }
    }

    /// Pods by letter (`r`unning, `s`tarting, `p`ending, `i`gnored), and the value of each that has an item.
    fn proposal(pods: &[(char, Option<f64>)], current: i32) -> Result<i32, NoProposal> {
        let name = |i: usize| format!("pod-{i}");
        let items = pods.iter().enumerate().filter_map(|(i, (_, value))| Some((name(i), ((*value)? * 1000.0) as i64)));
        let phases = pods.iter().enumerate().map(|(i, (letter, _))| (name(i), phase(*letter)));
        desired(&items.collect(), &phases.collect(), current, TARGET, Tolerance::default()).map(|p| p.replicas)
    }

    #[test]
    fn pods_metrics_move_as_the_real_calculator_moves_them() {
        type Case<'a> = (&'a str, &'a [(char, Option<f64>)], i32, i32);
        let cases: &[Case<'_>] = &[
            ("80 over 50 is 1.6, so two", &[('r', Some(80.0))], 1, 2),
            ("a full card doubles", &[('r', Some(100.0))], 1, 2),
            ("70 on two is 2.8, so three", &[('r', Some(70.0)), ('r', Some(70.0))], 2, 3),
            ("55 is within tolerance", &[('r', Some(55.0))], 1, STAY),
            ("45 is within tolerance", &[('r', Some(45.0)), ('r', Some(45.0))], 2, STAY),
            ("55.1 is not, and one more it is", &[('r', Some(55.1))], 1, 2),
            ("idle goes to the ceiling of the ratio", &[('r', Some(7.0)), ('r', Some(7.0)), ('r', Some(7.0))], 3, 1),
            ("a true zero is a value", &[('r', Some(0.0)), ('r', Some(0.0))], 2, 0),
            // Missing pods.
            ("one full and one missing is 50 on average", &[('r', Some(100.0)), ('s', None)], 2, STAY),
            ("one missing of three at peak", &[('r', Some(46.7)), ('r', Some(46.7)), ('r', None)], 3, STAY),
            ("two missing of three at peak", &[('r', Some(46.7)), ('r', None), ('r', None)], 3, STAY),
            ("one missing of three while idle", &[('r', Some(5.0)), ('r', Some(5.0)), ('r', None)], 3, 2),
            ("two missing of three while idle", &[('r', Some(5.0)), ('r', None), ('r', None)], 3, STAY),
            ("one missing of three while busy", &[('r', Some(100.0)), ('r', Some(100.0)), ('r', None)], 3, 4),
            ("busy, but zeros for the missing turn it round", &[('r', Some(60.0)), ('r', None)], 2, STAY),
            ("one missing while the other is exactly on target", &[('r', Some(50.0)), ('r', None)], 2, STAY),
            // Pending pods.
            ("a pending pod damps adding", &[('r', Some(100.0)), ('p', None)], 2, STAY),
            ("and does not hinder removing", &[('r', Some(20.0)), ('r', Some(20.0)), ('p', None)], 3, 1),
            ("its item is not heard", &[('r', Some(50.0)), ('p', Some(0.0))], 2, STAY),
            // Leaving pods.
            ("a leaving pod is not there", &[('r', Some(80.0)), ('i', Some(0.0))], 1, 2),
            // Readiness is not looked at: a starting pod with an item counts.
            ("a starting pod with an item counts", &[('r', Some(100.0)), ('s', Some(0.0))], 2, STAY),
        ];
        for (name, pods, current, expected) in cases {
            let expected = if *expected == STAY { *current } else { *expected };
            assert_eq!(proposal(pods, *current), Ok(expected), "{name}");
        }
        assert_eq!(proposal(&[('p', Some(90.0))], 1), Err(NoProposal::NoMetrics));
        let items = [("stranger".to_owned(), 90_000)].into();
        let of_nobody = desired(&items, &BTreeMap::new(), 1, TARGET, Tolerance::default());
        assert_eq!(of_nobody, Err(NoProposal::NoPods));
    }

    #[test]
    fn items_of_unknown_pods_bias_the_mean() {
        let items = [("mine".to_owned(), 100_000), ("stranger".to_owned(), 0)].into();
        let pods = [("mine".to_owned(), phase('r'))].into();
        let proposal = desired(&items, &pods, 1, TARGET, Tolerance::default());
        assert_eq!(proposal, Ok(Proposal { replicas: 1, usage: 50_000 }));
    }

    #[test]
    fn the_mean_is_an_integer_division_of_thousandths() {
        let items = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
        let pods = [("a".to_owned(), phase('r')), ("b".to_owned(), phase('r'))].into();
        assert_eq!(desired(&items, &pods, 2, TARGET, Tolerance::default()).map(|p| p.usage), Ok(1));
    }

    #[test]
    fn value_targets_multiply_ready_pods_and_average_targets_divide_the_sum() {
        let tolerance = Tolerance::default();
        for (usage, target, current, pods, expected) in [
            (80, 50, 1, "r", Ok(2)),
            (55, 50, 3, "rrr", Ok(3)),
            (75, 50, 2, "rr", Ok(3)),
            (75, 50, 3, "rrs", Ok(3)),
            (75, 50, 3, "rpi", Ok(3)),
            (75, 50, 3, "", Err(NoProposal::NoPods)),
            (50, 50, 3, "", Ok(3)),
            (120, 50, 0, "", Ok(3)),
        ] {
            let phases = pods.char_indices().map(|(i, letter)| (i.to_string(), phase(letter))).collect();
            let replicas = desired_for_value(usage, target, current, &phases, tolerance).map(|p| p.replicas);
            assert_eq!(replicas, expected, "value {usage}/{target} from {current} with {pods:?}");
        }
        for (usage, target, current, expected) in
            [(150, 50, 1, 3), (150, 50, 3, 3), (160, 50, 3, 3), (170, 50, 3, 4), (10, 50, 0, 1)]
        {
            let replicas = desired_for_average(usage, target, current, tolerance).replicas;
            assert_eq!(replicas, expected, "average {usage}/{target} from {current}");
        }
    }

    #[test]
    fn external_items_add_up_and_stop_at_the_largest_number() {
        assert_eq!(sum(&[40, 2]), 42);
        assert_eq!(sum(&[i64::MAX, 1]), i64::MAX);
        assert_eq!(sum(&[]), 0);
    }
}
