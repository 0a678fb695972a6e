//! A site on premises whose link can be lost: its kubelets are played by a kwok of its own, which ends with the link, and its
//! exporters no longer answer. What the kubelets of real nodes would go on doing behind the lost link is not there to be seen.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tidegate::{clock::Clock, sim::exporter::Fault};

use super::{
    cluster::{parts, process::Part, wait::eventually_or_error},
    fleet::{KUBELETS, add_node},
    stage::Stage,
};

/// Value of kwok's annotation on the site's nodes.
const SITE: &str = "site";

/// Nodes with one GPU each.
pub struct Site<'a> {
    stage: &'a Stage,
    nodes: Vec<String>,
    kubelets: Option<Part>,
}

impl<'a> Site<'a> {
    /// Makes the nodes.
    pub async fn start(stage: &'a Stage, nodes: usize) -> Result<Self, String> {
        let nodes: Vec<String> = (0..nodes).map(|i| format!("{SITE}-{i}")).collect();
        let site = Self { stage, nodes, kubelets: Some(kubelets(stage)?) };
        for node in &site.nodes {
            add_node(&stage.client, node, SITE).await?;
        }
        site.are("True").await?;
        Ok(site)
    }

    /// The link is lost.
    pub async fn cut(&mut self) {
        drop(self.kubelets.take());
        self.stage.fleet.set_fault(&self.nodes, Fault::HangBeforeHeaders).await;
    }

    /// Waits until the cluster has given up hearing of the nodes, and has declared their pods unready.
    pub async fn is_lost(&self) -> Result<(), String> {
        self.are("Unknown").await?;
        eventually_or_error("the pods of the lost nodes to be called unready", async || {
            let ready = self.pods().await?.iter().filter(|pod| is_ready(pod)).count();
            if ready == 0 { Ok(()) } else { Err(format!("{ready} are ready")) }
        })
        .await
    }

    /// The link is back: exporters answer, and each kubelet tells how its node and pods are. kwok's kubelets do not speak again
    /// of pods that run, and so this does it for them.
    pub async fn mend(&mut self) -> Result<(), String> {
        self.kubelets = Some(kubelets(self.stage)?);
        self.stage.fleet.set_fault(&self.nodes, Fault::None).await;
        self.are("True").await?;
        let ready = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": Clock::start().now()},
        ]}});
        for pod in self.pods().await?.iter().filter(|pod| !is_ready(pod)) {
            let pods: Api<Pod> =
                Api::namespaced(self.stage.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
            let patched = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&ready)).await;
            patched.map_err(|error| format!("{}: {error}", pod.name_any()))?;
        }
        Ok(())
    }

    /// Waits until the nodes' condition `Ready` is this.
    async fn are(&self, status: &str) -> Result<(), String> {
        let nodes: Api<Node> = Api::all(self.stage.client.clone());
        eventually_or_error(&format!("the site's nodes to be Ready={status}"), async || {
            for name in &self.nodes {
                let node = nodes.get(name).await.map_err(|error| error.to_string())?;
                let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
                let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
                if ready.as_ref().is_none_or(|ready| ready.status != status) {
                    return Err(format!("{name}: {ready:?}"));
                }
            }
            Ok(())
        })
        .await
    }

    async fn pods(&self) -> Result<Vec<Pod>, String> {
        let pods: Api<Pod> = Api::all(self.stage.client.clone());
        let list = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let here = |pod: &Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            pod.metadata.deletion_timestamp.is_none() && node.is_some_and(|node| self.nodes.contains(node))
        };
        Ok(list.items.into_iter().filter(here).collect())
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn kubelets(stage: &Stage) -> Result<Part, String> {
    let (shared, own) = (format!("node={KUBELETS}"), format!("node={SITE}"));
    let flags: Vec<String> =
        parts::kwok(stage.plane.folder()).into_iter().map(|flag| flag.replace(&shared, &own)).collect();
    Part::start("kwok-site", stage.plane.folder(), &stage.plane.program("kwok"), &flags)
}
