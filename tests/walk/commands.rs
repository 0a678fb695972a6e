//! The commands that the documents print, and what each must do.

use super::document::command;

/// What a command does when it works.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// Ends with status 0, and says all this.
    Says(&'static [&'static str]),
    /// The same, once the cluster has come round to it: whoever looks too early looks again.
    Comes(&'static [&'static str]),
    /// As `Says`, and takes long: it runs beside those that follow.
    Beside(&'static [&'static str]),
    /// A release is there when it has ended with status 0.
    Installs,
    /// A release is gone when it has ended with status 0.
    Removes,
    /// Serves, is ready in time, has this on its own page of metrics, and ends with status 0 when it is told to stop.
    Serves(&'static str),
    /// Is not run here, for this reason.
    Except(&'static str),
}

use Outcome::{Beside, Comes, Except, Installs, Removes, Says, Serves};

/// Without comments, by the order of the documents.
pub const COMMANDS: &[(&str, Outcome)] = &[
    // README.md
    ("cargo run --release -- demo", Beside(&["replicas"])),
    ("cargo install --path .", Except("compiles the release program")),
    ("tests/run", Except("would run this test again")),
    (
        "helm install tidegate deploy/chart --namespace tidegate --create-namespace --set image.repository=REGISTRY/tidegate",
        Installs,
    ),
    ("kubectl --namespace tidegate rollout status deployment/tidegate", Says(&["successfully rolled out"])),
    (
        "kubectl get apiservices v1beta1.custom.metrics.k8s.io v1beta2.custom.metrics.k8s.io v1beta1.external.metrics.k8s.io",
        Comes(&[
            "v1beta1.custom.metrics.k8s.io     tidegate/tidegate   True",
            "v1beta2.custom.metrics.k8s.io     tidegate/tidegate   True",
            "v1beta1.external.metrics.k8s.io   tidegate/tidegate   True",
        ]),
    ),
    (
        "kubectl get --raw '/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/DCGM_CUSTOM_PROCESS_SM_UTIL'",
        Comes(&["\"value\":\"40\""]),
    ),
    ("kubectl apply -f hpa.yaml", Says(&["created"])),
    ("kubectl get hpa qwen-chat-hpa", Comes(&["40/50"])),
    ("kubectl apply -f policy.yaml", Says(&["created"])),
    ("kubectl get scalingpolicies", Comes(&["Advise   1 "])),
    ("kubectl delete hpa qwen-chat-hpa", Says(&["deleted"])),
    ("tidegate policy hpa qwen-chat | kubectl apply -f -", Says(&["created"])),
    ("kubectl get hpa qwen-chat-tidegate", Comes(&["1/1 (avg)"])),
    ("tidegate adapter --discover ack-gpu-exporter", Serves("tidegate_pod_reading{")),
    ("tidegate adapter --discover dcgm-exporter", Serves("tidegate_refused_targets{} 0")),
    ("tidegate adapter --config tidegate.yaml --print-config", Says(&["interval: 10s"])),
    ("tidegate replay load.csv", Beside(&["oracle:"])),
    ("tidegate replay load.csv --sweep", Beside(&["suggested:"])),
    ("tidegate adapter --discover ack-gpu-exporter --record recorded.jsonl", Serves("tidegate_decisions_total{")),
    ("tidegate replay --decisions recorded.jsonl", Says(&["decisions, the same bit for bit"])),
    // deploy/README.md
    ("docker build --file deploy/Dockerfile --tag REGISTRY/tidegate:0.1.0 .", Except("needs a container engine")),
    ("docker push REGISTRY/tidegate:0.1.0", Except("needs a container engine and a registry")),
    ("kubectl apply --server-side -f deploy/crds -f deploy/tidegate.yaml", Installs),
    (
        "helm upgrade tidegate deploy/chart --namespace tidegate --reset-then-reuse-values --values values.yaml",
        Installs,
    ),
    (
        "helm upgrade tidegate deploy/chart --namespace tidegate --reset-then-reuse-values \
         --set config.burst.enabled=true --set webhook.enabled=true",
        Installs,
    ),
    ("kubectl label namespace default tidegate.dev/burst=enabled", Says(&["labeled"])),
    ("kubectl apply --server-side -f deploy/agent.yaml", Says(&["daemonset.apps/tidegate-agent serverside-applied"])),
    ("helm upgrade tidegate deploy/chart --namespace tidegate --reset-then-reuse-values", Installs),
    ("helm uninstall tidegate --namespace tidegate", Removes),
    ("kubectl delete -f deploy/tidegate.yaml", Removes),
    ("kubectl delete -f deploy/agent.yaml", Says(&["\"tidegate-agent\" deleted"])),
];

/// The known command, and what it must do.
pub fn outcome(text: &str) -> Option<(&'static str, &'static Outcome)> {
    let text = command(text);
    COMMANDS.iter().find(|(known, _)| *known == text).map(|(known, outcome)| (*known, outcome))
}
