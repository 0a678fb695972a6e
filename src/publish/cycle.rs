//! The loop that turns what was scraped and what is known of the cluster into the next snapshot.
//!
//! It runs at each change and at least every [`LONGEST_PAUSE`], and rests after each turn so long that it uses a twentieth
//! of one core, but no longer than [`LONGEST_REST`]: where the processor is shared and a turn takes long by the clock, a
//! rest in proportion would let the snapshot grow old for nothing.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::{Publisher, Snapshot};
use crate::{
    attribution::remember,
    clock::Clock,
    cluster::{ObjectKey, View},
    config,
    gpu::Vocabulary,
    scrape,
};

/// A snapshot is replaced at least this often, so that ages and reasons stay current when nothing else changes.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Changes that arrive within this time are taken together.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
/// The pause after a turn is so many times as long as the turn took. `tests/benches/fleet` measures turns: at 1,000 nodes with 8
/// cards the bound below is reached.
const REST: u32 = 19;
/// Longest pause after a turn for the sake of the processor: short beside the interval of scrapes and of HPAs, so that what
/// is served is hardly older for it.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How long to rest after a turn that took so long.
fn rest(turn: Duration) -> Duration {
    turn.saturating_mul(REST).clamp(SHORTEST_PAUSE, LONGEST_REST)
}

/// What the loop reads and writes.
#[derive(Debug)]
pub struct Cycle {
    /// The latest batches.
    pub store: Arc<scrape::Store>,
    /// Where snapshots go.
    pub publisher: Arc<Publisher>,
    /// The families.
    pub vocabulary: Arc<Vocabulary>,
    /// How pods become services.
    pub aggregate: config::Aggregate,
    /// The age beyond which a sample is unknown (R2).
    pub max_age: Duration,
    /// The present time.
    pub clock: Clock,
}

impl Cycle {
    /// Publishes snapshots until `shutdown`. `view` gives the cluster as it is, `cluster_changes` tells when it changes.
    pub async fn run(
        self,
        view: impl Fn() -> Arc<View>,
        mut cluster_changes: watch::Receiver<u64>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut scrape_changes = self.store.changes();
        let mut remembered = BTreeSet::new();
        loop {
            let began = Instant::now();
            scrape_changes.mark_unchanged();
            cluster_changes.mark_unchanged();
            self.turn(view(), &mut remembered);
            let rest = rest(began.elapsed());
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(rest) => {}
            }
            // A sender that is gone never changes again: the timer alone goes on.
            tokio::select! {
                () = &mut shutdown => return,
                () = tokio::time::sleep(LONGEST_PAUSE.saturating_sub(rest)) => {}
                Ok(()) = scrape_changes.changed() => {}
                Ok(()) = cluster_changes.changed() => {}
            }
        }
    }

    fn turn(&self, view: Arc<View>, remembered: &mut BTreeSet<ObjectKey>) {
        let began = Instant::now();
        let batches: Vec<_> = self.store.snapshot().batches().cloned().collect();
        let (vocabulary, now) = (Arc::clone(&self.vocabulary), self.clock.now());
        let mut snapshot = Snapshot::build(&batches, view, vocabulary, &self.aggregate, remembered, now, self.max_age);
        remember(remembered, &snapshot.readings, &snapshot.view);
        snapshot.took = began.elapsed();
        self.publisher.publish(snapshot);
    }
}

#[cfg(test)]
mod tests {
    use apiservice::{Provider as _, Selector, Status};

    use super::*;
    use crate::{
        attribution::scene::{SM, Scene, key},
        cluster::PodState,
        config::{Access, Scrape, UrlTarget},
        gpu::Vocabulary,
        scrape::{Scraper, Store, TargetSet, targets},
        sim::{
            exporter::{Dialect, Exporter},
            gpus::{GpuNode, GpuPod},
        },
    };

    /// Nothing says of `shared` that it uses a GPU but what the exporter reports.
    fn cluster() -> View {
        let scene = Scene::new().service("llm").ready(&["llm-0"]).service("shared").pod("shared-0", PodState::Ready, 0);
        let mut view = scene.view;
        for pod in view.pods.values_mut().map(Arc::make_mut) {
            (pod.started, pod.ready_since) = (None, None);
        }
        view
    }

    async fn until(publisher: &Publisher, what: &str, holds: impl Fn(&Result<usize, Status>) -> bool) {
        let selector = Selector::everything();
        let seen = async {
            loop {
                let items = publisher.external("prod", SM, &selector).await.map(|items| items.len());
                if holds(&items) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), seen).await.unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test]
    async fn a_service_whose_exporter_leaves_stays_in_the_external_list_as_unknown_until_its_deployment_goes() {
        let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have been first
        let mut exporters = Vec::new();
        for (pod, node) in [("llm-0", "n1"), ("shared-0", "n2")] {
            let exporter =
                Exporter::start(([127, 0, 0, 1], 0).into(), GpuNode::new(node, 1), Dialect::Ack).await.unwrap();
            exporter.add_pod(GpuPod::new("prod", pod, "uid", [0]));
            exporters.push(exporter);
        }
        let set = |count: usize| -> Arc<TargetSet> {
            let url = |exporter: &Exporter| UrlTarget {
                url: format!("http://{}/metrics", exporter.address()),
                node: None,
                access: Access::default(),
            };
            let urls = exporters.iter().take(count).map(url).collect();
            Arc::new(targets(&Scrape { urls, ..Scrape::default() }, &View::default()))
        };
        let (clock, vocabulary) = (Clock::start(), Arc::new(Vocabulary::default()));
        let (store, publisher) = (Arc::new(Store::new()), Arc::new(Publisher::new(Arc::clone(&vocabulary), clock)));
        let settings = Scrape { interval: config::Duration(Duration::from_millis(200)), ..Scrape::default() };
        let (wanted, sets) = watch::channel(set(2));
        let (view, seen) = (Arc::new(parking_lot::Mutex::new(Arc::new(cluster()))), watch::channel(0));
        let scraper = Scraper::new(&settings, Arc::clone(&vocabulary), clock, Arc::clone(&store));
        let aggregate = config::Aggregate::default();
        let cycle = Cycle {
            store,
            publisher: Arc::clone(&publisher),
            vocabulary,
            aggregate,
            max_age: Duration::from_mins(1),
            clock,
        };
        let now = Arc::clone(&view);
        let tasks = [
            tokio::spawn(async move { drop(scraper.run(sets, std::future::pending()).await) }),
            tokio::spawn(cycle.run(move || Arc::clone(&now.lock()), seen.1, std::future::pending())),
        ];
        until(&publisher, "both are measured", |items| *items == Ok(2)).await;
        wanted.send_replace(set(1));
        until(&publisher, "one is unknown, and so the sum", |items| {
            items.as_ref().is_err_and(|status| status.message.contains("shared: no exporter reports it"))
        })
        .await;
        Arc::make_mut(&mut view.lock()).deployments.remove(&key("shared"));
        until(&publisher, "the other one alone", |items| *items == Ok(1)).await;
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[test]
    fn the_rest_grows_with_the_turn_within_bounds() {
        for (turn, expected) in [(0, 50), (2, 50), (10, 190), (100, 1900), (200, 2000), (60_000, 2000)] {
            let rest = rest(Duration::from_millis(turn));
            assert_eq!(rest, Duration::from_millis(expected), "after {turn} ms");
        }
        assert_eq!(rest(Duration::MAX), LONGEST_REST);
    }
}
