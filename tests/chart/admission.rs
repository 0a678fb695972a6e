//! The chart's registration of the webhook at the real API server: it trusts what the adapter keeps there, and a pod is made
//! whether the adapter answers or not.

use serde_json::Value;

use super::release::{MODELS, Release};
use crate::cluster::{
    kubectl::{create, kubectl},
    wait::eventually,
};

const POLICY: &str = "
apiVersion: scheduling.alibabacloud.com/v1alpha1
kind: ResourcePolicy
metadata: {name: qwen, namespace: models}
spec:
  selector: {app: qwen}
  units:
  - {resource: ecs, max: 2, nodeSelector: {pool: onprem}}
  - {resource: elastic, nodeSelector: {pool: cloud}}
";

/// What a new pod's node affinity would be.
async fn affinity(release: &Release) -> Result<Value, String> {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {generateName: qwen-, namespace: models, labels: {app: qwen}}, \
               spec: {containers: [{name: kserve-container, image: vllm}]}}";
    let path = super::helm::file(pod);
    let flags = ["create", "--dry-run=server", "-o", "json", "-f", &path.display().to_string()];
    let made = kubectl(release.stage.plane, &flags).await;
    std::fs::remove_file(path).map_err(|error| error.to_string())?;
    let pod: Value = serde_json::from_str(&made?).map_err(|error| error.to_string())?;
    Ok(pod["spec"]["affinity"]["nodeAffinity"].clone())
}

const REQUIRED: &str = "/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/matchExpressions/0";
const PREFERRED: &str = "/preferredDuringSchedulingIgnoredDuringExecution/0/preference/matchExpressions/0/values/0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pod_of_an_ordered_service_prefers_its_pools_where_the_namespace_has_opted_in() {
    let mut release = Release::install(&["--set", "config.burst.enabled=true,webhook.enabled=true"]).await;
    let plane = release.stage.plane;
    create(plane, POLICY).await.unwrap();
    release.start("webhook").await;
    release.serves().await;
    assert_eq!(affinity(&release).await, Ok(Value::Null), "the namespace has not opted in");
    let label = |value: &'static str| ["label", "namespace", MODELS, value, "--overwrite"];
    kubectl(plane, &label("tidegate.dev/burst=enabled")).await.unwrap();
    eventually("the webhook to be trusted and asked", async || {
        let affinity = affinity(&release).await?;
        if affinity.pointer(PREFERRED) == Some(&"onprem".into()) { Ok(()) } else { Err(affinity.to_string()) }
    })
    .await;

    // A pool at its maximum is kept out of; none may be in it any more.
    let full = r#"[{"op": "replace", "path": "/spec/units/0/max", "value": 0}]"#;
    let name = "resourcepolicies.scheduling.alibabacloud.com";
    kubectl(plane, &["patch", name, "qwen", "-n", MODELS, "--type=json", "-p", full]).await.unwrap();
    eventually("the full pool to be closed", async || {
        let affinity = affinity(&release).await?;
        let closed = serde_json::json!({"key": "pool", "operator": "NotIn", "values": ["onprem"]});
        if affinity.pointer(REQUIRED) == Some(&closed) { Ok(()) } else { Err(affinity.to_string()) }
    })
    .await;

    release.kill();
    assert_eq!(affinity(&release).await, Ok(Value::Null), "nobody answers, and the pod is made all the same");
    kubectl(plane, &label("tidegate.dev/burst-")[..4]).await.unwrap();
    kubectl(plane, &["delete", name, "qwen", "-n", MODELS]).await.unwrap();
    release.uninstall().await;
}
