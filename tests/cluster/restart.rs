//! The adapter dies and comes back at peak, or is told to stop.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use kube::Client;
use serde_json::Value;
use tidegate::sim::exporter::Fault;

use super::{
    adapter,
    namespace::Namespace,
    raw::{administrator, direct, direct_url, get, pods_path},
    wait::{GLANCE, eventually},
    workload::{HPA_WOULD_HAVE_ACTED, Load, METRIC, SELECTOR, Workload},
};

/// Times of the items that are served, or the error's message.
async fn served(client: &Client, namespace: &str) -> Result<Vec<jiff::Timestamp>, String> {
    let list: Value = get(client, &pods_path("v1beta2", namespace, METRIC, SELECTOR)).await?;
    let items = list["items"].as_array().ok_or_else(|| format!("no items: {list}"))?;
    items
        .iter()
        .map(|item| item["timestamp"].as_str().unwrap_or("").parse().map_err(|e| format!("{item}: {e}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_is_killed_and_started_again_at_peak_causes_no_wrong_move_and_serves_nothing_from_before() {
    let exclusive = adapter::exclusive().await;
    let adapter = exclusive.adapter;
    let namespace = Namespace::new("restart").await;
    let workload = Workload::arena(&namespace, 1, 1, Load::Shared(120.0)).await.unwrap();
    let timeline = workload.timeline();
    timeline.until("three ready replicas at 40 %", |m| m.ready == 3 && m.value.as_deref() == Some("40")).await.unwrap();
    let peak = timeline.moments().len();

    adapter.kill();
    timeline.until("the HPA misses the adapter", |m| !m.active).await.unwrap();
    // While it is away the exporter falls silent, too: nothing can be measured after the start.
    workload.set_fault(Fault::Dead);
    let clock = tidegate::clock::Clock::start();
    adapter.start().unwrap();
    let start = tokio::time::Instant::now();
    adapter.available(&namespace.client).await.unwrap();
    while start.elapsed() < HPA_WOULD_HAVE_ACTED {
        let times = served(&namespace.client, &namespace.name).await;
        assert!(
            times.as_ref().map_or(true, Vec::is_empty),
            "nothing was measured, and yet something is served: {times:?}"
        );
        tokio::time::sleep(GLANCE).await;
    }
    assert!(!timeline.moments().last().unwrap().active, "{timeline}");

    let measurable = clock.now();
    workload.set_fault(Fault::None);
    let times = eventually("the three pods' values", async || {
        let times = served(&namespace.client, &namespace.name).await?;
        if times.len() == 3 { Ok(times) } else { Err(format!("{times:?}")) }
    })
    .await;
    // Times are served in whole seconds.
    let earliest = measurable - std::time::Duration::from_secs(1);
    assert!(times.iter().all(|&time| time >= earliest), "measured before {measurable}: {times:?}");
    timeline.until("the HPA reads 40 % again", |m| m.active && m.value.as_deref() == Some("40")).await.unwrap();
    timeline.holds("three replicas after it", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 3).await.unwrap();
    assert!(timeline.moments()[peak - 1..].iter().all(|m| m.replicas == 3), "three replicas throughout:\n{timeline}");
    drop(workload);
    namespace.finish().await;
}

/// Requests under way at once while the adapter is told to stop.
const CALLERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_that_is_told_to_stop_answers_what_it_has_accepted_and_ends_with_success() {
    let exclusive = adapter::exclusive().await;
    let adapter = exclusive.adapter;
    let plane = super::controlplane::shared();
    let answered = AtomicUsize::new(0);
    // Each caller on one HTTP/2 connection, whose GOAWAY says exactly which requests are still answered: what comes too late
    // is sent again on a new connection, and in the end there is nobody to connect to. Any other failure is a request that
    // was accepted and then dropped.
    let callers = (0..CALLERS).map(async |_| {
        let client = direct(plane).identity(administrator(plane)).build().unwrap();
        loop {
            let outcome = client.get(direct_url(adapter, "/apis/custom.metrics.k8s.io/v1beta2")).send().await;
            match outcome.and_then(reqwest::Response::error_for_status) {
                Ok(response) => response.bytes().await.map(|_| ()).map_err(|error| format!("{error:?}"))?,
                Err(error) if error.is_connect() => return Ok::<(), String>(()),
                Err(error) => return Err(format!("{error:?}")),
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    let stop = async {
        eventually("requests to be answered", async || {
            let count = answered.load(Ordering::Relaxed);
            if count >= 5 * CALLERS { Ok(()) } else { Err(format!("{count} are")) }
        })
        .await;
        adapter.terminate().await
    };
    let (results, status) = tokio::join!(join_all(callers), stop);
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(status.success(), "{status}:\n{}", adapter.tail(20));

    // It is started again for the tests that follow, as a Deployment would.
    adapter.start().unwrap();
    adapter.available(&plane.client().await.unwrap()).await.unwrap();
}
