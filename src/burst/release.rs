//! The way back: which replica goes first, told to the ReplicaSet controller by `controller.kubernetes.io/pod-deletion-cost`.
//!
//! Without it, which of several ready pods goes is chance: the controller compares the logarithms of their ages, and
//! within one power of two the lowest UID goes. Pending and not-ready pods go first anyway, so no cost is spent on them.
//! A cost is written only while a removal is near, and only where it differs from what stands there: each write is an
//! update of a pod, and the API's documentation asks to avoid frequent ones. Work in flight changes all the time: while a
//! removal is only held back, costs that keep the order of the pools stay as they are.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use super::near::Near;
use crate::signal::{Pod, Stage};

/// The annotation (beta since Kubernetes 1.22): the pod with the lower value is deleted first, absent means 0.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Ready pods by UID in the order in which they should go: the dearest pool first, within a pool the least work in flight,
/// then the youngest. A pod on a node of no pool goes after all others: nothing is known of what it costs.
#[must_use]
pub fn order(pods: &[Pod]) -> Vec<&Pod> {
    let mut ready: Vec<&Pod> = pods.iter().filter(|pod| pod.stage == Stage::Ready).collect();
    ready.sort_by(|a, b| {
        let place = |pod: &Pod| pod.pool.map_or(0, |pool| pool + 1);
        place(b)
            .cmp(&place(a))
            .then_with(|| in_flight(a).total_cmp(&in_flight(b)))
            .then_with(|| Reverse(a.ready_since).cmp(&Reverse(b.ready_since)))
            .then_with(|| a.uid.cmp(&b.uid))
    });
    ready
}

/// Requests that would be cut off. Not known: counted as more than any known number, so that the pod goes late.
fn in_flight(pod: &Pod) -> f64 {
    let parts = [pod.work.running.value(), pod.work.waiting.value()];
    match parts {
        [None, None] => f64::INFINITY,
        [running, waiting] => running.unwrap_or_default() + waiting.unwrap_or_default(),
    }
}

/// What should stand on the pods, given what does: the first to go has the lowest cost, the last one none. Empty while no
/// removal is near.
#[must_use]
pub fn costs(pods: &[Pod], near: Option<Near>, standing: &BTreeMap<Arc<str>, i32>) -> BTreeMap<Arc<str>, i32> {
    let Some(near) = near else { return BTreeMap::new() };
    let order = order(pods);
    if near == Near::Held && keeps_the_pools_order(&order, standing) {
        let stays = |pod: &&Pod| Some((Arc::clone(&pod.uid), *standing.get(&pod.uid)?));
        return order.iter().filter_map(stays).collect();
    }
    // From the last one backwards: -1, -2, …
    order.iter().rev().skip(1).zip(1..).map(|(pod, rank)| (Arc::clone(&pod.uid), -rank)).collect()
}

/// Whether by these costs each pod goes before all of the cheaper pools.
fn keeps_the_pools_order(order: &[&Pod], standing: &BTreeMap<Arc<str>, i32>) -> bool {
    let cost = |pod: &Pod| standing.get(&pod.uid).copied().unwrap_or_default();
    let mut dearer = i32::MIN;
    order.chunk_by(|a, b| a.pool == b.pool).enumerate().all(|(i, pool)| {
        let least = pool.iter().map(|pod| cost(pod)).min().unwrap_or_default();
        let holds = i == 0 || dearer < least;
        dearer = pool.iter().map(|pod| cost(pod)).max().unwrap_or_default();
        holds
    })
}

