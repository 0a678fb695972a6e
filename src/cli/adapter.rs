//! `tidegate adapter`: the metrics adapter.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::ValueEnum;

use crate::{
    adapter,
    config::{Access, Config, Discovery, Duration, LogFormat, Preset, UrlTarget},
    telemetry,
};

const EXAMPLES: &str = "Examples:
  tidegate adapter --discover ack-gpu-exporter
  tidegate adapter --config tidegate.yaml --print-config
  tidegate adapter --kubeconfig ~/.kube/config --scrape-url http://node-1:9400/metrics";

/// Scrape GPU exporters and serve what they say through the Kubernetes metrics APIs.
///
/// Settings come from --config, then from TIDEGATE_* variables, then from flags; the later wins. Inside a cluster the
/// service account is used, elsewhere the kubeconfig.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// YAML file with settings; unknown keys are errors.
    #[arg(long, env = "TIDEGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings that result, with their defaults, and exit.
    #[arg(long)]
    print_config: bool,
    /// Kubeconfig to use instead of the service account or $KUBECONFIG.
    #[arg(long, env = "TIDEGATE_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Address of the metrics APIs (HTTPS).
    #[arg(long, env = "TIDEGATE_LISTEN", value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Address of our own /metrics, /livez and /readyz (HTTP).
    #[arg(long, env = "TIDEGATE_METRICS_LISTEN", value_name = "IP:PORT")]
    metrics_listen: Option<SocketAddr>,
    /// Serving certificate (PEM); hot-reloaded. Self-made if left out.
    #[arg(long, env = "TIDEGATE_TLS_CERT_FILE", value_name = "FILE", requires = "tls_key_file")]
    tls_cert_file: Option<PathBuf>,
    /// Key of the serving certificate (PEM).
    #[arg(long, env = "TIDEGATE_TLS_KEY_FILE", value_name = "FILE", requires = "tls_cert_file")]
    tls_key_file: Option<PathBuf>,
    /// Scrape this URL too; may be given several times.
    #[arg(long = "scrape-url", env = "TIDEGATE_SCRAPE_URLS", value_delimiter = ',', value_name = "URL")]
    scrape_urls: Vec<String>,
    /// Scrape the pods of a known exporter too; may be given several times.
    #[arg(long, env = "TIDEGATE_DISCOVER", value_delimiter = ',', value_name = "PRESET")]
    discover: Vec<Preset>,
    /// Time between two scrapes of one target.
    #[arg(long, env = "TIDEGATE_SCRAPE_INTERVAL", value_name = "DURATION")]
    scrape_interval: Option<Duration>,
    /// A sample older than this is unknown [default: three intervals, at least 15s].
    #[arg(long, env = "TIDEGATE_MAX_AGE", value_name = "DURATION")]
    max_age: Option<Duration>,
    /// Record every decision with what it was made from in this file, for `tidegate replay --decisions`.
    #[arg(long, env = "TIDEGATE_RECORD", value_name = "FILE")]
    record: Option<PathBuf>,
    /// Log format.
    #[arg(long, env = "TIDEGATE_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log filter, in the syntax of RUST_LOG, e.g. info,tidegate::scrape=debug.
    #[arg(long, env = "TIDEGATE_LOG", value_name = "FILTER")]
    log: Option<String>,
}

impl ValueEnum for Preset {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::AckGpuExporter, Self::DcgmExporter, Self::TidegateAgent]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let help = match self {
            Self::AckGpuExporter => "Alibaba ACK's gpu-exporter",
            Self::DcgmExporter => "NVIDIA's dcgm-exporter",
            Self::TidegateAgent => "Tidegate's own node agent",
        };
        Some(clap::builder::PossibleValue::new(self.name()).help(help))
    }
}

impl ValueEnum for LogFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Json]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(match self {
            Self::Text => clap::builder::PossibleValue::new("text"),
            Self::Json => clap::builder::PossibleValue::new("json"),
        })
    }
}

impl Args {
    /// File, environment and flags in one, checked. The second part is the kubeconfig.
    fn settings(self) -> anyhow::Result<(Config, Option<PathBuf>)> {
        let Self {
            config,
            print_config: _,
            kubeconfig,
            listen,
            metrics_listen,
            tls_cert_file,
            tls_key_file,
            scrape_urls,
            discover,
            scrape_interval,
            max_age,
            record,
            log_format,
            log,
        } = self;
        let mut settings = config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
        let urls = scrape_urls.into_iter().map(|url| UrlTarget { url, node: None, access: Access::default() });
        settings.scrape.urls.extend(urls);
        settings.scrape.discover.extend(discover.into_iter().map(Discovery::preset));
        settings.scrape.interval = scrape_interval.unwrap_or(settings.scrape.interval);
        settings.scrape.max_age = max_age.or(settings.scrape.max_age);
        settings.serve.listen = listen.unwrap_or(settings.serve.listen);
        settings.serve.tls_cert_file = tls_cert_file.or(settings.serve.tls_cert_file);
        settings.serve.tls_key_file = tls_key_file.or(settings.serve.tls_key_file);
        settings.control.record.file = record.or(settings.control.record.file);
        settings.telemetry.listen = metrics_listen.unwrap_or(settings.telemetry.listen);
        settings.telemetry.log_format = log_format.unwrap_or(settings.telemetry.log_format);
        settings.telemetry.log_filter = log.unwrap_or(settings.telemetry.log_filter);
        settings.validate()?;
        // Resolved here, so that --print-config shows what is in force.
        settings.scrape.max_age = Some(Duration(settings.scrape.max_age()));
        Ok((settings, kubeconfig))
    }
}

/// Runs the adapter until it is told to stop.
///
/// # Errors
/// Settings that cannot work, a cluster that cannot be reached at start, an address that cannot be bound.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let print_config = args.print_config;
    let (settings, kubeconfig) = args.settings()?;
    if print_config {
        print!("{}", serde_saphyr::to_string(&settings).context("the settings cannot be written as YAML")?);
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::start_logs(&settings.telemetry)?;
    for warning in settings.scrape.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    runtime.block_on(async {
        let client = client(kubeconfig).await?;
        adapter::run(settings, client, signal()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) async fn client(kubeconfig: Option<PathBuf>) -> anyhow::Result<kube::Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file = kube::config::Kubeconfig::read_from(&path)
                .with_context(|| format!("--kubeconfig {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
                .await
                .with_context(|| format!("--kubeconfig {}", path.display()))?
        }
        None => kube::Config::infer().await.context(
            "no cluster to talk to: no service account and no kubeconfig; set KUBECONFIG or give --kubeconfig FILE",
        )?,
    };
    kube::Client::try_from(config).context("the cluster's address or credentials cannot be used")
}

/// Completes at SIGTERM or SIGINT.
pub(super) async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("told to stop: draining");
}
