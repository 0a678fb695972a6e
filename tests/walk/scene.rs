//! What a new user has before he reads: KServe's InferenceService with a pod that uses its GPU, and exporters. And what an
//! installed release's pods would run.

use std::net::IpAddr;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod, Service, ServiceAccount},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tidegate::sim::{
    exporter::{Dialect, Exporter},
    gpus::{GpuNode, GpuPod},
};

use super::commands::Outcome;
use crate::{
    chart::{
        helm::RELEASE,
        release::{Ports, lead_to_this_machine, start},
    },
    cluster::{
        account,
        controlplane::ControlPlane,
        kubectl::{create, kubectl},
        process::{Part, free_ports},
        wait::eventually,
        workload::{DEPLOYMENT, METRIC, SELECTOR, SERVICE, deployment, is_ready},
    },
};

/// Percent that the pod's GPU is busy: below the target of the documents' HPA, so that nothing moves.
pub const BUSY: f64 = 40.0;
const NODE: &str = "gpu-0";
const NAMESPACE: &str = "default";
/// The port of the chart's Service that its APIServices name.
const SERVICE_PORT: u16 = 443;
/// Where ACK's exporter runs, and the label and port that its own manifest gives it.
const EXPORTERS: &str = "arms-prom";
const EXPORTER_LABEL: (&str, &str) = ("k8s-app", "ack-prometheus-gpu-exporter");
const EXPORTER_PORT: u16 = 9445;

/// The user's cluster.
pub struct Scene<'a> {
    plane: &'a ControlPlane,
    pod: String,
    _exporter: Exporter,
    /// What the pods of the release would run, and its ports.
    release: Option<(Part, Ports)>,
}

fn of<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

impl<'a> Scene<'a> {
    /// Makes all that, and waits until the model's pod is ready.
    pub async fn set(plane: &'a ControlPlane) -> Scene<'a> {
        let client = plane.client().await.unwrap();
        let post = PostParams::default();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&post, &of(json!({"metadata": {"name": EXPORTERS}}))).await.unwrap();
        for namespace in [NAMESPACE, EXPORTERS] {
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            eventually("the default service account", async || accounts.get("default").await).await;
        }
        let arena = include_str!("../cluster/arena_qwen_chat.yaml");
        let service = arena.split("---\n").find(|text| text.contains("kind: InferenceService")).unwrap();
        create(plane, service).await.unwrap();
        let mut served = deployment(1);
        served["spec"]["template"]["spec"]["nodeName"] = json!(NODE);
        Api::<Deployment>::namespaced(client.clone(), NAMESPACE).create(&post, &of(served)).await.unwrap();
        let (label, app) = SELECTOR.split_once('=').unwrap();
        let service = json!({
            "metadata": {"name": DEPLOYMENT}, "spec": {"selector": {label: app}, "ports": [{"port": 80}]},
        });
        Api::<Service>::namespaced(client.clone(), NAMESPACE).create(&post, &of(service)).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let pod = eventually("the model's pod", async || {
            let list = pods.list(&ListParams::default().labels(SELECTOR)).await.map_err(|error| error.to_string())?;
            list.items.into_iter().find(is_ready).ok_or_else(|| "no ready pod".to_owned())
        })
        .await;
        let exporter = start_exporter(&client, &pod).await;
        Self { plane, pod: pod.name_any(), _exporter: exporter, release: None }
    }

