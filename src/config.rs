//! The configuration: types, defaults and `validate()`. Durations, sizes and shares are types, never bare numbers.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration as StdDuration};

use serde::{Deserialize, Serialize};

mod load;
mod units;
mod validate;

pub use load::{LoadError, read};
pub use units::{Bytes, Duration, Share};
pub use validate::Invalid;

/// Everything that `tidegate adapter` can be told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Where pages come from and how they are read.
    pub scrape: Scrape,
    /// Families and label names beyond the built-in ones.
    pub vocabulary: Vocabulary,
    /// How pods become services.
    pub aggregate: Aggregate,
    /// The metrics APIs.
    pub serve: Serve,
    /// Which pools replicas fill, and which replica goes first.
    pub burst: Burst,
    /// Deciding, by ScalingPolicies.
    pub control: Control,
    /// Logs and our own metrics.
    pub telemetry: Telemetry,
}

/// Scraping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Scrape {
    /// Time between two scrapes of one target.
    pub interval: Duration,
    /// Longest time for one scrape, connection and body together.
    pub timeout: Duration,
    /// A sample older than this is unknown (R2). Default: three intervals, at least 15 s.
    pub max_age: Option<Duration>,
    /// Scrapes under way at once.
    pub concurrency: usize,
    /// Largest page, after decompression; a larger one is refused whole.
    pub page_bytes: Bytes,
    /// Longest line; a longer one is a bad line.
    pub line_bytes: Bytes,
    /// Most labels of one line; one with more is a bad line.
    pub labels: usize,
    /// Most samples of wanted families on one page; a page with more is refused whole.
    pub samples: usize,
    /// Most targets; later ones (by name) are not scraped, and that is said.
    pub targets: usize,
    /// Targets by URL.
    pub urls: Vec<UrlTarget>,
    /// Targets that are pods, from the Kubernetes API.
    pub discover: Vec<Discovery>,
    /// Model servers: serving pods' own pages.
    pub serving: Serving,
}

/// Pages of model servers (vLLM, SGLang, TGI): ready pods of KServe predictors, and those with a GPU of a Deployment that
/// tell a port. Each speaks about its own pod only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Serving {
    /// Whether serving pods are asked at all.
    pub enabled: bool,
    /// Port of an InferenceService's pod that names none, neither by annotation nor by `--port` nor as container port.
    pub port: u16,
    /// Path where the pod's annotations name none.
    pub path: String,
    /// Most serving pods; later ones (by name) are not scraped, and that is said.
    pub targets: usize,
    /// Largest page, after decompression; a larger one is refused whole. Far below an exporter's: tenants write these pages,
    /// and as many as may be read at once have to fit into memory.
    pub page_bytes: Bytes,
    /// Most lines of known families on one page; a page with more is refused whole.
    pub samples: usize,
    /// How long a pod that offers no page is left alone before it is asked again.
    pub retry: Duration,
}

/// How a target is spoken to, and what of it is believed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Access {
    /// CA bundle (PEM) that an `https` target's certificate must chain to; the system's roots otherwise.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate of an `https` target.
    pub insecure_skip_tls_verify: bool,
    /// File with a bearer token, read anew when it changes.
    pub bearer_token_file: Option<PathBuf>,
    /// Basic authentication.
    pub basic_auth: Option<BasicAuth>,
    /// Trust timestamps on the page instead of the time at which the body began to arrive.
    pub honor_timestamps: bool,
    /// A process that the page lists in another family but not in a utilization family is idle: a true 0.
    pub absent_means_idle: bool,
    /// Where two exporters report the same pod, card and family, the lower rank is heard. Left out: 10 for our agent's
    /// preset, 20 for ACK's, 30 for dcgm-exporter's, 50 otherwise.
    pub rank: Option<u32>,
}

/// User name and a file with the password.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// User name.
    pub username: String,
    /// File with the password, read anew when it changes.
    pub password_file: PathBuf,
}

/// One target by URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UrlTarget {
    /// `http://` or `https://`, with path.
    pub url: String,
    /// Node that the page is about, where its lines name none.
    #[serde(default)]
    pub node: Option<String>,
    /// How to speak to it.
    #[serde(default)]
    pub access: Access,
}

/// Targets that are pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Discovery {
    /// A known exporter; fills the fields below that are left out.
    #[serde(default)]
    pub preset: Option<Preset>,
    /// Namespace of the exporter's pods. Left out: that of the preset (`arms-prom` for ACK), or else all, as with `*`.
    /// Name one where tenants may create pods: whoever can set the labels there speaks for the exporter.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Label selector of the exporter's pods.
    #[serde(default)]
    pub selector: Option<String>,
    /// Port by container port name or by number.
    #[serde(default)]
    pub port: Option<String>,
    /// Path, `/metrics` by default.
    #[serde(default)]
    pub path: Option<String>,
    /// `http` or `https`, `http` by default.
    #[serde(default)]
    pub scheme: Option<String>,
    /// How to speak to them.
    #[serde(default)]
    pub access: Access,
}

