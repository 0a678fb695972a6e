//! Publishing: the metrics APIs' answers from an immutable [`Snapshot`] (R10–R12).
//!
//! A query reads the snapshot that is current and nothing else (R11). The age of what it answers is checked once more
//! against the clock: a value that has become older than `maxAge` since the snapshot was built is unknown, and so a
//! snapshot that is never replaced goes stale by itself (R2).
//!
//! What is served:
//!
//! | resource | metrics |
//! |---|---|
//! | `pods`, `nodes` | each family by its name |
//! | `inferenceservices.serving.kserve.io`, `deployments.apps`, `services` | each family, and its statistics by suffix |
//! | external | as for services; one item per service, labels `namespace`, `inferenceservice`, `deployment` |
//!
//! All families of the vocabulary are listed, whether some exporter reports them or not: discovery that comes and goes
//! with exporters would confuse its readers. Unknown values are never numbers: a list leaves the object out, and
//! everything else is a 404 whose message says why (R12). Our metrics carry no labels beside the object: a metric selector
//! that demands one matches nothing.

mod custom;
pub mod cycle;
pub mod decided;
mod external;
mod lookup;
pub mod passthrough;
mod rows;
mod selection;
mod words;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use apiservice::{CustomMetric, ExternalMetricName, ExternalValue, MetricValue, Provider, Resource, Selector, Status};
use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;

use decided::Decided;

use crate::{
    attribution::{Readings, Statistic, attribute},
    clock::Clock,
    cluster::{ObjectKey, View},
    config,
    gpu::{FamilyId, Vocabulary},
    reading::{Reading, fresh},
    scrape::Batch,
};

/// Everything that was known at one moment. Never changed after it was built.
#[derive(Debug)]
pub struct Snapshot {
    /// What was measured, by pod, service and node.
    pub readings: Readings,
    /// The cluster that it was attributed by.
    pub view: Arc<View>,
    /// The families, by the ids in `readings`.
    pub vocabulary: Arc<Vocabulary>,
    /// When it was built.
    pub built: Timestamp,
    /// How long it took to build; zero where nobody looked at the clock.
    pub took: Duration,
    /// The age beyond which a value is unknown (R2).
    pub max_age: Duration,
    metrics: HashMap<Box<str>, (FamilyId, Statistic)>,
    pods: rows::PodRows,
}

impl Snapshot {
    /// Attributes the newest batch of each target, and makes the result ready to be served. `remembered`: see
    /// [`remember`](crate::attribution::remember).
    #[must_use]
    pub fn build(
        batches: &[Arc<Batch>],
        view: Arc<View>,
        vocabulary: Arc<Vocabulary>,
        settings: &config::Aggregate,
        remembered: &BTreeSet<ObjectKey>,
        now: Timestamp,
        max_age: Duration,
    ) -> Self {
        let readings = attribute(batches, &view, &vocabulary, settings, remembered, now, max_age);
        Self::of(readings, view, vocabulary, now, max_age)
    }

    /// Makes readings ready to be served.
    #[must_use]
    pub fn of(
        readings: Readings,
        view: Arc<View>,
        vocabulary: Arc<Vocabulary>,
        built: Timestamp,
        max_age: Duration,
    ) -> Self {
        let ids = || (0..vocabulary.families.len()).map(|index| FamilyId(index as u16));
        // A family's own name goes before another's name with a suffix: the mean, inserted last, wins.
        let metrics = Statistic::ALL
            .into_iter()
            .rev()
            .flat_map(|statistic| ids().map(move |id| (id, statistic)))
            .map(|(id, statistic)| (metric_name(&vocabulary, id, statistic).into(), (id, statistic)))
            .collect();
        let pods = rows::PodRows::new(&view, &readings);
        Self { readings, view, vocabulary, built, took: Duration::ZERO, max_age, metrics, pods }
    }

    /// What is served before anything is known: errors that say so (R12).
    #[must_use]
    pub fn nothing_yet(vocabulary: Arc<Vocabulary>, now: Timestamp) -> Self {
        let unsynced =
            ["pods", "deployments", "inferenceservices", "services", "nodes", "horizontalpodautoscalers"].into();
        let view = View { unsynced, ..View::default() };
        Self::of(Readings::default(), Arc::new(view), vocabulary, now, Duration::ZERO)
    }

    /// Whether it is the name of a metric that is measured here, with a statistic's suffix or without.
    #[must_use]
    pub fn is_metric(&self, name: &str) -> bool {
        self.metrics.contains_key(name)
    }

    /// The reading, if it is still fresh (R2).
    fn still(&self, reading: &Reading, now: Timestamp) -> Reading {
        fresh(reading.clone()?, now, self.max_age)
    }
}

fn metric_name(vocabulary: &Vocabulary, id: FamilyId, statistic: Statistic) -> String {
    format!("{}{}", vocabulary.family(id).name, statistic.suffix())
}

/// Holds the current snapshot and answers the metrics APIs from it.
#[derive(Debug)]
pub struct Publisher {
    current: ArcSwap<Snapshot>,
    /// The engine's advice; `None` where nothing is decided.
    decided: ArcSwapOption<Decided>,
    clock: Clock,
}

impl Publisher {
    /// A publisher that knows nothing yet, and says so when it is asked.
    #[must_use]
    pub fn new(vocabulary: Arc<Vocabulary>, clock: Clock) -> Self {
        let nothing = Snapshot::nothing_yet(vocabulary, clock.now());
        Self { current: ArcSwap::from_pointee(nothing), decided: ArcSwapOption::empty(), clock }
    }

    /// The engine's last advice; `None` where nothing is decided.
    #[must_use]
    pub fn decided(&self) -> Option<Arc<Decided>> {
        self.decided.load_full()
    }

    /// Replaces the snapshot. Queries that are under way finish with the one they began with.
    pub fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
    }

    /// Replaces the engine's advice.
    pub fn advise(&self, decided: Decided) {
        self.decided.store(Some(Arc::new(decided)));
    }

    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

impl Provider for Publisher {
    async fn custom_by_name(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        metric_selector: &Selector,
    ) -> Result<MetricValue, Status> {
        self.snapshot().custom_by_name(resource, namespace, name, metric, metric_selector, self.clock.now())
    }

    async fn custom_by_selector(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        objects: &Selector,
        metric: &str,
        metric_selector: &Selector,
    ) -> Result<Vec<MetricValue>, Status> {
        self.snapshot().custom_by_selector(resource, namespace, objects, metric, metric_selector, self.clock.now())
    }

    async fn external(&self, namespace: &str, metric: &str, selector: &Selector) -> Result<Vec<ExternalValue>, Status> {
        let snapshot = self.snapshot();
        match &*self.decided.load() {
            Some(decided) if Decided::serves(metric) => {
                decided.external(&snapshot.view, namespace, metric, selector, self.clock.now())
            }
            _ => snapshot.external(namespace, metric, selector, self.clock.now()),
        }
    }

    fn custom_metrics(&self) -> Vec<CustomMetric> {
        self.current.load().custom_metrics()
    }

    fn external_metrics(&self) -> Vec<ExternalMetricName> {
        let mut metrics = self.current.load().external_metrics();
        if self.decided.load().is_some() {
            metrics.extend(Decided::metrics());
        }
        metrics
    }
}
