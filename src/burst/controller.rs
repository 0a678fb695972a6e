//! Keeps deletion costs on the pods of ordered services while a removal is near, and takes them away after.
//!
//! Written by server-side apply under a field manager of our own: an annotation that somebody else wrote is a conflict,
//! is left alone and is told, and taking ours away never takes theirs. Only the leader writes (one writer in the cluster),
//! and nothing is written beside a scheduler that honours ResourcePolicies itself (R19).

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    announce::{Announcer, Found},
    findings::{About, Fault, Finding, Survey},
    release::{DELETION_COST, changes},
    wanted,
};
use crate::{
    clock::Clock,
    cluster::{ObjectKey, View, said::said},
    config::{self, Scheduler},
    control::lease::Leadership,
    publish::{Publisher, Snapshot},
};

/// How often it is looked whether a removal is near. Shorter than any HPA's period.
pub const PERIOD: Duration = Duration::from_secs(1);
/// After a question to the API server, or a write of one pod, that failed.
const RETRY: Duration = Duration::from_secs(5);
/// Longest time for one write. None begins unless the Lease lasts longer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Most writes of one turn (R22); the rest follows in the next.
const WRITES: usize = 50;
/// Writes under way at once.
const AT_ONCE: usize = 8;
/// The field manager of the annotation.
const MANAGER: &str = "tidegate-burst";

/// Why a cost was not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    /// The API server refused.
    #[error("{}", said(.0))]
    Api(#[from] kube::Error),
    /// It did not answer.
    #[error("no answer from the API server within {}s", TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// The Lease has run out, or is about to.
    #[error("another replica writes now")]
    NotLeading,
}

/// What the loop reads and writes with.
#[expect(missing_debug_implementations, reason = "kube's client has none")]
pub struct Controller {
    /// Writes pods.
    pub client: Client,
    /// The current snapshot and the engine's advice.
    pub publisher: Arc<Publisher>,
    /// What is asked for, to tell what is expected of pods.
    pub scrape: config::Scrape,
    /// Who honours ResourcePolicies.
    pub scheduler: Scheduler,
    /// Whether the cluster's own scheduler does: set once it is known.
    pub honours: Arc<OnceLock<bool>>,
    /// Whether we may write.
    pub leadership: Leadership,
    /// What we call ourselves in events.
    pub identity: String,
    /// Where what is wrong is told.
    pub found: Found,
    /// The present time.
    pub clock: Clock,
}

/// What is remembered between two looks.
#[derive(Default)]
struct Memory {
    /// Our last word on each pod that still exists.
    written: BTreeMap<Arc<str>, Option<i32>>,
    /// Pods whose last write failed, by UID, and when the next one may begin.
    paused: BTreeMap<Arc<str>, Instant>,
    /// Pods with a cost that somebody else wrote, by UID.
    foreign: BTreeMap<Arc<str>, Finding>,
    /// What was found in which view.
    looked: Option<(Arc<View>, Vec<Finding>)>,
}

