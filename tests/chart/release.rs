//! A release of the chart on an API server of its own, and the adapter that runs as that release's service account.

use std::{
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tidegate::sim::{
    exporter::{Dialect, Exporter},
    gpus::{GpuNode, GpuPod},
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::helm::{RELEASE, chart, file, helm};
use crate::cluster::{
    account,
    controlplane::{ControlPlane, api_server},
    kubectl::{create, kubectl},
    process::{Part, free_ports, tail},
    raw::{get, pods_path},
    wait::{eventually, eventually_or_error},
};

/// Namespace of the served model's pod, and of somebody who may read its metric.
pub const MODELS: &str = "models";
/// The pod's metric.
pub const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";

/// What exists before any release: a model's pod, ready on a node, and a reader of its metric. Namespaces have their service
/// accounts by hand, because no controller makes them here.
const SCENE: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: models}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: exporters}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: default, namespace: models}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: reader, namespace: models}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: models}
rules:
- {apiGroups: [custom.metrics.k8s.io], resources: [pods/DCGM_CUSTOM_PROCESS_SM_UTIL], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: models}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: models}]
---
{apiVersion: v1, kind: Node, metadata: {name: gpu-0}}
---
apiVersion: v1
kind: Pod
metadata: {name: qwen-chat-0, namespace: models, labels: {app: qwen}}
spec: {nodeName: gpu-0, containers: [{name: kserve-container, image: vllm, resources: {limits: {nvidia.com/gpu: 1}}}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: qwen-chat, namespace: models}
spec:
  replicas: 1
  selector: {matchLabels: {app: qwen}}
  template: {metadata: {labels: {app: qwen}}, spec: {containers: [{name: kserve-container, image: vllm}]}}
";

/// The API server to which releases go, one at a time: the objects of cluster scope exist once.
pub struct Stage {
    /// The control plane.
    pub plane: &'static ControlPlane,
    /// A client that may do everything.
    pub client: Client,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for its turn, with the scene set.
    pub async fn enter() -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        static SET: OnceCell<Result<(), String>> = OnceCell::const_new();
        let alone = ALONE.lock().await;
        let plane = tokio::task::spawn_blocking(api_server).await.unwrap();
        SET.get_or_init(|| set(plane)).await.as_ref().unwrap_or_else(|error| panic!("{error}"));
        Self { plane, client: plane.client().await.unwrap(), _alone: alone }
    }

    /// The administrator's kubeconfig.
    pub fn administrator(&self) -> PathBuf {
        self.plane.folder().join("admin.yaml")
    }
}

