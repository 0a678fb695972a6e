//! What an operator sees through kubectl.

use serde_json::{Value, json};

use super::{
    adapter,
    kubectl::kubectl,
    namespace::Namespace,
    raw::{get, pods_path},
    wait::eventually,
    workload::{AUTOSCALER, Load, METRIC, SELECTOR, SERVICE, Workload},
};

const CUSTOM: &str = "/apis/custom.metrics.k8s.io";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io";

fn find(list: &Value, wanted: impl Fn(&Value) -> bool) -> Option<&Value> {
    list.as_array()?.iter().find(|item| wanted(item))
}

fn names(list: &Value) -> Vec<&str> {
    list["resources"].as_array().unwrap().iter().map(|resource| resource["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reads_discovery_pods_an_inference_service_and_an_external_metric_and_describes_the_hpa() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("reading").await;
    let plane = namespace.plane;
    let raw = async |path: &str| -> Result<Value, String> {
        serde_json::from_str(&kubectl(plane, &["get", "--raw", path]).await?).map_err(|error| error.to_string())
    };
    let workload = Workload::arena(&namespace, 2, 1, Load::Steps { first: 47.0, step: 3.0 }).await.unwrap();
    let wildcard = pods_path("v1beta2", &namespace.name, METRIC, SELECTOR);
    eventually("both pods to be served", async || {
        let list = get(&namespace.client, &wildcard).await?;
        if list["items"].as_array().is_some_and(|items| items.len() == 2) { Ok(()) } else { Err(list.to_string()) }
    })
    .await;

    // The aggregator answers for the groups; the preferred version is the one with the higher priority.
    let group = raw(CUSTOM).await.unwrap();
    assert_eq!(group["preferredVersion"]["version"], "v1beta2", "{group}");
    for version in ["v1beta1", "v1beta2"] {
        let list = raw(&format!("{CUSTOM}/{version}")).await.unwrap();
        assert_eq!(list["kind"], "APIResourceList");
        let names = names(&list);
        for resource in ["pods", "inferenceservices.serving.kserve.io", "deployments.apps", "nodes"] {
            assert!(names.contains(&&*format!("{resource}/{METRIC}")), "{resource} in {names:?}");
        }
    }
    assert_eq!(raw(EXTERNAL).await.unwrap()["preferredVersion"]["version"], "v1beta1");
    let list = raw(&format!("{EXTERNAL}/v1beta1")).await.unwrap();
    assert!(names(&list).contains(&METRIC), "{list}");

    let pods = raw(&wildcard).await.unwrap();
    assert_eq!(pods["kind"], "MetricValueList");
    let values: Vec<_> = pods["items"].as_array().unwrap().iter().map(|item| item["value"].clone()).collect();
    assert_eq!(values, ["47", "50"], "{pods}");

    let path = format!(
        "{CUSTOM}/v1beta2/namespaces/{}/inferenceservices.serving.kserve.io/{SERVICE}/{METRIC}",
        namespace.name
    );
    let service = raw(&path).await.unwrap();
    assert_eq!(service["items"][0]["value"], "48500m", "the mean of 47 and 50: {service}");
    let described = json!({
        "kind": "InferenceService", "apiVersion": "serving.kserve.io/v1beta1", "namespace": namespace.name, "name": SERVICE,
    });
    assert_eq!(service["items"][0]["describedObject"], described);
    assert_eq!(service["items"].as_array().unwrap().len(), 1);

    let path =
        format!("{EXTERNAL}/v1beta1/namespaces/{}/{METRIC}?labelSelector=inferenceservice%3D{SERVICE}", namespace.name);
    let external = raw(&path).await.unwrap();
    assert_eq!(external["kind"], "ExternalMetricValueList");
    let items = external["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "the HPA adds items up: {external}");
    assert_eq!((&items[0]["metricName"], &items[0]["value"]), (&json!(METRIC), &json!("48500m")));

    let error = kubectl(plane, &["get", "--raw", &path.replace(METRIC, "no_such_metric")]).await.unwrap_err();
    assert!(error.contains("NotFound"), "{error}");

    let timeline = workload.timeline();
    timeline.until("the HPA reads the mean", |m| m.active && m.value.as_deref() == Some("48500m")).await.unwrap();
    let described = kubectl(plane, &["-n", &namespace.name, "describe", "hpa", AUTOSCALER]).await.unwrap();
    let current = described.lines().find(|line| line.contains(METRIC)).unwrap_or(&described);
    assert!(current.contains("on pods:") && current.trim_end().ends_with("48500m / 50"), "{current}");
    assert!(described.contains("ValidMetricFound"), "{described}");

    let services = kubectl(plane, &["get", "apiservice"]).await.unwrap();
    let ours: Vec<&str> = services.lines().filter(|line| line.contains("metrics.k8s.io")).collect();
    assert_eq!(ours.len(), 3, "{services}");
    assert!(ours.iter().all(|line| line.contains("True")), "{services}");

    // Aggregated discovery lists the same, and no version is stale: a stale one would hold up every namespace's deletion.
    eventually("the aggregator to have read our discovery", async || {
        let all = namespace.client.list_api_groups_aggregated().await.map_err(|error| error.to_string())?;
        let all = serde_json::to_value(all).map_err(|error| error.to_string())?;
        for (group, version, resource) in [
            ("custom.metrics.k8s.io", "v1beta1", "pods"),
            ("custom.metrics.k8s.io", "v1beta2", "pods"),
            ("external.metrics.k8s.io", "v1beta1", METRIC),
        ] {
            let group = find(&all["items"], |item| item["metadata"]["name"] == group).ok_or(group)?;
            let found = find(&group["versions"], |item| item["version"] == version).ok_or(version)?;
            let listed = find(&found["resources"], |item| item["resource"] == resource);
            if found["freshness"] != "Current" || listed.is_none() {
                return Err(format!("{version} {resource}: {group}"));
            }
        }
        Ok(())
    })
    .await;
    drop(workload);
    namespace.finish().await;
}
