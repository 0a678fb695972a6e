//! Pages of model servers → readings of the pods that they were scraped from.
//!
//! Whose page it is was settled when it was fetched: the pod is the one that was asked, by namespace, name and UID, and no
//! label on the page is looked at (R6). Only families of model servers are taken, so that no page of a tenant can speak
//! about GPUs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Families, PodReading, Readings, pods::own};
use crate::{
    cluster::{Kind, Phase, View},
    reading::{Unknown, fresh},
    scrape::{Batch, OwnReadings},
};

pub(super) fn add(
    batches: &[Arc<Batch>],
    view: &View,
    families: &Families<'_>,
    now: Timestamp,
    max_age: Duration,
    readings: &mut Readings,
) {
    for OwnReadings { subject, readings: said } in batches.iter().filter_map(|batch| batch.own.as_ref()) {
        let pod = view.pods.get(&subject.pod).filter(|pod| view.knows(Kind::Pods, &pod.key.namespace));
        let Some(pod) = pod.filter(|pod| pod.uid == subject.uid && pod.phase != Phase::Finished) else { continue };
        let said = match said {
            Ok(said) => said,
            Err(why) => {
                readings.offer_nothing.insert(subject.pod.clone(), Arc::clone(why));
                continue;
            }
        };
        let mut own_families = BTreeMap::new();
        for (id, reading) in said {
            if !families.get(*id).is_some_and(|family| family.by_server) {
                continue;
            }
            let reading = reading.clone().and_then(|measured| fresh(measured, now, max_age));
            if !matches!(reading, Err(Unknown::Stale { .. })) {
                readings.seen.insert(*id);
            }
            let reading = reading.and_then(|measured| own(measured, pod));
            own_families.insert(*id, PodReading { reading, cards: Vec::new() });
        }
        // Those of its GPUs are there already, and nobody else has a reference to them yet.
        Arc::make_mut(readings.pods.entry(subject.pod.clone()).or_default()).append(&mut own_families);
    }
}