    /// What there is to do before a command of that kind runs: over the objects of a release goes what the release itself says.
    pub async fn before(&self, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Installs) || self.release.is_none() {
            return;
        }
        let service = json!({"spec": {"type": "ClusterIP", "externalName": null}}).to_string();
        let patch = ["patch", "service", RELEASE, "--namespace", RELEASE, "--type=merge", "-p", &service];
        kubectl(self.plane, &patch).await.unwrap();
        let port = json!({"spec": {"service": {"port": SERVICE_PORT}}}).to_string();
        let names = kubectl(self.plane, &["get", "apiservices", "-l", "app.kubernetes.io/name=tidegate", "-o", "name"]);
        for name in names.await.unwrap().lines() {
            kubectl(self.plane, &["patch", name, "--type=merge", "-p", &port]).await.unwrap();
        }
    }

    /// What happens in a cluster after one: pods run, or run no more.
    pub async fn after(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Installs => {
                let client = self.plane.client().await.unwrap();
                let token = account::token(&client, RELEASE, RELEASE).await.unwrap();
                let kubeconfig = self.plane.token_kubeconfig("release", &token);
                let [api, telemetry, webhook] = free_ports();
                let ports = Ports { api, telemetry, webhook };
                // What ran before goes, with its configuration.
                self.release = None;
                let mut release = start(self.plane, "release", &kubeconfig, ports).await;
                eventually("the release's adapter", async || {
                    release.alive()?;
                    let answer = reqwest::get(format!("http://127.0.0.1:{telemetry}/livez")).await;
                    answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())
                })
                .await;
                self.release = Some((release, ports));
                lead_to_this_machine(self.plane, ports).await;
            }
            Outcome::Removes => self.release = None,
            _ => {}
        }
    }

    /// Asks for a path of the table of what is served, of an object that is there.
    pub async fn is_served(&self, api: &str, path: &str) {
        let (resource, rest) = path.split_once('/').unwrap_or((path, ""));
        let name = match (resource, rest.starts_with('*')) {
            ("pods", false) => &self.pod,
            ("inferenceservices.serving.kserve.io", false) => SERVICE,
            ("deployments.apps" | "services", false) => DEPLOYMENT,
            ("nodes", false) => NODE,
            _ => "",
        };
        let place = if resource == "nodes" { String::new() } else { format!("namespaces/{NAMESPACE}/") };
        let version = if api == "external" { "v1beta1" } else { "v1beta2" };
        let path = path
            .replace('…', &SELECTOR.replace('=', "%3D"))
            .replace("inferenceservice=NAME", &format!("inferenceservice%3D{SERVICE}"));
        let path = path.replace("NAME", name).replace("METRIC", METRIC);
        let url = format!("/apis/{api}.metrics.k8s.io/{version}/{place}{path}");
        eventually(&url, async || {
            let said = kubectl(self.plane, &["get", "--raw", &url]).await?;
            let list: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
            let values = list["items"].as_array().into_iter().flatten();
            let values: Vec<&Value> = values.map(|item| &item["value"]).collect();
            if values == [&json!(BUSY.to_string())] { Ok(()) } else { Err(format!("{url}: {said}")) }
        })
        .await;
    }

    /// The last words of everything that runs.
    pub fn logs(&self) -> String {
        let release = self.release.as_ref().map_or_else(String::new, |(part, _)| part.tail(25));
        format!("{}\n--- release\n{release}", self.plane.tails(10))
    }
}

/// The exporter, and its pod. kwok gives each pod an address that nobody answers at; this one gets an address of this
/// machine's, of its own, because the port is prescribed.
async fn start_exporter(client: &Client, pod: &Pod) -> Exporter {
    let [.., high, middle, low] = std::process::id().to_be_bytes();
    let address = IpAddr::from([127, 1 + high, middle, low]);
    let exporter = Exporter::start((address, EXPORTER_PORT).into(), GpuNode::new(NODE, 1), Dialect::Ack).await.unwrap();
    let mut model = GpuPod::new(NAMESPACE, &pod.name_any(), &pod.uid().unwrap(), [0]);
    model.percent = BUSY;
    exporter.add_pod(model);
    let (label, value) = EXPORTER_LABEL;
    let object = json!({
        "metadata": {"name": "gpu-exporter", "labels": {label: value}},
        "spec": {"nodeName": NODE, "containers": [{"name": "exporter", "image": "none"}]},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), EXPORTERS);
    let name = pods.create(&PostParams::default(), &of(object)).await.unwrap().name_any();
    eventually("the exporter's pod", async || match pods.get(&name).await {
        Ok(pod) if is_ready(&pod) => Ok(()),
        other => Err(format!("{:?}", other.map(|pod| pod.status))),
    })
    .await;
    let status = Patch::Merge(json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}}));
    pods.patch_status(&name, &PatchParams::default(), &status).await.unwrap();
    exporter
}
