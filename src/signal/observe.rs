//! Readings and the cluster's view → [`Observation`]s. Pure.
//!
//! An unknown reading becomes [`Signal::Unknown`] with its reason, never a number (R1), and a pod that is not Ready offers
//! nothing (R8). What a ready pod does not report is told apart:
//!
//! - *not offered*: no exporter is configured; the model server was asked and has no such family; nothing tells where it
//!   could be asked;
//! - *unknown*: everything else. In particular, what other pods of the same service report is expected of each: they run
//!   the same image; and everything of a pod that was ready when its node was last heard of: it counts as ready, and for as
//!   long as it is there nothing is removed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::{Observation, Pod, PoolNodes, Room, Signal, Stage, Work, room::Nodes};
use crate::{
    attribution::{PodReading, Readings, cut_off},
    cluster::{self, Kind, ObjectKey, Service, View},
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
    utilization: Vec<FamilyId>,
    roles: [Vec<FamilyId>; ROLES.len()],
}

const ROLES: [Role; 6] =
    [Role::Running, Role::Waiting, Role::KvCache, Role::PromptTokens, Role::GeneratedTokens, Role::Finished];

/// What is known of one pod, by family.
type Families = BTreeMap<FamilyId, PodReading>;

impl<'a> Observer<'a> {
    /// For observations at `now`.
    #[must_use]
    pub fn new(known: Known<'a>, now: Timestamp) -> Self {
        let Known { view, vocabulary, .. } = known;
        Self {
            known,
            now,
            services: view.services().into_iter().map(|service| (&service.deployment.key, service)).collect(),
            nodes: Nodes::of(view),
            utilization: UTILIZATION.iter().filter_map(|name| vocabulary.by_name(name)).collect(),
            roles: ROLES.map(|role| vocabulary.with_role(role).collect()),
        }
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
        let service = self.services.get(deployment)?;
        self.nodes.divide(pools);
        let families = |pod: &cluster::Pod| self.known.readings.pods.get(&pod.key).map(|families| &**families);
        let ready: Vec<(&cluster::Pod, Option<&Families>)> =
            service.ready.iter().map(|pod| (&***pod, families(pod))).collect();
        let reported = |family: &FamilyId| {
            ready.iter().any(|(_, families)| families.is_some_and(|families| families.contains_key(family)))
        };
        let utilization = match utilization {
            Some(family) => Some(family).filter(reported),
            None => self.utilization.iter().copied().find(reported),
        };
        let offers = Offers {
            utilization,
            roles: self.roles.each_ref().map(|families| families.iter().copied().find(reported)),
        };
        let working = ready.iter().map(|(pod, families)| (*pod, Stage::Ready, self.work(&offers, pod, *families)));
        let cut_off = service.cut_off.iter().map(|pod| (&***pod, Stage::Ready, out_of_sight(pod)));
        let starting = service.starting.iter().map(|pod| (&***pod, Stage::Starting, Work::default()));
        let pending = service.pending.iter().map(|pod| (&***pod, Stage::Pending, Work::default()));
        let mut pods: Vec<Pod> = working
            .chain(cut_off)
            .chain(starting)
            .chain(pending)
            .map(|(pod, stage, work)| {
                let pool = pod.node.as_ref().and_then(|node| self.nodes.pool(pools, node));
                described(pod, stage, pool, work, self.now)
            })
            .collect();
        pods.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let deployment = service.deployment;
        Some(Observation {
            replicas: u32::try_from(deployment.replicas).unwrap_or(0),
            pods,
            room: self.room(pools, deployment),
            cluster_unknown: self.cluster_unknown(pools, &deployment.key.namespace),
        })
    }

    fn room(&mut self, pools: &[PoolNodes], deployment: &cluster::Deployment) -> Vec<Room> {
        let view = self.known.view;
        let partial = !view.namespaces.is_empty();
        if partial || view.unknown(&[Kind::Nodes, Kind::Pods], &deployment.key.namespace).is_some() {
            return vec![Room::Unknown; pools.len()];
        }
        self.nodes.room(pools, &deployment.requests)
    }

    fn cluster_unknown(&self, pools: &[PoolNodes], namespace: &str) -> Option<Arc<str>> {
        // Without nodes nobody knows which pool a pod is in.
        let needed = &[Kind::Pods, Kind::Deployments, Kind::Nodes][..if pools.is_empty() { 2 } else { 3 }];
        let why = self.known.view.unknown(needed, namespace)?;
        Some(Unknown::ClusterUnknown(why).to_string().into())
    }

    /// What a ready pod says of its work.
    fn work(&self, offers: &Offers, pod: &cluster::Pod, families: Option<&Families>) -> Work {
        let Known { readings, view: _, vocabulary: _, scrape } = self.known;
        let exporters = !scrape.urls.is_empty() || !scrape.discover.is_empty();
        // Nobody waits for the utilization of a pod without a GPU.
        let expected = exporters && pod.gpus > 0;
        let utilization = self.signal(families, offers.utilization, expected, "no exporter reports it");

        let has = |family: &FamilyId| families.is_some_and(|families| families.contains_key(family));
        let answered = readings.offer_nothing.contains_key(&pod.key) || self.roles.iter().flatten().any(has);
        let expected = !answered && serving_url(&scrape.serving, pod).is_some();
        let [running, waiting, kv_cache, prompt_tokens, generated_tokens, finished] = offers
            .roles
            .map(|family| self.signal(families, family, expected, "its model server has not been read yet"));
        Work { utilization, running, waiting, kv_cache, prompt_tokens, generated_tokens, finished }
    }

    /// One signal of one pod. `family`: what its service reports; `expected`: it should be there although nobody reports
    /// it.
    fn signal(&self, families: Option<&Families>, family: Option<FamilyId>, expected: bool, missing: &str) -> Signal {
        let Some(family) = family else {
            return if expected { Signal::Unknown(missing.into()) } else { Signal::NotOffered };
        };
        let Some(pod) = families.and_then(|families| families.get(&family)) else {
            return Signal::Unknown("other pods of the service report it, and this one does not".into());
        };
        let still = |reading: &Reading| fresh(reading.clone()?, self.now, self.known.scrape.max_age());
        match still(&pod.reading) {
            Ok(measured) => Signal::Known { value: measured.value, at: measured.at },
            Err(unknown) => Signal::Unknown(unknown.to_string().into()),
        }
    }
}

/// It may do as much as it did when it was ready, and nobody knows (R1, R9).
fn out_of_sight(pod: &cluster::Pod) -> Work {
    let why: Arc<str> = cut_off(pod).to_string().into();
    let unknown = || Signal::Unknown(Arc::clone(&why));
    Work {
        utilization: unknown(),
        running: unknown(),
        waiting: unknown(),
        kv_cache: unknown(),
        prompt_tokens: unknown(),
        generated_tokens: unknown(),
        finished: unknown(),
    }
}

/// Which family of each kind the service's pods report: of several the first.
#[derive(Debug)]
struct Offers {
    utilization: Option<FamilyId>,
    roles: [Option<FamilyId>; ROLES.len()],
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
