//! KServe's own controller, in Standard mode: it makes Deployment and Service of each InferenceService.

use std::{fs, path::Path};

use super::cluster::{
    controlplane::ControlPlane,
    kubectl::{create, kubectl},
    process::{Part, free_ports},
    wait::eventually_or_error,
};

/// In KServe's module. Without all of them the manager ends after two minutes. `full` keeps the enums that `minimal` drops.
const DEFINITIONS: [&str; 3] = ["inferenceservices", "inferencegraphs", "trainedmodels"];

/// The namespace and the settings without which the manager does not start: Standard mode, no ingress.
const SETTINGS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: kserve}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: inferenceservice-config, namespace: kserve}
data:
  deploy: '{"defaultDeploymentMode": "RawDeployment"}'
  ingress: '{"ingressGateway": "x/x", "disableIngressCreation": true, "disableIstioVirtualHost": true}'
"#;

/// The folder of a Go module, which `tests/controlplane/build` has noted.
pub fn module(plane: &ControlPlane, name: &str) -> Result<String, String> {
    let note = plane.program(&format!("{name}-module"));
    let folder = fs::read_to_string(&note)
        .map_err(|error| format!("{}: {error}; tests/controlplane/build makes it", note.display()))?;
    Ok(folder.trim().to_owned())
}

/// Server-side apply: the definitions are too large for the annotation of a client-side one.
pub async fn define(plane: &ControlPlane, file: &str) -> Result<(), String> {
    kubectl(plane, &["apply", "--server-side", "--force-conflicts", "-f", file]).await.map(drop)
}

/// Starts the manager and waits until it is ready.
pub async fn start(plane: &ControlPlane) -> Result<Part, String> {
    let module = module(plane, "kserve")?;
    for name in DEFINITIONS {
        define(plane, &format!("{module}/config/crd/full/serving.kserve.io_{name}.yaml")).await?;
    }
    create(plane, SETTINGS).await?;
    let folder = plane.folder().join("kserve");
    let certificates = folder.join("k8s-webhook-server/serving-certs");
    fs::create_dir_all(&certificates).map_err(|error| format!("{}: {error}", certificates.display()))?;
    // The manager serves webhooks, which nothing here calls; it wants the certificate all the same.
    plane.authority.issue("kserve", &[], &["localhost"]).write(&certificates, "tls");
    let [webhooks, metrics, health] = free_ports();
    let arguments = [
        format!("TMPDIR={}", folder.display()),
        format!("KUBECONFIG={}", plane.folder().join("admin.yaml").display()),
        "POD_NAMESPACE=kserve".into(),
        plane.program("kserve/manager").display().to_string(),
        format!("--webhook-port={webhooks}"),
        format!("--metrics-addr=127.0.0.1:{metrics}"),
        format!("--health-probe-addr=127.0.0.1:{health}"),
    ];
    let mut part = Part::start("kserve", plane.folder(), Path::new("/usr/bin/env"), &arguments)?;
    eventually_or_error("KServe's manager to be ready", async || {
        part.alive()?;
        ready(health).await
    })
    .await
    .map_err(|error| format!("{error}\n{}", part.tail(20)))?;
    Ok(part)
}

/// Whether a health port of this machine answers `/readyz`.
pub async fn ready(port: u16) -> Result<(), String> {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("/readyz says {}", answer.status())) }
}
