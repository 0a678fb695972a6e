//! Prometheus + prometheus-adapter, as clusters have it: the same exporters, a page a second as for us, and the same API.

use std::{fs, path::PathBuf, time::Duration};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{
    cluster::{
        adapter::{self, EXPORTER_LABEL, EXPORTER_PORT, NAMESPACE, UNTRUSTED, VERSIONS},
        process::{Part, free_ports},
        raw,
        wait::eventually_or_error,
        workload::METRIC,
    },
    prometheus::Prometheus,
    prometheus_adapter,
    stage::Stage,
};

/// Name of its process, files and Service.
const NAME: &str = "incumbent";
/// The group that is handed from one adapter to the other.
const GROUP: &str = "custom.metrics.k8s.io";

/// How often it is looked which exporters there are; Prometheus notices a changed list at once.
const LOOK: Duration = Duration::from_millis(500);

/// Both programs, running.
pub struct Incumbent {
    port: u16,
    _adapter: Part,
    _prometheus: Scraping,
}

/// Prometheus on the exporters, as they come and go. Debian's build knows no Kubernetes: the list comes by file.
pub struct Scraping {
    prometheus: Prometheus,
    lists: JoinHandle<()>,
}

impl Drop for Scraping {
    fn drop(&mut self) {
        self.lists.abort();
    }
}

impl Scraping {
    /// Starts it.
    pub async fn start(stage: &Stage) -> Result<Self, String> {
        let file = stage.plane.folder().join("exporters.json");
        let job = format!("- job_name: gpu-exporters\n  file_sd_configs: [{{files: ['{}']}}]\n", file.display());
        let lists = tokio::spawn(list(stage.client.clone(), file));
        let prometheus = Prometheus::start(stage.plane, "incumbent-prometheus", &job).await?;
        Ok(Self { prometheus, lists })
    }
}

async fn list(client: Client, file: PathBuf) {
    let mut before = None;
    loop {
        match exporters(&client).await {
            Ok(targets) if before.as_ref() != Some(&targets) => {
                // Renamed into place: Prometheus must not read half a list.
                let new = file.with_extension("new");
                let written = fs::write(&new, json!([{"targets": targets}]).to_string());
                match written.and_then(|()| fs::rename(&new, &file)) {
                    Ok(()) => before = Some(targets),
                    Err(error) => eprintln!("{}: {error}", file.display()),
                }
            }
            Ok(_) => {}
            Err(error) => eprintln!("the exporters' pods cannot be listed: {error}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Addresses of all exporters, as their pods say it.
async fn exporters(client: &Client) -> kube::Result<Vec<String>> {
    let pods: Api<Pod> = Api::all(client.clone());
    let list = pods.list(&ListParams::default().labels(&format!("{EXPORTER_LABEL}={UNTRUSTED}"))).await?;
    let address = |pod: &Pod| {
        let mut ports = pod.spec.as_ref()?.containers.iter().flat_map(|container| container.ports.iter().flatten());
        let port = ports.find(|port| port.name.as_deref() == Some(EXPORTER_PORT))?;
        Some(format!("127.0.0.1:{}", port.container_port))
    };
    Ok(list.iter().filter_map(address).collect())
}

impl Incumbent {
    /// Starts the adapter. Prometheus knows the metric by now.
    pub async fn start(stage: &Stage, prometheus: Scraping) -> Result<Self, String> {
        let plane = stage.plane;
        let [port] = free_ports();
        let names = [&*format!("{NAME}.{NAMESPACE}.svc"), "localhost", "127.0.0.1"];
        let certificate = plane.authority.issue(NAME, &[], &names);
        let url = &prometheus.prometheus.url;
        let (program, arguments) = prometheus_adapter::command(plane, NAME, port, url, &certificate, &[])?;
        let part = Part::start(NAME, plane.folder(), &program, &arguments)?;
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
