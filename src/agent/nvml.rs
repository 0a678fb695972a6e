//! What is asked of NVIDIA's management library, as a trait and plain data: one question, one answer.
//!
//! The data are NVML's own figures, uninterpreted: what they mean is [`super::window`]'s and [`super::sampler`]'s to say.
//! Because they are plain, an answer can be written down and given again ([`recording`]).

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use super::window::ReadTime;

pub mod library;
mod raw;
pub mod recording;

/// Answers for all cards at once.
pub trait Driver: Send {
    /// Reads every card. `since`: for a card's UUID, the time after which samples are wanted (microseconds since 1970).
    ///
    /// # Errors
    /// Nothing can be said of any card: the library is missing, the driver is not loaded or was restarted.
    fn read(&mut self, now: ReadTime, since: &dyn Fn(&str) -> u64) -> Result<Answer, Fault>;
}

/// What could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A short, stable word for alert rules, e.g. `gpu_lost`.
    pub reason: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What the driver says of its cards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The driver's version.
    pub driver: String,
    /// Its cards in NVML's order.
    pub cards: Vec<CardAnswer>,
}

/// What the driver says of one card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CardAnswer {
    /// NVML's index.
    pub index: u32,
    /// Who it is; without this nothing else is asked.
    pub identity: Result<Identity, Fault>,
    /// Whether it is divided into MIG instances.
    pub mig: Result<bool, Fault>,
    /// How busy it is.
    pub utilization: Result<DeviceUtilization, Fault>,
    /// Its memory.
    pub memory: Result<Memory, Fault>,
    /// The processes that have a context on it.
    pub processes: Result<Vec<RunningProcess>, Fault>,
    /// What processes used since the time asked for.
    pub samples: Result<Samples, Fault>,
    /// Its MIG instances.
    pub instances: Vec<InstanceAnswer>,
}

/// Names of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `GPU-…`.
    pub uuid: String,
    /// The product's name.
    pub model: String,
    /// N of `/dev/nvidiaN`.
    pub minor: u32,
}

/// `nvmlDeviceGetUtilizationRates`: percent of the driver's last sample period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUtilization {
    /// Time with a kernel on it.
    pub gpu: u32,
    /// Time with memory being read or written.
    pub memory: u32,
}

/// Frame buffer, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// Given to processes.
    pub used: u64,
    /// The rest, but for what the driver reserves.
    pub free: u64,
}

/// What kind of context a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ProcessKind {
    /// Compute.
    #[serde(rename = "C")]
    Compute,
    /// Graphics.
    #[serde(rename = "G")]
    Graphics,
    /// Both.
    #[serde(rename = "C+G")]
    Both,
    /// Compute, through NVIDIA's multi-process service.
    #[serde(rename = "M+C")]
    MultiProcess,
}

impl ProcessKind {
    /// As `nvidia-smi` and ACK's exporter write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "C",
            Self::Graphics => "G",
            Self::Both => "C+G",
            Self::MultiProcess => "M+C",
        }
    }
}

/// One process with a context on a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningProcess {
    /// Its id, in the reader's PID namespace.
    pub pid: u32,
    /// Its kind.
    pub kind: ProcessKind,
    /// Bytes on the card; `None`: the driver does not know.
    pub memory: Option<u64>,
    /// Its MIG instance.
    pub instance: Option<u32>,
}

/// Rows of the driver's sample buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// In any order.
    pub rows: Vec<ProcessSample>,
    /// There are as many as the buffer has room for: older ones may have been overwritten.
    pub full: bool,
}

/// One row: what a process used of a card's engines up to a time. Percent, as NVML gives it (it can be garbage).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Process id.
    pub pid: u32,
    /// Microseconds since 1970.
    pub at: u64,
    /// SM.
    pub sm: u32,
    /// Memory copy.
    pub memory: u32,
    /// Encoder.
    pub encoder: u32,
    /// Decoder.
    pub decoder: u32,
}

/// One MIG instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceAnswer {
    /// GPU instance id.
    pub id: u32,
    /// `MIG-…`.
    pub uuid: String,
    /// The product's name with the profile, e.g. `NVIDIA A100-SXM4-40GB MIG 1g.5gb`.
    pub model: String,
    /// Its share of the card's memory.
    pub memory: Result<Memory, Fault>,
}
