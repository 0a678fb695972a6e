//! Readings and the cluster's view → [`Observation`]s. Pure.
//!
//! An unknown reading becomes [`Signal::Unknown`] with its reason, never a number (R1), and a pod that is not Ready offers
//! nothing (R8). What a ready pod does not report is told apart:
//!
//! - *not offered*: no exporter is configured; the model server was asked and has no such family; nothing tells where it
//!   could be asked;
//! - *unknown*: everything else. In particular, what other pods of the same service report is expected of each: they run
//!   the same image.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{Observation, Pod, PoolNodes, Room, Signal, Stage, Work, room::Nodes};
use crate::{
    attribution::{PodReading, Readings, knows},
    cluster::{self, ObjectKey, PodState, Service, View},
    config,
    gpu::{FamilyId, Vocabulary},
    reading::{Reading, Unknown, fresh},
    scrape::serving_url,
    serving::Role,
};

/// Families that tell a pod's utilization, if a policy names none. The first that the service's pods report is taken for
/// all of them.
const UTILIZATION: [&str; 3] = ["DCGM_CUSTOM_PROCESS_SM_UTIL", "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_GR_ENGINE_ACTIVE"];

/// What observations are made from.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What was measured.
    pub readings: &'a Readings,
    /// The cluster that it was attributed by.
    pub view: &'a View,
    /// The families, by the ids in `readings`.
    pub vocabulary: &'a Vocabulary,
    /// What was asked for: tells what is expected, and the age beyond which a value is unknown (R2).
    pub scrape: &'a config::Scrape,
}

/// Makes the observations of one moment. What all services have in common is looked up once.
#[derive(Debug)]
pub struct Observer<'a> {
    known: Known<'a>,
    now: Timestamp,
    services: HashMap<&'a ObjectKey, Service<'a>>,
    nodes: Nodes<'a>,
    usual: Vec<FamilyId>,
}

impl<'a> Observer<'a> {
    /// For observations at `now`.
    #[must_use]
    pub fn new(known: Known<'a>, now: Timestamp) -> Self {
        let services = known.view.services().into_iter().map(|service| (&service.deployment.key, service)).collect();
        let usual = UTILIZATION.iter().filter_map(|name| known.vocabulary.by_name(name)).collect();
        Self { known, now, services, nodes: Nodes::of(known.view), usual }
    }

    /// The service behind that Deployment; `None` if there is no such Deployment. `utilization` is the family that the
    /// policy names, if it names one.
    #[must_use]
    pub fn observe(
        &mut self,
        deployment: &ObjectKey,
        pools: &[PoolNodes],
        utilization: Option<FamilyId>,
    ) -> Option<Observation> {
        let divided = self.nodes.divide(pools);
        let service = self.services.get(deployment)?;
        let offers = Offers::of(self, service, utilization);
        let mut pods: Vec<Pod> =
            [(&service.pending, Stage::Pending), (&service.starting, Stage::Starting), (&service.ready, Stage::Ready)]
                .into_iter()
                .flat_map(|(pods, stage)| pods.iter().map(move |pod| (&***pod, stage)))
                .map(|(pod, stage)| {
                    let pool = pod.node.as_ref().and_then(|node| self.nodes.pool(&divided, node));
                    let work = if stage == Stage::Ready { offers.work(self, pod) } else { Work::default() };
                    described(pod, stage, pool, work, self.now)
                })
                .collect();
        pods.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Some(Observation {
            replicas: u32::try_from(service.deployment.replicas).unwrap_or(0),
            pods,
            room: self.room(pools, &divided, service),
            cluster_unknown: self.cluster_unknown(pools),
        })
    }

    fn room(&self, pools: &[PoolNodes], divided: &[Option<usize>], service: &Service<'_>) -> Vec<Room> {
        let View { partial, .. } = self.known.view;
        if *partial || !knows(self.known.view, "nodes") || !knows(self.known.view, "pods") {
            return vec![Room::Unknown; pools.len()];
        }
        self.nodes.room(pools, divided, &service.deployment.requests)
    }