impl Controller {
    /// Looks and writes until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let honours = tokio::select! {
            () = &mut shutdown => return,
            honours = self.scheduler_honours() => honours,
        };
        let _ = self.honours.set(honours); // nobody else sets it
        if honours {
            tracing::info!("the cluster's scheduler honours ResourcePolicies: nothing is written to pods");
        }
        let mut memory = Memory::default();
        let Self { client, identity, clock, .. } = &self;
        let mut announcer =
            Announcer { client: client.clone(), identity: identity.clone(), clock: *clock, told: BTreeMap::new() };
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let snapshot = self.publisher.snapshot();
            let found = self.look(&snapshot.view, &mut memory);
            if !self.leadership.holds() {
                // Whoever leads writes now; what we wrote is on the pods, where it is found again.
                memory = Memory { looked: memory.looked, ..Memory::default() };
                announcer.told.clear();
                continue;
            }
            let work = async {
                // A removal does not wait for us; who reads of it may.
                if !honours {
                    let plan = self.plan(&snapshot, &mut memory);
                    self.write(plan, &snapshot.view, &mut memory).await;
                }
                announcer.announce(&found).await;
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = work => {}
            }
        }
    }

    /// What is wrong now. What is new is logged.
    fn look(&self, view: &Arc<View>, memory: &mut Memory) -> Vec<Finding> {
        let Memory { foreign, looked, .. } = memory;
        if looked.as_ref().is_none_or(|(last, _)| !Arc::ptr_eq(last, view)) {
            // A pod that is gone, or has its cost no more, is nobody's conflict.
            let costly: std::collections::BTreeSet<_> =
                view.pods.values().filter(|pod| pod.deletion_cost.is_some()).map(|pod| &pod.uid).collect();
            foreign.retain(|uid, _| costly.contains(uid));
            *looked = Some((Arc::clone(view), Survey::of(view).findings()));
        }
        let known = looked.iter().flat_map(|(_, found)| found.iter().cloned());
        let found: Vec<Finding> = known.chain(foreign.values().cloned()).collect();
        let before = std::mem::replace(&mut *self.found.lock(), found.clone());
        for finding in found.iter().filter(|finding| !before.contains(finding)) {
            tracing::warn!("{}", finding.message);
        }
        found
    }

    async fn scheduler_honours(&self) -> bool {
        match self.scheduler {
            Scheduler::Honours => return true,
            Scheduler::Ignores => return false,
            Scheduler::Auto => {}
        }
        loop {
            match self.client.apiserver_version().await {
                Ok(version) => return scheduler_honours(&version.git_version),
                Err(error) => {
                    tracing::warn!(error = said(&error), "cannot ask for the cluster's version; trying again");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// What to write on which pod: what has to stand goes before what is taken away.
    fn plan(&self, snapshot: &Snapshot, memory: &mut Memory) -> Vec<(Arc<str>, ObjectKey, Option<i32>)> {
        let Memory { written, paused, .. } = memory;
        let view = &snapshot.view;
        let standing: BTreeMap<&Arc<str>, (&ObjectKey, Option<i32>)> =
            view.pods.values().map(|pod| (&pod.uid, (&pod.key, pod.deletion_cost))).collect();
        written.retain(|uid, _| standing.contains_key(uid));
        let now = Instant::now();
        paused.retain(|uid, until| *until > now && standing.contains_key(uid));
        let ours: BTreeMap<Arc<str>, i32> = standing
            .iter()
            .filter_map(|(uid, (_, cost))| {
                let last = written.get(*uid).copied().unwrap_or(*cost)?;
                Some((Arc::clone(uid), last))
            })
            .collect();
        let decided = self.publisher.decided();
        let wanted = wanted::costs(snapshot, decided.as_deref(), &self.scrape, self.clock.now(), &ours);
        let changes = changes(&wanted, &ours).into_iter();
        let mut plan: Vec<_> = changes
            .filter(|(uid, _)| !paused.contains_key(uid))
            .filter_map(|(uid, cost)| {
                let (key, _) = standing.get(&uid)?;
                Some((uid, (*key).clone(), cost))
            })
            .collect();
        plan.sort_by_key(|(_, _, cost)| cost.is_none());
        plan.truncate(WRITES);
        plan
    }

    /// Side by side: a removal that comes while the first of many are written would find the others without a cost.
    async fn write(&self, plan: Vec<(Arc<str>, ObjectKey, Option<i32>)>, view: &View, memory: &mut Memory) {
        let Memory { written, foreign, paused, .. } = memory;
        let writes = plan.into_iter().map(async |(uid, key, cost)| {
            let outcome = self.one(&uid, &key, cost).await;
            (uid, key, cost, outcome)
        });
        let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
        while let Some((uid, key, cost, outcome)) = writes.next().await {
            let ObjectKey { namespace, name } = &key;
            match outcome {
                Ok(()) => {
                    tracing::debug!(%namespace, %name, ?cost, "deletion cost written");
                    written.insert(uid, cost);
                }
                // A pod that is gone by now.
                Err(Unwritten::Api(kube::Error::Api(status))) if status.code == 404 => {}
                // An annotation that is somebody else's: nothing more to do about it.
                Err(Unwritten::Api(kube::Error::Api(status))) if status.code == 409 => {
                    let finding = foreign_cost(view, &key, &uid, &status.message);
                    written.insert(Arc::clone(&uid), cost);
                    foreign.insert(uid, finding);
                }
                Err(Unwritten::NotLeading) => return,
                // One pod that cannot be written, for example because of its tenant's own webhook, is no reason to leave
                // the others without an order.
                Err(error) => {
                    let seconds = RETRY.as_secs();
                    tracing::warn!(%namespace, %name, %error, "cannot write {DELETION_COST}; trying again in {seconds} s");
                    paused.insert(uid, Instant::now() + RETRY);
                }
            }
        }
    }

    async fn one(&self, uid: &str, key: &ObjectKey, cost: Option<i32>) -> Result<(), Unwritten> {
        if self.leadership.time_left().is_none_or(|left| left <= TIMEOUT) {
            return Err(Unwritten::NotLeading);
        }
        let annotations = cost.map(|cost| json!({DELETION_COST: cost.to_string()}));
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            // The UID makes a namesake a conflict.
            "metadata": {"name": key.name, "uid": uid, "annotations": annotations},
        });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let (parameters, patch) = (PatchParams::apply(MANAGER), Patch::Apply(&pod));
        tokio::time::timeout(TIMEOUT, pods.patch(&key.name, &parameters, &patch)).await??;
        Ok(())
    }
}

fn foreign_cost(view: &View, key: &ObjectKey, uid: &Arc<str>, conflict: &str) -> Finding {
    let labels = view.pods.get(key).map(|pod| &pod.labels);
    let owner = view.deployments.values().find(|deployment| {
        deployment.key.namespace == key.namespace
            && labels
                .is_some_and(|labels| deployment.selector.matches(|wanted| labels.get(wanted).map(|value| &**value)))
    });
    Finding {
        about: About { api_version: "v1", kind: "Pod", key: key.clone(), uid: Arc::clone(uid) },
        fault: Fault::ForeignDeletionCost,
        deployment: owner.map(|deployment| deployment.key.clone()),
        message: format!(
            "{DELETION_COST} on Pod {}/{} is somebody else's and is left as it is, so that which replica goes first is theirs to \
             say: {conflict}",
            key.namespace, key.name
        ),
    }
}

/// Whether the cluster's own scheduler honours ResourcePolicies: Alibaba's do, and say so in their version
/// (`v1.32.1-aliyun.1`).
#[must_use]
pub fn scheduler_honours(git_version: &str) -> bool {
    git_version.contains("-aliyun.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alibabas_schedulers_are_told_by_the_clusters_version() {
        for (version, honours) in [("v1.32.1-aliyun.1", true), ("v1.36.3", false), ("v1.31.4-gke.1", false)] {
            assert_eq!(scheduler_honours(version), honours, "{version}");
        }
    }
}
