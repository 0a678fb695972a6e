//! The seed's mistake, a ResourcePolicy that selects no pod, is told wherever somebody looks.

use serde_json::{Value, json};

use super::{
    cluster::{
        adapter,
        kubectl::{create, kubectl},
        namespace::Namespace,
        wait::eventually,
    },
    fleet::SERVICE,
    stage::Stage,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_policy_that_selects_no_pod_is_told_beside_it_in_the_status_and_on_the_page() {
    let stage = Stage::take(1).await;
    let namespace = Namespace::new("mistaken").await;
    let name = namespace.name.as_str();
    stage.order(&namespace, "isvc.qwen-predictor").await.unwrap();
    let policy = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "ScalingPolicy", "metadata": {"name": SERVICE, "namespace": name},
        "spec": {"targetRef": {"kind": "InferenceService", "name": SERVICE}, "maxReplicas": 3},
    });
    create(stage.plane, &policy.to_string()).await.unwrap();
    stage.serve(&namespace).await.unwrap();

    let near_miss = "the pods of Deployment qwen-chat-predictor have app=isvc.qwen-chat-predictor";
    let get = async |what: &[&str]| kubectl(stage.plane, &[&["get", "--namespace", name], what].concat()).await;
    eventually("the policy's condition", async || {
        let policy: Value = serde_json::from_str(&get(&["scalingpolicy", SERVICE, "-o", "json"]).await?)
            .map_err(|error| error.to_string())?;
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ordered = conditions.iter().find(|condition| condition["type"] == "PoolsOrdered");
        let told = ordered.is_some_and(|ordered| {
            (&ordered["status"], &ordered["reason"]) == (&"False".into(), &"SelectsNoPod".into())
                && ordered["message"].as_str().is_some_and(|message| message.ends_with(near_miss))
        });
        if told { Ok(()) } else { Err(policy.to_string()) }
    })
    .await;
    eventually("the event beside the ResourcePolicy", async || {
        let described = ["describe", "resourcepolicies.scheduling.alibabacloud.com", SERVICE, "--namespace", name];
        let text = kubectl(stage.plane, &described).await?;
        if text.contains("SelectsNoPod") && text.contains(near_miss) { Ok(()) } else { Err(text) }
    })
    .await;
    eventually("the line on /metrics", async || {
        let telemetry = adapter::running().await.adapter.telemetry;
        let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
        let page = client.get(format!("http://127.0.0.1:{telemetry}/metrics")).send().await;
        let text = page.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
        let line = format!(
            "tidegate_pool_order_problem{{namespace=\"{name}\",object=\"ResourcePolicy/qwen-chat\",reason=\"SelectsNoPod\""
        );
        if text.contains(&line) { Ok(()) } else { Err("it is not there") }.map_err(str::to_owned)
    })
    .await;
    namespace.finish().await;
}
