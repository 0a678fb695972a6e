//! `custom.metrics.k8s.io`: values of pods, services in their three guises, and nodes.

use std::sync::Arc;

use apiservice::{CustomMetric, MetricValue, ObjectName, Quantity, Resource, Scope, Selector, Status};
use jiff::Timestamp;

use super::{
    Snapshot, metric_name,
    rows::PodRow,
    words::{Miss, matching, no_value, some_of},
};
use crate::{
    attribution::{Statistic, cut_off},
    cluster::{self, PodState, view::Labels},
    gpu::{Family, FamilyId},
    reading::{Measured, Unknown},
};

/// What our custom metrics describe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pod,
    InferenceService,
    Deployment,
    Service,
    Node,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Pod, Self::InferenceService, Self::Deployment, Self::Service, Self::Node];

    /// API group, plural name, version, kind.
    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Pod => ("", "pods", "v1", "Pod"),
            Self::InferenceService => ("serving.kserve.io", "inferenceservices", "v1beta1", "InferenceService"),
            Self::Deployment => ("apps", "deployments", "v1", "Deployment"),
            Self::Service => ("", "services", "v1", "Service"),
            Self::Node => ("", "nodes", "v1", "Node"),
        }
    }

    fn of(resource: &Resource) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let (group, plural, ..) = kind.names();
            resource.group == group && resource.name == plural
        })
    }

    fn scope(self) -> Scope {
        if self == Self::Node { Scope::Cluster } else { Scope::Namespaced }
    }

    fn statistics(self) -> &'static [Statistic] {
        match self {
            Self::Pod | Self::Node => &[Statistic::Mean],
            Self::InferenceService | Self::Deployment | Self::Service => &Statistic::ALL,
        }
    }

    /// Whether objects of this kind have that family: what a model server says is about its pod, and not about a node.
    fn has(self, family: &Family) -> bool {
        self != Self::Node || !family.by_server
    }

    /// The watches without which nothing can be said about it.
    fn needs(self) -> &'static [cluster::Kind] {
        use cluster::Kind::{CoreServices, Deployments, Nodes, Pods};
        match self {
            Self::Pod => &[Pods],
            Self::InferenceService | Self::Deployment => &[Pods, Deployments],
            Self::Service => &[Pods, Deployments, CoreServices],
            Self::Node => &[Nodes],
        }
    }

    /// The items of one answer share their namespace, and their names with the snapshot: 1,000 of them allocate nothing.
    fn value(self, namespace: &Arc<str>, name: Arc<str>, value: Quantity, timestamp: Timestamp) -> MetricValue {
        let (group, _, version, kind) = self.names();
        let object = ObjectName {
            kind: kind.into(),
            api_version: if group.is_empty() { version.into() } else { format!("{group}/{version}").into() },
            namespace: (self.scope() == Scope::Namespaced).then(|| Arc::clone(namespace)),
            name,
        };
        MetricValue { object, timestamp, window: None, value }
    }
}

/// A query whose resource, metric and namespace make sense.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    pub kind: Kind,
    /// Empty for nodes.
    pub namespace: &'a str,
    pub family: FamilyId,
    pub statistic: Statistic,
    pub now: Timestamp,
}

/// An object that a list may name: its name, its labels, and its reading.
pub(super) type Row<'a> = (&'a str, Option<&'a Labels>, Result<Measured, Miss>);

impl Snapshot {
    pub(super) fn custom_metrics(&self) -> Vec<CustomMetric> {
        let mut metrics = Vec::new();
        for kind in Kind::ALL {
            let (group, name, ..) = kind.names();
            for (index, _) in self.vocabulary.families.iter().enumerate().filter(|(_, family)| kind.has(family)) {
                for statistic in kind.statistics() {
                    metrics.push(CustomMetric {
                        resource: Resource { group: group.to_owned(), name: name.to_owned() },
                        scope: kind.scope(),
                        metric: metric_name(&self.vocabulary, FamilyId(index as u16), *statistic),
                    });
                }
            }
        }
        metrics
    }

    /// One object's value: for a pod also while it is not ready.
    pub(super) fn custom_by_name(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        metric_selector: &Selector,
        now: Timestamp,
    ) -> Result<MetricValue, Status> {
        let query = self.query(resource, namespace, metric, metric_selector, now)?;
        let of = || format!("{} {name}", display(resource));
        let measured = self.named(query, name).map_err(|why| no_value(metric, &of(), why))?;
        let value = Quantity::from_f64(measured.value).ok_or_else(|| no_value(metric, &of(), Unknown::Malformed))?;
        Ok(query.kind.value(&query.namespace.into(), name.into(), value, measured.at))
    }