async fn set(plane: &ControlPlane) -> Result<(), String> {
    create(plane, include_str!("others_crds.yaml")).await?;
    let policies = include_str!("../scene/resourcepolicy_crd.yaml");
    create(plane, policies).await?;
    create(plane, &policies.replace("scheduling.alibabacloud.com", "scheduling.sigs.x-k8s.io")).await?;
    create(plane, SCENE).await?;
    let status = json!({"status": {
        "phase": "Running", "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    let pods: Api<Pod> = Api::namespaced(plane.client().await?, MODELS);
    pods.patch_status("qwen-chat-0", &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// Where the adapter of a release listens on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The metrics APIs.
    pub api: u16,
    /// `/metrics` and the probes.
    pub telemetry: u16,
    /// The webhook, if the release has one.
    pub webhook: u16,
}

/// An installed release.
pub struct Release {
    /// Where.
    pub stage: Stage,
    /// What `helm install` said.
    pub notes: String,
    /// Port of the metrics APIs.
    pub port: u16,
    /// Port of `/metrics` and the probes.
    pub telemetry: u16,
    /// Port of the admission webhook.
    pub webhook: u16,
    exporter: Exporter,
    kubeconfig: PathBuf,
    process: Option<Part>,
}

impl Release {
    /// `helm install` with these values besides an exporter that knows the model's pod.
    pub async fn install(more: &[&str]) -> Self {
        let stage = Stage::enter().await;
        let pod: Pod = Api::namespaced(stage.client.clone(), MODELS).get("qwen-chat-0").await.unwrap();
        let exporter =
            Exporter::start(([127, 0, 0, 1], 0).into(), GpuNode::new("gpu-0", 1), Dialect::Ack).await.unwrap();
        let mut model = GpuPod::new(MODELS, "qwen-chat-0", &pod.metadata.uid.unwrap(), [0]);
        model.percent = 42.0;
        exporter.add_pod(model);
        let [port, telemetry, webhook] = free_ports();
        let mut this = Self {
            kubeconfig: stage.plane.folder().join("release.yaml"),
            stage,
            notes: String::new(),
            port,
            telemetry,
            webhook,
            exporter,
            process: None,
        };
        this.notes = this.helm("install", more).unwrap();
        let token = account::token(&this.stage.client, RELEASE, RELEASE).await.unwrap();
        this.stage.plane.token_kubeconfig("release", &token);
        this.lead_to_this_machine().await;
        this
    }

    /// `helm install` or `helm upgrade` with these values.
    pub fn helm(&self, verb: &str, more: &[&str]) -> Result<String, String> {
        let url = self.exporter.url();
        let values = file(&format!(
            "config: {{scrape: {{interval: 1s, discover: [], urls: [{{url: '{url}', node: gpu-0}}]}}, control: {{tick: 500ms, lease: {{duration: 5s}}}}}}"
        ));
        let flags = [verb, RELEASE, &chart(), "--namespace", RELEASE, "--values", &values.display().to_string()];
        let create: &[&str] = if verb == "install" { &["--create-namespace"] } else { &[] };
        let outcome = helm(Some(&self.stage.administrator()), &[&flags, create, more].concat());
        fs::remove_file(values).map_err(|error| error.to_string()).and(outcome)
    }

    fn ports(&self) -> Ports {
        Ports { api: self.port, telemetry: self.telemetry, webhook: self.webhook }
    }

    /// Leads the Service to the adapter that runs here.
    pub async fn lead_to_this_machine(&self) {
        lead_to_this_machine(self.stage.plane, self.ports()).await;
    }

    /// Starts the adapter with the configuration that the release's ConfigMap holds now.
    pub async fn start(&mut self, name: &str) {
        self.process = Some(start(self.stage.plane, name, &self.kubeconfig, self.ports()).await);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// What the adapter of that name has logged.
    pub fn log(&self, name: &str) -> String {
        tail(&self.stage.plane.folder().join(format!("{name}.log")), usize::MAX)
    }

    /// The answer of `/readyz`: `Err` with the reason while it is not ready.
    pub async fn ready(&self) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/readyz", self.telemetry);
        let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
        let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
        let ready = answer.status().is_success();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if ready { Ok(()) } else { Err(text) }
    }

    /// The pod's metric, as somebody reads it through the API server who may read that and nothing else.
    pub async fn read(&self) -> Result<String, String> {
        let token = account::token(&self.stage.client, MODELS, "reader").await?;
        let kubeconfig = self.stage.plane.token_kubeconfig("reader", &token);
        let config = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
        let config = kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
            .await
            .map_err(|error| error.to_string())?;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        let list = get(&client, &pods_path("v1beta2", MODELS, METRIC, "app=qwen")).await?;
        list["items"][0]["value"].as_str().map(str::to_owned).ok_or_else(|| list.to_string())
    }

    /// Waits until that reader reads 42 %.
    pub async fn serves(&mut self) {
        let read = eventually_or_error("the reader to read 42", async || {
            let value = self.read().await?;
            if value == "42" { Ok(()) } else { Err(value) }
        });
        if let Err(error) = read.await {
            panic!("{error}\n{}", self.stage.plane.tails(20));
        }
    }

    /// `helm uninstall`; then nothing of the release is left.
    pub async fn uninstall(mut self) {
        self.kill();
        let administrator = self.stage.administrator();
        helm(Some(&administrator), &["uninstall", RELEASE, "--namespace", RELEASE]).unwrap();
        let kinds = "mutatingwebhookconfigurations,clusterroles,clusterrolebindings,roles,rolebindings,apiservices,secrets,configmaps,services,\
                     deployments,serviceaccounts,networkpolicies,poddisruptionbudgets";
        let selector = format!("app.kubernetes.io/instance={RELEASE}");
        eventually("everything to be gone", async || {
            let left = kubectl(self.stage.plane, &["get", kinds, "-A", "-l", &selector, "-o", "name"]).await?;
            if left.trim().is_empty() { Ok(()) } else { Err(left) }
        })
        .await;
        // With a definition all objects of its kind would go.
        let kept =
            kubectl(self.stage.plane, &["get", "customresourcedefinitions", "-l", &selector, "-o", "name"]).await;
        assert!(kept.unwrap().contains("scalingpolicies.tidegate.dev"));
    }
}

/// There is no cluster network: an external name on this machine stands in for the pods of the release's Service.
pub async fn lead_to_this_machine(plane: &ControlPlane, ports: Ports) {
    let service = json!({"spec": {
        "type": "ExternalName", "externalName": "localhost", "clusterIP": null, "clusterIPs": null,
    }});
    let patch = ["patch", "service", RELEASE, "--namespace", RELEASE, "--type=merge", "-p", &service.to_string()];
    kubectl(plane, &patch).await.unwrap();
    let webhooks = ["get", "mutatingwebhookconfigurations", "-l", "app.kubernetes.io/name=tidegate", "-o", "name"];
    for name in kubectl(plane, &webhooks).await.unwrap().lines() {
        let patch = json!([{"op": "replace", "path": "/webhooks/0/clientConfig/service/port", "value": ports.webhook}]);
        kubectl(plane, &["patch", name, "--type=json", "-p", &patch.to_string()]).await.unwrap();
    }
    let port = json!({"spec": {"service": {"port": ports.api}}}).to_string();
    let names = kubectl(plane, &["get", "apiservices", "-l", "app.kubernetes.io/name=tidegate", "-o", "name"]).await;
    for name in names.unwrap().lines() {
        kubectl(plane, &["patch", name, "--type=merge", "-p", &port]).await.unwrap();
    }
}

/// What the release's pods would run: the adapter with the configuration that its ConfigMap holds now, on this machine.
pub async fn start(plane: &ControlPlane, name: &str, kubeconfig: &Path, ports: Ports) -> Part {
    let Ports { api, telemetry, webhook } = ports;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await.unwrap(), RELEASE);
    let config = maps.get(RELEASE).await.unwrap().data.unwrap().remove("tidegate.yaml").unwrap();
    // Other tests of this machine may listen there.
    let config = config.replace("0.0.0.0:9443", &format!("127.0.0.1:{webhook}"));
    // In the folder that goes with the API server.
    let path = plane.folder().join(format!("{name}-config.yaml"));
    fs::write(&path, config).unwrap();
    let arguments = [
        "adapter".to_owned(),
        format!("--config={}", path.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--listen=127.0.0.1:{api}"),
        format!("--metrics-listen=127.0.0.1:{telemetry}"),
        "--log=info,tidegate=debug".to_owned(),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    Part::start(name, plane.folder(), program, &arguments).unwrap()
}

impl Drop for Release {
    /// A test that failed in between must not take the others with it.
    fn drop(&mut self) {
        self.kill();
        let administrator = self.stage.administrator();
        let flags = ["uninstall", RELEASE, "--namespace", RELEASE, "--ignore-not-found"];
        if let Err(error) = helm(Some(&administrator), &flags) {
            eprintln!("{error}");
        }
    }
}
