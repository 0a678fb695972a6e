//! Which pools of a service are at their maximum (`units[].max`, `pools[].maxReplicas`) when a new pod is made.
//!
//! A pod that has no node yet may land in any pool that was open when it was made, and is counted towards each: a pool is
//! rather closed too early than filled beyond its maximum. Counted are the pods that the view knows and those that were let
//! through a moment ago; what another replica of the adapter has let through in that moment is not known here, so that
//! pods that are made at once through different replicas may exceed a maximum by as many.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Deployment, ObjectKey, Pod, PodState, Unit, View};

/// So long after it was let through a pod is known by the view, or was never made.
const UNSEEN: SignedDuration = SignedDuration::from_secs(10);
/// Most pods of one service that are remembered (R22): more are not made within that time.
const REMEMBERED: usize = 1000;

/// Pods that were let through lately, by Deployment.
#[derive(Debug, Default)]
pub struct Admitted(BTreeMap<ObjectKey, VecDeque<Timestamp>>);

impl Admitted {
    /// A pod was let through.
    pub(super) fn count(&mut self, deployment: &Deployment, now: Timestamp) {
        let times = self.0.entry(deployment.key.clone()).or_default();
        times.push_back(now);
        if times.len() > REMEMBERED {
            times.pop_front();
        }
    }

    /// Pods that were let through and that the view does not know yet.
    pub(super) fn unseen(&mut self, view: &View, deployment: &Deployment, now: Timestamp) -> u32 {
        let since = now - UNSEEN;
        self.0.retain(|_, times| {
            times.retain(|time| *time >= since);
            !times.is_empty()
        });
        let admitted = self.0.get(&deployment.key).map_or(0, VecDeque::len);
        // Times of creation are whole seconds.
        let whole = SignedDuration::from_secs(1);
        let seen = pods(view, deployment).filter(|pod| pod.created.is_some_and(|created| created >= since - whole));
        u32::try_from(admitted.saturating_sub(seen.count())).unwrap_or(u32::MAX)
    }
}

fn pods<'v>(view: &'v View, deployment: &'v Deployment) -> impl Iterator<Item = &'v Pod> {
    let namespace = &deployment.key.namespace;
    let first = ObjectKey { namespace: namespace.clone(), name: "".into() };
    let here = view.pods.range(first..).map(|(_, pod)| &**pod).take_while(move |pod| pod.key.namespace == *namespace);
    here.filter(|pod| deployment.selector.matches(|key| pod.labels.get(key).map(|value| &**value)))
}

/// For each pool whether it takes no more pods of the service. `unseen` pods are on their way that the view does not know.
#[must_use]
pub fn closed(view: &View, deployment: &Deployment, units: &[Unit], unseen: u32) -> Vec<bool> {
    let mut bound = vec![0_u32; units.len()];
    let mut anywhere = unseen;
    // A pod that is going takes its place along, as with Alibaba's `ignoreTerminatingPod`, which is true by default.
    for pod in pods(view, deployment).filter(|pod| pod.state != PodState::Leaving) {
        let Some(node) = &pod.node else {
            anywhere += 1;
            continue;
        };
        let Some(node) = view.nodes.get(node) else { continue };
        if let Some(pool) = units.iter().position(|unit| unit.has(&node.labels)) {
            bound[pool] += 1;
        }
    }
    let full = |(unit, bound): (&Unit, u32)| unit.max.is_some_and(|max| bound.saturating_add(anywhere) >= max);
    units.iter().zip(bound).map(full).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::{Index, Kind};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn index() -> Index {
        let index = Index::default();
        for pool in ["onprem", "cloud"] {
            let node = json!({"metadata": {"name": pool, "labels": {"pool": pool}}});
            index.apply(Kind::Nodes, &node.to_string());
        }
        let deployment = json!({
            "metadata": {"name": "llm", "namespace": "prod"},
            "spec": {"selector": {"matchLabels": {"app": "llm"}}, "template": {}},
        });
        index.apply(Kind::Deployments, &deployment.to_string());
        index
    }

    fn pod(index: &Index, name: &str, node: Option<&str>, created: i64, leaving: bool) {
        let leaving = if leaving { json!(at(created).to_string()) } else { Value::Null };
        let pod = json!({
            "metadata": {
                "name": name, "namespace": "prod", "uid": name, "labels": {"app": "llm"},
                "creationTimestamp": at(created).to_string(), "deletionTimestamp": leaving,
            },
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Pending"},
        });
        index.apply(Kind::Pods, &pod.to_string());
    }

    fn units(max: [Option<u32>; 2]) -> Vec<Unit> {
        let unit = |(pool, max): (&str, Option<u32>)| Unit {
            name: pool.into(),
            node_selector: [(Arc::from("pool"), Arc::from(pool))].into(),
            max,
        };
        ["onprem", "cloud"].into_iter().zip(max).map(unit).collect()
    }

    fn shut(index: &Index, max: [Option<u32>; 2], unseen: u32) -> Vec<bool> {
        let view = index.view();
        let deployment = view.deployments.values().next().unwrap();
        closed(&view, deployment, &units(max), unseen)
    }

    #[test]
    fn a_pool_is_closed_at_its_maximum_and_one_without_is_never() {
        let index = index();
        assert_eq!(shut(&index, [Some(2), None], 0), [false, false]);
        pod(&index, "a", Some("onprem"), 0, false);
        assert_eq!(shut(&index, [Some(2), None], 0), [false, false]);
        pod(&index, "b", Some("onprem"), 0, false);
        assert_eq!(shut(&index, [Some(2), None], 0), [true, false]);
        assert_eq!(shut(&index, [Some(0), Some(1)], 0), [true, false]);
    }

    #[test]
    fn who_has_no_node_yet_counts_towards_each_pool_and_who_is_going_towards_none() {
        let index = index();
        pod(&index, "a", None, 0, false);
        assert_eq!(shut(&index, [Some(1), Some(1)], 0), [true, true]);
        assert_eq!(shut(&index, [Some(2), Some(3)], 1), [true, false], "one more was let through and is not seen yet");
        pod(&index, "a", Some("onprem"), 0, true);
        assert_eq!(shut(&index, [Some(1), Some(1)], 0), [false, false]);
    }

    #[test]
    fn who_was_let_through_counts_until_the_view_knows_it_or_it_was_never_made() {
        let index = index();
        let mut admitted = Admitted::default();
        let mut unseen = |index: &Index, second: i64, new: bool| {
            let view = index.view();
            let deployment = view.deployments.values().next().unwrap();
            let unseen = admitted.unseen(&view, deployment, at(second));
            if new {
                admitted.count(deployment, at(second));
            }
            unseen
        };
        assert_eq!(unseen(&index, 100, true), 0);
        assert_eq!(unseen(&index, 100, true), 1);
        assert_eq!(unseen(&index, 101, false), 2);
        pod(&index, "a", None, 100, false);
        assert_eq!(unseen(&index, 102, false), 1, "one of them is there");
        assert_eq!(unseen(&index, 111, false), 0, "the other one was never made");
    }
}