impl Discovery {
    /// The namespace of the exporter's pods: as configured, or the preset's own.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref().or_else(|| self.preset.and_then(Preset::namespace))
    }

    /// The pods of a known exporter, spoken to as it is usually deployed.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        Self {
            preset: Some(preset),
            namespace: None,
            selector: None,
            port: None,
            path: None,
            scheme: None,
            access: Access::default(),
        }
    }
}

/// Exporters that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// Alibaba ACK's gpu-exporter.
    AckGpuExporter,
    /// NVIDIA's dcgm-exporter.
    DcgmExporter,
    /// Tidegate's own node agent.
    TidegateAgent,
}

impl Preset {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckGpuExporter => "ack-gpu-exporter",
            Self::DcgmExporter => "dcgm-exporter",
            Self::TidegateAgent => "tidegate-agent",
        }
    }

    /// Where the exporter's own deployment puts its pods, if it prescribes that.
    #[must_use]
    pub const fn namespace(self) -> Option<&'static str> {
        match self {
            Self::AckGpuExporter => Some("arms-prom"),
            Self::DcgmExporter | Self::TidegateAgent => None,
        }
    }
}

/// Families and labels beyond the built-in ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Vocabulary {
    /// Further families.
    pub families: Vec<FamilyConfig>,
    /// Further names of the labels that are read: keys `namespace`, `pod`, `container`, `node`, `process`, `uuid`,
    /// `instance`, `podUid`; values are label names, tried after the built-in ones.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Further families of model servers.
    pub servers: Vec<ServerFamily>,
}

/// One further family of a model server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerFamily {
    /// Name on the server's page; of a histogram without `_sum` and `_count`.
    pub name: String,
    /// Name in our APIs. Left out: `name` for gauges and shares, with `_per_second` in place of `_total` or `_sum` for
    /// counters, with `_mean` for histograms.
    #[serde(default)]
    pub served_as: Option<String>,
    /// How its lines become one value: `gauge`, `share`, `counter` or `histogram`.
    pub kind: crate::serving::Kind,
    /// What the engine takes it for: `running`, `waiting`, `kvCache`, `promptTokens`, `generatedTokens` or
    /// `finished`.
    #[serde(default)]
    pub role: Option<crate::serving::Role>,
}

/// One further family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FamilyConfig {
    /// Name on the exporter's page.
    pub name: String,
    /// Name in our APIs; `name` if left out.
    #[serde(default)]
    pub served_as: Option<String>,
    /// Unit on the exporter's page.
    pub unit: SourceUnit,
}

/// Units of exporters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceUnit {
    /// 0..100.
    Percent,
    /// 0..1.
    Ratio,
    /// 2^20 bytes.
    Mebibytes,
    /// Bytes.
    Bytes,
}

/// Aggregation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Aggregate {
    /// Below this share of ready pods with a value the service is unknown (R9).
    pub coverage: Share,
    /// A card at or above this device utilization, percent, whose pods all read 0, is an attribution failure (R5).
    pub busy_percent: f64,
    /// Resource names that count as GPUs in a pod's limits.
    pub gpu_resources: Vec<String>,
    /// Namespaces to watch; empty: all.
    pub namespaces: Vec<String>,
}

/// The metrics APIs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Serve {
    /// Address of the metrics APIs.
    pub listen: SocketAddr,
    /// Serving certificate and key (PEM), hot-reloaded; a self-made and rotated pair if both are left out.
    pub tls_cert_file: Option<PathBuf>,
    /// See `tlsCertFile`.
    pub tls_key_file: Option<PathBuf>,
    /// Namespace of our own Service: names the self-made certificate.
    pub service_namespace: String,
    /// Name of our own Service: names the self-made certificate.
    pub service_name: String,
    /// API groups to serve; another adapter may own the other one (R13).
    pub groups: Vec<Group>,
    /// Pass metrics that we do not know on to another adapter (R13).
    pub passthrough: Option<Passthrough>,
}

/// The two API groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Group {
    /// Metrics that describe objects.
    #[serde(rename = "custom.metrics.k8s.io")]
    Custom,
    /// Metrics with labels only.
    #[serde(rename = "external.metrics.k8s.io")]
    External,
}

/// Another adapter behind ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Passthrough {
    /// `https://` URL of the other adapter, without a path.
    pub url: String,
    /// CA bundle (PEM) of its certificate.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate.
    #[serde(default)]
    pub insecure_skip_tls_verify: bool,
    /// Token with which we ask it; our service account's by default.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
}

