//! Clusters and pages in a few words, for tests.
//!
//! A line is written `FAMILY POD CARD VALUE`, e.g. `SM llm-0 a#7 50`: process 7 of pod llm-0 on card a. `-` is no pod;
//! without `#7` the line has no process; `llm-0@u2` carries a UID, `a.3` is MIG instance 3; a value of `NaN` is unknown.
//! `age=20` after it gives the line a timestamp of its own, `node=n2` a node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{PodReading, Readings, Statistic, attribute};
use crate::{
    cluster::{
        Autoscaler, AutoscalerClass, CoreService, Deployment, InferenceService, Node, ObjectKey, PageHint, Phase, Pod,
        PodState, Resources, View,
    },
    config::Aggregate,
    gpu::{CardId, FamilyId, Owner, Sample, Vocabulary},
    reading::{Measured, Reading, Unknown},
    scrape::{Batch, OwnReadings, Subject, TargetId},
};

pub(crate) const SM: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
pub(crate) const MEM: &str = "DCGM_CUSTOM_PROCESS_MEM_USED";
pub(crate) const GPU: &str = "DCGM_FI_DEV_GPU_UTIL";
pub(crate) const MAX_AGE: Duration = Duration::from_secs(30);

const FAMILIES: [(&str, &str); 5] = [
    ("SM", SM),
    ("ENC", "DCGM_CUSTOM_PROCESS_ENCODE_UTIL"),
    ("MEM", MEM),
    ("GPU", GPU),
    ("GR", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
];

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub(crate) fn ago(seconds: i64) -> Timestamp {
    now() - SignedDuration::from_secs(seconds)
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "prod".into(), name: name.into() }
}

pub(crate) fn vocabulary() -> Vocabulary {
    Vocabulary::default()
}

pub(crate) fn family(name: &str) -> FamilyId {
    let long = FAMILIES.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
    vocabulary().by_name(long).unwrap()
}

/// A page of target `exporter` on node `n1`, one second old.
pub(crate) fn page(lines: &[&str]) -> Batch {
    let mut batch = Batch {
        target: TargetId("exporter".into()),
        rank: 0,
        node: Some("n1".into()),
        measured: ago(1),
        samples: Vec::new(),
        sample_times: [].into(),
        absent_means_idle: false,
        own: None,
    };
    for (index, text) in lines.iter().enumerate() {
        let mut words = text.split(' ');
        let (short, pod, card, value) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let (card, process) = card.split_once('#').map_or((card, None), |(card, process)| (card, Some(process.into())));
        let (uuid, instance) = card.split_once('.').map_or((card, None), |(uuid, i)| (uuid, Some(i.into())));
        let owner = (pod != "-").then(|| {
            let (pod, uid) = pod.split_once('@').map_or((pod, None), |(pod, uid)| (pod, Some(uid.into())));
            Owner { namespace: "prod".into(), pod: pod.into(), container: None, uid }
        });
        let reading = match value.parse::<f64>().unwrap() {
            value if value.is_nan() => Err(Unknown::Malformed),
            value => Ok(Measured { value, at: batch.measured }),
        };
        let mut node = None;
        for word in words {
            match word.split_once('=').unwrap() {
                ("age", age) => drop(batch.sample_times.insert(index, ago(age.parse().unwrap()))),
                ("node", name) => node = Some(name.into()),
                other => panic!("unknown word {other:?}"),
            }
        }
        let card = CardId { uuid: uuid.into(), instance };
        batch.samples.push(Sample { family: family(short), card, node, owner, process, reading });
    }
    batch
}

/// So many GPUs, for so many pods.
pub(crate) fn gpus(count: u32, pods: u64) -> Resources {
    let gpus = if count > 0 { vec![("nvidia.com/gpu".into(), u64::from(count))] } else { Vec::new() };
    Resources { gpus, pods, ..Resources::default() }
}

