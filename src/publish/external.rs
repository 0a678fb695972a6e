//! `external.metrics.k8s.io`: exactly one item per service and query, because the HPA adds items up.

use std::collections::BTreeMap;

use apiservice::{ExternalMetricName, ExternalValue, Quantity, Selector, Status};
use jiff::Timestamp;

use super::{
    Snapshot, metric_name,
    words::{matching, no_value, some_of},
};
use crate::{
    attribution::Statistic,
    cluster::{Kind, ObjectKey},
    gpu::FamilyId,
    reading::Unknown,
};

/// The labels of a service's item.
const NAMESPACE: &str = "namespace";
const INFERENCE_SERVICE: &str = "inferenceservice";
const DEPLOYMENT: &str = "deployment";

impl Snapshot {
    pub(super) fn external_metrics(&self) -> Vec<ExternalMetricName> {
        (0..self.vocabulary.families.len())
            .flat_map(|index| {
                let id = FamilyId(index as u16);
                Statistic::ALL.map(|statistic| ExternalMetricName(metric_name(&self.vocabulary, id, statistic)))
            })
            .collect()
    }

    /// One item for each service of the namespace that the selector selects. One of them unknown, and there is no answer
    /// but why: the sum of the others would look like a fall.
    pub(super) fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
        now: Timestamp,
    ) -> Result<Vec<ExternalValue>, Status> {
        let of = || format!("services in {namespace}{}", matching(selector));
        let (family, statistic) =
            *self.metrics.get(metric).ok_or_else(|| no_value(metric, &of(), "it is not a metric of services"))?;
        if let Some(why) = self.view.unknown(&[Kind::Pods, Kind::Deployments], namespace) {
            return Err(no_value(metric, &of(), Unknown::ClusterUnknown(why)));
        }
        let mut items = Vec::new();
        let mut unknown = Vec::new();
        for service in self.services_in(namespace).filter(|service| {
            selector.matches(|key| label(&service.deployment, service.inference_service.as_deref(), key))
        }) {
            let value = self.service(service, family, statistic, now).and_then(|measured| {
                let value = Quantity::from_f64(measured.value).ok_or(Unknown::Malformed)?;
                Ok((value, measured.at))
            });
            match value {
                Ok((value, timestamp)) => {
                    let labels = item_labels(&service.deployment, service.inference_service.as_deref());
                    items.push(ExternalValue { labels, timestamp, window: None, value });
                }
                Err(why) => unknown.push(format!("{}: {why}", service.deployment.name)),
            }
        }
        if !unknown.is_empty() {
            return Err(no_value(metric, &of(), some_of(unknown, "; ")));
        }
        if items.is_empty() {
            let there = self.services_in(namespace).map(|service| match &service.inference_service {
                Some(name) => format!("{INFERENCE_SERVICE}={name},{DEPLOYMENT}={}", service.deployment.name),
                None => format!("{DEPLOYMENT}={}", service.deployment.name),
            });
            let there = some_of(there, "; ");
            let why =
                if there.is_empty() { "there is none".to_owned() } else { format!("there is none; there are {there}") };
            return Err(no_value(metric, &of(), why));
        }
        Ok(items)
    }
}

pub(super) fn label<'a>(deployment: &'a ObjectKey, inference_service: Option<&'a str>, key: &str) -> Option<&'a str> {
    match key {
        NAMESPACE => Some(&deployment.namespace),
        INFERENCE_SERVICE => inference_service,
        DEPLOYMENT => Some(&deployment.name),
        _ => None,
    }
}

pub(super) fn item_labels(deployment: &ObjectKey, inference_service: Option<&str>) -> BTreeMap<String, String> {
    [NAMESPACE, INFERENCE_SERVICE, DEPLOYMENT]
        .into_iter()
        .filter_map(|key| label(deployment, inference_service, key).map(|value| (key.to_owned(), value.to_owned())))
        .collect()
}
