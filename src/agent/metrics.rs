//! How the agent itself is doing, and why something is missing from its page.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use tokio::time::Instant;

use super::{State, snapshot::Snapshot};
use crate::telemetry::family;

/// Shows the current state at each scrape.
#[derive(Debug)]
pub(super) struct Own(pub(super) Arc<State>);

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let snapshot = self.0.current(Instant::now());
        let up = [
            ("nvml", snapshot.driver.is_ok()),
            ("pods", self.0.pods.health().is_ok()),
            ("pod_resources", self.0.kubelet.health().is_ok()),
        ];
        encode(&mut encoder, &snapshot, &up)
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot, up: &[(&str, bool)]) -> std::fmt::Result {
    const NONE: [(&str, &str); 0] = [];
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    let driver = snapshot.driver.as_deref().unwrap_or_default();
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("driver", driver)];
    family(encoder, gauge, "tidegate_agent_info", "The agent and the driver that it reads", [(labels, 1.0)])?;
    let help = "1 while the source answers: nvml, pods (the API server), pod_resources (the kubelet)";
    let rows = up.iter().map(|(source, up)| ([("source", *source)], f64::from(u8::from(*up))));
    family(encoder, gauge, "tidegate_agent_source_up", help, rows)?;
    let help = "1 while no card can be read, by reason";
    let rows = snapshot.driver.as_ref().err().map(|missing| ([("reason", &*missing.reason)], 1.0));
    family(encoder, gauge, "tidegate_agent_nvml_missing", help, rows)?;

    let help = "What the page is silent about now: of which card, what, and why";
    let mut unknown: BTreeMap<_, f64> = BTreeMap::new();
    for one in &snapshot.unknown {
        *unknown.entry((&*one.card, one.what, &*one.reason)).or_default() += 1.0;
    }
    let rows =
        unknown.into_iter().map(|((card, what, reason), n)| ([("UUID", card), ("what", what), ("reason", reason)], n));
    family(encoder, gauge, "tidegate_agent_unknown", help, rows)?;
    let help = "Cards that can be read";
    family(encoder, gauge, "tidegate_agent_cards", help, [(NONE, snapshot.cards.len() as f64)])?;
    let help = "Processes on cards, by whether their pod is known; one on two cards counts twice";
    let processes = || snapshot.cards.iter().flat_map(|card| &card.processes);
    let owned = processes().filter(|process| process.owner.is_some()).count();
    let rows = [("true", owned), ("false", processes().count() - owned)];
    let rows = rows.map(|(attributed, n)| ([("attributed", attributed)], n as f64));
    family(encoder, gauge, "tidegate_agent_processes", help, rows)?;
    let help = "Processes on cards whose pod was given no device by the kubelet";
    family(encoder, gauge, "tidegate_agent_processes_without_device", help, [(NONE, snapshot.without_devices as f64)])?;

    let help = "Processes and samples that were left out, by reason";
    let rows = snapshot.dropped.iter().map(|(reason, n)| ([("reason", *reason)], *n as f64));
    family(encoder, counter, "tidegate_agent_dropped", help, rows)?;
    let help = "Questions that NVML did not answer, by reason";
    let rows = snapshot.faults.iter().map(|(reason, n)| ([("reason", &**reason)], *n as f64));
    family(encoder, counter, "tidegate_agent_nvml_faults", help, rows)?;
    let help = "Reads of all cards";
    family(encoder, counter, "tidegate_agent_reads", help, [(NONE, snapshot.reads as f64)])?;
    let help = "How long the last read took";
    family(encoder, gauge, "tidegate_agent_read_duration_seconds", help, [(NONE, snapshot.took.as_secs_f64())])?;
    let help = "When the last read began, in seconds since 1970";
    let rows = snapshot.at.map(|at| (NONE, at.as_duration().as_secs_f64()));
    family(encoder, gauge, "tidegate_agent_last_read_timestamp_seconds", help, rows)
}
