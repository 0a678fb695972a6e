//! Which deletion costs should stand on the pods of all ordered services.

use std::{collections::BTreeMap, sync::Arc};

use apiservice::Selector;
use jiff::Timestamp;

use super::{near, release};
use crate::{
    cluster::{Kind, Unit},
    config::Scrape,
    policy::order::Orders,
    publish::{Snapshot, decided::Decided},
    signal::{Known, Observer, PoolNodes},
};

/// By UID, given what was decided and what stands there by our hand. Where the cluster is not known, what stands there stands.
#[must_use]
pub fn costs(
    snapshot: &Snapshot,
    decided: Option<&Decided>,
    scrape: &Scrape,
    now: Timestamp,
    standing: &BTreeMap<Arc<str>, i32>,
) -> BTreeMap<Arc<str>, i32> {
    let Snapshot { readings, view, vocabulary, .. } = snapshot;
    let needed = [Kind::Pods, Kind::Deployments, Kind::Nodes];
    let is_known = |namespace: &str| view.unknown(&needed, namespace).is_none();
    let mut observer = Observer::new(Known { readings, view, vocabulary, scrape }, now);
    let orders = Orders::of(view);
    let blind = view.pods.values().filter(|pod| !is_known(&pod.key.namespace));
    let mut wanted: BTreeMap<Arc<str>, i32> =
        blind.filter_map(|pod| Some((Arc::clone(&pod.uid), *standing.get(&pod.uid)?))).collect();
    for deployment in view.deployments.values().filter(|deployment| is_known(&deployment.key.namespace)) {
        // Two orders are none; `findings` and the policy's condition tell of it.
        let Ok(Some(order)) = orders.order(deployment) else { continue };
        let advice = decided.and_then(|decided| decided.advice.get(&deployment.key));
        let service = readings.services.get(&deployment.key);
        let near = near::Known { view, vocabulary, readings: service, advice }.removal(deployment);
        if near.is_none() {
            continue;
        }
        if let Some(observation) = observer.observe(&deployment.key, &nodes(&order.units), None) {
            wanted.extend(release::costs(&observation.pods, near, standing));
        }
    }
    wanted
}

/// The pools as observations want them. Whether a node autoscaler adds nodes is not known here and does not matter: what is
/// already there is released.
fn nodes(units: &[Unit]) -> Vec<PoolNodes> {
    let selector = |unit: &Unit| {
        let labels = unit.node_selector.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        Selector::from_match_labels(labels).unwrap_or_default()
    };
    units.iter().map(|unit| PoolNodes { nodes: selector(unit), elastic: false }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        attribution::scene::{MAX_AGE, SM, Scene, key, now, vocabulary},
        cluster::ResourcePolicy,
    };

    /// Deletion costs for two ready pods of an ordered service whose HPA wants fewer, while these kinds of its namespace are not
    /// listed. One of them has a cost already.
    fn wanted(unlisted: &[&'static str]) -> Vec<i32> {
        let mut scene = Scene::new().service("llm").ready(&["llm-0", "llm-1"]).hpa("h", "llm", SM, 50.0);
        let policy = json!({
            "metadata": {"name": "r", "namespace": "prod"},
            "spec": {"units": [{"nodeSelector": {"pool": "onprem"}}, {"nodeSelector": {"pool": "cloud"}}]},
        });
        scene
            .view
            .resource_policies
            .insert(key("r"), Arc::new(ResourcePolicy::from_json(&policy.to_string()).unwrap()));
        let hpa = Arc::make_mut(scene.view.autoscalers.get_mut(&key("h")).unwrap());
        (hpa.current, hpa.desired) = (2, 1);
        scene.view.namespaces = ["prod".into(), "other".into()].into();
        scene.view.unsynced_in.insert("prod".into(), unlisted.iter().copied().collect());
        let readings = scene.readings();
        let snapshot = Snapshot::of(readings, Arc::new(scene.view), Arc::new(vocabulary()), now(), MAX_AGE);
        let standing = [("uid-llm-0".into(), -7)].into();
        costs(&snapshot, None, &Scrape::default(), now(), &standing).into_values().collect()
    }

    #[test]
    fn r1_what_stands_on_pods_of_a_namespace_that_is_not_listed_stands() {
        assert_eq!(wanted(&[]), [-1], "the one that goes first");
        for kind in ["pods", "deployments"] {
            assert_eq!(wanted(&[kind]), [-7], "{kind}");
        }
    }
}
