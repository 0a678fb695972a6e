//! Whether the adapter lives, and whether there is something true to serve.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apiservice::authentication::TrustStore;
use tokio::time::Instant;

use super::certificate::Missing;
use crate::{
    clock::Clock,
    cluster::{Index, Kind, View},
    config::Scrape,
    publish::{Publisher, cycle},
    scrape::{self, Store, TargetId, TargetSet, targets},
    telemetry::server::Check,
};

/// Readiness waits no longer for first scrapes: with thousands of dead targets they take minutes.
const FIRST_SCRAPES: Duration = Duration::from_mins(1);
/// A snapshot older than so many of the longest pauses means that the loop is stuck.
const STUCK_AFTER: u32 = 10;
/// Readiness waits no longer for the other namespaces once one of them is known: one may be forbidden to us, or not be there.
/// More than the longest pause between two attempts to list.
const FIRST_LISTS: Duration = Duration::from_secs(20);

/// The loop ticked lately.
pub(super) fn livez(publisher: Arc<Publisher>, clock: Clock) -> Check {
    Arc::new(move || {
        let age = clock.now().duration_since(publisher.snapshot().built);
        let age = Duration::try_from(age).unwrap_or_default();
        let limit = cycle::LONGEST_PAUSE * STUCK_AFTER;
        if age < limit { Ok(()) } else { Err(format!("the last snapshot is {}s old", age.as_secs())) }
    })
}

/// The targets that the configuration asked for when the cluster had just become known.
#[derive(Debug)]
struct FirstTargets {
    names: BTreeSet<TargetId>,
    since: Instant,
}

impl FirstTargets {
    fn of(wanted: &TargetSet) -> Self {
        Self { names: wanted.targets.keys().cloned().collect(), since: Instant::now() }
    }

    /// How many of them are still wanted and have not been scraped once, with success or without. While there are some, a
    /// list of pods would lack those that another replica of this adapter knows, and the rest may well be the idle ones:
    /// an HPA would take the new start for a fall. Targets that come later are not waited for: in a large cluster there
    /// is always one.
    fn waiting(&self, wanted: &TargetSet, scraped: &scrape::Snapshot) -> usize {
        let attempted = |id| scraped.targets.get(id).is_some_and(|tracked| tracked.status.last_attempt.is_some());
        self.names.iter().filter(|id| wanted.targets.contains_key(*id) && !attempted(*id)).count()
    }
}

/// Tells whether there is something true to serve.
pub(super) struct Readiness {
    pub certificate: Missing,
    pub scrape: Scrape,
    pub index: Arc<Index>,
    pub publisher: Arc<Publisher>,
    pub store: Arc<Store>,
    pub trust: Arc<TrustStore>,
}

/// Since when the start could do without what it still waits for.
#[derive(Debug, Default)]
struct Patience {
    namespaces: OnceLock<Instant>,
    targets: OnceLock<FirstTargets>,
}

impl Readiness {
    /// Once ready, always ready: an adapter whose exporters are all dead has its reasons to tell, and one that the aggregator
    /// calls unavailable would stall the deletion of every namespace in the cluster.
    pub(super) fn probe(self) -> Check {
        let (reached, patience) = (AtomicBool::new(false), Patience::default());
        Arc::new(move || {
            if !reached.load(Ordering::Relaxed) {
                self.look(&patience)?;
                reached.store(true, Ordering::Relaxed);
            }
            Ok(())
        })
    }

    fn look(&self, patience: &Patience) -> Result<(), String> {
        if let Some(why) = self.certificate.why() {
            return Err(format!("there is no serving certificate yet: {why}"));
        }
        if !self.trust.is_loaded() {
            return Err("the aggregator's certificate authorities are not known yet".into());
        }
        let view = Arc::clone(&self.publisher.snapshot().view);
        // What only decisions are made of is not waited for: readings are served without them.
        let unsynced: Vec<&str> =
            Kind::MEASURED.iter().map(|kind| kind.name()).filter(|name| view.unsynced.contains(name)).collect();
        if !unsynced.is_empty() {
            return Err(format!("the cluster is not known yet: {}{}", unsynced.join(", "), self.problem()));
        }
        let unknown = unknown_namespaces(&view);
        if !unknown.is_empty() {
            let enough = unknown.len() < view.namespaces.len()
                && patience.namespaces.get_or_init(Instant::now).elapsed() >= FIRST_LISTS;
            if !enough {
                return Err(format!("namespaces are not known yet: {}{}", unknown.join(", "), self.problem()));
            }
        }
        let wanted = targets(&self.scrape, &view);
        let first = patience.targets.get_or_init(|| FirstTargets::of(&wanted));
        let waiting = first.waiting(&wanted, &self.store.snapshot());
        if waiting > 0 && first.since.elapsed() < FIRST_SCRAPES {
            return Err(format!("{waiting} of {} targets have not been scraped yet", first.names.len()));
        }
        Ok(())
    }

    /// What is wrong with the first watch that fails, to be said after something else; nothing if none does.
    fn problem(&self) -> String {
        match &self.index.problems()[..] {
            [] => String::new(),
            [first] => format!("; {first}"),
            [first, more @ ..] => format!("; {first} (and {} more)", more.len()),
        }
    }
}

/// The watched namespaces of which not all is known that readings are made of.
fn unknown_namespaces(view: &View) -> Vec<&str> {
    let namespaces = view.unsynced_in.keys().map(|namespace| &**namespace);
    namespaces.filter(|namespace| view.unknown(&Kind::MEASURED, namespace).is_some()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Access, UrlTarget},
        scrape::{TargetStatus, Tracked},
    };

    fn wanted(hosts: &[&str]) -> TargetSet {
        let url = |host: &&str| UrlTarget { url: format!("http://{host}/"), node: None, access: Access::default() };
        targets(&Scrape { urls: hosts.iter().map(url).collect(), ..Scrape::default() }, &View::default())
    }

    /// All of `set`, of which those hosts have been tried.
    fn scraped(set: &TargetSet, tried: &[&str]) -> scrape::Snapshot {
        let track = |(id, target): (&TargetId, &Arc<scrape::Target>)| {
            let was_tried = tried.iter().any(|host| target.url.host_str() == Some(host));
            let last_attempt = was_tried.then(|| Clock::start().now());
            let status = TargetStatus { last_attempt, ..TargetStatus::default() };
            (id.clone(), Arc::new(Tracked { target: Arc::clone(target), status, batch: None }))
        };
        scrape::Snapshot { targets: set.targets.iter().map(track).collect(), ..scrape::Snapshot::default() }
    }

    #[test]
    fn r12_readiness_waits_until_every_target_of_the_start_was_tried_and_for_no_later_one() {
        let start = wanted(&["a", "b", "c"]);
        let first = FirstTargets::of(&start);
        assert_eq!(first.waiting(&start, &scrape::Snapshot::default()), 3, "not even tracked yet");
        assert_eq!(first.waiting(&start, &scraped(&start, &["a"])), 2, "one page is a part of the truth");
        assert_eq!(first.waiting(&start, &scraped(&start, &["a", "b", "c"])), 0);
        let later = wanted(&["a", "b", "d"]);
        assert_eq!(first.waiting(&later, &scraped(&later, &["a"])), 1, "c has left, d has come");
        assert_eq!(first.waiting(&later, &scraped(&later, &["a", "b"])), 0);
    }
}
