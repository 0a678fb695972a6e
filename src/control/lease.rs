//! Who writes to the cluster: the holder of one Lease (`coordination.k8s.io/v1`).
//!
//! Both sides go by their own clock, and by nothing that the other's clock says:
//!
//! - The holder holds until [`Terms::duration`] after it *began* to ask for its last renewal. Cut off from the API server it
//!   stops by itself, before anybody else can have taken over.
//! - Everybody else takes over when it has seen the same Lease unchanged for as long as the holder has promised. It saw the
//!   renewal after the holder began to ask for it, and therefore waits longer than the holder holds.
//!
//! A write that is under way when the time is up may still arrive. Every write therefore carries the version of the object
//! that it was decided on, and has a timeout ([`Leadership::time_left`] must be longer): after another has moved, it is
//! refused.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

use crate::{clock::Clock, cluster::said::said};

/// Attempts in the time that a Lease lasts: some may fail, and the holder still renews in time.
const ATTEMPTS: u32 = 5;
/// Longest time for one attempt, in pauses between attempts: one that hangs leaves the time for another one before the
/// Lease is lost.
const PATIENCE: u32 = 2;
/// Longest time for giving the Lease back at shutdown: the next holder is then there at once, and otherwise after the
/// Lease's duration.
const RELEASE: Duration = Duration::from_secs(2);

/// Whose Lease it is to be, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Ours. No other process may have the same one.
    pub identity: String,
    /// How long it lasts without renewal.
    pub duration: Duration,
}

impl Terms {
    /// What is wrong, and what to do about it.
    fn problem(&self, error: &kube::Error) -> String {
        let namespace = &self.namespace;
        let remedy = match error {
            kube::Error::Api(status) if status.code == 403 => {
                format!(
                    "it needs the rights to get, create and update leases.coordination.k8s.io in namespace {namespace}"
                )
            }
            // Of the Lease itself that is no error: it is made.
            kube::Error::Api(status) if status.code == 404 => {
                format!("create namespace {namespace}, or name another one in control.lease.namespace")
            }
            _ => "trying again".to_owned(),
        };
        format!("{}; {remedy}", said(error))
    }
}

/// A Lease as it was read last.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// Its version: changes with each renewal.
    version: Option<String>,
    holder: Option<String>,
    /// What the holder has promised.
    duration: Duration,
    transitions: i32,
    /// When this version was first seen, by this process's clock.
    since: Instant,
}

/// What to do about the Lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is ours: renew it.
    Renew,
    /// Nobody holds it, or nobody renews it: take it.
    Take,
    /// Somebody holds it.
    Leave,
}

impl Seen {
    fn step(&self, identity: &str, now: Instant) -> Step {
        match self.holder.as_deref() {
            Some(holder) if holder == identity => Step::Renew,
            None | Some("") => Step::Take,
            Some(_) if now.duration_since(self.since) >= self.duration => Step::Take,
            Some(_) => Step::Leave,
        }
    }

    /// What is known after another look.
    fn again(self, newer: Self) -> Self {
        if newer.version == self.version { self } else { newer }
    }
}

/// Whether this process may write, to be asked before each write.
#[derive(Clone)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
    now: Now,
}

/// The monotonic clock. An argument, so that tests can let a Lease run out without waiting for it.
pub type Now = Arc<dyn Fn() -> Instant + Send + Sync>;

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election").field("terms", &self.terms).field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership").field("time_left", &self.time_left()).finish()
    }
}

impl Leadership {
    /// Of a process that asks for no Lease, and never writes.
    #[must_use]
    pub fn never() -> Self {
        Self { until: watch::channel(None).1, now: Arc::new(Instant::now) }
    }

    /// As whoever has just taken a Lease of that duration.
    #[cfg(test)]
    pub(super) fn held(duration: Duration) -> Self {
        let now: Now = Arc::new(Instant::now);
        Self { until: watch::channel(Some(now() + duration)).1, now }
    }

    /// How long it may still write; `None`: it may not.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let left = (*self.until.borrow())?.checked_duration_since((self.now)())?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether it may write now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.time_left().is_some()
    }
}

/// Asks for the Lease again and again.
pub struct Election {
    leases: Api<Lease>,
    terms: Terms,
    clock: Clock,
    now: Now,
    seen: Option<Seen>,
    until: watch::Sender<Option<Instant>>,
    /// The last failure, so that it is told once.
    failing: Option<String>,
}

impl Election {
    /// Nobody's yet.
    #[must_use]
    pub fn new(leases: Api<Lease>, terms: Terms, clock: Clock, now: Now) -> (Self, Leadership) {
        let (until, receiver) = watch::channel(None);
        let leadership = Leadership { until: receiver, now: Arc::clone(&now) };
        (Self { leases, terms, clock, now, seen: None, until, failing: None }, leadership)
    }

