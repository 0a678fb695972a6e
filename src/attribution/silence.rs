//! Which pods without a value are out of sight: with their node, or with a whole pool.
//!
//! When a site loses its link, its exporters fall silent at once, and half a minute to a minute later the cluster declares its
//! nodes lost and their pods unready. The replicas there may serve on, and be as busy as they were. R9's assumption, that a
//! silent pod reads the target, would then let a fall of the load remove replicas on the word of the others, and as the
//! cluster removes the cheap, silent ones first or the dear, known ones first, either way the wrong ones. So:
//!
//! - a pod that was ready when its node was last heard of, and a silent ready pod on a node that is no longer heard of, is
//!   [`Unknown::CutOff`];
//! - if of all ready pods of one of the service's ordered pools none is heard, each of them is [`Unknown::PoolSilent`]: that
//!   is told from the first page that is missed for longer than `maxAge` on, before the cluster notices anything.
//!
//! Both forbid removals ([`Unknown::forbids_removal`]) and nothing else: what the others read may still add. They end by
//! themselves when the pod is measured again, and when the cluster gives the pod up: it evicts the pods of a lost node after
//! five minutes by default (their `tolerationSeconds`), and at once those of a Node that is deleted. A pool whose exporter is
//! switched off while its replicas serve on holds for as long as that lasts, and says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Readings;
use crate::{
    cluster::{ObjectKey, Pod, Service, View},
    policy::order::Orders,
    reading::Unknown,
};

/// A pod's place in its service's order of pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// 0 is filled first.
    pub rank: usize,
    /// Name of the pool.
    pub pool: Arc<str>,
}

/// Notes in which of its pools each ready or cut-off pod of a service sits. A service whose pools nobody ordered has none,
/// and neither has a pod whose node is gone.
pub(super) fn seat(view: &View, orders: &Orders<'_>, service: &Service<'_>, seats: &mut BTreeMap<ObjectKey, Seat>) {
    let Ok(Some(order)) = orders.order(service.deployment) else { return };
    for pod in service.ready.iter().chain(&service.cut_off) {
        let Some(node) = pod.node.as_ref().and_then(|node| view.nodes.get(node)) else { continue };
        if let Some(rank) = order.units.iter().position(|unit| unit.has(&node.labels)) {
            seats.insert(pod.key.clone(), Seat { rank, pool: Arc::clone(&order.units[rank].name) });
        }
    }
}

/// Why nothing is known of a pod that was ready when its node was last heard of.
pub(crate) fn cut_off(pod: &Pod) -> Unknown {
    Unknown::CutOff { node: pod.node.clone().unwrap_or_else(|| "of this pod".into()) }
}

/// What is needed to tell silent pods from those that are out of sight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight<'a> {
    /// The cluster.
    pub(crate) view: &'a View,
    /// What was measured.
    pub(crate) readings: &'a Readings,
    /// Model servers themselves report the family in question.
    pub(crate) by_server: bool,
}

impl Sight<'_> {
    /// Gives the missing pods that are out of sight that reason. `known`: the pods with a value, by namespace and name.
    pub(crate) fn mark<'k>(
        &self,
        known: impl IntoIterator<Item = (&'k str, &'k str)>,
        missing: &mut [(&Pod, Unknown)],
    ) {
        if missing.is_empty() {
            return;
        }
        let seats = &self.readings.seats;
        let heard: BTreeSet<usize> = if seats.is_empty() {
            BTreeSet::new()
        } else {
            let key = |(namespace, name): (&str, &str)| ObjectKey { namespace: namespace.into(), name: name.into() };
            known.into_iter().filter_map(|pod| seats.get(&key(pod))).map(|seat| seat.rank).collect()
        };
        let mut silent: BTreeMap<usize, usize> = BTreeMap::new();
        for seat in missing.iter().filter_map(|(pod, _)| seats.get(&pod.key)) {
            *silent.entry(seat.rank).or_default() += 1;
        }
        for (pod, unknown) in missing.iter_mut().filter(|(pod, unknown)| self.is_silence(pod, unknown)) {
            let lost = pod.node.as_ref().and_then(|node| self.view.nodes.get(node)).is_some_and(|node| node.lost);
            if lost {
                *unknown = cut_off(pod);
            } else if let Some(Seat { rank, pool }) = seats.get(&pod.key)
                && !heard.contains(rank)
            {
                let ready = silent.get(rank).copied().unwrap_or(1);
                *unknown = Unknown::PoolSilent { pool: Arc::clone(pool), ready, why: Box::new(unknown.clone()) };
            }
        }
    }

    /// Nothing is heard, in contrast to a page that says something odd, and to a server that offers no page.
    fn is_silence(&self, pod: &Pod, unknown: &Unknown) -> bool {
        matches!(unknown, Unknown::Absent | Unknown::Stale { .. })
            && !(self.by_server && self.readings.offer_nothing.contains_key(&pod.key))
    }
}
