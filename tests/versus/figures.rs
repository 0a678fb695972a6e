//! All that was measured, as one JSON object.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tidegate::clock::Clock;

use super::{
    contender::Kind,
    decision::Decision,
    latency::Query,
    prometheus,
    staleness::Stale,
    usage::{Machine, Process},
};

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// When it began.
    pub date: Timestamp,
    /// How long it took, seconds.
    pub seconds: f64,
    /// What a full run has and this one has not.
    pub left_out: Vec<&'static str>,
    /// Where.
    pub machine: Machine,
    /// What ran.
    pub versions: Versions,
    /// Memory and idle CPU.
    pub processes: Vec<Process>,
    /// Latency and CPU of queries.
    pub queries: Vec<Query>,
    /// How many times as much each of the others takes as Tidegate.
    pub ratios: Vec<Ratio>,
    /// Changed utilization to changed decision.
    pub decisions: Vec<Decision>,
    /// Dead exporters.
    pub staleness: Vec<Stale>,
}

/// Versions.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    /// Ours.
    pub tidegate: &'static str,
    /// The one that `tests/controlplane/prometheus-adapter/go.mod` names.
    pub prometheus_adapter: String,
    /// The installed one.
    pub prometheus: String,
    /// The one that `tests/controlplane/kubernetes/go.mod` names.
    pub kubernetes: String,
}

/// Another contender's figures over Tidegate's. `None` where Tidegate's is too small to measure.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// The case of queries.
    pub case: &'static str,
    /// Who is compared.
    pub contender: Kind,
    /// Of the median latencies.
    pub p50: Option<f64>,
    /// Of the 99th percentiles.
    pub p99: Option<f64>,
    /// Of the adapters' CPU per query.
    pub adapter_cpu: Option<f64>,
    /// Of the CPU per query of adapter, Prometheus and kube-apiserver together.
    pub cpu: Option<f64>,
}

const LEFT_OUT: [&str; 5] = [
    "all but 100 of 500 queries per case (20 of 500 for 1,000 pods, 10 of 50 at the default QPS)",
    "all but 1 of 5 cycles of the HPA",
    "the HPA behind prometheus-adapter with its default QPS",
    "the death of an exporter that writes timestamps (it takes five minutes)",
    "a dead exporter's value is watched for 40 s instead of 330 s",
];

impl Figures {
    /// Before anything was measured.
    pub fn begin(quick: bool) -> Result<Self, String> {
        let kubernetes = include_str!("../controlplane/kubernetes/go.mod");
        let adapter = include_str!("../controlplane/prometheus-adapter/go.mod");
        Ok(Self {
            date: Clock::start().now(),
            seconds: 0.0,
            left_out: if quick { LEFT_OUT.to_vec() } else { Vec::new() },
            machine: Machine::here()?,
            versions: Versions {
                tidegate: env!("CARGO_PKG_VERSION"),
                prometheus_adapter: required(adapter, "sigs.k8s.io/prometheus-adapter")?,
                prometheus: prometheus::version()?,
                kubernetes: required(kubernetes, "k8s.io/kubernetes")?,
            },
            processes: Vec::new(),
            queries: Vec::new(),
            ratios: Vec::new(),
            decisions: Vec::new(),
            staleness: Vec::new(),
        })
    }

    /// When everything was.
    pub fn finish(&mut self, took: Duration) {
        self.seconds = took.as_secs_f64();
        let ours = |case: &str| self.queries.iter().find(|q| q.case == case && q.contender == Kind::Tidegate);
        let ratio = |query: &Query| {
            let ours = ours(query.case)?;
            let over = |theirs: f64, ours: f64| (ours > 0.0).then(|| theirs / ours);
            Some(Ratio {
                case: query.case,
                contender: query.contender,
                p50: over(query.p50_ms, ours.p50_ms),
                p99: over(query.p99_ms, ours.p99_ms),
                adapter_cpu: over(query.adapter_cpu_ms, ours.adapter_cpu_ms),
                cpu: over(query.cpu_ms(), ours.cpu_ms()),
            })
        };
        self.ratios = self.queries.iter().filter(|q| q.contender != Kind::Tidegate).filter_map(ratio).collect();
    }
}

/// The version of a module that a go.mod requires.
fn required(go_mod: &str, module: &str) -> Result<String, String> {
    let mut lines = go_mod.lines().filter(|line| !line.contains("=>"));
    let version = lines.find_map(|line| {
        let mut words = line.split_whitespace().filter(|word| *word != "require");
        (words.next() == Some(module)).then(|| words.next()).flatten()
    });
    version.map(str::to_owned).ok_or_else(|| format!("go.mod requires no {module}"))
}
