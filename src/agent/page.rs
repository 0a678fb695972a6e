//! A [`Snapshot`] → the text of `/metrics`, in the names, labels and units of ACK's exporter.
//!
//! Families and labels: `DCGM_CUSTOM_PROCESS_*` with `AllocateMode ContainerName NamespaceName NodeName NodePoolId PodName
//! ProcessId ProcessName ProcessType UUID device gpu modelName`, `DCGM_FI_*` with `Hostname NodeName NodePoolId UUID device
//! gpu modelName`; percent, and MiB. ACK's `PodSource` is left out, and `NodePoolId` unless it is given: they are not ours
//! to know. A part of a MIG card carries dcgm-exporter's `GPU_I_ID`, which ACK's exporter does not have.
//!
//! A process that cannot be attributed has empty names and `AllocateMode="none"`, as with ACK. What is unknown has no
//! line.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    nvml::Memory,
    pods::Owner,
    snapshot::{Card, CardProcess, Mode, Snapshot},
};

/// What every line says of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the cluster.
    pub name: Arc<str>,
    /// Alibaba's node pool id.
    pub pool: Option<Arc<str>>,
}

/// The exposition format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, without times.
    Text,
    /// OpenMetrics, with the time of the read. The closing `# EOF` is the caller's.
    OpenMetrics,
}

const MIB: f64 = 1_048_576.0;

/// One line's value, of a process or of nobody.
type OfProcess = (&'static str, &'static str, fn(&CardProcess) -> Option<f64>);

const PROCESS: [OfProcess; 5] = [
    ("DCGM_CUSTOM_PROCESS_SM_UTIL", "SM utilization of a process since the last read (in %).", |p| p.utilization?[0]),
    ("DCGM_CUSTOM_PROCESS_MEM_COPY_UTIL", "Memory copy utilization of a process since the last read (in %).", |p| {
        p.utilization?[1]
    }),
    ("DCGM_CUSTOM_PROCESS_ENCODE_UTIL", "Encoder utilization of a process since the last read (in %).", |p| {
        p.utilization?[2]
    }),
    ("DCGM_CUSTOM_PROCESS_DECODE_UTIL", "Decoder utilization of a process since the last read (in %).", |p| {
        p.utilization?[3]
    }),
    ("DCGM_CUSTOM_PROCESS_MEM_USED", "Card memory that a process uses (in MiB).", |p| Some(p.memory? as f64 / MIB)),
];

type OfCard = (&'static str, &'static str, fn(&Card) -> Option<f64>);

const DEVICE: [OfCard; 2] = [
    ("DCGM_FI_DEV_GPU_UTIL", "Share of time in which a kernel ran on the card (in %).", |card| {
        Some(f64::from(card.utilization?.gpu))
    }),
    ("DCGM_FI_DEV_MEM_COPY_UTIL", "Share of time in which the card's memory was read or written (in %).", |card| {
        Some(f64::from(card.utilization?.memory))
    }),
];

type OfMemory = (&'static str, &'static str, fn(&Memory) -> u64);

const MEMORY: [OfMemory; 3] = [
    ("DCGM_FI_DEV_FB_USED", "Used memory of the card (in MiB).", |memory| memory.used),
    ("DCGM_FI_DEV_FB_FREE", "Free memory of the card (in MiB).", |memory| memory.free),
    ("DCGM_CUSTOM_DEV_FB_TOTAL", "Memory of the card (in MiB).", |memory| memory.total),
];

/// The page.
#[must_use]
pub fn render(snapshot: &Snapshot, node: &Node, format: Format) -> String {
    let time = snapshot.at.filter(|_| format == Format::OpenMetrics);
    let lines: usize = snapshot.cards.iter().map(|card| 8 + 5 * card.processes.len()).sum();
    let mut page = Page { text: String::with_capacity(512 + lines * 384), node, time };
    for (name, help, value) in PROCESS {
        page.family(name, help, |page| {
            for card in &snapshot.cards {
                for process in &card.processes {
                    page.line(name, value(process), |labels| labels.process(card, process));
                }
                // Memory is left to the card's own series: what nobody holds is not a container's.
                for owner in card.idle.iter().filter(|_| name.ends_with("_UTIL")) {
                    page.line(name, Some(0.0), |labels| labels.idle(card, owner));
                }
            }
        });
    }
    for (name, help, value) in DEVICE {
        page.family(name, help, |page| {
            for card in &snapshot.cards {
                page.line(name, value(card), |labels| labels.device(card, None));
            }
        });
    }
    for (name, help, value) in MEMORY {
        let mebibytes = |memory: &Memory| value(memory) as f64 / MIB;
        page.family(name, help, |page| {
            for card in &snapshot.cards {
                page.line(name, card.memory.as_ref().map(mebibytes), |labels| labels.device(card, None));
                for part in &card.instances {
                    let of_part = Some((part.id, &*part.model));
                    page.line(name, Some(mebibytes(&part.memory)), |labels| labels.device(card, of_part));
                }
            }
        });
    }
    if snapshot.driver.is_ok() {
        let name = "DCGM_FI_DEV_COUNT";
        page.family(name, "The number of cards.", |page| {
            page.line(name, Some(snapshot.cards.len() as f64), |_| Ok(()));
        });
    }
    page.text
}

