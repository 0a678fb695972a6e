//! Queue signals of model servers, from their own pages to kubectl and to a real HPA.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use tidegate::sim::exporter::Fault;

use super::{
    adapter,
    kubectl::kubectl,
    model_servers::{ModelServers, served_deployment},
    namespace::Namespace,
    raw::{get, pods_path},
    wait::eventually,
    workload::{AUTOSCALER, DEPLOYMENT, HPA_WOULD_HAVE_ACTED, Load, SELECTOR, SERVICE, Workload},
};

const WAITING: &str = "vllm:num_requests_waiting";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reads_what_vllm_says_and_an_hpa_follows_the_queue_from_1_to_3_and_back() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("servers").await;
    let plane = namespace.plane;
    let raw = async |path: &str| -> Result<Value, String> {
        serde_json::from_str(&kubectl(plane, &["get", "--raw", path]).await?).map_err(|error| error.to_string())
    };
    // The GPUs say nothing of the queue: they are as busy with 33 requests waiting as with none.
    let workload = Workload::deploy_as(&namespace, served_deployment(1), 1, 1, Load::Each(31.0)).await.unwrap();
    let servers = ModelServers::follow(&namespace, 3);
    let wildcard = pods_path("v1beta2", &namespace.name, WAITING, SELECTOR);
    eventually("the pod's queue to be served", async || {
        let list = get(&namespace.client, &wildcard).await?;
        if list["items"][0]["value"] == "3" { Ok(()) } else { Err(list.to_string()) }
    })
    .await;

    let pods = raw(&wildcard).await.unwrap();
    assert_eq!(pods["items"].as_array().unwrap().len(), 1, "{pods}");
    assert_eq!(pods["items"][0]["describedObject"]["kind"], "Pod");
    let service = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{}/inferenceservices.serving.kserve.io",
        namespace.name
    );
    let cache = raw(&format!("{service}/{SERVICE}/vllm:kv_cache_usage_perc")).await;
    // The InferenceService itself is not there: the Deployment names it.
    assert_eq!(cache.unwrap()["items"][0]["value"], "300m", "a share, as every dashboard has it");
    let external = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{}", namespace.name);
    let sum = raw(&format!("{external}/{WAITING}_sum?labelSelector=inferenceservice%3D{SERVICE}")).await.unwrap();
    assert_eq!((sum["items"].as_array().unwrap().len(), &sum["items"][0]["value"]), (1, &json!("3")), "{sum}");
    let list = raw("/apis/external.metrics.k8s.io/v1beta1").await.unwrap();
    let listed = list["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == WAITING);
    assert!(listed, "{list}");
    // A rate needs two pages.
    let rate = format!("{service}/{SERVICE}/vllm:generation_tokens_per_second");
    eventually("a rate", async || {
        let rate = get(&namespace.client, &rate).await?;
        if rate["items"][0]["value"] == "0" { Ok(()) } else { Err(rate.to_string()) }
    })
    .await;
    let node = raw(&format!("/apis/custom.metrics.k8s.io/v1beta2/nodes/gpu-0/{WAITING}")).await.unwrap_err();
    assert!(node.contains("NotFound"), "a server says nothing about its node: {node}");

    namespace
        .create::<HorizontalPodAutoscaler>(json!({
            "metadata": {"name": AUTOSCALER},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": DEPLOYMENT},
                "minReplicas": 1, "maxReplicas": 3,
                "metrics": [{"type": "Pods", "pods": {
                    "metric": {"name": WAITING}, "target": {"type": "AverageValue", "averageValue": "5"},
                }}],
            },
        }))
        .await;
    let timeline = workload.timeline();
    timeline.until("the HPA reads 3", |m| m.active && m.value.as_deref() == Some("3")).await.unwrap();
    timeline.all("one replica below the target", |m| m.replicas == 1).unwrap();

    servers.set_waiting(15);
    timeline
        .until("three replicas with 5 waiting each", |m| m.ready == 3 && m.value.as_deref() == Some("5"))
        .await
        .unwrap();
    // Unknown is not zero: three dead servers move nothing.
    servers.set_fault(Fault::Dead);
    timeline.until("the HPA to know nothing", |m| !m.active).await.unwrap();
    timeline.holds("three replicas while nothing is known", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 3).await.unwrap();
    servers.set_fault(Fault::None);
    servers.set_waiting(0);
    timeline.until("one replica after the queue", |m| m.replicas == 1 && m.ready == 1).await.unwrap();
    let steps = timeline.steps();
    assert!([&[1, 3, 1][..], &[1, 3, 2, 1]].contains(&&steps[..]), "up at once, then down:\n{timeline}");
    drop(servers);
    drop(workload);
    namespace.finish().await;
}
