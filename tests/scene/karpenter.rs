//! Karpenter with its KWOK provider as the node autoscaler: cloud nodes really appear, and really go.
//!
//! It stands for cluster-autoscaler, which is no Go module that can be had. What differs: it decides within seconds where
//! cluster-autoscaler takes ten, and removes an empty node after 20 to 30 s where cluster-autoscaler waits ten minutes.

use std::{fs, path::Path};

use serde_json::json;

use super::{
    cluster::{
        controlplane::ControlPlane,
        kubectl::create,
        process::{Part, free_ports},
        wait::eventually_or_error,
    },
    kserve::{define, module, ready},
};

/// Label by which the pools are told apart.
pub const POOL: &str = "pool";
/// The pool that Karpenter fills.
pub const CLOUD: &str = "cloud";
/// From the request for a node to its registration: a short boot.
const BOOT: &str = "3s";

/// How long a node has to be empty before Karpenter looks at it. It looks each 10 s, and then waits 15 s for pods that
/// may come.
pub const CONSOLIDATE_AFTER: &str = "5s";

/// Starts it with a pool of one-GPU nodes that holds at most `gpus`.
pub async fn start(plane: &ControlPlane, gpus: usize) -> Result<Part, String> {
    let module = module(plane, "karpenter")?;
    for file in ["pkg/apis/crds/karpenter.sh_nodepools", "pkg/apis/crds/karpenter.sh_nodeclaims"] {
        define(plane, &format!("{module}/{file}.yaml")).await?;
    }
    define(plane, &format!("{module}/kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml")).await?;
    eventually_or_error("the NodePool definition to be served", async || create(plane, &pool(gpus)).await.map(drop))
        .await?;
    let types = plane.folder().join("instance-types.json");
    fs::write(&types, instance_types()).map_err(|error| format!("{}: {error}", types.display()))?;
    let [metrics, health] = free_ports();
    let arguments = [
        format!("KUBECONFIG={}", plane.folder().join("admin.yaml").display()),
        plane.program("karpenter/kwok").display().to_string(),
        "--disable-leader-election".into(),
        format!("--instance-types-file-path={}", types.display()),
        format!("--metrics-port={metrics}"),
        format!("--health-probe-port={health}"),
    ];
    let mut part = Part::start("karpenter", plane.folder(), Path::new("/usr/bin/env"), &arguments)?;
    eventually_or_error("Karpenter to be ready", async || {
        part.alive()?;
        ready(health).await
    })
    .await
    .map_err(|error| format!("{error}\n{}", part.tail(20)))?;
    Ok(part)
}

fn pool(gpus: usize) -> String {
    format!(
        r#"
apiVersion: karpenter.kwok.sh/v1alpha1
kind: KWOKNodeClass
metadata: {{name: default}}
spec: {{nodeRegistrationDelay: {BOOT}}}
---
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: {{name: {CLOUD}}}
spec:
  template:
    metadata: {{labels: {{{POOL}: {CLOUD}}}}}
    spec:
      nodeClassRef: {{group: karpenter.kwok.sh, kind: KWOKNodeClass, name: default}}
      requirements: [{{key: karpenter.sh/capacity-type, operator: In, values: [on-demand]}}]
      expireAfter: Never
  limits: {{nvidia.com/gpu: "{gpus}"}}
  disruption: {{consolidationPolicy: WhenEmpty, consolidateAfter: {CONSOLIDATE_AFTER}, budgets: [{{nodes: "100%"}}]}}
"#
    )
}

fn instance_types() -> String {
    let requirement = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    json!([{
        "name": "gpu-1x", "architecture": "amd64", "operatingSystems": ["linux"],
        "resources": {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi", "nvidia.com/gpu": "1"},
        "offerings": [{"Price": 1.0, "Available": true, "Requirements": [
            requirement("karpenter.sh/capacity-type", "on-demand"), requirement("topology.kubernetes.io/zone", "zone-a"),
        ]}],
    }])
    .to_string()
}
