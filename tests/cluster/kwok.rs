//! Nodes with GPUs that exist on paper only, and the stages by which kwok plays them.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use super::wait::eventually_or_error;

/// How many nodes there are: `gpu-0`, `gpu-1`, …
pub const NODES: usize = 4;

/// Cards per node: more than any real node has, so that 200 pods find room on few nodes.
pub const CARDS: usize = 100;

/// In kwok's module, which Go has put where `kwok-module` says: kwok's binary carries no stages.
const STAGES: [&str; 4] = [
    "kustomize/stage/node/fast/node-initialize.yaml",
    "kustomize/stage/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml",
    "kustomize/stage/pod/fast/pod-ready.yaml",
    "kustomize/stage/pod/fast/pod-delete.yaml",
];

/// Annotation of a pod: how long it takes from its node to Ready, such as `8s`. Left out: no time.
pub const MODEL_LOAD: &str = "tidegate.test/model-load";

/// Writes `stages.yaml`.
pub fn write_stages(bin: &Path, folder: &Path) -> Result<(), String> {
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}; tests/controlplane/build makes it", path.display()))
    };
    let module = read(&bin.join("kwok-module"))?;
    let mut stages: Vec<String> =
        STAGES.iter().map(|stage| read(&Path::new(module.trim()).join(stage))).collect::<Result<_, _>>()?;
    let next = "\n  next:\n    statusTemplate:";
    let delayed = format!(
        "\n  delay:\n    durationMilliseconds: 0\n    durationFrom:\n      \
         expressionFrom: '.metadata.annotations[\"{MODEL_LOAD}\"]'{next}"
    );
    for stage in stages.iter_mut().filter(|stage| stage.contains("name: pod-ready")) {
        *stage = stage.replace(next, &delayed);
        if !stage.contains(MODEL_LOAD) {
            return Err("kwok's stage pod-ready has another form than the one that a model load can be put into".into());
        }
    }
    fs::write(folder.join("stages.yaml"), stages.join("\n---\n")).map_err(|error| error.to_string())
}

/// Creates the nodes and waits until kwok has made them Ready.
pub async fn create_nodes(client: &Client) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    for i in 0..NODES {
        let name = format!("gpu-{i}");
        let room = json!({"cpu": "1k", "memory": "4Ti", "pods": "1k", "nvidia.com/gpu": CARDS.to_string()});
        let node = json!({
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
            },
            "status": {"capacity": room, "allocatable": room},
        });
        let node: Node = serde_json::from_value(node).map_err(|error| error.to_string())?;
        nodes.create(&PostParams::default(), &node).await.map_err(|error| format!("node {name}: {error}"))?;
    }
    eventually_or_error("kwok to make the nodes Ready", async || {
        let list = nodes.list(&kube::api::ListParams::default()).await.map_err(|error| error.to_string())?;
        let ready = list.iter().filter(|node| is_ready(node)).count();
        if ready == NODES { Ok(()) } else { Err(format!("{ready} of {NODES} nodes are Ready")) }
    })
    .await
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
