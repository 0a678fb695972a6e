//! The real Helm, and the sets of values that the chart is tried with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;

use crate::cluster::process::target;

/// Name of the release, and of its namespace.
pub const RELEASE: &str = "tidegate";

/// A name and values: between them every branch of the templates.
pub const VALUES: [(&str, &str); 14] = [
    ("defaults", "{}"),
    ("cert-manager", "certificates: {mode: certManager}"),
    (
        "cert-manager with an issuer of the cluster",
        "certificates: {mode: certManager, certManager: {issuerRef: {name: corporate, kind: ClusterIssuer}}}",
    ),
    (
        "a given Secret",
        "certificates: {mode: secret, secret: {name: given, caBundle: \"-----BEGIN CERTIFICATE-----\\nAA==\\n-----END CERTIFICATE-----\\n\"}}",
    ),
    ("external metrics only", "groups: [external.metrics.k8s.io]"),
    (
        "two namespaces",
        "{namespace: {create: true}, config: {scrape: {discover: [{preset: dcgm-exporter, namespace: exporters}]}, aggregate: {namespaces: [models, exporters]}}}",
    ),
    (
        "before another adapter",
        "config: {serve: {passthrough: {url: 'https://prometheus-adapter.monitoring.svc'}}, scrape: {samples: 2000000, discover: []}}",
    ),
    ("the node agent", "{agent: {enabled: true, runtimeClassName: ''}, namespace: {create: true}}"),
    (
        "the node agent in a namespace of its own",
        "{agent: {enabled: true, namespace: exporters, args: ['--interval=500ms'], priorityClassName: system-node-critical}, \
          config: {scrape: {discover: []}, aggregate: {namespaces: [models, exporters]}}}",
    ),
    ("bursting with the webhook", "{config: {burst: {enabled: true}}, webhook: {enabled: true}}"),
    (
        "the webhook with cert-manager",
        "{config: {burst: {enabled: true}}, webhook: {enabled: true, timeoutSeconds: 1, objectSelector: {matchLabels: {component: predictor}}}, \
          certificates: {mode: certManager}}",
    ),
    (
        "the webhook with a given Secret in one namespace",
        "{config: {scrape: {discover: []}, burst: {enabled: true, scheduler: ignores}, aggregate: {namespaces: [models, exporters]}}, \
          webhook: {enabled: true, annotations: {h: i}}, \
          certificates: {mode: secret, secret: {name: given, caBundle: \"-----BEGIN CERTIFICATE-----\\nAA==\\n-----END CERTIFICATE-----\\n\"}}}",
    ),
    (
        "everything",
        "{image: {repository: example.org/tidegate, digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}, \
          imagePullSecrets: [{name: pull}], priorityClassName: system-cluster-critical, tolerations: [{operator: Exists}], \
          podAnnotations: {a: b}, podLabels: {c: d}, affinity: {nodeAffinity: {}}, serviceAccount: {annotations: {e: f}}, \
          extraVolumes: [{name: edge, secret: {secretName: edge}}], extraVolumeMounts: [{name: edge, mountPath: /etc/tidegate/edge}], \
          apiServices: {annotations: {g: h}}, networkPolicy: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}, \
          serviceMonitor: {enabled: true, labels: {release: prometheus}}, \
          dashboards: {enabled: true, namespace: models, annotations: {folder: gpu}}}",
    ),
    (
        "as little as possible",
        "{replicas: 1, podDisruptionBudget: {enabled: false}, networkPolicy: {enabled: false}, rbac: {create: false}, \
          serviceAccount: {create: false, name: own}, nodeSelector: null, resources: null, crds: {enabled: false}, fullnameOverride: gpu-metrics}",
    ),
];

/// Where the chart is.
pub fn chart() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/chart").into()
}

/// Runs Helm. `Err` holds what it said on standard error.
pub fn helm(kubeconfig: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(target().join("controlplane/bin/helm/helm"));
    // Without a kubeconfig there must be no cluster, whatever this machine is set up for.
    command.args(arguments).env("KUBECONFIG", kubeconfig.unwrap_or(Path::new("/dev/null"))).env("HOME", target());
    let output =
        command.output().map_err(|error| format!("Helm cannot be run: {error}; tests/controlplane/build makes it"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// A file with this text.
pub fn file(text: &str) -> PathBuf {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("chart-{}-{}.yaml", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).expect("the scratch folder can be written");
    path
}

/// What the chart makes of these values, as text.
pub fn render(values: &str) -> Result<String, String> {
    let values = file(values);
    let flags = ["template", RELEASE, &chart(), "--namespace", RELEASE, "--values", &values.display().to_string()];
    let text = helm(None, &flags);
    fs::remove_file(values).expect("it was written just now");
    text
}

/// The objects in a manifest.
pub fn objects(manifest: &str) -> Vec<Value> {
    let documents = manifest.split("\n---\n").map(|text| text.trim_start_matches("---\n"));
    let parsed = documents.map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}")));
    parsed.filter(|object: &Value| !object.is_null()).collect()
}

/// The one object of that kind.
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    let [object] = found[..] else { panic!("{} objects of kind {kind}", found.len()) };
    object
}
