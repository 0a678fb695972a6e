//! Who reads: the HPA of each service every 15 s, as kube-controller-manager does, and Prometheus as often.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use axum::{Router, body::Body};
use http::Request;
use prometheus_client::registry::Registry;
use tidegate::{
    clock::Clock,
    cluster::View,
    config::Telemetry,
    publish::Publisher,
    scrape::Store,
    telemetry::{measured::Measured, process::Process},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tower::ServiceExt as _;

use crate::cluster::METRIC;

/// `--horizontal-pod-autoscaler-sync-period`, and a usual interval of Prometheus.
const EVERY: Duration = Duration::from_secs(15);

/// Answers so far.
#[derive(Debug, Clone, Default)]
pub struct Answered {
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    pages: Arc<AtomicU64>,
}

/// Answers with a value, answers without, and pages of `/metrics`.
pub type Counts = (u64, u64, u64);

impl Answered {
    pub fn get(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (get(&self.good), get(&self.bad), get(&self.pages))
    }
}

pub fn since(now: Counts, before: Counts) -> Counts {
    (now.0 - before.0, now.1 - before.1, now.2 - before.2)
}

/// The metrics APIs and `/metrics`, as the adapter puts them together.
pub fn router(publisher: &Arc<Publisher>, store: &Arc<Store>, clock: Clock) -> Router {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process));
    registry.register_collector(Box::new(Measured {
        publisher: Arc::clone(publisher),
        store: Arc::clone(store),
        clock,
        series: Telemetry::default().series,
    }));
    let options = apiservice::Options::new(registry, move || clock.now());
    apiservice::router::router(Arc::clone(publisher), options)
}

async fn ask(router: &Router, path: &str) -> anyhow::Result<bytes::Bytes> {
    let request = Request::get(path).header("accept", "application/json").body(Body::empty())?;
    let response = router.clone().oneshot(request).await?;
    ensure!(response.status() == http::StatusCode::OK, "{path}: {}", response.status());
    Ok(axum::body::to_bytes(response.into_body(), usize::MAX).await?)
}

pub fn start<Stop: Future<Output = ()> + Send + 'static>(
    tasks: &mut JoinSet<anyhow::Result<()>>,
    router: &Router,
    view: &View,
    answered: &Answered,
    told: &impl Fn() -> Stop,
) {
    let now = Instant::now();
    let total = view.autoscalers.len().max(1) as u32;
    for (number, key) in (0..).zip(view.autoscalers.keys()) {
        let path = format!(
            "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/pods/%2A/{METRIC}?labelSelector=app%3Disvc.{}",
            key.namespace, key.name
        );
        let (router, answered, stop) = (router.clone(), answered.clone(), told());
        let first = now + EVERY * number / total;
        tasks.spawn(until(stop, first, async move || {
            let answer = ask(&router, &path).await;
            let has_value = answer.is_ok_and(|body| body.windows(7).any(|word| word == b"\"value\""));
            let count = if has_value { &answered.good } else { &answered.bad };
            count.fetch_add(1, Ordering::Relaxed);
        }));
    }
    let (router, answered, stop) = (router.clone(), answered.clone(), told());
    tasks.spawn(until(stop, now + EVERY / 2, async move || {
        let page = ask(&router, "/metrics").await;
        let count = if page.is_ok_and(|page| !page.is_empty()) { &answered.pages } else { &answered.bad };
        count.fetch_add(1, Ordering::Relaxed);
    }));
}

async fn until(stop: impl Future<Output = ()>, first: Instant, each: impl AsyncFn()) -> anyhow::Result<()> {
    let mut ticks = interval_at(first, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            _ = ticks.tick() => each().await,
        }
    }
}