struct Page<'a> {
    text: String,
    node: &'a Node,
    time: Option<Timestamp>,
}

impl Page<'_> {
    /// A family without a line leaves no trace.
    fn family(&mut self, name: &str, help: &str, lines: impl FnOnce(&mut Self)) {
        let before = self.text.len();
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        let head = self.text.len();
        lines(self);
        if self.text.len() == head {
            self.text.truncate(before);
        }
    }

    fn line(&mut self, name: &str, value: Option<f64>, labels: impl FnOnce(&mut Labels<'_>) -> fmt::Result) {
        let Some(value) = value else { return };
        self.text.push_str(name);
        let mut list = Labels { text: &mut self.text, node: self.node, first: true };
        let _ = labels(&mut list);
        if !list.first {
            self.text.push('}');
        }
        // Three digits behind the point are far below what the driver resolves.
        let _ = write!(self.text, " {}", (value * 1000.0).round() / 1000.0);
        if let Some(time) = self.time {
            let millis = time.as_millisecond();
            let _ = write!(self.text, " {}.{:03}", millis.div_euclid(1000), millis.rem_euclid(1000));
        }
        self.text.push('\n');
    }
}

struct Labels<'a> {
    text: &'a mut String,
    node: &'a Node,
    first: bool,
}

impl Labels<'_> {
    fn put(&mut self, name: &str, value: impl fmt::Display) -> fmt::Result {
        self.text.push(if self.first { '{' } else { ',' });
        self.first = false;
        self.text.push_str(name);
        self.text.push_str("=\"");
        write!(Escaped(self.text), "{value}")?;
        self.text.push('"');
        Ok(())
    }

    fn card(&mut self, card: &Card, model: &str) -> fmt::Result {
        self.put("UUID", &card.uuid)?;
        self.put("device", format_args!("nvidia{}", card.minor))?;
        self.put("gpu", card.index)?;
        self.put("modelName", model)
    }

    fn owner(&mut self, mode: Option<Mode>, owner: Option<&Owner>) -> fmt::Result {
        let mode = match (owner, mode) {
            (None, _) => Some("none"),
            (Some(_), Some(Mode::Exclusive)) => Some("exclusive"),
            (Some(_), Some(Mode::Share)) => Some("share"),
            (Some(_), None) => None,
        };
        if let Some(mode) = mode {
            self.put("AllocateMode", mode)?;
        }
        self.put("ContainerName", owner.and_then(|owner| owner.container.as_deref()).unwrap_or_default())?;
        self.put("NamespaceName", owner.map_or("", |owner| &owner.namespace))?;
        self.node()?;
        self.put("PodName", owner.map_or("", |owner| &owner.pod))
    }

    fn node(&mut self) -> fmt::Result {
        self.put("NodeName", &self.node.name)?;
        match &self.node.pool {
            Some(pool) => self.put("NodePoolId", pool),
            None => Ok(()),
        }
    }

    fn process(&mut self, card: &Card, process: &CardProcess) -> fmt::Result {
        if let Some(instance) = process.instance {
            self.put("GPU_I_ID", instance)?;
        }
        self.owner(process.mode, process.owner.as_ref())?;
        self.put("ProcessId", process.pid)?;
        self.put("ProcessName", &process.name)?;
        self.put("ProcessType", process.kind.name())?;
        self.card(card, &card.model)
    }

    fn idle(&mut self, card: &Card, owner: &Owner) -> fmt::Result {
        self.owner(Some(Mode::Exclusive), Some(owner))?;
        self.card(card, &card.model)
    }

    fn device(&mut self, card: &Card, part: Option<(u32, &str)>) -> fmt::Result {
        if let Some((id, _)) = part {
            self.put("GPU_I_ID", id)?;
        }
        self.put("Hostname", &self.node.name)?;
        self.node()?;
        self.card(card, part.map_or(&card.model, |(_, model)| model))
    }
}

/// Writes label values as both formats want them: `\`, `"` and line feeds escaped.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                char => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
