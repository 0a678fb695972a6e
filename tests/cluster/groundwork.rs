//! The harness itself: what the other tests stand on.

use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use serde_json::json;

use super::{
    kubectl::{create, kubectl},
    namespace::Namespace,
    wait::eventually,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_scheduled_and_become_ready_and_the_hpa_that_arena_makes_is_accepted() {
    let namespace = Namespace::new("groundwork").await;
    create(namespace.plane, &include_str!("arena_qwen_chat.yaml").replace("default", &namespace.name)).await.unwrap();
    let template = json!({
        "metadata": {"labels": {"app": "isvc.qwen-chat-predictor"}},
        "spec": {"containers": [{"name": "c", "image": "none", "resources": {"limits": {"nvidia.com/gpu": 1}}}]},
    });
    namespace
        .create::<Deployment>(json!({
            "metadata": {"name": "qwen-chat-predictor"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "isvc.qwen-chat-predictor"}},
                "template": template,
            },
        }))
        .await;
    let deployments = namespace.api::<Deployment>();
    eventually("two ready pods", async || {
        let status = deployments.get("qwen-chat-predictor").await.map_err(|e| e.to_string())?.status;
        let ready = status.and_then(|status| status.ready_replicas).unwrap_or(0);
        if ready == 2 { Ok(()) } else { Err(format!("{ready} are ready")) }
    })
    .await;
    let autoscalers = namespace.api::<HorizontalPodAutoscaler>();
    eventually("the controller to look at the HPA", async || {
        let status = autoscalers.get("qwen-chat-hpa").await.map_err(|e| e.to_string())?.status;
        status
            .and_then(|status| status.conditions)
            .filter(|conditions| !conditions.is_empty())
            .ok_or("no condition")
            .map_err(str::to_owned)
    })
    .await;
    let nodes = kubectl(namespace.plane, &["get", "nodes", "--no-headers"]).await.unwrap();
    assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), super::kwok::NODES, "{nodes}");
    namespace.finish().await;
}
