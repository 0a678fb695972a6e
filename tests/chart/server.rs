//! What the real API server makes of the chart's objects, and Helm of a release on it.

use k8s_openapi::{api::core::v1::Secret, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::Api;
use serde_json::{Value, json};

use super::{
    helm::{RELEASE, VALUES, file, objects, only, render},
    release::{Release, Stage},
};
use crate::cluster::{kubectl::kubectl, wait::eventually};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/tidegate.yaml");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_what_every_set_of_values_renders() {
    let stage = Stage::enter().await;
    kubectl(stage.plane, &["create", "namespace", RELEASE]).await.ok(); // an earlier test may have made it
    for (name, values) in VALUES {
        let manifest = render(values).unwrap();
        let path = file(&manifest);
        let apply = ["apply", "--server-side", "--dry-run=server", "-f", &path.display().to_string()];
        let said = kubectl(stage.plane, &apply).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(said.lines().count(), objects(&manifest).len(), "{name}: {said}");
        std::fs::remove_file(path).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_is_applied_as_it_is_a_second_time_changes_nothing_and_its_removal_leaves_nothing() {
    let stage = Stage::enter().await;
    let count = objects(&std::fs::read_to_string(MANIFEST).unwrap()).len();
    let versions = async || {
        let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,VERSION:.metadata.resourceVersion";
        kubectl(stage.plane, &["get", "-f", MANIFEST, "--no-headers", "-o", columns]).await
    };
    let applied = kubectl(stage.plane, &["apply", "--server-side", "-f", MANIFEST]).await.unwrap();
    assert_eq!(applied.lines().filter(|line| line.ends_with("serverside-applied")).count(), count, "{applied}");
    let first = versions().await.unwrap();
    kubectl(stage.plane, &["apply", "--server-side", "-f", MANIFEST]).await.unwrap();
    assert_eq!(versions().await.unwrap(), first);
    // No controller runs here that would empty a namespace: it stays, without what the manifest put there.
    kubectl(stage.plane, &["delete", "--wait=false", "-f", MANIFEST]).await.unwrap();
    eventually("the objects to be gone", async || {
        let left = kubectl(stage.plane, &["get", "-f", MANIFEST, "--ignore-not-found", "-o", "name"]).await?;
        if left.lines().all(|line| line.starts_with("namespace/")) { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pod_is_admitted_where_only_restricted_pods_are() {
    let stage = Stage::enter().await;
    let namespace = "restricted";
    let label = "pod-security.kubernetes.io/enforce=restricted";
    for command in [
        &["create", "namespace", namespace][..],
        &["label", "namespace", namespace, label],
        &["create", "serviceaccount", RELEASE, "--namespace", namespace],
    ] {
        kubectl(stage.plane, command).await.unwrap();
    }
    let admit = async |spec: &Value| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "namespace": namespace}, "spec": spec});
        let path = file(&pod.to_string());
        let outcome = kubectl(stage.plane, &["create", "--dry-run=server", "-f", &path.display().to_string()]).await;
        std::fs::remove_file(path).unwrap();
        outcome
    };
    for (name, values) in VALUES.iter().filter(|(_, values)| !values.contains("serviceAccount: {create: false")) {
        // A ServiceAccount of another name does not exist in that namespace; that of the priority class does in any cluster.
        let objects = objects(&render(values).unwrap());
        let spec = &only(&objects, "Deployment")["spec"]["template"]["spec"];
        admit(spec).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for (path, field) in [
            ("/securityContext", "runAsNonRoot"),
            ("/securityContext", "seccompProfile"),
            ("/containers/0/securityContext", "allowPrivilegeEscalation"),
            ("/containers/0/securityContext", "capabilities"),
        ] {
            let mut wider = spec.clone();
            wider.pointer_mut(path).unwrap().as_object_mut().unwrap().remove(field).expect(field);
            let error = admit(&wider).await.expect_err(field);
            assert!(error.contains("violates PodSecurity \"restricted"), "{field}: {error}");
        }
    }
}

/// The self-made certificate, and the bundles by which the aggregator trusts it.
async fn certificate(release: &Release) -> Result<Value, String> {
    let client = &release.stage.client;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), RELEASE);
    let secret = secrets.get("tidegate-serving-certificate").await.map_err(|error| error.to_string())?;
    let mut found =
        json!({"secret": secret.data.filter(|data| data.contains_key("tls.key")).ok_or("the Secret is empty")?});
    let services: Api<APIService> = Api::all(client.clone());
    for name in ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io", "v1beta1.external.metrics.k8s.io"] {
        let service = services.get(name).await.map_err(|error| error.to_string())?;
        let bundle = service.spec.and_then(|spec| spec.ca_bundle).ok_or_else(|| format!("{name} has no caBundle"))?;
        found[name] = json!(bundle);
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_serves_keeps_its_certificate_over_an_upgrade_says_true_commands_and_leaves_nothing_behind() {
    let mut release = Release::install(&[]).await;
    release.start("installed").await;
    release.serves().await;
    let before = eventually("the certificate to be in place", async || certificate(&release).await).await;

    // The notes name commands. The first waits for pods, which nothing runs here; the others work as they are printed.
    let commands: Vec<&str> = release.notes.lines().filter_map(|line| line.strip_prefix("   kubectl ")).collect();
    let [rollout, services, read] = commands[..] else { panic!("{}", release.notes) };
    assert_eq!(rollout, "--namespace tidegate rollout status deployment/tidegate");
    let said = kubectl(release.stage.plane, &services.split(' ').collect::<Vec<_>>()).await.unwrap();
    assert_eq!(said.matches("True").count(), 3, "{said}");
    let path = read.strip_prefix("get --raw '").and_then(|path| path.strip_suffix('\'')).expect(read);
    let path = path.replace("/default/", "/models/");
    let said = kubectl(release.stage.plane, &["get", "--raw", &path]).await.unwrap();
    assert!(said.contains("\"42\""), "{said}");

    release.kill();
    release.helm("upgrade", &["--set", "replicas=3"]).unwrap();
    assert_eq!(certificate(&release).await.as_ref(), Ok(&before), "an upgrade leaves alone what the adapter wrote");
    release.lead_to_this_machine().await;
    release.start("upgraded").await;
    release.serves().await;
    assert_eq!(certificate(&release).await.as_ref(), Ok(&before));
    release.uninstall().await;
}
