//! What is compared: prometheus-adapter as it comes, prometheus-adapter with raised client limits, and Tidegate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::{
    cluster::{
        account,
        adapter::{EXPORTER_LABEL, EXPORTER_PORT},
        process::{Part, free_ports},
    },
    prometheus::Prometheus,
    prometheus_adapter,
    scene::Scene,
};

/// Namespace of the Services behind which the aggregator finds the adapters.
pub const NAMESPACE: &str = "kube-system";

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// prometheus-adapter with its default limit of 5 requests per second to kube-apiserver.
    IncumbentDefault,
    /// prometheus-adapter with `--client-qps=1000 --client-burst=1000`.
    IncumbentRaised,
    /// `tidegate adapter`.
    Tidegate,
}

/// A running adapter.
#[derive(Debug)]
pub struct Contender {
    /// Which.
    pub kind: Kind,
    /// Port of the metrics API on 127.0.0.1.
    pub port: u16,
    part: Mutex<Part>,
}

impl Kind {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::IncumbentDefault, Self::IncumbentRaised, Self::Tidegate];

    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::IncumbentDefault => "prometheus-adapter, default QPS",
            Self::IncumbentRaised => "prometheus-adapter, QPS 1000",
            Self::Tidegate => "tidegate",
        }
    }

    /// Name of its process, files and Service.
    pub fn name(self) -> &'static str {
        match self {
            Self::IncumbentDefault => "incumbent-default",
            Self::IncumbentRaised => "incumbent-raised",
            Self::Tidegate => "tidegate",
        }
    }
}

impl Contender {
    /// Starts all three.
    pub async fn start_all(scene: &Scene<'_>, prometheus: &Prometheus) -> Result<Vec<Self>, String> {
        let account = account::create(scene.plane).await?;
        Kind::ALL.into_iter().map(|kind| Self::start(kind, scene, prometheus, &account)).collect()
    }

    fn start(kind: Kind, scene: &Scene<'_>, prometheus: &Prometheus, account: &Path) -> Result<Self, String> {
        let [port] = free_ports();
        let (program, arguments) = match kind {
            Kind::Tidegate => tidegate(scene, port, account)?,
            Kind::IncumbentDefault => incumbent(scene, kind, port, &prometheus.url, &[])?,
            Kind::IncumbentRaised => {
                incumbent(scene, kind, port, &prometheus.url, &["--client-qps=1000", "--client-burst=1000"])?
            }
        };
        let part = Part::start(kind.name(), scene.plane.folder(), &program, &arguments)?;
        Ok(Self { kind, port, part: Mutex::new(part) })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.part.lock().pid()
    }

    /// `Err` with its last words if it has ended.
    pub fn alive(&self) -> Result<(), String> {
        self.part.lock().alive()
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.part.lock().tail(20)
    }
}

/// Program, flags and files of prometheus-adapter.
fn incumbent(
    scene: &Scene<'_>,
    kind: Kind,
    port: u16,
    prometheus: &str,
    more: &[&str],
) -> Result<(PathBuf, Vec<String>), String> {
    prometheus_adapter::command(scene.plane, kind.name(), port, prometheus, &certificate(scene, kind), more)
}

/// Program, flags and files of Tidegate: its defaults, but for the scrape interval.
fn tidegate(scene: &Scene<'_>, port: u16, account: &Path) -> Result<(PathBuf, Vec<String>), String> {
    let folder = scene.plane.folder();
    let program = folder.join("tidegate-program");
    // A copy: whoever builds meanwhile does not change what is measured.
    fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).map_err(|error| error.to_string())?;
    let (cert, key) = certificate(scene, Kind::Tidegate).write(folder, "tidegate-serving");
    let [telemetry] = free_ports();
    let config = format!(
        "scrape:\n  interval: 1s\n  timeout: 900ms\n  discover:\n  \
         - {{selector: '{EXPORTER_LABEL}=true', port: {EXPORTER_PORT}}}\n\
         serve:\n  listen: 127.0.0.1:{port}\n  tlsCertFile: {}\n  tlsKeyFile: {}\n\
         telemetry:\n  listen: 127.0.0.1:{telemetry}\n",
        cert.display(),
        key.display(),
    );
    let file = folder.join("tidegate-config.yaml");
    fs::write(&file, config).map_err(|error| error.to_string())?;
    let flag = |name: &str, value: &Path| [name.to_owned(), value.display().to_string()];
    let arguments = [&["adapter".to_owned()][..], &flag("--config", &file), &flag("--kubeconfig", account)].concat();
    Ok((program, arguments))
}

fn certificate(scene: &Scene<'_>, kind: Kind) -> super::cluster::pki::Pair {
    let service = format!("{}.{NAMESPACE}.svc", kind.name());
    scene.plane.authority.issue(kind.name(), &[], &[&service, "localhost", "127.0.0.1"])
}