    fn cluster_unknown(&self, pools: &[PoolNodes]) -> Option<Arc<str>> {
        // Without nodes nobody knows which pool a pod is in.
        let needed = ["pods", "deployments", "nodes"].into_iter().take(if pools.is_empty() { 2 } else { 3 });
        let mut missing = needed.filter(|kind| !knows(self.known.view, kind));
        let missing = missing.next()?;
        Some(Unknown::ClusterUnknown(format!("{missing} are not listed")).to_string().into())
    }

    fn reading(&self, pod: &ObjectKey, family: FamilyId) -> Option<&Reading> {
        let families = self.known.readings.pods.get(pod)?;
        families.get(&family).map(|PodReading { reading, cards: _ }| reading)
    }
}

fn described(pod: &cluster::Pod, stage: Stage, pool: Option<usize>, work: Work, now: Timestamp) -> Pod {
    // The API server always says when an object was created; what has another source is no older than its first event.
    let created = pod.created.or(pod.scheduled).or(pod.started).unwrap_or(now);
    Pod {
        uid: Arc::clone(&pod.uid),
        name: Arc::clone(&pod.key.name),
        pool,
        stage,
        created,
        scheduled: pod.scheduled,
        running: pod.running,
        ready_since: pod.ready_since.filter(|_| stage == Stage::Ready),
        work,
    }
}

/// Which family of each kind the pods of one service report.
#[derive(Debug)]
struct Offers {
    utilization: Option<FamilyId>,
    roles: [Option<FamilyId>; ROLES.len()],
}

const ROLES: [Role; 5] = [Role::Running, Role::Waiting, Role::KvCache, Role::PromptTokens, Role::GeneratedTokens];

impl Offers {
    /// Of several families the first that some ready pod reports.
    fn of(observer: &Observer<'_>, service: &Service<'_>, utilization: Option<FamilyId>) -> Self {
        let reported = |family: &FamilyId| {
            service
                .ready
                .iter()
                .any(|pod| pod.state == PodState::Ready && observer.reading(&pod.key, *family).is_some())
        };
        Self {
            utilization: match utilization {
                Some(family) => Some(family).filter(reported),
                None => observer.usual.iter().copied().find(reported),
            },
            roles: ROLES.map(|role| observer.known.vocabulary.with_role(role).find(reported)),
        }
    }

    fn work(&self, observer: &Observer<'_>, pod: &cluster::Pod) -> Work {
        let Self { utilization, roles } = self;
        let config::Scrape { urls, discover, .. } = observer.known.scrape;
        let exporters = !urls.is_empty() || !discover.is_empty();
        // Nobody waits for the utilization of a pod without a GPU.
        let expected = exporters && pod.gpus > 0;
        let utilization = signal(observer, pod, *utilization, expected, "no exporter reports it");

        let asked = observer.known.readings.offer_nothing.contains_key(&pod.key);
        let answered = ROLES
            .iter()
            .zip(roles)
            .any(|(_, family)| family.is_some_and(|family| observer.reading(&pod.key, family).is_some()));
        let expected = !asked && !answered && serving_url(&observer.known.scrape.serving, pod).is_some();
        let [running, waiting, kv_cache, prompt_tokens, generated_tokens] =
            roles.map(|family| signal(observer, pod, family, expected, "its model server has not been read yet"));
        Work { utilization, running, waiting, kv_cache, prompt_tokens, generated_tokens, finished: Signal::NotOffered }
    }
}

/// One signal of one pod. `family`: what its service reports; `expected`: it should be there although nobody reports it.
fn signal(
    observer: &Observer<'_>,
    pod: &cluster::Pod,
    family: Option<FamilyId>,
    expected: bool,
    missing: &str,
) -> Signal {
    let Some(family) = family else {
        return if expected { Signal::Unknown(missing.into()) } else { Signal::NotOffered };
    };
    let Some(reading) = observer.reading(&pod.key, family) else {
        return Signal::Unknown(format!("other pods of the service report it; {missing}").into());
    };
    let still = |reading: &Reading| fresh(reading.clone()?, observer.now, observer.known.scrape.max_age());
    match still(reading) {
        Ok(measured) => Signal::Known { value: measured.value, at: measured.at },
        Err(unknown) => Signal::Unknown(unknown.to_string().into()),
    }
}
