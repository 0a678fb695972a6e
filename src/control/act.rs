//! Mode Act: the replicas that the engine wants are written, by the leader.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use super::{
    lease::Leadership,
    meters::Meters,
    round::{Outcome, Round},
    scale::{Moved, scale},
    words::Failed,
};
use crate::{cluster::ObjectKey, policy::Mode};

/// Moves under way at once.
const AT_ONCE: usize = 8;
/// A move that has waited so long behind others, which the API server is slow to answer, is not made: what it was decided on
/// is from another time, and the next round decides anew.
const LATE: Duration = Duration::from_secs(10);
/// First pause after a move that failed; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Deployments whose last move failed, and why; for the conditions.
pub type Failures = Arc<Mutex<BTreeMap<ObjectKey, Failed>>>;

/// Writes replicas.
pub struct Actor {
    /// The cluster.
    pub client: Client,
    /// Whether this process may.
    pub leadership: Leadership,
    /// What is told of it.
    pub meters: Arc<Mutex<Meters>>,
    /// See [`Failures`].
    pub failures: Failures,
}

impl std::fmt::Debug for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Actor").field("leadership", &self.leadership).finish_non_exhaustive()
    }
}

/// When a Deployment is tried again.
struct Pause {
    until: Instant,
    next: Duration,
}

impl Actor {
    /// Follows the rounds until `shutdown`. A round that comes while moves are under way is taken up after them; of several
    /// the newest.
    pub async fn run(self, mut rounds: watch::Receiver<Option<Arc<Round>>>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut pauses = BTreeMap::new();
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                changed = rounds.changed() => if changed.is_err() { return },
            }
            let Some(round) = rounds.borrow_and_update().clone() else { continue };
            if !self.leadership.holds() {
                // What failed for us is the next leader's to find out.
                pauses.clear();
                self.failures.lock().clear();
                continue;
            }
            // A move under way is not cut off by a shutdown: it is over within its timeout.
            self.act(&round, &mut pauses, LATE).await;
        }
    }

    /// `late`: see [`LATE`].
    async fn act(&self, round: &Round, pauses: &mut BTreeMap<ObjectKey, Pause>, late: Duration) {
        let Ok(outcomes) = &round.outcomes else { return };
        let acting: BTreeMap<&ObjectKey, &Outcome> = outcomes
            .iter()
            .filter(|outcome| outcome.mode == Mode::Act && outcome.verdict.is_ok())
            .filter_map(|outcome| Some((&outcome.target.as_ref()?.0, outcome)))
            .collect();
        pauses.retain(|key, _| acting.contains_key(key));
        self.failures.lock().retain(|key, _| acting.contains_key(key));
        let now = Instant::now();
        let wanted = acting.into_iter().filter_map(|(key, outcome)| {
            let decision = &outcome.verdict.as_ref().ok()?.decision;
            let due = pauses.get(key).is_none_or(|pause| pause.until <= now);
            (decision.desired != decision.current && due)
                .then(|| (key.clone(), decision.current, decision.desired, decision.sentence()))
        });
        let wanted: Vec<_> = wanted.collect();
        let moves = wanted.into_iter().map(async |(key, from, to, why)| {
            if now.elapsed() >= late {
                self.meters.lock().moved("late");
                return (key, None);
            }
            let failed = self.one(&key, from, to, &why).await;
            (key, Some(failed))
        });
        let done: Vec<_> = stream::iter(moves).buffer_unordered(AT_ONCE).collect().await;
        for (key, failed) in done {
            match failed {
                Some(true) => {
                    let next = pauses.get(&key).map_or(FIRST_PAUSE, |pause| pause.next);
                    pauses.insert(key, Pause { until: Instant::now() + next, next: (next * 2).min(LONGEST_PAUSE) });
                }
                Some(false) => drop(pauses.remove(&key)),
                None => {}
            }
        }
    }

    /// One move; whether it failed.
    async fn one(&self, key: &ObjectKey, from: u32, to: u32, why: &str) -> bool {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
        let outcome = scale(&deployments, &key.name, from, to, &self.leadership).await;
        let (word, failed) = match outcome {
            Ok(Moved::Done) => {
                info!(namespace = %key.namespace, deployment = %key.name, from, to, why, "scaled");
                ("done", None)
            }
            Ok(Moved::Elsewhere(replicas)) => {
                info!(namespace = %key.namespace, deployment = %key.name, from, to, replicas, "somebody has moved it meanwhile: decided anew");
                ("elsewhere", None)
            }
            Ok(Moved::Contended) => ("contended", None),
            Ok(Moved::NotLeading) => ("not_leading", None),
            Err(error) => {
                warn!(namespace = %key.namespace, deployment = %key.name, from, to, %error, "cannot be scaled");
                ("failed", Some(Failed(error.to_string().into())))
            }
        };
        self.meters.lock().moved(word);
        let mut failures = self.failures.lock();
        let has_failed = failed.is_some();
        match failed {
            Some(failed) => drop(failures.insert(key.clone(), failed)),
            None => drop(failures.remove(key)),
        }
        has_failed
    }
}

#[cfg(test)]
mod tests;
