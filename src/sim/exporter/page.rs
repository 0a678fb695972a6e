//! The text that the two exporters write, from one state.
//!
//! Names, labels and their order: ACK's from its metric reference and a public mock of it (per-process labels in
//! CamelCase); NVIDIA's from dcgm-exporter's `internal/pkg/rendermetrics` and `internal/pkg/transformation`.

use std::fmt::{Display, Write as _};

use jiff::Timestamp;

use super::fault::{Fault, OddValue};
use crate::sim::gpus::{CARD_MEMORY_MIB, GpuNode, Process};

const MODEL: &str = "Tesla V100-SXM2-32GB";
const DRIVER: &str = "550.144.03";
/// What a device reads under [`Fault::ZeroAttribution`], percent.
const BUSY: f64 = 95.0;
/// A body that is no metrics page: markup, binary, a line that almost parses.
pub(super) const GARBAGE: &[u8] =
    b"<!DOCTYPE html>\n<html><body>\xff\xfe\x00\x01 proxy error</body></html>\nDCGM_CUSTOM_PROCESS_SM_UTIL{UUID=\"GPU-1\",PodName=\"llm 12\n";

/// Whose format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Alibaba ACK's gpu-exporter: per-process series with CamelCase labels, and device series.
    Ack,
    /// NVIDIA's dcgm-exporter with `--kubernetes`: device series that carry the pod's labels.
    Dcgm,
    /// NVIDIA's dcgm-exporter with `--kubernetes-virtual-gpus`: device series without, and pod series with, a pod. They
    /// repeat the pod's total for each container, and carry no process.
    DcgmVirtualGpus,
}

/// The page for that state under that fault.
#[must_use]
pub fn render(node: &GpuNode, dialect: Dialect, fault: Fault) -> String {
    let mut page = Page { text: String::with_capacity(8 << 10), fault };
    match dialect {
        Dialect::Ack => ack(node, &mut page),
        Dialect::Dcgm => dcgm(node, &mut page, false),
        Dialect::DcgmVirtualGpus => dcgm(node, &mut page, true),
    }
    page.text
}

struct Page {
    text: String,
    fault: Fault,
}

/// What a line is about: faults tell them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// How busy a pod or process is.
    PodUse,
    /// Another fact about a pod or process.
    Pod,
    /// How busy a card is.
    DeviceUse,
    /// Another fact about a card.
    Device,
}

