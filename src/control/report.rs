//! What is told to people and kept for later, by the leader: statuses and events of policies, and what must outlive a
//! restart.
//!
//! Figures change with every tick and are nobody's news: a status is written at once when something in it changes that is
//! more than a figure, and otherwise at most every [`QUIET`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use super::{
    act::Failures,
    lease::Leadership,
    memory::{self, Memory},
    round::{Outcome, Round},
    words::Beside,
};
use crate::{
    burst::{
        announce::Found,
        findings::{Fault, Finding},
    },
    cluster::{ObjectKey, ScalingPolicy, said::said},
    policy,
};

pub(crate) mod news;
mod status;

use news::{Bucket, Told};
use status::Status;

/// Requests under way at once.
const AT_ONCE: usize = 8;
/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A status in which only figures have changed is written this often.
const QUIET: Duration = Duration::from_secs(30);
/// Pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(5);
/// How often ConfigMaps of policies that are gone are looked for.
const SWEEP: Duration = Duration::from_hours(1);

/// Writes statuses, events and memory.
pub struct Reporter {
    /// The cluster.
    pub client: Client,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// What we call ourselves in events.
    pub identity: String,
    /// What must outlive a restart.
    pub memory: Memory,
    /// Moves that failed.
    pub failures: Failures,
    /// What is wrong with the order of pools.
    pub found: Found,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

/// What was written of one policy, and when.
#[derive(Default)]
struct Written {
    policy: Option<Arc<ScalingPolicy>>,
    status: Option<(Status, Instant)>,
    /// Not before, after a failure.
    not_before: Option<Instant>,
    /// The state as it was kept last, when, and at how many replicas.
    kept: Option<(Arc<str>, Instant, u32)>,
    told: Option<Told>,
    bucket: Bucket,
}

/// What is to be written of one policy now.
struct Task {
    policy: Arc<ScalingPolicy>,
    status: Option<Status>,
    events: Vec<news::News>,
    keep: Option<(Arc<str>, u32)>,
}

impl Reporter {
    /// Follows the rounds until `shutdown`; of several that come while it writes, the newest.
    pub async fn run(self, mut rounds: watch::Receiver<Option<Arc<Round>>>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut written: BTreeMap<Arc<str>, Written> = BTreeMap::new();
        let mut swept: Option<Instant> = None;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                changed = rounds.changed() => if changed.is_err() { return },
            }
            let Some(round) = rounds.borrow_and_update().clone() else { continue };
            if !self.leadership.holds() {
                // Another one writes now: what it writes is not known here, and is read again if it becomes our turn.
                written.clear();
                continue;
            }
            let work = async {
                let tasks = match &round.outcomes {
                    Ok(outcomes) => self.tasks(outcomes, round.at, &mut written),
                    Err(why) => blind(why, round.at, &written),
                };
                self.work(tasks, round.at, &mut written).await;
                // Where not everybody is known it is not known who is gone.
                if round.whole && swept.is_none_or(|last| last.elapsed() >= SWEEP) && self.leadership.holds() {
                    let uids: BTreeSet<Arc<str>> = written.keys().cloned().collect();
                    if let Err(error) = self.memory.forget_all_but(&uids, || self.leadership.holds()).await {
                        debug!(%error, "what belongs to policies that are gone was not removed");
                    }
                    swept = Some(Instant::now());
                }
            };
            tokio::select! {
                () = &mut shutdown => return,
                () = work => {}
            }
        }
    }

    /// How long one write may take: it has to end while nobody else writes. `None`: another one may write by now.
    fn limit(&self) -> Option<Duration> {
        self.leadership.time_left().map(|left| left.min(TIMEOUT))
    }

    /// What is to be written after a round.
    fn tasks(&self, outcomes: &[Outcome], at: Timestamp, written: &mut BTreeMap<Arc<str>, Written>) -> Vec<Task> {
        let mut tasks = Vec::new();
        let mut present = BTreeSet::new();
        for outcome in outcomes {
            let Some(policy) = outcome.subject.policy() else { continue };
            present.insert(Arc::clone(&policy.uid));
            let before = written.entry(Arc::clone(&policy.uid)).or_default();
            before.policy = Some(Arc::clone(policy));
            tasks.extend(self.task(policy, outcome, before, at));
        }
        written.retain(|uid, _| present.contains(uid));
        tasks
    }

    async fn work(&self, tasks: Vec<Task>, at: Timestamp, written: &mut BTreeMap<Arc<str>, Written>) {
        let tasks = tasks.into_iter().map(|task| self.write(task, at));
        let done: Vec<_> = stream::iter(tasks).buffer_unordered(AT_ONCE).collect().await;
        for (uid, status, kept, failed) in done {
            let Some(entry) = written.get_mut(&uid) else { continue };
            let now = Instant::now();
            if let Some(status) = status {
                entry.status = Some((status, now));
            }
            if let Some((state, replicas)) = kept {
                entry.kept = Some((state, now, replicas));
            }
            entry.not_before = failed.then(|| now + PAUSE);
        }
    }

    /// What is to be written of one policy, if anything.
    fn task(
        &self,
        policy: &Arc<ScalingPolicy>,
        outcome: &Outcome,
        before: &mut Written,
        at: Timestamp,
    ) -> Option<Task> {
        let now = Instant::now();
        if before.not_before.is_some_and(|until| until > now) {
            return None;
        }
        let target = outcome.target.as_ref().map(|(key, _)| key);
        let failed = target.and_then(|key| self.failures.lock().get(key).cloned());
        let foreign = |finding: &&Finding| {
            finding.fault == Fault::ForeignDeletionCost && target.is_some() && finding.deployment.as_ref() == target
        };
        let conflict = self.found.lock().iter().find(foreign).cloned();
        let beside = Beside { failed: failed.as_ref(), conflict: conflict.as_ref() };
        let known: &[Condition] = before.status.as_ref().map_or(&policy.conditions, |(status, _)| status.conditions());
        let status = Status::of(outcome, &beside, known, policy.generation, at);
        let told = Told::of(outcome, status.conditions());
        let earlier = before.told.take().unwrap_or_else(|| Told::from_conditions(outcome, known));
        let events = before.bucket.let_through(told.since(&earlier), at);
        before.told = Some(told);
        let write = match &before.status {
            None => true,
            Some((last, when)) => {
                status.differs_by_more_than_figures(last) || (*last != status && when.elapsed() >= QUIET)
            }
        };
        let keep = outcome.verdict.as_ref().ok().and_then(|settled| {
            let state = settled.durable.as_ref()?;
            let replicas = settled.decision.current;
            let due = match &before.kept {
                // Not at once: what was read at the start need not be written back.
                None => settled.decision.desired != replicas || settled.last_scale.is_some(),
                Some((last, when, at)) => *at != replicas || (last != state && when.elapsed() >= memory::EVERY),
            };
            due.then(|| (Arc::clone(state), replicas))
        });
        if before.kept.is_none()
            && keep.is_none()
            && let Ok(settled) = &outcome.verdict
            && let Some(state) = &settled.durable
        {
            before.kept = Some((Arc::clone(state), now, settled.decision.current));
        }
        let task = Task { policy: Arc::clone(policy), status: write.then_some(status), events, keep };
        (task.status.is_some() || !task.events.is_empty() || task.keep.is_some()).then_some(task)
    }

    /// What of it was written, and whether something failed.
    async fn write(&self, task: Task, at: Timestamp) -> (Arc<str>, Option<Status>, Option<(Arc<str>, u32)>, bool) {
        let Task { policy, status, events, keep } = task;
        let uid = Arc::clone(&policy.uid);
        let mut failed = false;
        let mut kept = None;
        // What must not be lost goes first.
        if let Some((state, replicas)) = keep
            && let Some(limit) = self.limit()
        {
            let keep = self.memory.keep(&uid, &policy.key, &state, at);
            let outcome = tokio::time::timeout(limit, keep).await;
            match outcome.map_err(|_| unanswered(limit)).and_then(|kept| kept.map_err(|error| error.to_string())) {
                Ok(()) => kept = Some((state, replicas)),
                Err(error) => {
                    warn!(namespace = %policy.key.namespace, policy = %policy.key.name, error, "what was learned cannot be kept");
                    failed = true;
                }
            }
        }
        let mut wrote = None;
        if let Some(status) = status
            && let Some(limit) = self.limit()
        {
            match self.status(&policy.key, &status, limit).await {
                Ok(()) => wrote = Some(status),
                Err(error) => {
                    warn!(namespace = %policy.key.namespace, policy = %policy.key.name, error, "its status cannot be written");
                    failed = true;
                }
            }
        }
        let reference = reference(&policy);
        for news in events {
            let Some(limit) = self.limit() else { break };
            let event = news.event(reference.clone(), &self.identity, at);
            let events: Api<Event> = Api::namespaced(self.client.clone(), &policy.key.namespace);
            // An event that is lost is lost: the status says the same.
            match tokio::time::timeout(limit, events.create(&PostParams::default(), &event)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => warn!(policy = %policy.key.name, error = said(&error), "an event cannot be written"),
                Err(_) => warn!(policy = %policy.key.name, "an event was not answered"),
            }
        }
        (uid, wrote, kept, failed)
    }

    async fn status(&self, key: &ObjectKey, status: &Status, limit: Duration) -> Result<(), String> {
        let resource = ApiResource::erase::<policy::ScalingPolicy>(&());
        // Not as our own type: a policy that cannot be read has a status, too.
        let policies: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let patch = Patch::Merge(status.patch());
        let parameters = PatchParams::default();
        match tokio::time::timeout(limit, policies.patch_status(&key.name, &parameters, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            // Deleted meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(said(&error)),
            Err(_) => Err(unanswered(limit)),
        }
    }
}

fn unanswered(limit: Duration) -> String {
    format!("no answer from the API server within {:.1} s", limit.as_secs_f64())
}

/// What is to be written while nothing is decided for anybody: each policy that was written before says so, once.
fn blind(why: &Arc<str>, at: Timestamp, written: &BTreeMap<Arc<str>, Written>) -> Vec<Task> {
    let tasks = written.values().filter_map(|written| {
        if written.not_before.is_some_and(|until| until > Instant::now()) {
            return None;
        }
        let (last, _) = written.status.as_ref()?;
        let status = last.blind(why, at);
        let news = status.differs_by_more_than_figures(last);
        let policy = Arc::clone(written.policy.as_ref()?);
        news.then(|| Task { policy, status: Some(status), events: Vec::new(), keep: None })
    });
    tasks.collect()
}

fn reference(policy: &ScalingPolicy) -> ObjectReference {
    ObjectReference {
        api_version: Some(policy::ScalingPolicy::api_version(&()).into_owned()),
        kind: Some(policy::ScalingPolicy::kind(&()).into_owned()),
        namespace: Some(policy.key.namespace.to_string()),
        name: Some(policy.key.name.to_string()),
        uid: Some(policy.uid.to_string()),
        ..ObjectReference::default()
    }
}
