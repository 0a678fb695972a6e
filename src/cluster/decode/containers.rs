//! Containers of a pod, or of a Deployment's template: what they ask for, and which of them serves.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::WireQuantity;
use crate::cluster::Resources;

/// The name that KServe gives to the container of a predictor's model server.
const KSERVE_CONTAINER: &str = "kserve-container";

/// The used part of a `PodSpec`.
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) node_name: Option<Arc<str>>,
    pub(super) containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    overhead: Option<Amounts>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: Option<Arc<str>>,
    restart_policy: Option<String>,
    pub(super) ports: Option<Vec<Port>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) args: Option<Vec<String>>,
    resources: Option<WireResources>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Port {
    #[serde(default)]
    pub(super) name: Option<Arc<str>>,
    #[serde(rename = "containerPort")]
    pub(super) number: u16,
    #[serde(default)]
    protocol: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(default)]
struct WireResources {
    limits: Option<Amounts>,
    requests: Option<Amounts>,
}

pub(super) type Amounts = BTreeMap<String, WireQuantity>;

impl Container {
    /// An init container that restarts always is a sidecar: it lives as long as the pod and keeps its GPUs. Others have
    /// ended before the pod can be ready.
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }

    /// The ports that can be spoken to by TCP.
    pub(super) fn tcp_ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
    }

    /// GPUs in the limits, over all resource names that count as GPUs.
    fn gpu_limits(&self, gpu_resources: &[String]) -> Result<f64, String> {
        let limits = self.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let named = gpu_resources.iter().filter_map(|name| Some((name, limits?.get(name)?)));
        named.map(|(name, quantity)| quantity.value(&format!("resources.limits[{name}]"))).sum()
    }

    /// What it asks for. As in Kubernetes, what only has a limit asks for that.
    fn requests(&self, gpu_resources: &[String]) -> Result<Resources, String> {
        let Some(WireResources { limits, requests }) = &self.resources else { return Ok(Resources::default()) };
        let amount = |name: &str| {
            let requested = requests.as_ref().and_then(|requests| requests.get(name));
            requested.or_else(|| limits.as_ref().and_then(|limits| limits.get(name)))
        };
        resources(amount, gpu_resources, "resources.requests")
    }
}

impl Spec {
    fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.iter().flatten()
    }

    fn init_containers(&self) -> impl Iterator<Item = &Container> {
        self.init_containers.iter().flatten()
    }

    /// The containers that live as long as the pod.
    pub(super) fn lasting(&self) -> impl Iterator<Item = &Container> {
        self.containers().chain(self.init_containers().filter(|container| container.is_sidecar()))
    }

    /// GPUs in the limits of the containers that live as long as the pod.
    pub(super) fn gpu_limits(&self, gpu_resources: &[String]) -> Result<u32, String> {
        let gpus: f64 = self.lasting().map(|container| container.gpu_limits(gpu_resources)).sum::<Result<_, _>>()?;
        Ok(gpus.ceil() as u32)
    }

    /// The container with the model server: KServe's, or else the first with a GPU, or else the first.
    pub(super) fn serving(&self, gpu_resources: &[String]) -> Option<&Container> {
        let named = self.containers().find(|container| container.name.as_deref() == Some(KSERVE_CONTAINER));
        let with_gpu = || self.containers().find(|c| c.gpu_limits(gpu_resources).is_ok_and(|gpus| gpus > 0.0));
        named.or_else(with_gpu).or_else(|| self.containers().next())
    }

    /// What the scheduler reserves for the pod: the containers that live as long as it, or, resource by resource, the
    /// largest of the init containers with the sidecars that were started before it, whichever is more; and the overhead.
    /// (<https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers>)
    pub(super) fn requests(&self, gpu_resources: &[String]) -> Result<Resources, String> {
        let (mut lasting, mut peak) = (Resources::default(), Resources::default());
        for container in self.init_containers() {
            let mut requests = container.requests(gpu_resources)?;
            if container.is_sidecar() {
                lasting.add(&requests);
            } else {
                requests.add(&lasting);
                peak.raise_to(&requests);
            }
        }
        for container in self.containers() {
            lasting.add(&container.requests(gpu_resources)?);
        }
        lasting.raise_to(&peak);
        if let Some(overhead) = &self.overhead {
            lasting.add(&resources(|name| overhead.get(name), gpu_resources, "overhead")?);
        }
        lasting.pods = 1;
        Ok(lasting)
    }
}

/// The counted ones of some amounts.
pub(super) fn resources<'a>(
    amount: impl Fn(&str) -> Option<&'a WireQuantity>,
    gpu_resources: &[String],
    field: &str,
) -> Result<Resources, String> {
    let value = |name: &str| match amount(name) {
        Some(quantity) => quantity.value(&format!("{field}[{name}]")).map(|value| value.max(0.0)),
        None => Ok(0.0),
    };
    let mut gpus = Vec::new();
    for name in gpu_resources {
        let count = value(name)?.ceil() as u64;
        if count > 0 {
            gpus.push((Arc::from(name.as_str()), count));
        }
    }
    gpus.sort_unstable();
    Ok(Resources {
        cpu_millis: (value("cpu")? * 1000.0).ceil() as u64,
        memory_bytes: value("memory")?.ceil() as u64,
        gpus,
        pods: value("pods")?.floor() as u64,
    })
}
