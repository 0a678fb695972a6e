//! Which deletion costs should stand on the pods of all ordered services.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{near, order, release};
use crate::{
    config::Scrape,
    publish::{Snapshot, decided::Decided},
    signal::{Known, Observer},
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
    let mut wanted = BTreeMap::new();
    for deployment in view.deployments.values() {
        // Two orders are none; `findings` and the policy's condition tell of it.
        let Ok(Some(order)) = order(view, deployment) else { continue };
        let advice = decided.and_then(|decided| decided.advice.get(&deployment.key));
        let service = readings.services.get(&deployment.key);
        let near = near::Known { view, vocabulary, readings: service, advice }.removal(deployment);
        if near.is_none() {
            continue;
        }
        if let Some(observation) = observer.observe(&deployment.key, &order.nodes(), None) {
            if observation.cluster_unknown.is_some() {
                return None;
            }
            wanted.extend(release::costs(&observation.pods, near, standing));
        }
    }
    Some(wanted)
}