    /// The values of the objects that match, sorted by name; of pods, only those of ready ones. Objects without a value are left
    /// out, which is how an HPA learns that they are missing. If none is left, the answer says why: an empty list would
    /// hide it.
    pub(super) fn custom_by_selector(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        objects: &Selector,
        metric: &str,
        metric_selector: &Selector,
        now: Timestamp,
    ) -> Result<Vec<MetricValue>, Status> {
        let query = self.query(resource, namespace, metric, metric_selector, now)?;
        let namespace: Arc<str> = query.namespace.into();
        let mut values = Vec::new();
        let mut without = Vec::new();
        let mut not_ready = 0;
        // Ready pods that should have a value and have none.
        let mut missing = Vec::new();
        let mut add = |name: &Arc<str>, reading: Result<Measured, Miss>| {
            let value = reading.and_then(|measured| {
                let value = Quantity::from_f64(measured.value).ok_or(Unknown::Malformed)?;
                Ok((value, measured.at))
            });
            match value {
                Ok((value, at)) => values.push(query.kind.value(&namespace, Arc::clone(name), value, at)),
                Err(why) => without.push((Arc::clone(name), why)),
            }
        };
        match query.kind {
            Kind::Pod => {
                for PodRow { pod, families } in self.pods.selected(query.namespace, objects) {
                    match pod.state {
                        PodState::Ready | PodState::CutOff => {
                            let reading = families.as_ref().and_then(|families| families.get(&query.family));
                            let reading = reading.ok_or_else(|| self.absent(&pod.key, query.family));
                            let reading = match pod.state {
                                PodState::CutOff => Err(cut_off(pod)),
                                _ => reading.and_then(|pod| self.still(&pod.reading, now)),
                            };
                            if let Err(unknown) = &reading
                                && (pod.gpus > 0 || families.is_some())
                            {
                                missing.push((&**pod, unknown.clone()));
                            }
                            add(&pod.key.name, reading.map_err(Miss::from));
                        }
                        PodState::Starting | PodState::Pending => not_ready += 1,
                        // It matches nothing: its value would count for a pod that is no longer there.
                        PodState::Leaving => {}
                    }
                }
            }
            kind => {
                for (name, labels, reading) in self.rows(kind, query) {
                    if objects.matches(|key| labels.and_then(|labels| labels.get(key)).map(|value| &**value)) {
                        add(&name.into(), reading);
                    }
                }
            }
        }
        let of = format!("{}{}", display(resource), matching(objects));
        // An HPA always asks by a selector; a list of all pods is for people.
        if !values.is_empty() && !objects.requirements().is_empty() {
            self.may_leave_out(query, objects, &values, missing).map_err(|why| no_value(metric, &of, why))?;
        }
        if !values.is_empty() {
            return Ok(values);
        }
        let place = if query.namespace.is_empty() { "the cluster" } else { query.namespace };
        Err(match (without.len(), not_ready) {
            (0, 0) => no_value(metric, &of, format_args!("there is none in {place}")),
            (0, _) => no_value(metric, &of, format_args!("none is ready in {place} ({not_ready} starting or pending)")),
            (all, _) => {
                let why = some_of(without.iter().map(|(name, why)| format!("{name}: {why}")), "; ");
                no_value(metric, &of, format_args!("none of {all} in {place} has a value: {why}"))
            }
        })
    }

    fn query<'a>(
        &self,
        resource: &Resource,
        namespace: Option<&'a str>,
        metric: &str,
        metric_selector: &Selector,
        now: Timestamp,
    ) -> Result<Query<'a>, Status> {
        let display = display(resource);
        let kind = Kind::of(resource).ok_or_else(|| no_value(metric, &display, "no metric describes this resource"))?;
        let (family, statistic) = self
            .metrics
            .get(metric)
            .copied()
            .filter(|(family, statistic)| {
                kind.statistics().contains(statistic) && kind.has(self.vocabulary.family(*family))
            })
            .ok_or_else(|| no_value(metric, &display, "it is not a metric of this resource"))?;
        if !metric_selector.matches(|_| None) {
            let why = format!("it has no labels, and the metric selector {metric_selector} demands some");
            return Err(no_value(metric, &display, why));
        }
        let namespace = match (kind.scope(), namespace) {
            // The HPA asks for nodes with its own namespace in the path.
            (Scope::Cluster, _) => "",
            (Scope::Namespaced, Some(namespace)) => namespace,
            (Scope::Namespaced, None) => return Err(no_value(metric, &display, "its objects live in namespaces")),
        };
        if let Some(why) = self.view.unknown(kind.needs(), namespace) {
            return Err(no_value(metric, &display, Unknown::ClusterUnknown(why)));
        }
        Ok(Query { kind, namespace, family, statistic, now })
    }
}

fn display(resource: &Resource) -> String {
    let Resource { group, name } = resource;
    if group.is_empty() { name.clone() } else { format!("{name}.{group}") }
}