impl Page {
    fn family(&mut self, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn line(&mut self, about: About, name: &str, labels: impl Display, value: f64) {
        let pod = matches!(about, About::Pod | About::PodUse);
        let odd = match self.fault {
            Fault::SeriesAbsent if pod => return,
            Fault::UtilizationAbsent if about == About::PodUse => return,
            Fault::Values(odd) => Some(odd),
            _ => None,
        };
        let value = match (self.fault, about) {
            (Fault::ZeroAttribution, About::PodUse) => 0.0,
            _ => value,
        };
        let _ = match odd.map(OddValue::text) {
            Some(odd) => write!(self.text, "{name}{{{labels}}} {odd}"),
            None => write!(self.text, "{name}{{{labels}}} {value}"),
        };
        if let Fault::Frozen(at) = self.fault {
            let _ = write!(self.text, " {}", Timestamp::as_millisecond(at));
        }
        self.text.push('\n');
    }

    /// A card's utilization: under [`Fault::ZeroAttribution`] a card with processes is busy.
    fn device(&self, node: &GpuNode, card: usize) -> f64 {
        let occupied = node.pods.iter().any(|pod| pod.cards.contains(&card));
        if self.fault == Fault::ZeroAttribution && occupied { BUSY } else { node.device_percent(card) }
    }
}

fn ack(node: &GpuNode, page: &mut Page) {
    type PerProcess = (&'static str, &'static str, About, fn(&Process<'_>) -> f64);
    const FAMILIES: [PerProcess; 5] = [
        ("DCGM_CUSTOM_PROCESS_SM_UTIL", "The SM utilization of the process.", About::PodUse, |p| p.percent),
        ("DCGM_CUSTOM_PROCESS_MEM_COPY_UTIL", "The memory copy utilization of the process.", About::PodUse, |p| {
            p.percent / 2.0
        }),
        ("DCGM_CUSTOM_PROCESS_ENCODE_UTIL", "The encoder utilization of the process.", About::PodUse, |_| 0.0),
        ("DCGM_CUSTOM_PROCESS_DECODE_UTIL", "The decoder utilization of the process.", About::PodUse, |_| 0.0),
        ("DCGM_CUSTOM_PROCESS_MEM_USED", "The memory used by the process (in MiB).", About::Pod, |p| p.memory_mib),
    ];
    for (family, help, about, value) in FAMILIES {
        page.family(family, help);
        for process in node.processes() {
            let labels = format!(
                "AllocateMode=\"exclusive\",ContainerName=\"{container}\",NamespaceName=\"{namespace}\",NodeName=\"{node}\",\
                 NodePoolId=\"{pool}\",PodName=\"{pod}\",PodSource=\"ecs\",ProcessId=\"{pid}\",ProcessName=\"python3\",\
                 ProcessType=\"C\",UUID=\"{uuid}\",device=\"nvidia{card}\",gpu=\"{card}\",modelName=\"{MODEL}\"",
                container = process.pod.containers.first().map_or("", |name| name),
                namespace = process.pod.key.namespace,
                node = node.name,
                pool = node.pool,
                pod = process.pod.key.name,
                pid = process.pid,
                uuid = node.uuid(process.card),
                card = process.card,
            );
            page.line(about, family, labels, value(&process));
        }
    }
    page.family(
        "DCGM_CUSTOM_ALLOCATE_MODE",
        "The mode in which the node gives out GPUs: 0 none, 1 exclusive, 2 share.",
    );
    page.text.push_str("DCGM_CUSTOM_ALLOCATE_MODE 1\n");
    page.family("DCGM_FI_DEV_COUNT", "The number of GPUs.");
    let _ = writeln!(page.text, "DCGM_FI_DEV_COUNT {}", node.cards);
    page.family("DCGM_CUSTOM_DEV_FB_TOTAL", "The memory of the card (in MiB).");
    for card in 0..node.cards {
        let labels = format!(
            "DriverVersion=\"{DRIVER}\",NodeName=\"{name}\",NodePoolId=\"{pool}\",PodSource=\"ecs\",SupportDCGM=\"Yes\",\
             UUID=\"{uuid}\",device=\"nvidia{card}\",gpu=\"{card}\",modelName=\"{MODEL}\"",
            name = node.name,
            pool = node.pool,
            uuid = node.uuid(card),
        );
        page.line(About::Device, "DCGM_CUSTOM_DEV_FB_TOTAL", labels, CARD_MEMORY_MIB);
    }
    let labels = |card: usize| {
        format!(
            "Hostname=\"{name}\",NodeName=\"{name}\",NodePoolId=\"{pool}\",PodSource=\"ecs\",UUID=\"{uuid}\",\
             device=\"nvidia{card}\",gpu=\"{card}\",modelName=\"{MODEL}\"",
            name = node.name,
            pool = node.pool,
            uuid = node.uuid(card),
        )
    };
    devices(node, page, labels);
}

fn dcgm(node: &GpuNode, page: &mut Page, virtual_gpus: bool) {
    let device_labels = |card: usize| {
        format!(
            "gpu=\"{card}\",UUID=\"{uuid}\",pci_bus_id=\"00000000:{bus:02X}:00.0\",device=\"nvidia{card}\",\
             modelName=\"{MODEL}\",hostname=\"{node}\",DCGM_FI_DRIVER_VERSION=\"{DRIVER}\"",
            uuid = node.uuid(card),
            bus = card + 4,
            node = node.name,
        )
    };
    if !virtual_gpus {
        let fault = page.fault;
        let labels = |card: usize| {
            let mut labels = device_labels(card);
            let pod = node.pods.iter().find(|pod| pod.cards.contains(&card));
            if let Some(pod) = pod.filter(|_| fault != Fault::SeriesAbsent) {
                let container = pod.containers.first().map_or("", |name| name);
                let _ = write!(
                    labels,
                    ",container=\"{container}\",namespace=\"{}\",pod=\"{}\"",
                    pod.key.namespace, pod.key.name
                );
            }
            labels
        };
        devices(node, page, labels);
        return;
    }
    devices(node, page, device_labels);
    // The exporter writes these lines under their device's family; a page may repeat a family, and readers must cope.
    for (family, about) in [("DCGM_FI_DEV_GPU_UTIL", About::PodUse), ("DCGM_FI_DEV_FB_USED", About::Pod)] {
        for pod in &node.pods {
            for (card, container) in
                pod.cards.iter().flat_map(|card| pod.containers.iter().map(move |name| (*card, name)))
            {
                let labels = format!(
                    "{device},container=\"{container}\",namespace=\"{namespace}\",pod=\"{name}\",pod_uid=\"{uid}\",vgpu=\"0\"",
                    device = device_labels(card),
                    namespace = pod.key.namespace,
                    name = pod.key.name,
                    uid = pod.uid,
                );
                let value = if about == About::PodUse { pod.percent } else { pod.memory_mib };
                page.line(about, family, labels, value);
            }
        }
    }
}

/// The families that DCGM reads from a card.
fn devices(node: &GpuNode, page: &mut Page, labels: impl Fn(usize) -> String) {
    type PerCard = (&'static str, &'static str, About, fn(f64, f64) -> f64);
    const FAMILIES: [PerCard; 6] = [
        ("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", About::DeviceUse, |percent, _| percent),
        ("DCGM_FI_DEV_FB_USED", "Framebuffer memory used (in MiB).", About::Device, |_, used| used),
        ("DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", About::Device, |_, used| CARD_MEMORY_MIB - used),
        (
            "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
            "Ratio of time the graphics engine is active.",
            About::DeviceUse,
            |percent, _| percent / 100.0,
        ),
        (
            "DCGM_FI_PROF_SM_ACTIVE",
            "The ratio of cycles an SM has at least 1 warp assigned.",
            About::DeviceUse,
            |percent, _| percent / 125.0,
        ),
        (
            "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
            "Ratio of cycles the tensor (HMMA) pipe is active.",
            About::DeviceUse,
            |percent, _| percent / 250.0,
        ),
    ];
    for (family, help, about, value) in FAMILIES {
        page.family(family, help);
        for card in 0..node.cards {
            let value = value(page.device(node, card), node.device_memory_mib(card));
            page.line(about, family, labels(card), value);
        }
    }
}
