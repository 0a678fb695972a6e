//! Names → readings in the snapshot.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    Snapshot,
    custom::{Kind, Query, Row},
    words::{Miss, some_of},
};
use crate::{
    attribution::{GroupReading, PodReading, ServiceReadings, Statistic},
    cluster::{ObjectKey, Phase, view::Labels},
    gpu::FamilyId,
    reading::{Measured, Reading, Unknown},
};

impl Snapshot {
    /// The reading of the object of that name.
    pub(super) fn named(&self, query: Query<'_>, name: &str) -> Result<Measured, Miss> {
        let Query { kind, namespace, family, statistic, now } = query;
        let key = ObjectKey { namespace: namespace.into(), name: name.into() };
        let nowhere = |what: &str| Miss::NoObject(format!("there is no {what} of that name in {namespace}"));
        let reading = match kind {
            Kind::Pod => {
                let pod = self.view.pods.get(&key).ok_or_else(|| nowhere("pod"))?;
                if pod.phase == Phase::Finished {
                    return Err(Miss::NoObject("the pod has finished".into()));
                }
                let families = self.readings.pods.get(&key);
                let Some(PodReading { reading, cards: _ }) = families.and_then(|families| families.get(&family)) else {
                    return Err(self.absent(&key, family).into());
                };
                Some(reading)
            }
            Kind::InferenceService => {
                self.predictor(namespace, name)?.families.get(&family).map(|group| of(group, statistic))
            }
            Kind::Deployment => {
                if !self.view.deployments.contains_key(&key) {
                    return Err(nowhere("Deployment"));
                }
                let service = self.readings.services.get(&key);
                let service = service.ok_or_else(|| Miss::NoObject("none of its pods has a GPU".into()))?;
                return Ok(self.service(service, family, statistic, now)?);
            }
            Kind::Service => {
                if !self.view.core_services.contains_key(&key) {
                    return Err(nowhere("Service"));
                }
                let families = self.readings.core_services.get(&key);
                families.and_then(|families| families.get(&family)).map(|group| of(group, statistic))
            }
            Kind::Node => {
                let node = self.view.nodes.get(name);
                node.ok_or_else(|| Miss::NoObject("there is no node of that name".into()))?;
                self.readings.nodes.get(name).and_then(|families| families.get(&family))
            }
        };
        match (reading, kind) {
            (Some(reading), _) => Ok(self.still(reading, now)?),
            (None, Kind::InferenceService) => {
                Ok(self.service(self.predictor(namespace, name)?, family, statistic, now)?)
            }
            (None, _) => Err(Unknown::Absent.into()),
        }
    }

    /// Why a pod has no reading of the family at all.
    pub(super) fn absent(&self, pod: &ObjectKey, family: FamilyId) -> Unknown {
        if !self.vocabulary.family(family).by_server {
            return Unknown::Absent;
        }
        let why = match (self.readings.offer_nothing.get(pod), self.readings.pods.get(pod)) {
            (Some(why), _) => Arc::clone(why),
            (None, Some(families)) if families.keys().any(|id| self.vocabulary.family(*id).by_server) => {
                "the page has no such family".into()
            }
            _ => "it has not been read; is scrape.serving on, and does the pod tell its port?".into(),
        };
        Unknown::NoPage(why)
    }

    /// A service's reading, still fresh. A service without ready pods says so, whatever families its pods once reported.
    pub(super) fn service(
        &self,
        service: &ServiceReadings,
        family: FamilyId,
        statistic: Statistic,
        now: Timestamp,
    ) -> Reading {
        match service.families.get(&family) {
            Some(group) => self.still(of(group, statistic), now),
            None if service.pods.ready + service.pods.cut_off == 0 => Err(Unknown::NoReadyPods),
            None => Err(Unknown::Absent),
        }
    }

    /// The Deployment behind an InferenceService: `<name>-predictor`, or else the only one that serves it.
    fn predictor(&self, namespace: &str, name: &str) -> Result<&ServiceReadings, Miss> {
        let exists =
            self.view.inference_services.contains_key(&ObjectKey { namespace: namespace.into(), name: name.into() });
        let serves = |service: &ServiceReadings| service.inference_service.as_deref() == Some(name);
        let usual = ObjectKey { namespace: namespace.into(), name: format!("{name}-predictor").into() };
        if let Some(service) = self.readings.services.get(&usual)
            && (serves(service) || exists && service.inference_service.is_none())
        {
            return Ok(service);
        }
        let mut serving = self.services_in(namespace).filter(|service| serves(service));
        match (serving.next(), serving.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => {
                let names = self.services_in(namespace).filter(|service| serves(service));
                let names = some_of(names.map(|service| Arc::clone(&service.deployment.name)), ", ");
                let why = format!("several Deployments serve it ({names}): ask for one of them by deployments.apps");
                Err(Unknown::Ambiguous(why).into())
            }
            (None, _) if exists => Err(Miss::NoObject("no Deployment serves it".into())),
            (None, _) => Err(Miss::NoObject(format!("there is no InferenceService of that name in {namespace}"))),
        }
    }

    pub(super) fn services_in(&self, namespace: &str) -> impl Iterator<Item = &ServiceReadings> {
        in_namespace(&self.readings.services, namespace).map(|(_, service)| service)
    }

    /// The objects of a kind other than pods, sorted by name.
    pub(super) fn rows<'a>(&'a self, kind: Kind, query: Query<'a>) -> Box<dyn Iterator<Item = Row<'a>> + 'a> {
        let row = move |name: &'a str, labels| (name, labels, self.named(query, name));
        match kind {
            Kind::Pod => Box::new(std::iter::empty()),
            Kind::Deployment => Box::new(self.services_in(query.namespace).map(move |service| {
                let labels = self.view.deployments.get(&service.deployment).map(|deployment| &deployment.labels);
                row(&service.deployment.name, labels)
            })),
            Kind::Service => Box::new(
                in_namespace(&self.view.core_services, query.namespace)
                    .filter(|(key, _)| self.readings.core_services.contains_key(key))
                    .map(move |(key, service)| row(&key.name, Some(&service.labels))),
            ),
            Kind::InferenceService => {
                let listed = in_namespace(&self.view.inference_services, query.namespace)
                    .map(|(key, service)| (&*key.name, Some(&service.labels)));
                // Where the CRD is not watched, Deployments still name the InferenceServices that they serve.
                let served =
                    self.services_in(query.namespace).filter_map(|service| service.inference_service.as_deref());
                let all: BTreeMap<&str, Option<&Labels>> = served.map(|name| (name, None)).chain(listed).collect();
                Box::new(all.into_iter().map(move |(name, labels)| row(name, labels)))
            }
            Kind::Node => Box::new(
                self.view
                    .nodes
                    .iter()
                    .filter(|(name, _)| self.readings.nodes.contains_key(&**name))
                    .map(move |(name, node)| row(name, Some(&node.labels))),
            ),
        }
    }
}

/// The entries of one namespace.
fn in_namespace<'a, V>(
    map: &'a BTreeMap<ObjectKey, V>,
    namespace: &str,
) -> impl Iterator<Item = (&'a ObjectKey, &'a V)> {
    let first = ObjectKey { namespace: namespace.into(), name: "".into() };
    let namespace = Arc::clone(&first.namespace);
    map.range(first..).take_while(move |(key, _)| key.namespace == namespace)
}

fn of(group: &GroupReading, statistic: Statistic) -> &Reading {
    const NONE: &Reading = &Err(Unknown::Absent);
    group.statistics.get(&statistic).unwrap_or(NONE)
}
