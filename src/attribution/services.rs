//! Pods → services: which pods a Deployment or a core Service has, how they stand (R8), and what they read together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Families, GroupReading, PodCounts, PodReading, Readings, ServiceReadings, Statistic,
    group::{Targets, group},
    knows,
};
use crate::{
    cluster::{Autoscaler, Deployment, ObjectKey, Pod, PodState, View, view::Labels},
    gpu::FamilyId,
};

type PodReadings = BTreeMap<FamilyId, PodReading>;

/// The pods of one namespace, those with equal labels together: pods of one ReplicaSet are matched once, not each.
#[derive(Debug)]
struct Crowd<'a> {
    labels: &'a Labels,
    pods: Vec<&'a Pod>,
}

/// The HPAs of one namespace.
type Readers<'a> = [&'a Autoscaler];

pub(super) fn aggregate(view: &View, families: &Families<'_>, coverage: f64, readings: &mut Readings) {
    let crowds = crowds(view);
    let mut autoscalers: BTreeMap<&str, Vec<&Autoscaler>> = BTreeMap::new();
    for autoscaler in view.autoscalers.values() {
        autoscalers.entry(&autoscaler.key.namespace).or_default().push(autoscaler);
    }
    // The services that a pod belongs to, for core Services, whose readers are those of the Deployments behind them.
    let mut owners: BTreeMap<&ObjectKey, Vec<&Deployment>> = BTreeMap::new();
    for (key, deployment) in &view.deployments {
        let empty = Vec::new();
        let readers = autoscalers.get(&*key.namespace).unwrap_or(&empty);
        let pods = select(&crowds, &key.namespace, |labels| {
            deployment.selector.matches(|name| labels.get(name).map(|value| &**value))
        });
        let group = Members { pods: &pods, readings: &readings.pods };
        if !is_service(deployment, group, readers, families) {
            continue;
        }
        for pod in &pods {
            owners.entry(&pod.key).or_default().push(deployment);
        }
        let targets = |family: &str| targets(view, readers, &[deployment], family);
        let service = ServiceReadings {
            deployment: key.clone(),
            inference_service: deployment.inference_service.clone(),
            pods: group.counts(),
            families: group.families(families, targets, coverage),
        };
        readings.services.insert(key.clone(), service);
    }
    for (key, service) in &view.core_services {
        // As in Kubernetes, a Service without a selector has no pods of its own.
        if service.selector.is_empty() {
            continue;
        }
        let empty = Vec::new();
        let readers = autoscalers.get(&*key.namespace).unwrap_or(&empty);
        let pods = select(&crowds, &key.namespace, |labels| {
            service.selector.iter().all(|(name, value)| labels.get(name) == Some(value))
        });
        let group = Members { pods: &pods, readings: &readings.pods };
        let deployments: BTreeMap<&ObjectKey, &Deployment> = pods
            .iter()
            .filter_map(|pod| owners.get(&pod.key))
            .flatten()
            .map(|deployment| (&deployment.key, *deployment))
            .collect();
        let deployments: Vec<&Deployment> = deployments.into_values().collect();
        let targets = |family: &str| targets(view, readers, &deployments, family);
        let groups = group.families(families, targets, coverage);
        if !groups.is_empty() {
            readings.core_services.insert(key.clone(), groups);
        }
    }
}

fn crowds(view: &View) -> BTreeMap<&str, Vec<Crowd<'_>>> {
    let mut by_labels: BTreeMap<&str, BTreeMap<&Labels, Vec<&Pod>>> = BTreeMap::new();
    for pod in view.pods.values().filter(|pod| pod.state != PodState::Leaving) {
        by_labels.entry(&pod.key.namespace).or_default().entry(&pod.labels).or_default().push(pod);
    }
    let crowd = |(labels, pods)| Crowd { labels, pods };
    by_labels.into_iter().map(|(namespace, crowds)| (namespace, crowds.into_iter().map(crowd).collect())).collect()
}

