//! Which deletion costs should stand on the pods of all ordered services.

use std::{collections::BTreeMap, sync::Arc};

use apiservice::Selector;
use jiff::Timestamp;

use super::{near, release};
use crate::{
    cluster::Unit,
    config::Scrape,
    policy::order::Orders,
    publish::{Snapshot, decided::Decided},
    signal::{Known, Observer, PoolNodes},
};

/// By UID, given what was decided and what stands there by our hand. `None` while the cluster is unknown.
#[must_use]
pub fn costs(
    snapshot: &Snapshot,
    decided: Option<&Decided>,
    scrape: &Scrape,
    now: Timestamp,
    standing: &BTreeMap<Arc<str>, i32>,
) -> Option<BTreeMap<Arc<str>, i32>> {
    let Snapshot { readings, view, vocabulary, .. } = snapshot;
    let mut observer = Observer::new(Known { readings, view, vocabulary, scrape }, now);
    let orders = Orders::of(view);
    let mut wanted = BTreeMap::new();
    for deployment in view.deployments.values() {
        // Two orders are none; `findings` and the policy's condition tell of it.
        let Ok(Some(order)) = orders.order(deployment) else { continue };
        let advice = decided.and_then(|decided| decided.advice.get(&deployment.key));
        let service = readings.services.get(&deployment.key);
        let near = near::Known { view, vocabulary, readings: service, advice }.removal(deployment);
        if near.is_none() {
            continue;
        }
        if let Some(observation) = observer.observe(&deployment.key, &nodes(&order.units), None) {
            if observation.cluster_unknown.is_some() {
                return None;
            }
            wanted.extend(release::costs(&observation.pods, near, standing));
        }
    }
    Some(wanted)
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
