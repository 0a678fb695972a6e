//! R9: what a set of ready pods reads while some of them do not report.
//!
//! An HPA that reads the mean `m` of the `known` of `ready` pods compares it with its target `T`. The value that cannot
//! cause a wrong move is the one that the HPA itself would use for pod metrics: missing pods count 0 while the known ones
//! ask for more (`m > T`), and exactly the target while they ask for less (`m < T`); and the side of the target on which
//! the value lies is never changed by what is not known:
//!
//! ```text
//! m > T:  max(T,  m · known / ready)
//! m < T:  min(T, (m · known + T · missing) / ready)
//! ```
//!
//! A pod whose exporter cannot attribute (R5), or that is out of sight ([`super::silence`]), is busy with nobody knows how
//! much: while there is one, a mean that asks for less is unknown.
//!
//! This needs to know `T`. HPAs with different targets on one metric have no common safe value: it is unknown. If no HPA
//! reads the metric, nobody decides on it, and the value is the mean of the pods that report. Sum, maximum and quantiles
//! have no safe value with pods missing: they are unknown.

use std::collections::BTreeMap;

use statrs::statistics::{Data, OrderStatistics};

use super::{
    GroupReading, Statistic,
    silence::{Sight, cut_off},
    sum,
};
use crate::{
    cluster::{Pod, PodState},
    reading::{Measured, Reading, Unknown},
};

/// The targets of the HPAs that read a group's mean.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Targets {
    /// No HPA reads it.
    None,
    /// All that do have this one.
    One(f64),
    /// They differ.
    Several,
    /// The HPAs are not known.
    Unknown,
}

impl Targets {
    /// Another HPA reads it, with this target.
    pub(super) fn add(&mut self, target: f64) {
        *self = match *self {
            Self::None => Self::One(target),
            Self::One(one) if one.total_cmp(&target).is_eq() => Self::One(one),
            Self::One(_) | Self::Several => Self::Several,
            Self::Unknown => Self::Unknown,
        };
    }
}

/// Combines the readings of pods that are ready or cut off, given in the order of their keys; a pod without an entry in the family is
/// [`Unknown::Absent`].
pub(super) fn group<'a>(
    ready: impl Iterator<Item = (&'a Pod, Option<&'a Reading>)>,
    targets: &Targets,
    coverage: f64,
    sight: &Sight<'_>,
) -> GroupReading {
    let mut values = Vec::new();
    let mut oldest = None;
    let mut seen = Vec::new();
    let mut missing = Vec::new();
    for (pod, reading) in ready {
        match reading {
            _ if pod.state == PodState::CutOff => missing.push((pod, cut_off(pod))),
            Some(Ok(Measured { value, at })) => {
                values.push(*value);
                oldest = Some(oldest.map_or(*at, |oldest| (*at).min(oldest)));
                seen.push((&*pod.key.namespace, &*pod.key.name));
            }
            Some(Err(unknown)) => missing.push((pod, unknown.clone())),
            None => missing.push((pod, Unknown::Absent)),
        }
    }
    sight.mark(seen, &mut missing);
    let missing: BTreeMap<_, _> = missing.into_iter().map(|(pod, unknown)| (pod.key.clone(), unknown)).collect();
    let known = values.len();
    let ready = known + missing.len();
    let example = || {
        let first = missing.iter().next();
        first.map_or_else(String::new, |(key, unknown)| format!("{}: {unknown}", key.name))
    };
    let uncovered = |coverage| Unknown::Coverage { known, ready, coverage, example: example() };
    let Some(at) = oldest else {
        let reason = if ready == 0 { Unknown::NoReadyPods } else { uncovered(coverage) };
        let statistics = Statistic::ALL.map(|statistic| (statistic, Err(reason.clone()))).into();
        return GroupReading { statistics, known, missing };
    };
    let total = sum(&mut values);
    let mean = total / known as f64;
    let safe = if missing.is_empty() {
        Ok(mean)
    } else if (known as f64) < coverage * ready as f64 {
        Err(uncovered(coverage))
    } else {
        match *targets {
            Targets::None => Ok(mean),
            Targets::One(target) => match missing.values().find(|unknown| unknown.forbids_removal()) {
                Some(unknown) if mean <= target => Err(unknown.clone()),
                _ => Ok(without_wrong_move(mean, known, ready, target)),
            },
            Targets::Several => Err(Unknown::AmbiguousTarget { missing: missing.len(), ready, example: example() }),
            Targets::Unknown => Err(Unknown::ClusterUnknown(format!(
                "{} of {ready} ready pods do not report, and the HPAs whose targets decide what is safe are not listed yet",
                missing.len()
            ))),
        }
    };
    let mut data = Data::new(values);
    let statistics = Statistic::ALL.map(|statistic| {
        let value = match statistic {
            Statistic::Mean => safe.clone(),
            _ if !missing.is_empty() => Err(uncovered(1.0)),
            Statistic::Sum => Ok(total),
            Statistic::Max => Ok(data.quantile(1.0)),
            Statistic::P50 => Ok(data.quantile(0.5)),
            Statistic::P90 => Ok(data.quantile(0.9)),
            Statistic::P99 => Ok(data.quantile(0.99)),
        };
        (statistic, value.map(|value| Measured { value, at }))
    });
    GroupReading { statistics: statistics.into(), known, missing }
}

/// The mean of `known` pods, moved towards the target as far as the missing ones could move it, and no further.
fn without_wrong_move(mean: f64, known: usize, ready: usize, target: f64) -> f64 {
    let (known, ready) = (known as f64, ready as f64);
    if mean > target {
        (mean * known / ready).max(target)
    } else {
        ((mean * known + target * (ready - known)) / ready).min(target)
    }
}
