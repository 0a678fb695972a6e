//! A service with 200 pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::{
    adapter,
    namespace::Namespace,
    raw::{get, pods_path},
    wait::eventually,
    workload::{Load, METRIC, SELECTOR, Workload},
};

const PODS: i32 = 200;

fn values(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| (text(&item["describedObject"]["name"]), text(&item["value"]))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_over_200_pods_is_complete_sorted_and_stable() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("many-pods").await;
    // A neighbour that the selector leaves out.
    let spec = json!({"containers": [{"name": "c", "image": "none"}]});
    namespace.create::<Pod>(json!({"metadata": {"name": "neighbour", "labels": {"app": "other"}}, "spec": spec})).await;
    let workload = Workload::deploy(&namespace, PODS, 4, Load::Each(25.0)).await.unwrap();
    let expected: BTreeMap<String, f64> = workload.expected();
    assert_eq!(expected.len(), usize::try_from(PODS).unwrap());

    let path = pods_path("v1beta2", &namespace.name, METRIC, SELECTOR);
    let wanted: Vec<(String, String)> = expected.keys().map(|name| (name.clone(), "25".to_owned())).collect();
    let list = eventually("all 200 pods", async || {
        let list = get(&namespace.client, &path).await?;
        let values = values(&list);
        if values.len() < wanted.len() { Err(format!("{} pods are served", values.len())) } else { Ok(values) }
    })
    .await;
    assert_eq!(list, wanted, "each pod once, by name");
    for version in ["v1beta1", "v1beta2"] {
        let path = pods_path(version, &namespace.name, METRIC, SELECTOR);
        for _ in 0..10 {
            assert_eq!(values(&get(&namespace.client, &path).await.unwrap()), wanted, "the same in each answer");
        }
    }

    // Each pod its own value, from the right exporter.
    workload.set_load(Load::Steps { first: 0.0, step: 0.5 });
    let wanted: Vec<(String, String)> = expected.keys().enumerate().map(|(i, name)| (name.clone(), half(i))).collect();
    eventually("each pod's own value", async || {
        let values = values(&get(&namespace.client, &path).await?);
        if values == wanted { Ok(()) } else { Err(format!("{values:?}")) }
    })
    .await;
    drop(workload);
    namespace.finish().await;
}

/// Halves, as quantities are written.
fn half(n: usize) -> String {
    if n.is_multiple_of(2) { (n / 2).to_string() } else { format!("{}m", n * 500) }
}
