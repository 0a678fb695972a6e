//! The pods and their exporters: the same for all that are compared.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{
    cluster::{
        adapter::{EXPORTER_LABEL, EXPORTER_PORT},
        controlplane::{ControlPlane, shared},
        kubectl::kubectl,
        kwok,
        namespace::Namespace,
        workload::{DEPLOYMENT, Load, SELECTOR, Workload},
    },
    connection::Connector,
};

/// Cards of a node as clouds sell them: an exporter reports this many pods.
const CARDS: i32 = 8;
/// Pods that are created at once; the next ones follow when these are ready.
const BATCH: i32 = 250;
/// Cards of each of kwok's nodes: room for all pods on few nodes.
const ROOM: usize = 400;
/// What the pod of an exporter that will die reads, percent. No other pod's value.
pub const LAST_WORDS: f64 = 77.0;
/// What the pod under the HPA reads at first: one replica is right.
pub const CALM: f64 = 10.0;

/// Namespaces, one per service.
pub struct Namespaces {
    one: Namespace,
    two_hundred: Namespace,
    thousand: Namespace,
    scaled: Namespace,
    dying: Namespace,
    dying_stamped: Namespace,
}

/// All services, with all pods ready.
pub struct Scene<'a> {
    /// The control plane.
    pub plane: &'static ControlPlane,
    /// How to ask an adapter.
    pub connector: Connector,
    /// A service of 1 pod.
    pub one: Service<'a>,
    /// 200 pods.
    pub two_hundred: Service<'a>,
    /// 1,000 pods.
    pub thousand: Service<'a>,
    /// 1 pod, with the HPA that arena makes.
    pub scaled: Service<'a>,
    /// 1 pod, whose exporter will die.
    pub dying: Service<'a>,
    /// 1 pod, whose exporter will die after it has written timestamps.
    pub dying_stamped: Service<'a>,
}

/// A service.
pub struct Service<'a> {
    /// Where it is.
    pub namespace: &'a Namespace,
    /// Its pods and exporters.
    pub workload: Workload<'a>,
}

/// Starts the control plane and makes the namespaces.
pub async fn namespaces() -> Result<Namespaces, String> {
    let plane = shared();
    let room = json!({"nvidia.com/gpu": ROOM.to_string()});
    let patch = json!({"status": {"capacity": room, "allocatable": room}}).to_string();
    for i in 0..kwok::NODES {
        let node = format!("gpu-{i}");
        kubectl(plane, &["patch", "node", &node, "--subresource=status", "--type=merge", "-p", &patch]).await?;
    }
    Ok(Namespaces {
        one: Namespace::new("one").await,
        two_hundred: Namespace::new("two-hundred").await,
        thousand: Namespace::new("thousand").await,
        scaled: Namespace::new("scaled").await,
        dying: Namespace::new("dying").await,
        dying_stamped: Namespace::new("dying-stamped").await,
    })
}

impl<'a> Scene<'a> {
    /// Creates everything and waits until it is ready.
    pub async fn set(namespaces: &'a Namespaces) -> Result<Self, String> {
        let Namespaces { one, two_hundred, thousand, scaled, dying, dying_stamped } = namespaces;
        // Each pod its own value, so that a mix-up shows.
        let own = Load::Steps { first: 5.0, step: 0.05 };
        let last = Load::Each(LAST_WORDS);
        Ok(Self {
            plane: one.plane,
            connector: Connector::new(one.plane)?,
            one: Service::of(one, 1, own).await?,
            two_hundred: Service::of(two_hundred, 200, own).await?,
            thousand: Service::of(thousand, 1000, own).await?,
            scaled: Service { namespace: scaled, workload: Workload::arena(scaled, 1, 1, Load::Each(CALM)).await? },
            dying: Service::of(dying, 1, last).await?,
            dying_stamped: Service::of(dying_stamped, 1, last).await?,
        })
    }

    /// The services of constant size.
    pub fn constant(&self) -> [&Service<'a>; 5] {
        [&self.one, &self.two_hundred, &self.thousand, &self.dying, &self.dying_stamped]
    }

    /// How many pods there are.
    pub fn pods(&self) -> usize {
        let constant: usize = self.constant().iter().map(|service| service.workload.expected().len()).sum();
        constant + self.scaled.workload.expected().len()
    }

    /// Addresses of all exporters, as their pods say it.
    pub async fn exporters(&self) -> Result<Vec<String>, String> {
        let pods: Api<Pod> = Api::all(self.one.namespace.client.clone());
        let labelled = ListParams::default().labels(&format!("{EXPORTER_LABEL}=true"));
        let list = pods.list(&labelled).await.map_err(|error| error.to_string())?;
        let address = |pod: &Pod| {
            let containers = &pod.spec.as_ref()?.containers;
            let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
            let port = ports.find(|port| port.name.as_deref() == Some(EXPORTER_PORT))?;
            Some(format!("127.0.0.1:{}", port.container_port))
        };
        let known = |pod: &Pod| address(pod).ok_or_else(|| format!("pod {} names no exporter's port", pod.name_any()));
        list.iter().map(known).collect()
    }
}

impl<'a> Service<'a> {
    async fn of(namespace: &'a Namespace, pods: i32, load: Load) -> Result<Self, String> {
        let exporters = usize::try_from((pods + CARDS - 1) / CARDS).map_err(|error| error.to_string())?;
        let mut there = pods.min(BATCH);
        let workload = Workload::deploy(namespace, there, exporters, load).await?;
        let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = namespace.api();
        while there < pods {
            there = pods.min(there + BATCH);
            let scale = Patch::Merge(json!({"spec": {"replicas": there}}));
            deployments
                .patch(DEPLOYMENT, &PatchParams::default(), &scale)
                .await
                .map_err(|error| format!("scaling {} to {there}: {error}", namespace.name))?;
            workload.ready(usize::try_from(there).unwrap_or(0)).await?;
        }
        Ok(Self { namespace, workload })
    }

    /// By which the HPA asks for its pods.
    pub fn path(&self, metric: &str) -> String {
        super::cluster::raw::pods_path("v1beta1", &self.namespace.name, metric, SELECTOR)
    }
}
