//! `tidegate agent`: the node agent.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, ensure};
use apiservice::tls::CertificateFiles;

use crate::{
    agent::{
        self, Settings,
        nvml::{
            Driver,
            library::{LIBRARY, Library},
            recording::{Recorder, Replay},
        },
        page::Node,
        pod_resources::SOCKET,
        window::LONGEST_WINDOW,
    },
    clock::Clock,
    config::{Duration, LogFormat, Telemetry},
    telemetry,
};

const EXAMPLES: &str = "Examples:
  tidegate agent --node-name \"$NODE_NAME\"            # in a DaemonSet, see deploy/agent.yaml
  tidegate agent --node-name here --without-cluster  # on a machine with a GPU, to see its page
  tidegate agent --node-name here --without-cluster --record-nvml session.jsonl
  tidegate agent --node-name here --without-cluster --replay-nvml session.jsonl

The adapter finds it with --discover tidegate-agent.

It has not run on a real GPU yet: it was tested with recorded answers of NVML that are made up.
tests/gpu/run compares it with a set load and with nvidia-smi on a machine that has a card.";

/// Report the GPU use of each process on this node, with the pod that it belongs to.
///
/// Reads NVIDIA's management library (NVML, of the driver R510 or later), finds the pod of each process by its cgroup, and
/// serves the metrics of Alibaba's gpu-exporter: DCGM_CUSTOM_PROCESS_SM_UTIL and its relatives. A process that does nothing
/// reads 0; what is not known has no line, and tidegate_agent_unknown says why. Without a GPU or driver it runs, and says
/// what is missing.
///
/// Needs the host's PID namespace, the NVIDIA runtime, and the right to list and watch pods.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of this node in the cluster, in a DaemonSet from spec.nodeName.
    #[arg(long, env = "TIDEGATE_NODE_NAME", value_name = "NAME")]
    node_name: String,
    /// Alibaba's id of this node's pool, for the label NodePoolId.
    #[arg(long, env = "TIDEGATE_NODE_POOL", value_name = "ID")]
    node_pool: Option<String>,
    /// Address of /metrics and /healthz.
    #[arg(long, env = "TIDEGATE_AGENT_LISTEN", value_name = "IP:PORT", default_value = "0.0.0.0:9446")]
    listen: SocketAddr,
    /// Time between two reads of NVML; utilization is the mean over it. 100ms to 10s.
    #[arg(long, env = "TIDEGATE_AGENT_INTERVAL", value_name = "DURATION", default_value = "1s")]
    interval: Duration,
    /// Serve HTTPS with this certificate (PEM); hot-reloaded.
    #[arg(long, env = "TIDEGATE_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, env = "TIDEGATE_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// Answer /metrics only to who bears the token in this file; read at each scrape.
    #[arg(long, env = "TIDEGATE_BEARER_TOKEN_FILE", value_name = "FILE")]
    bearer_token_file: Option<PathBuf>,
    /// Kubeconfig to use instead of the service account or $KUBECONFIG.
    #[arg(long, env = "TIDEGATE_KUBECONFIG", value_name = "FILE", conflicts_with = "without_cluster")]
    kubeconfig: Option<PathBuf>,
    /// Ask no cluster: processes stay without pods.
    #[arg(long)]
    without_cluster: bool,
    /// The kubelet's socket that tells which cards pods were given.
    #[arg(long, env = "TIDEGATE_POD_RESOURCES_SOCKET", value_name = "FILE", default_value = SOCKET)]
    pod_resources_socket: PathBuf,
    /// NVIDIA's management library, as a name or a path.
    #[arg(long, env = "TIDEGATE_NVML_LIBRARY", value_name = "FILE", default_value = LIBRARY)]
    nvml_library: PathBuf,
    /// /proc of the node's PID namespace.
    #[arg(long, env = "TIDEGATE_PROC_ROOT", value_name = "FOLDER", default_value = "/proc")]
    proc_root: PathBuf,
    /// Write what NVML answers to this new file.
    #[arg(long, value_name = "FILE")]
    record_nvml: Option<PathBuf>,
    /// Play such a file instead of asking NVML, again and again.
    #[arg(long, value_name = "FILE", conflicts_with = "record_nvml")]
    replay_nvml: Option<PathBuf>,
    /// Log format.
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log filter, in the syntax of RUST_LOG.
    #[arg(long, env = "TIDEGATE_LOG", value_name = "FILTER")]
    log: Option<String>,
}

/// Fastest reading: the driver itself takes six samples a second at most.
const SHORTEST: std::time::Duration = std::time::Duration::from_millis(100);
/// Slowest reading: a window must not become longer than what counts as one.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(10);
const _: () = assert!(LONGEST.as_secs() < LONGEST_WINDOW.as_secs());

/// Runs the agent until it is told to stop.
///
/// # Errors
/// Settings that cannot work, a cluster that cannot be reached at start, an address that cannot be bound.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        node_name,
        node_pool,
        listen,
        interval,
        tls_cert_file,
        tls_key_file,
        bearer_token_file,
        kubeconfig,
        without_cluster,
        pod_resources_socket,
        nvml_library,
        proc_root,
        record_nvml,
        replay_nvml,
        log_format,
        log,
    } = args;
    let defaults = Telemetry::default();
    telemetry::start_logs(&Telemetry {
        log_format: log_format.unwrap_or(defaults.log_format),
        log_filter: log.unwrap_or(defaults.log_filter),
        ..Telemetry::default()
    })?;
    ensure!(!node_name.trim().is_empty(), "--node-name: expected the node's name in the cluster, got nothing");
    ensure!(
        (SHORTEST..=LONGEST).contains(&interval.0),
        "--interval: expected {} to {}, got {interval}",
        Duration(SHORTEST),
        Duration(LONGEST)
    );
    let library = Library::new(&nvml_library);
    let driver: Box<dyn Driver> = match (replay_nvml, record_nvml) {
        (Some(path), _) => {
            let (replay, header) = Replay::open(&path).context("--replay-nvml")?;
            let kind = if header.synthetic { "made up" } else { "a real driver's" };
            tracing::warn!(
                about = header.about,
                date = header.date,
                "NVML is not asked: its answers are played, {kind}"
            );
            Box::new(replay)
        }
        (None, Some(path)) => {
            let date = Clock::start().now().strftime("%Y-%m-%d").to_string();
            Box::new(Recorder::new(library, &path, date).context("--record-nvml")?)
        }
        (None, None) => Box::new(library),
    };
    let settings = Settings {
        listen,
        node: Node { name: node_name.as_str().into(), pool: node_pool.as_deref().map(Into::into) },
        interval: interval.0,
        proc_root,
        pod_resources: pod_resources_socket,
        certificate: tls_cert_file.zip(tls_key_file).map(|(certificate, key)| CertificateFiles { certificate, key }),
        token_file: bearer_token_file,
    };
    // One thread serves, one reads: more would cost memory on every node.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start threads")?;
    let ended = runtime.block_on(async {
        let client = if without_cluster { None } else { Some(super::adapter::client(kubeconfig).await?) };
        agent::run(settings, driver, client, super::adapter::signal()).await?;
        Ok(ExitCode::SUCCESS)
    });
    // A read that hangs in the driver must not keep the process from ending.
    runtime.shutdown_background();
    ended
}
