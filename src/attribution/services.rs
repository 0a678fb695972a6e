//! Pods → services: which pods a Deployment or a core Service has, how they stand (R8), and what they read together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Families, GroupReading, PodCounts, PodReading, Readings, ServiceReadings, Statistic,
    group::{Targets, group},
    readers::Readers,
    silence::{self, Sight},
};
use crate::{
    cluster::{Deployment, Kind, ObjectKey, Pod, PodState, View, view::Labels},
    gpu::FamilyId,
    policy::order::Orders,
};

pub(super) fn aggregate(
    view: &View,
    families: &Families<'_>,
    remembered: &BTreeSet<ObjectKey>,
    coverage: f64,
    readings: &mut Readings,
) {
    let readers = Readers::by_namespace(view);
    let targets = |namespace: &str, deployments: &[&Deployment], family: &str| match readers.get(namespace) {
        _ if !view.knows(Kind::Autoscalers, namespace) => Targets::Unknown,
        Some(readers) => readers.targets(deployments, family),
        None => Targets::None,
    };
    // For core Services, whose readers are those of the Deployments behind them.
    let mut deployments_of: HashMap<&ObjectKey, Vec<&Deployment>> = HashMap::new();
    let orders = Orders::of(view);
    let mut seats = BTreeMap::new();
    let mut services = view.services();
    services.retain(|service| is_known(view, &service.deployment.key.namespace));
    for service in &services {
        silence::seat(view, &orders, service, &mut seats);
    }
    readings.seats = seats;
    for service in services {
        let (deployment, key) = (&**service.deployment, &service.deployment.key);
        let pods = || service.ready.iter().chain(&service.starting).chain(&service.pending).chain(&service.cut_off);
        let is_service = deployment.inference_service.is_some()
            || remembered.contains(key)
            || pods().any(|pod| pod.gpus > 0 || readings.pods.contains_key(&pod.key))
            || readers
                .get(&*key.namespace)
                .is_some_and(|readers| readers.of(deployment).any(|(metric, _)| is_ours(metric, families)));
        if !is_service {
            continue;
        }
        if !view.core_services.is_empty() {
            pods().for_each(|pod| deployments_of.entry(&pod.key).or_default().push(deployment));
        }
        let targets = |family: &str| targets(&key.namespace, &[deployment], family);
        let groups = groups(view, pods().map(|pod| &***pod), readings, families, targets, coverage);
        let service = ServiceReadings {
            deployment: key.clone(),
            inference_service: deployment.inference_service.clone(),
            pods: PodCounts {
                ready: service.ready.len(),
                starting: service.starting.len(),
                pending: service.pending.len(),
                cut_off: service.cut_off.len(),
            },
            families: groups,
        };
        readings.services.insert(key.clone(), service);
    }
    let crowds = if view.core_services.is_empty() { BTreeMap::new() } else { crowds(view) };
    for (key, service) in &view.core_services {
        // As in Kubernetes, a Service without a selector has no pods of its own.
        if service.selector.is_empty() || !is_known(view, &key.namespace) {
            continue;
        }
        let pods = selected(&crowds, &key.namespace, &service.selector);
        let behind = pods.iter().filter_map(|pod| deployments_of.get(&pod.key)).flatten();
        let behind: BTreeMap<&ObjectKey, &Deployment> =
            behind.map(|deployment| (&deployment.key, *deployment)).collect();
        let behind: Vec<&Deployment> = behind.into_values().collect();
        let targets = |family: &str| targets(&key.namespace, &behind, family);
        let groups = groups(view, pods.iter().map(|pod| &***pod), readings, families, targets, coverage);
        if !groups.is_empty() {
            readings.core_services.insert(key.clone(), groups);
        }
    }
}

/// Whether it is known which services the namespace has, and which pods they have.
fn is_known(view: &View, namespace: &str) -> bool {
    view.unknown(&[Kind::Pods, Kind::Deployments], namespace).is_none()
}

/// Whether a metric is a family of the vocabulary or one of its statistics.
fn is_ours(metric: &str, families: &Families<'_>) -> bool {
    families.all.iter().any(|family| {
        let suffix = metric.strip_prefix(&*family.name);
        suffix.is_some_and(|suffix| Statistic::ALL.iter().any(|statistic| statistic.suffix() == suffix))
    })
}

/// A pod and what it reads.
type Member<'a> = (&'a Pod, Option<&'a BTreeMap<FamilyId, PodReading>>);

/// R8: made of ready pods only, and of those that were until they were cut off. Which families there are is also told by pods
/// that are not ready yet.
fn groups<'a>(
    view: &View,
    pods: impl Iterator<Item = &'a Pod>,
    readings: &'a Readings,
    families: &Families<'_>,
    targets: impl Fn(&str) -> Targets,
    coverage: f64,
) -> BTreeMap<FamilyId, GroupReading> {
    let pods: Vec<Member<'_>> =
        pods.map(|pod| (pod, readings.pods.get(&pod.key).map(|families| &**families))).collect();
    let reported: BTreeSet<FamilyId> =
        pods.iter().filter_map(|(_, readings)| *readings).flat_map(BTreeMap::keys).copied().collect();
    let named = reported.into_iter().filter_map(|id| families.get(id).map(|family| (id, family)));
    named
        .map(|(id, family)| {
            let ready = pods.iter().filter(|(pod, _)| matches!(pod.state, PodState::Ready | PodState::CutOff));
            let ready = ready
                .map(|(pod, readings)| (*pod, readings.and_then(|readings| readings.get(&id)).map(|pod| &pod.reading)));
            let sight = Sight { view, readings, by_server: family.by_server };
            (id, group(ready, &targets(&family.name), coverage, &sight))
        })
        .collect()
}

/// Pods with equal labels: those of one ReplicaSet are matched once, not each.
#[derive(Debug)]
struct Crowd<'a> {
    labels: &'a Labels,
    pods: Vec<&'a Arc<Pod>>,
}

fn crowds(view: &View) -> BTreeMap<&str, Vec<Crowd<'_>>> {
    let mut by_labels: BTreeMap<&str, BTreeMap<&Labels, Vec<&Arc<Pod>>>> = BTreeMap::new();
    for pod in view.pods.values().filter(|pod| pod.state != PodState::Leaving) {
        by_labels.entry(&pod.key.namespace).or_default().entry(&pod.labels).or_default().push(pod);
    }
    let crowd = |(labels, pods)| Crowd { labels, pods };
    by_labels.into_iter().map(|(namespace, crowds)| (namespace, crowds.into_iter().map(crowd).collect())).collect()
}

/// The pods that carry these labels, in the order of their keys.
fn selected<'a>(crowds: &BTreeMap<&str, Vec<Crowd<'a>>>, namespace: &str, labels: &Labels) -> Vec<&'a Arc<Pod>> {
    let carries = |crowd: &&Crowd<'_>| labels.iter().all(|(name, value)| crowd.labels.get(name) == Some(value));
    let crowds = crowds.get(namespace).into_iter().flatten().filter(carries);
    let mut pods: Vec<&Arc<Pod>> = crowds.flat_map(|crowd| crowd.pods.iter().copied()).collect();
    pods.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    pods
}