/// The selected pods in the order of their keys.
fn select<'a>(
    crowds: &BTreeMap<&str, Vec<Crowd<'a>>>,
    namespace: &str,
    matches: impl Fn(&Labels) -> bool,
) -> Vec<&'a Pod> {
    let crowds = crowds.get(namespace).into_iter().flatten();
    let mut pods: Vec<&Pod> =
        crowds.filter(|crowd| matches(crowd.labels)).flat_map(|crowd| crowd.pods.iter().copied()).collect();
    pods.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    pods
}

/// See [`ServiceReadings`].
fn is_service(deployment: &Deployment, pods: Members<'_>, readers: &Readers<'_>, families: &Families<'_>) -> bool {
    let is_ours = |metric: &str| {
        families.all.iter().any(|family| {
            metric
                .strip_prefix(&*family.name)
                .is_some_and(|rest| Statistic::ALL.iter().any(|statistic| statistic.suffix() == rest))
        })
    };
    deployment.inference_service.is_some()
        || pods.pods.iter().any(|pod| pod.gpus > 0 || pods.readings.contains_key(&pod.key))
        || readers
            .iter()
            .any(|reader| scales(reader, deployment) && reader.metrics.iter().any(|(metric, _)| is_ours(metric)))
}

fn scales(autoscaler: &Autoscaler, deployment: &Deployment) -> bool {
    &*autoscaler.target_kind == "Deployment"
        && autoscaler.target_name == deployment.key.name
        && autoscaler.key.namespace == deployment.key.namespace
}

/// The targets against which the mean of a family is held: those of the HPAs that scale these Deployments and name the
/// metric. If there are none, those of all HPAs of the namespace that name it: one of them may read the value as an
/// external or object metric.
fn targets(view: &View, readers: &Readers<'_>, deployments: &[&Deployment], family: &str) -> Targets {
    if !knows(view, "horizontalpodautoscalers") {
        return Targets::Unknown;
    }
    let of = |is_reader: &dyn Fn(&Autoscaler) -> bool| -> Vec<f64> {
        let metrics = readers.iter().filter(|reader| is_reader(reader)).flat_map(|reader| &reader.metrics);
        metrics.filter(|(metric, _)| &**metric == family).map(|(_, target)| *target).collect()
    };
    let mut targets = of(&|reader| deployments.iter().any(|deployment| scales(reader, deployment)));
    if targets.is_empty() {
        targets = of(&|_| true);
    }
    match targets.as_slice() {
        [] => Targets::None,
        [first, rest @ ..] if rest.iter().all(|target| target.total_cmp(first).is_eq()) => Targets::One(*first),
        _ => Targets::Several,
    }
}

/// The pods of a service that are not leaving.
#[derive(Debug, Clone, Copy)]
struct Members<'a> {
    pods: &'a [&'a Pod],
    readings: &'a BTreeMap<ObjectKey, PodReadings>,
}

impl Members<'_> {
    fn counts(&self) -> PodCounts {
        let mut counts = PodCounts::default();
        for pod in self.pods {
            match pod.state {
                PodState::Ready => counts.ready += 1,
                PodState::Starting => counts.starting += 1,
                PodState::Pending => counts.pending += 1,
                PodState::Leaving => {}
            }
        }
        counts
    }

    /// R8: ready pods only. Which families there are is also told by pods that are not ready yet.
    fn families(
        &self,
        families: &Families<'_>,
        targets: impl Fn(&str) -> Targets,
        coverage: f64,
    ) -> BTreeMap<FamilyId, GroupReading> {
        let pods: Vec<(&Pod, Option<&PodReadings>)> =
            self.pods.iter().map(|pod| (*pod, self.readings.get(&pod.key))).collect();
        let reported: BTreeSet<FamilyId> =
            pods.iter().filter_map(|(_, readings)| *readings).flat_map(BTreeMap::keys).copied().collect();
        let named = reported.into_iter().filter_map(|id| families.get(id).map(|family| (id, family)));
        named
            .map(|(id, family)| {
                let ready = pods.iter().filter(|(pod, _)| pod.state == PodState::Ready).map(|(pod, readings)| {
                    (*pod, readings.and_then(|readings| readings.get(&id)).map(|pod| &pod.reading))
                });
                (id, group(ready, &targets(&family.name), coverage))
            })
            .collect()
    }
}
