//! One metrics API group, two adapters (R13): answers what ours knows and asks another adapter for the rest.
//!
//! An APIService has one backend, so two adapters cannot own `custom.metrics.k8s.io` side by side. [`Passthrough`] owns it
//! and stands before the other one. A metric is ours if our provider lists its name; the other adapter is not even asked
//! for it when ours is unknown, because a number from elsewhere is not what we measured (R12).
//!
//! Discovery is fetched in the background and never by a query. The asker was authorized before the query got here, for
//! exactly the path that is passed on; the other adapter is asked with Tidegate's own credentials, and never with the
//! asker's. [`owners`] says who owns a group on a cluster.

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use apiservice::{
    CustomMetric, ExternalMetricName, ExternalValue, MetricValue, Provider, Resource, Scope, Selector, Status,
};
use parking_lot::RwLock;

use crate::config;

mod other;
pub mod owners;
mod wire;

use other::Other;

/// Time between two looks at what the other adapter offers.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);

/// Why the other adapter cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum PassthroughError {
    /// The URL is not one.
    #[error("serve.passthrough.url: expected https://HOST[:PORT] without a path, got {url:?}")]
    Url {
        /// What was configured.
        url: String,
    },
    /// A file cannot be read.
    #[error("serve.passthrough.{field}: cannot read {}: {error}", path.display())]
    Read {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("serve.passthrough.{field}: {}: expected {expected}", path.display())]
    Content {
        /// The setting.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The HTTP client cannot be made.
    #[error("serve.passthrough: {0}")]
    Client(#[from] reqwest::Error),
}

/// Our provider before another adapter.
#[derive(Debug)]
pub struct Passthrough<P> {
    inner: P,
    other: Arc<Other>,
    /// Names that our provider has listed. They stay ours, and are not listed anew for every query.
    custom: Ours,
    external: Ours,
}

#[derive(Debug, Default)]
struct Ours(RwLock<HashSet<String>>);

impl Ours {
    /// Whether the name is ours; `list` is asked only for names that were not seen so far.
    fn knows(&self, name: &str, list: impl FnOnce() -> Vec<String>) -> bool {
        if self.0.read().contains(name) {
            return true;
        }
        let names = list();
        let known = names.iter().any(|ours| ours == name);
        if known {
            self.0.write().extend(names);
        }
        known
    }
}

impl<P: Provider> Passthrough<P> {
    /// Puts `inner` before the configured adapter.
    pub fn new(inner: P, config: &config::Passthrough) -> Result<Self, PassthroughError> {
        let other = Arc::new(Other::new(config)?);
        Ok(Self { inner, other, custom: Ours::default(), external: Ours::default() })
    }

    /// Keeps the other adapter's discovery and our credentials for it current, every [`DISCOVERY_INTERVAL`]. To be run
    /// beside the server for as long as it serves.
    pub fn refresh(&self) -> impl Future<Output = Infallible> + Send + 'static + use<P> {
        let other = Arc::clone(&self.other);
        async move {
            loop {
                other.refresh().await;
                tokio::time::sleep(DISCOVERY_INTERVAL).await;
            }
        }
    }

    /// What was wrong when the other adapter was last looked at.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.other.problem()
    }

    fn custom_is_ours(&self, metric: &str) -> bool {
        self.custom.knows(metric, || self.inner.custom_metrics().into_iter().map(|known| known.metric).collect())
    }

    fn external_is_ours(&self, metric: &str) -> bool {
        self.external.knows(metric, || self.inner.external_metrics().into_iter().map(|known| known.0).collect())
    }
}

impl<P: Provider> Provider for Passthrough<P> {
    async fn custom_by_name(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        metric_selector: &Selector,
    ) -> Result<MetricValue, Status> {
        if self.custom_is_ours(metric) {
            return self.inner.custom_by_name(resource, namespace, name, metric, metric_selector).await;
        }
        let everything = Selector::everything();
        let values = self.other.custom(resource, namespace, name, &everything, metric, metric_selector).await?;
        values.into_iter().next().ok_or_else(|| {
            Status::not_found(format!("the adapter behind this one has no {metric} for {} {name}", resource.name))
        })
    }

    async fn custom_by_selector(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        objects: &Selector,
        metric: &str,
        metric_selector: &Selector,
    ) -> Result<Vec<MetricValue>, Status> {
        if self.custom_is_ours(metric) {
            return self.inner.custom_by_selector(resource, namespace, objects, metric, metric_selector).await;
        }
        self.other.custom(resource, namespace, "*", objects, metric, metric_selector).await
    }

    async fn external(&self, namespace: &str, metric: &str, selector: &Selector) -> Result<Vec<ExternalValue>, Status> {
        if self.external_is_ours(metric) {
            return self.inner.external(namespace, metric, selector).await;
        }
        self.other.external(namespace, metric, selector).await
    }

    fn custom_metrics(&self) -> Vec<CustomMetric> {
        let mut metrics = self.inner.custom_metrics();
        let ours: HashSet<String> = metrics.iter().map(|known| known.metric.clone()).collect();
        // One resource has one scope, or clients drop the whole group: ours decides, then whoever comes first.
        let mut scopes: BTreeMap<Resource, Scope> =
            metrics.iter().map(|known| (known.resource.clone(), known.scope)).collect();
        for theirs in &self.other.discovery().custom {
            let scope = *scopes.entry(theirs.resource.clone()).or_insert(theirs.scope);
            if scope == theirs.scope && !ours.contains(&theirs.metric) {
                metrics.push(theirs.clone());
            }
        }
        metrics
    }

    fn external_metrics(&self) -> Vec<ExternalMetricName> {
        let mut metrics = self.inner.external_metrics();
        let ours: HashSet<String> = metrics.iter().map(|known| known.0.clone()).collect();
        metrics.extend(self.other.discovery().external.iter().filter(|theirs| !ours.contains(&theirs.0)).cloned());
        metrics
    }
}

#[cfg(test)]
mod tests;