/// A cluster and its pages.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub view: View,
    pub settings: Aggregate,
    pub pages: Vec<Batch>,
    pub remembered: BTreeSet<ObjectKey>,
}

impl Scene {
    /// Node n1 and nothing on it.
    pub fn new() -> Self {
        let mut view = View::default();
        view.nodes.insert(
            "n1".into(),
            Arc::new(Node {
                name: "n1".into(),
                labels: [].into(),
                created: None,
                open: true,
                lost: false,
                gpus: 8,
                allocatable: gpus(8, 110),
            }),
        );
        Self { view, settings: Aggregate::default(), pages: Vec::new(), remembered: BTreeSet::new() }
    }

    /// A Deployment of that name, its InferenceService if it ends in `-predictor`, and a core Service of the same name.
    pub fn service(mut self, name: &str) -> Self {
        let inference_service: Option<Arc<str>> = name.strip_suffix("-predictor").map(Into::into);
        if let Some(name) = &inference_service {
            let served = InferenceService {
                key: key(name),
                labels: [("team".into(), "a".into())].into(),
                autoscaler: AutoscalerClass::External,
                multi_node: false,
            };
            self.view.inference_services.insert(key(name), Arc::new(served));
        }
        let deployment = Deployment {
            key: key(name),
            labels: [].into(),
            selector: format!("app=isvc.{name}").parse().unwrap(),
            replicas: 1,
            template_labels: [].into(),
            inference_service,
            requests: gpus(1, 1),
        };
        self.view.deployments.insert(key(name), Arc::new(deployment));
        let selector = [("app".into(), format!("isvc.{name}").into())].into();
        let service = CoreService { key: key(name), labels: [].into(), selector };
        self.view.core_services.insert(key(name), Arc::new(service));
        self
    }

    /// A pod of the service that its name begins with, started an hour ago with that many GPUs.
    pub fn pod(mut self, name: &str, state: PodState, gpus: u32) -> Self {
        let service = name.rsplit_once('-').map_or(name, |(service, _)| service);
        let pod = Pod {
            key: key(name),
            uid: format!("uid-{name}").into(),
            labels: [("app".into(), format!("isvc.{service}").into())].into(),
            node: Some("n1".into()),
            ip: None,
            ports: Vec::new(),
            phase: if state == PodState::Pending { Phase::Pending } else { Phase::Running },
            state,
            created: Some(ago(3700)),
            scheduled: Some(ago(3650)),
            started: Some(ago(3600)),
            running: Some(ago(3590)),
            ready_since: Some(ago(3500)),
            gpus,
            requests: self::gpus(gpus, 1),
            deletion_cost: None,
            page: PageHint::default(),
        };
        self.view.pods.insert(key(name), Arc::new(pod));
        self
    }

    /// Ready pods with one GPU each.
    pub fn ready(self, names: &[&str]) -> Self {
        names.iter().fold(self, |scene, name| scene.pod(name, PodState::Ready, 1))
    }

    pub fn change_pod(mut self, name: &str, change: impl FnOnce(&mut Pod)) -> Self {
        change(Arc::make_mut(self.view.pods.get_mut(&key(name)).unwrap()));
        self
    }

    /// An HPA that scales the Deployment and reads the metric.
    pub fn hpa(mut self, name: &str, deployment: &str, metric: &str, target: f64) -> Self {
        let autoscaler = Autoscaler {
            key: key(name),
            target_kind: "Deployment".into(),
            target_name: deployment.into(),
            metrics: vec![(metric.into(), target)],
            exact: false,
            min: 1,
            max: 3,
            current: 1,
            desired: 1,
        };
        self.view.autoscalers.insert(key(name), Arc::new(autoscaler));
        self
    }

    pub fn page(mut self, lines: &[&str]) -> Self {
        self.pages.push(page(lines));
        self
    }

    /// A page of another target.
    pub fn other_page(mut self, target: &str, rank: u32, lines: &[&str]) -> Self {
        self.pages.push(Batch { target: TargetId(target.into()), rank, ..page(lines) });
        self
    }

