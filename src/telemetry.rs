//! Logs, and our own metrics and health for Prometheus and the kubelet.
//!
//! What is measured (per service, pod and card) is read from the published snapshot at scrape time: there is no second
//! bookkeeping that could drift from what the metrics APIs answer.

pub mod measured;
pub mod process;
pub mod server;
pub mod steps;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet},
    metrics::MetricType,
};

use crate::config::{LogFormat, Telemetry};

/// A log filter that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "telemetry.logFilter: expected the syntax of RUST_LOG, e.g. info,tidegate::scrape=debug, got {filter:?}: {source}"
)]
pub struct BadFilter {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging to standard error. A second call has no effect: tests share one process.
///
/// # Errors
/// [`BadFilter`].
pub fn start_logs(settings: &Telemetry) -> Result<(), BadFilter> {
    let Telemetry { listen: _, log_format, log_filter, series: _ } = settings;
    let filter = tracing_subscriber::EnvFilter::try_new(log_filter)
        .map_err(|source| BadFilter { filter: log_filter.clone(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    Ok(())
}

/// One family of gauges or counters, written whole.
pub(crate) fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    rows: impl IntoIterator<Item = (L, f64)>,
) -> std::fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in rows {
        let mut row = metric.encode_family(&labels)?;
        match kind {
            MetricType::Counter => row.encode_counter::<[(&str, &str); 0], f64, f64>(&value, None)?,
            _ => row.encode_gauge(&value)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_default_log_filter_leaves_a_failed_request_to_whoever_made_it() {
        let lines = Lines::default();
        let to = lines.clone();
        let filter = tracing_subscriber::EnvFilter::try_new(Telemetry::default().log_filter).unwrap();
        let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(logs, || {
            tracing::error!(target: "kube_client::client::builder", "failed with error");
            tracing::warn!(target: "kube_client::client", "another part of it");
            tracing::warn!(target: "tidegate::cluster::watch", "the watch fails");
            tracing::debug!(target: "tidegate::cluster::watch", "listed");
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let shown = ["failed with error", "another part of it", "the watch fails", "listed"];
        assert_eq!(shown.map(|words| text.contains(words)), [false, true, true, false], "{text}");
    }
}
