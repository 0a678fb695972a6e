//! Who scales the seed's service, and by what its replicas find their pools.

use serde::Serialize;
use serde_json::json;

use super::{
    cluster::{
        kubectl::{create, kubectl, tidegate},
        namespace::Namespace,
        workload::AUTOSCALER,
    },
    fleet::{ONPREM, SERVICE},
    karpenter::{CLOUD, POOL},
    stage::Stage,
};

/// One way to scale it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Arena's HPA, and nothing of ours on the pods: no order of pools.
    Unordered,
    /// Arena's HPA, and the seed's ResourcePolicy.
    Plain,
    /// The HPA that `tidegate policy hpa` prints, and the seed's ResourcePolicy.
    Advise,
    /// No HPA and no ResourcePolicy: Tidegate writes the replicas, and the policy's own pools are the order.
    Act,
}

impl Way {
    /// For names of namespaces and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unordered => "unordered",
            Self::Plain => "plain",
            Self::Advise => "advise",
            Self::Act => "act",
        }
    }

    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unordered => "arena's HPA, no order of pools",
            Self::Plain => "arena's HPA, pools in the ResourcePolicy's order",
            Self::Advise => "ScalingPolicy in mode Advise, followed by its HPA",
            Self::Act => "ScalingPolicy in mode Act, no HPA",
        }
    }

    /// Name of the HPA, where there is one.
    pub fn autoscaler(self) -> &'static str {
        if self == Self::Advise { "qwen-chat-tidegate" } else { AUTOSCALER }
    }

    /// Whether a ScalingPolicy decides.
    pub fn has_policy(self) -> bool {
        matches!(self, Self::Advise | Self::Act)
    }

    /// What must be there before the service is.
    pub async fn prepare(self, stage: &Stage, namespace: &Namespace) -> Result<(), String> {
        if self != Self::Unordered {
            stage.opt_in(namespace).await?;
        }
        if matches!(self, Self::Plain | Self::Advise) {
            stage.order(namespace, "isvc.qwen-chat-predictor").await?;
        }
        Ok(())
    }

    /// Replaces arena's HPA, once the service's Deployment is there.
    pub async fn take_over(self, stage: &Stage, namespace: &Namespace) -> Result<(), String> {
        if !self.has_policy() {
            return Ok(());
        }
        kubectl(stage.plane, &["-n", &namespace.name, "delete", "hpa", AUTOSCALER]).await?;
        create(stage.plane, &self.policy(&namespace.name)).await?;
        if self == Self::Advise {
            let printed = tidegate(stage.plane, &["policy", "hpa", SERVICE, "-n", &namespace.name]).await?;
            create(stage.plane, &printed).await?;
        }
        Ok(())
    }

    /// The seed's bounds and target, with the times of this cluster: seconds where real ones take minutes.
    fn policy(self, namespace: &str) -> String {
        let boot = |node: &str| json!({"node": node, "image": "1s", "load": "1s"});
        json!({
            "apiVersion": "tidegate.dev/v1alpha1", "kind": "ScalingPolicy",
            "metadata": {"name": SERVICE, "namespace": namespace},
            "spec": {
                "targetRef": {"kind": "InferenceService", "name": SERVICE},
                "mode": if self == Self::Act { "Act" } else { "Advise" },
                "minReplicas": 1, "maxReplicas": 3, "targetUtilization": 50,
                "pools": [
                    {"name": ONPREM, "nodeSelector": {POOL: ONPREM}, "boot": boot("1s")},
                    {"name": CLOUD, "nodeSelector": {POOL: CLOUD}, "elastic": true, "cost": 4, "boot": boot("5s")},
                ],
                // The window is the HPA's stabilization on this control plane.
                "behavior": {"scaleDown": {"window": "10s", "cooldown": "5s"}},
            },
        })
        .to_string()
    }
}
