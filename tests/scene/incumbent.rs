//! Prometheus + prometheus-adapter, as clusters have it: the same exporters, a page a second as for us, and the same API.

use std::fs;

use k8s_openapi::{api::core::v1::Service, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    cluster::{
        adapter::{self, EXPORTER_LABEL, NAMESPACE, UNTRUSTED, VERSIONS},
        process::{Part, free_ports},
        raw,
        wait::eventually_or_error,
        workload::METRIC,
    },
    prometheus::Prometheus,
    stage::Stage,
};

/// Name of its process, files and Service.
const NAME: &str = "incumbent";
/// The group that is handed from one adapter to the other.
const GROUP: &str = "custom.metrics.k8s.io";

/// Both programs, running.
pub struct Incumbent {
    port: u16,
    _adapter: Part,
    _prometheus: Prometheus,
}

impl Incumbent {
    /// Starts Prometheus on the exporters' pods, as they come and go.
    pub async fn prometheus(stage: &Stage) -> Result<Prometheus, String> {
        let label = EXPORTER_LABEL.replace(['.', '/'], "_");
        let kubeconfig = stage.plane.folder().join("admin.yaml");
        // The cluster network does not exist: all pods' ports are on this machine.
        let job = format!(
            "- job_name: gpu-exporters\n  kubernetes_sd_configs: [{{role: pod, kubeconfig_file: '{}'}}]\n  relabel_configs:\n  \
             - {{source_labels: [__meta_kubernetes_pod_label_{label}], regex: '{UNTRUSTED}', action: keep}}\n  \
             - {{source_labels: [__meta_kubernetes_pod_container_port_number], regex: '(.+)', replacement: '127.0.0.1:$1', \
             target_label: __address__}}\n",
            kubeconfig.display()
        );
        Prometheus::start(stage.plane, "incumbent-prometheus", &job).await
    }

    /// Starts the adapter. Prometheus knows the metric by now.
    pub async fn start(stage: &Stage, prometheus: Prometheus) -> Result<Self, String> {
        let plane = stage.plane;
        let [port] = free_ports();
        let rules = plane.folder().join("adapter_rules.yaml");
        fs::write(&rules, include_str!("../versus/adapter_rules.yaml")).map_err(|error| error.to_string())?;
        let certificates = plane.folder().join("incumbent-certificates");
        fs::create_dir_all(&certificates).map_err(|error| error.to_string())?;
        let names = [&*format!("{NAME}.{NAMESPACE}.svc"), "localhost", "127.0.0.1"];
        plane.authority.issue(NAME, &[], &names).write(&certificates, "apiserver");
        let kubeconfig = plane.kubeconfig(NAME, NAME, &["system:masters"]);
        let kubeconfig = kubeconfig.display();
        let arguments = [
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".into(),
            format!("--cert-dir={}", certificates.display()),
            format!("--lister-kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--prometheus-url={}", prometheus.url),
            format!("--config={}", rules.display()),
            "--metrics-relist-interval=30s".into(),
            "--metrics-max-age=10m".into(),
        ];
        let part = Part::start(NAME, plane.folder(), &plane.program("prometheus-adapter/adapter"), &arguments)?;
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        });
        let services: Api<Service> = Api::namespaced(stage.client.clone(), NAMESPACE);
        let field_manager = PatchParams::apply("compare").force();
        services.patch(NAME, &field_manager, &Patch::Apply(&service)).await.map_err(|error| error.to_string())?;
        Ok(Self { port, _adapter: part, _prometheus: prometheus })
    }

    /// Makes it the one that the HPA asks, and waits until it is.
    pub async fn serve(&self, stage: &Stage) -> Result<(), String> {
        point(&stage.client, NAME, self.port, false).await
    }
}

/// Makes Tidegate the one that the HPA asks.
pub async fn hand_back(stage: &Stage) -> Result<(), String> {
    point(&stage.client, adapter::SERVICE, stage.adapter().port, true).await
}

async fn point(client: &Client, service: &str, port: u16, ours: bool) -> Result<(), String> {
    let services: Api<APIService> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"spec": {"service": {"name": service, "port": port}}}));
    let versions = VERSIONS.iter().filter(|(_, group, _)| *group == GROUP);
    for (version, group, _) in versions.clone() {
        let name = format!("{version}.{group}");
        services.patch(&name, &PatchParams::default(), &patch).await.map_err(|error| format!("{name}: {error}"))?;
    }
    eventually_or_error(&format!("the aggregator to ask {service}"), async || {
        for (version, group, _) in versions.clone() {
            let list = raw::get(client, &format!("/apis/{group}/{version}")).await?.to_string();
            // What tells them apart: only ours has InferenceServices.
            if list.contains("inferenceservices") != ours || !list.contains(METRIC) {
                return Err(format!("{version}: {list}"));
            }
        }
        Ok(())
    })
    .await
}
