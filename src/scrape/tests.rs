//! The scraper against real sockets: one small exporter per case, on a port of its own.

mod access;
mod exporter;
mod failures;
mod life;
mod pages;
mod servers;

use std::{sync::Arc, time::Duration};

use tokio::sync::{oneshot, watch};

use super::*;
use crate::{
    clock::Clock,
    cluster::View,
    config::{self, Access, UrlTarget},
    gpu::Vocabulary,
};

/// One device series of one card.
const PAGE: &str = "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",UUID=\"GPU-1\",Hostname=\"n1\"} 37\n";
/// No test waits longer for what it expects.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running scraper and its store.
struct Rig {
    store: Arc<Store>,
    set: watch::Sender<Arc<TargetSet>>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), ScraperError>>,
}

impl Rig {
    fn start(config: &config::Scrape) -> Self {
        let vocabulary = Arc::new(Vocabulary::new(&config::Vocabulary::default()).expect("the built-in vocabulary"));
        let store = Arc::new(Store::new());
        let (set, receiver) = watch::channel(Arc::new(targets(config, &View::default())));
        let (stop, stopped) = oneshot::channel::<()>();
        let scraper = Scraper::new(config, vocabulary, Clock::start(), Arc::clone(&store));
        let shutdown = async { stopped.await.unwrap_or_default() };
        Self { store, set, stop, task: tokio::spawn(scraper.run(receiver, shutdown)) }
    }

    /// The first snapshot that is as expected.
    async fn until(&self, expected: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let mut changes = self.store.changes();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let snapshot = self.store.snapshot();
                if expected(&snapshot) {
                    return snapshot;
                }
                changes.changed().await.expect("the store lives as long as the rig");
            }
        });
        found.await.unwrap_or_else(|_| panic!("not seen in time; at last: {:#?}", self.store.snapshot()))
    }

    /// The first state of that target that is as expected.
    async fn target_until(&self, url: &str, expected: impl Fn(&Tracked) -> bool) -> Arc<Tracked> {
        let id = TargetId(url.into());
        let snapshot = self.until(|snapshot| snapshot.targets.get(&id).is_some_and(|tracked| expected(tracked))).await;
        Arc::clone(&snapshot.targets[&id])
    }

    /// Stops the scraper; every task has ended then.
    async fn stop(self) {
        self.stop.send(()).expect("the scraper runs");
        self.task.await.expect("no panic").expect("no task died");
    }
}

/// A short interval, and limits of size that a test can exceed. A machine that is busy is no slow exporter: the time limit is
/// none that a test reaches unless it sets its own.
fn settings(urls: impl IntoIterator<Item = String>) -> config::Scrape {
    config::Scrape {
        interval: config::Duration(Duration::from_millis(40)),
        timeout: config::Duration(PATIENCE),
        page_bytes: config::Bytes(64 << 10),
        samples: 100,
        urls: urls.into_iter().map(|url| UrlTarget { url, node: None, access: Access::default() }).collect(),
        ..config::Scrape::default()
    }
}

fn with_access(url: String, access: Access) -> config::Scrape {
    config::Scrape { urls: vec![UrlTarget { url, node: Some("n7".into()), access }], ..settings([]) }
}