    /// The page of the pod's own model server, one second old; `NaN` is unknown. No families: it offers nothing.
    pub fn server(mut self, pod: &str, families: &[(&str, f64)]) -> Self {
        let readings = families.iter().map(|(name, value)| {
            let known = Measured { value: *value, at: ago(1) };
            (family(name), if value.is_nan() { Err(Unknown::Malformed) } else { Ok(known) })
        });
        let subject = Subject { pod: key(pod), uid: format!("uid-{pod}").into() };
        let readings = if families.is_empty() { Err("connection refused".into()) } else { Ok(readings.collect()) };
        let own = Some(OwnReadings { subject, readings });
        let target = TargetId(format!("server:prod/{pod}/uid-{pod}").into());
        self.pages.push(Batch { target, own, ..page(&[]) });
        self
    }

    /// Changes the last page.
    pub fn change_page(mut self, change: impl FnOnce(&mut Batch)) -> Self {
        change(self.pages.last_mut().unwrap());
        self
    }

    /// The same services, pods and lines once more in another namespace, on cards of their own. Both namespaces are watched, and
    /// of the other one these kinds are not listed.
    pub fn beside_unlisted(mut self, namespace: &str, kinds: &[&'static str]) -> Self {
        let there = |key: &ObjectKey| ObjectKey { namespace: namespace.into(), name: Arc::clone(&key.name) };
        let view = &mut self.view;
        for pod in view.pods.values().cloned().collect::<Vec<_>>() {
            view.pods.insert(there(&pod.key), Arc::new(Pod { key: there(&pod.key), ..(*pod).clone() }));
        }
        for one in view.deployments.values().cloned().collect::<Vec<_>>() {
            view.deployments.insert(there(&one.key), Arc::new(Deployment { key: there(&one.key), ..(*one).clone() }));
        }
        for one in view.inference_services.values().cloned().collect::<Vec<_>>() {
            let copy = InferenceService { key: there(&one.key), ..(*one).clone() };
            view.inference_services.insert(there(&one.key), Arc::new(copy));
        }
        for one in view.core_services.values().cloned().collect::<Vec<_>>() {
            let copy = CoreService { key: there(&one.key), ..(*one).clone() };
            view.core_services.insert(there(&one.key), Arc::new(copy));
        }
        for page in &mut self.pages {
            let owned = |sample: &Sample| {
                let owner = Owner { namespace: namespace.into(), ..sample.owner.clone()? };
                let card = CardId { uuid: format!("{namespace}-{}", sample.card.uuid).into(), ..sample.card.clone() };
                Some(Sample { owner: Some(owner), card, ..sample.clone() })
            };
            let copies: Vec<Sample> = page.samples.iter().filter_map(owned).collect();
            page.samples.extend(copies);
        }
        self.view.namespaces = ["prod".into(), namespace.into()].into();
        self.view.unsynced_in.insert(namespace.into(), kinds.iter().copied().collect());
        self
    }

    pub fn readings(&self) -> Readings {
        let batches: Vec<Arc<Batch>> = self.pages.iter().cloned().map(Arc::new).collect();
        attribute(&batches, &self.view, &vocabulary(), &self.settings, &self.remembered, now(), MAX_AGE)
    }

    pub fn pod_reading(&self, pod: &str, name: &str) -> Reading {
        let readings = self.readings();
        let family = readings.pods.get(&key(pod)).and_then(|families| families.get(&family(name)));
        family.map_or(Err(Unknown::Absent), |PodReading { reading, .. }| reading.clone())
    }

    pub fn pod_value(&self, pod: &str, name: &str) -> Option<f64> {
        self.pod_reading(pod, name).ok().map(|measured| measured.value)
    }

    pub fn service_reading(&self, deployment: &str, name: &str, statistic: Statistic) -> Reading {
        let readings = self.readings();
        readings.services[&key(deployment)].families[&family(name)].statistics[&statistic].clone()
    }
}