/// Costs to write (`Some`) and to take away (`None`), by UID, given what stands there by our hand.
#[must_use]
pub fn changes(wanted: &BTreeMap<Arc<str>, i32>, written: &BTreeMap<Arc<str>, i32>) -> BTreeMap<Arc<str>, Option<i32>> {
    let set = wanted.iter().filter(|(uid, cost)| written.get(*uid) != Some(cost));
    let set = set.map(|(uid, cost)| (Arc::clone(uid), Some(*cost)));
    let unset = written.keys().filter(|uid| !wanted.contains_key(*uid)).map(|uid| (Arc::clone(uid), None));
    set.chain(unset).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::signal::{Signal, Work};

    fn pod(uid: &str, pool: Option<usize>, running: Option<f64>, ready_at: i64) -> Pod {
        let at = Timestamp::from_second(ready_at).unwrap();
        let running = running.map_or(Signal::NotOffered, |value| Signal::Known { value, at });
        Pod {
            uid: uid.into(),
            name: uid.into(),
            pool,
            stage: Stage::Ready,
            created: at,
            scheduled: Some(at),
            running: Some(at),
            ready_since: Some(at),
            work: Work { running, ..Work::default() },
        }
    }

    fn names(pods: &[Pod]) -> Vec<&str> {
        order(pods).into_iter().map(|pod| &*pod.uid).collect()
    }

    #[test]
    fn r19_the_cloud_goes_before_on_premises_whatever_its_work_and_age() {
        let pods = [pod("onprem", Some(0), Some(0.0), 900), pod("cloud", Some(1), Some(60.0), 1)];
        assert_eq!(names(&pods), ["cloud", "onprem"]);
    }

    #[test]
    fn within_a_pool_the_least_work_goes_first_then_the_youngest_and_unknown_work_goes_last() {
        let pods = [
            pod("unknown", Some(1), None, 500),
            pod("busy", Some(1), Some(9.0), 400),
            pod("idle-old", Some(1), Some(1.0), 100),
            pod("idle-young", Some(1), Some(1.0), 200),
        ];
        assert_eq!(names(&pods), ["idle-young", "idle-old", "busy", "unknown"]);
    }

    #[test]
    fn a_pod_in_no_pool_goes_last_and_one_that_is_not_ready_needs_no_order() {
        let mut starting = pod("starting", Some(1), None, 1);
        starting.stage = Stage::Starting;
        let pods = [pod("nowhere", None, Some(0.0), 9), pod("onprem", Some(0), Some(5.0), 1), starting];
        assert_eq!(names(&pods), ["onprem", "nowhere"]);
    }

    #[test]
    fn costs_rise_in_the_order_of_release_and_the_last_pod_has_none() {
        let pods = [pod("onprem", Some(0), None, 1), pod("a", Some(1), Some(1.0), 1), pod("b", Some(1), Some(2.0), 1)];
        let costs = costs(&pods, Some(Near::Decided), &BTreeMap::new());
        assert_eq!(costs, BTreeMap::from([("a".into(), -2), ("b".into(), -1)]));
    }

    #[test]
    fn nothing_is_written_while_no_removal_is_near_or_for_a_single_pod() {
        let pods = [pod("a", Some(0), None, 1), pod("b", Some(1), None, 1)];
        let none = BTreeMap::new();
        assert_eq!(costs(&pods, None, &none), none);
        assert_eq!(costs(&pods[..1], Some(Near::Decided), &none), none);
        assert_eq!(costs(&[], Some(Near::Decided), &none), none);
    }

    #[test]
    fn while_a_removal_is_held_back_costs_change_with_the_pools_and_not_with_the_work() {
        let of = |uid: &str, pool, running| pod(uid, Some(pool), Some(running), 1);
        let pods = [of("onprem", 0, 1.0), of("a", 1, 1.0), of("b", 1, 2.0)];
        let held = |pods: &[Pod], standing: &BTreeMap<Arc<str>, i32>| costs(pods, Some(Near::Held), standing);
        let first = held(&pods, &BTreeMap::new());
        assert_eq!(first, BTreeMap::from([("a".into(), -2), ("b".into(), -1)]), "nothing keeps the order yet");
        let busier = [of("onprem", 0, 1.0), of("a", 1, 3.0), of("b", 1, 2.0)];
        assert_eq!(held(&busier, &first), first, "any of the two may go");
        let decided = costs(&busier, Some(Near::Decided), &first);
        assert_eq!(decided, BTreeMap::from([("b".into(), -2), ("a".into(), -1)]), "the one with less work goes");
        let new = [&busier[..], &[of("c", 1, 0.0)]].concat();
        assert_eq!(held(&new, &first).len(), 3, "one without a cost would go last");
    }

    #[test]
    fn only_differences_are_written_and_what_is_no_longer_ours_is_taken_away() {
        let wanted = BTreeMap::from([("a".into(), -2), ("b".into(), -1)]);
        let written = BTreeMap::from([("a".into(), -2), ("b".into(), -3), ("c".into(), -1)]);
        assert_eq!(changes(&wanted, &written), BTreeMap::from([("b".into(), Some(-1)), ("c".into(), None)]));
        assert_eq!(changes(&wanted, &wanted), BTreeMap::new());
    }
}
