//! What another adapter writes: lists of values and of resources. Sources: `k8s.io/metrics/pkg/apis/custom_metrics`
//! (v1beta1 says `window`, v1beta2 `windowSeconds`), `…/external_metrics/v1beta1`, `meta/v1` `APIResourceList`.

use std::{collections::BTreeMap, time::Duration};

use apiservice::{CustomMetric, ExternalMetricName, ExternalValue, MetricValue, ObjectName, Quantity, Resource, Scope};
use jiff::Timestamp;
use serde::Deserialize;

/// A list of values.
#[derive(Debug, Deserialize)]
pub(super) struct List<T> {
    /// Go writes a list without items as null.
    pub(super) items: Option<Vec<T>>,
}

/// One item of a `MetricValueList`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CustomItem {
    described_object: Described,
    timestamp: Timestamp,
    #[serde(default, alias = "window")]
    window_seconds: Option<u64>,
    value: Quantity,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    namespace: Option<String>,
    name: String,
}

/// One item of an `ExternalMetricValueList`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExternalItem {
    #[serde(default)]
    metric_labels: Option<BTreeMap<String, String>>,
    timestamp: Timestamp,
    #[serde(default, alias = "window")]
    window_seconds: Option<u64>,
    value: Quantity,
}

impl From<CustomItem> for MetricValue {
    fn from(item: CustomItem) -> Self {
        let CustomItem { described_object, timestamp, window_seconds, value } = item;
        let Described { kind, api_version, namespace, name } = described_object;
        let namespace = namespace.filter(|namespace| !namespace.is_empty());
        Self {
            object: ObjectName {
                kind: kind.into(),
                api_version: api_version.into(),
                namespace: namespace.map(Into::into),
                name: name.into(),
            },
            timestamp,
            window: window_seconds.map(Duration::from_secs),
            value,
        }
    }
}

impl From<ExternalItem> for ExternalValue {
    fn from(item: ExternalItem) -> Self {
        let ExternalItem { metric_labels, timestamp, window_seconds, value } = item;
        Self {
            labels: metric_labels.unwrap_or_default(),
            timestamp,
            window: window_seconds.map(Duration::from_secs),
            value,
        }
    }
}

/// `APIResourceList`.
#[derive(Debug, Deserialize)]
pub(super) struct ResourceList {
    #[serde(default)]
    resources: Option<Vec<ResourceItem>>,
}

#[derive(Debug, Deserialize)]
struct ResourceItem {
    name: String,
    #[serde(default)]
    namespaced: bool,
}

impl ResourceList {
    /// `pods/METRIC`, `deployments.apps/METRIC`; anything else is no custom metric.
    pub(super) fn custom(self, most: usize) -> Vec<CustomMetric> {
        let resources = self.resources.into_iter().flatten();
        resources
            .filter_map(|ResourceItem { name, namespaced }| {
                let (resource, metric) = name.split_once('/').filter(|(r, m)| !r.is_empty() && !m.is_empty())?;
                let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
                Some(CustomMetric {
                    resource: Resource { group: group.into(), name: name.into() },
                    scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
                    metric: metric.into(),
                })
            })
            .take(most)
            .collect()
    }

    /// The names are the metrics'.
    pub(super) fn external(self, most: usize) -> Vec<ExternalMetricName> {
        let names = self.resources.into_iter().flatten().map(|resource| resource.name);
        names.filter(|name| !name.is_empty()).take(most).map(ExternalMetricName).collect()
    }
}

/// `metav1.Status`.
#[derive(Debug, Deserialize)]
pub(super) struct WireStatus {
    kind: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) reason: String,
}

impl WireStatus {
    /// Reads one, if it is one.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().filter(|status: &Self| status.kind == "Status")
    }
}