    /// Until `shutdown`; then the Lease is given back.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let pause = self.terms.duration / ATTEMPTS;
        loop {
            let attempt = tokio::time::timeout(pause * PATIENCE, self.attempt());
            let outcome = tokio::select! {
                () = &mut shutdown => break,
                outcome = attempt => outcome,
            };
            self.told(match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(self.terms.problem(&error)),
                Err(_) => Some("no answer from the API server; trying again".to_owned()),
            });
            tokio::select! {
                () = &mut shutdown => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        let now = (self.now)();
        let held = self.until.send_replace(None).is_some_and(|until| until > now);
        if held {
            // Nothing depends on it: without it the next holder comes a little later.
            let _ = tokio::time::timeout(RELEASE, self.release()).await;
        }
    }

    async fn attempt(&mut self) -> Result<(), kube::Error> {
        let now = (self.now)();
        let found = self.leases.get_opt(&self.terms.name).await?;
        let held = self.until.borrow().is_some_and(|until| until > now);
        let Some(lease) = found else {
            self.seen = None;
            let asked = (self.now)();
            return match self.leases.create(&PostParams::default(), &self.lease(None, 0)).await {
                Ok(lease) => {
                    self.take(&lease, asked, held);
                    Ok(())
                }
                // Somebody was faster.
                Err(error) if is_conflict(&error) => Ok(()),
                Err(error) => Err(error),
            };
        };
        let seen = seen(&lease, (self.now)());
        let seen = match self.seen.take() {
            Some(before) => before.again(seen),
            None => seen,
        };
        let step = seen.step(&self.terms.identity, (self.now)());
        let transitions = seen.transitions + i32::from(step == Step::Take);
        let version = seen.version.clone();
        self.seen = Some(seen);
        if step == Step::Leave {
            self.lose();
            return Ok(());
        }
        let asked = (self.now)();
        match self.leases.replace(&self.terms.name, &PostParams::default(), &self.lease(version, transitions)).await {
            Ok(lease) => {
                self.take(&lease, asked, held);
                Ok(())
            }
            // Somebody was faster; the next look says who.
            Err(error) if is_conflict(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, lease: &Lease, asked: Instant, held: bool) {
        self.seen = Some(seen(lease, (self.now)()));
        self.until.send_replace(Some(asked + self.terms.duration));
        if !held {
            info!(
                lease = self.terms.name,
                identity = self.terms.identity,
                "leading: this process writes to the cluster"
            );
        }
    }

    fn lose(&mut self) {
        if self.until.send_replace(None).is_some() {
            warn!(lease = self.terms.name, "no longer leading: another process writes to the cluster");
        }
    }

    fn lease(&self, version: Option<String>, transitions: i32) -> Lease {
        let Terms { namespace: _, name, identity, duration } = &self.terms;
        let now = MicroTime(self.clock.now());
        Lease {
            metadata: ObjectMeta { name: Some(name.clone()), resource_version: version, ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(identity.clone()),
                // Whole seconds, and never fewer than it is held for.
                lease_duration_seconds: Some(duration.as_millis().div_ceil(1000) as i32),
                renew_time: Some(now.clone()),
                acquire_time: Some(now),
                lease_transitions: Some(transitions),
                ..LeaseSpec::default()
            }),
        }
    }

    async fn release(&mut self) -> Result<(), kube::Error> {
        let Some(seen) = self.seen.take() else { return Ok(()) };
        let mut lease = self.lease(seen.version, seen.transitions);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        }
        self.leases.replace(&self.terms.name, &PostParams::default(), &lease).await?;
        info!(lease = self.terms.name, "the Lease is given back");
        Ok(())
    }

    fn told(&mut self, problem: Option<String>) {
        match (&problem, &self.failing) {
            (Some(problem), before) if before.as_ref() != Some(problem) => {
                let Terms { namespace, name, .. } = &self.terms;
                warn!(
                    "the Lease {namespace}/{name} cannot be read or renewed, and without it this process writes nothing to the \
                     cluster: {problem}"
                );
            }
            (None, Some(_)) => info!(lease = self.terms.name, "the Lease can be read again"),
            _ => debug!(lease = self.terms.name, "looked at the Lease"),
        }
        self.failing = problem;
    }
}

fn seen(lease: &Lease, now: Instant) -> Seen {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Seen {
        version: lease.metadata.resource_version.clone(),
        holder: spec.and_then(|spec| spec.holder_identity.clone()),
        duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
        since: now,
    }
}

/// 409: somebody else has written meanwhile.
#[must_use]
pub fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// An identity that no other process has: the pod's name, and a number by chance.
#[must_use]
pub fn identity(configured: Option<&str>) -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let host = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "tidegate".into());
    let chance = RandomState::new().build_hasher().finish();
    format!("{}_{chance:016x}", configured.unwrap_or(&host))
}

#[cfg(test)]
mod tests;