/// The order of pools (R19).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Burst {
    /// Whether pods are written to: preferred affinity by the webhook, deletion costs while a removal is near.
    pub enabled: bool,
    /// Whether the cluster's own scheduler honours ResourcePolicies: then nothing is written to pods.
    pub scheduler: Scheduler,
    /// Address of the admission webhook that lets new pods prefer their pools in order, with the certificate of the
    /// metrics APIs. Left out: none.
    pub webhook_listen: Option<SocketAddr>,
    /// The MutatingWebhookConfiguration whose `caBundle` is kept at our self-made certificate's authority. Left out: none.
    pub webhook_configuration: Option<String>,
}

/// Who honours ResourcePolicies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheduler {
    /// Told by the cluster's version: Alibaba's schedulers do.
    #[default]
    Auto,
    /// The scheduler does.
    Honours,
    /// The scheduler does not: Tidegate does.
    Ignores,
}

/// Deciding how many replicas there should be. Without the CRD of ScalingPolicies there is advice for services whose HPA
/// reads one of our metrics, and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Control {
    /// Whether anything is decided at all.
    pub enabled: bool,
    /// Time between two decisions for one service.
    pub tick: Duration,
    /// What we call ourselves in the Lease and in events; a number by chance is added. Default: the pod's name.
    pub identity: Option<String>,
    /// Which replica of the adapter writes.
    pub lease: Lease,
    /// Recording of decisions.
    pub record: Record,
}

/// The Lease by which one replica of the adapter is chosen to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Lease {
    /// Its namespace, in which the engine's memory is kept, too. Default: `serve.serviceNamespace`.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// How long it lasts without renewal: so long nobody writes after a holder has died.
    pub duration: Duration,
}

/// Every decision with what it was made from, for `tidegate replay --decisions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Record {
    /// The newest file; nothing is recorded if left out.
    pub file: Option<PathBuf>,
    /// Size at which a file is full.
    pub bytes: Bytes,
    /// Files that are kept.
    pub files: usize,
}

/// Logs and our own metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Telemetry {
    /// Address of `/metrics`, `/livez` and `/readyz` over plain HTTP.
    pub listen: SocketAddr,
    /// Log format.
    pub log_format: LogFormat,
    /// Log filter, in the syntax of `RUST_LOG`.
    pub log_filter: String,
    /// Most services, and most pods with their cards, that get series of their own on `/metrics`; the rest is counted.
    pub series: usize,
}

/// Log formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const fn seconds(n: u64) -> Duration {
    Duration(StdDuration::from_secs(n))
}

impl Default for Scrape {
    fn default() -> Self {
        Self {
            interval: seconds(10),
            timeout: seconds(5),
            max_age: None,
            concurrency: 64,
            page_bytes: Bytes(16 << 20),
            line_bytes: Bytes(64 << 10),
            labels: 64,
            samples: 50_000,
            targets: 5_000,
            urls: Vec::new(),
            discover: Vec::new(),
            serving: Serving::default(),
        }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 8080,
            path: "/metrics".into(),
            targets: 5_000,
            page_bytes: Bytes(2 << 20),
            samples: 1_000,
            retry: seconds(60),
        }
    }
}

impl Scrape {
    /// A sample older than this is unknown (R2).
    #[must_use]
    pub fn max_age(&self) -> StdDuration {
        self.max_age.map_or_else(|| (self.interval.0 * 3).max(StdDuration::from_secs(15)), |age| age.0)
    }

    /// What works and may not be meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let open = self.discover.iter().enumerate().filter(|(_, entry)| entry.namespace().is_none());
        let presets = open.filter_map(|(index, entry)| Some((index, entry.preset?.name())));
        let warning = |(index, preset): (usize, &str)| {
            format!(
                "scrape.discover[{index}].namespace: the preset {preset} looks in all namespaces, and whoever may create \
                 a pod in one of them could pose as the exporter; name the exporter's namespace, or * if all are meant"
            )
        };
        presets.map(warning).collect()
    }
}

impl Default for Aggregate {
    fn default() -> Self {
        Self {
            coverage: Share(0.5),
            busy_percent: 10.0,
            gpu_resources: ["nvidia.com/gpu", "aliyun.com/gpu", "alibabacloud.com/ppu"].map(String::from).into(),
            namespaces: Vec::new(),
        }
    }
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 6443)),
            tls_cert_file: None,
            tls_key_file: None,
            service_namespace: "tidegate".into(),
            service_name: "tidegate".into(),
            groups: vec![Group::Custom, Group::External],
            passthrough: None,
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { enabled: true, tick: seconds(5), identity: None, lease: Lease::default(), record: Record::default() }
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self { namespace: None, name: "tidegate".into(), duration: seconds(15) }
    }
}

impl Default for Record {
    fn default() -> Self {
        Self { file: None, bytes: Bytes(64 << 20), files: 4 }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 9090)),
            log_format: LogFormat::Text,
            // The client's library logs each failed request as an error; whoever asks says so once, with what it means.
            log_filter: "info,kube_client::client::builder=off".into(),
            series: 2_000,
        }
    }
}
