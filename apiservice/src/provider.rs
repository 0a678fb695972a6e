//! What a user of this crate implements.

use std::{borrow::Cow, collections::BTreeMap, fmt, future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{Quantity, Selector, Status};

/// A resource as it stands in a path: `pods`, or `deployments.apps` with its group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name.
    pub name: String,
}

impl fmt::Display for Resource {
    /// As it stands in a path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, name } = self;
        if group.is_empty() { f.write_str(name) } else { write!(f, "{name}.{group}") }
    }
}

/// Whether the described objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// In namespaces.
    Namespaced,
    /// Not in namespaces: nodes, and namespaces themselves.
    Cluster,
}

/// A described object: goes out as `describedObject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    /// Kind, e.g. `Pod`.
    pub kind: Cow<'static, str>,
    /// `v1`, `apps/v1`, …
    pub api_version: Cow<'static, str>,
    /// Namespace; `None` for objects of cluster scope.
    pub namespace: Option<Arc<str>>,
    /// Name.
    pub name: Arc<str>,
}

/// One value of a custom metric.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricValue {
    /// What it describes.
    pub object: ObjectName,
    /// When it was measured: of several samples, the oldest.
    pub timestamp: Timestamp,
    /// Over which time, if over any.
    pub window: Option<Duration>,
    /// The value.
    pub value: Quantity,
}

/// One value of an external metric.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalValue {
    /// Labels that tell it from other values of the metric.
    pub labels: BTreeMap<String, String>,
    /// When it was measured: of several samples, the oldest.
    pub timestamp: Timestamp,
    /// Over which time, if over any.
    pub window: Option<Duration>,
    /// The value.
    pub value: Quantity,
}

/// A custom metric that can be asked for: one line of discovery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CustomMetric {
    /// What it describes.
    pub resource: Resource,
    /// Scope of that resource. One resource must have one scope over all metrics.
    pub scope: Scope,
    /// Name of the metric.
    pub metric: String,
}

/// An external metric that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExternalMetricName(pub String);

/// Answers the queries of the metrics APIs.
///
/// Unknown is answered with an error or by leaving an item out, never with a number. The futures are polled by request
/// handlers: answers should come from memory.
pub trait Provider: Send + Sync + 'static {
    /// One object's value: `…/namespaces/NS/RESOURCE/NAME/METRIC`, or without a namespace. A namespaced path to an object
    /// of cluster scope arrives with its namespace: the HPA always sends one.
    fn custom_by_name(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        metric_selector: &Selector,
    ) -> impl Future<Output = Result<MetricValue, Status>> + Send;

    /// The values of all objects that `objects` selects: `…/RESOURCE/*/METRIC?labelSelector=…`.
    fn custom_by_selector(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        objects: &Selector,
        metric: &str,
        metric_selector: &Selector,
    ) -> impl Future<Output = Result<Vec<MetricValue>, Status>> + Send;

    /// The values of an external metric whose labels `selector` selects.
    fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> impl Future<Output = Result<Vec<ExternalValue>, Status>> + Send;

    /// All custom metrics, for discovery. Must not fail: answer what was last known.
    fn custom_metrics(&self) -> Vec<CustomMetric>;

    /// All external metrics, for discovery. Must not fail.
    fn external_metrics(&self) -> Vec<ExternalMetricName>;
}

/// A provider may be shared with whoever feeds it.
impl<P: Provider> Provider for Arc<P> {
    fn custom_by_name(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        metric_selector: &Selector,
    ) -> impl Future<Output = Result<MetricValue, Status>> + Send {
        self.as_ref().custom_by_name(resource, namespace, name, metric, metric_selector)
    }

    fn custom_by_selector(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        objects: &Selector,
        metric: &str,
        metric_selector: &Selector,
    ) -> impl Future<Output = Result<Vec<MetricValue>, Status>> + Send {
        self.as_ref().custom_by_selector(resource, namespace, objects, metric, metric_selector)
    }

    fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> impl Future<Output = Result<Vec<ExternalValue>, Status>> + Send {
        self.as_ref().external(namespace, metric, selector)
    }

    fn custom_metrics(&self) -> Vec<CustomMetric> {
        self.as_ref().custom_metrics()
    }

    fn external_metrics(&self) -> Vec<ExternalMetricName> {
        self.as_ref().external_metrics()
    }
}
