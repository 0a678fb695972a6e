//! What is known of the node's cards after one read, ready to be rendered. What is not known is not in it, but for the
//! reason.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    nvml::{DeviceUtilization, Memory, ProcessKind},
    pods::Owner,
    window::Utilization,
};

/// The node at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// When the read began, by the machine's clock; `None`: there was none yet.
    pub at: Option<Timestamp>,
    /// The same moment, by the clock that never jumps.
    pub read: Option<Instant>,
    /// How long the read took.
    pub took: Duration,
    /// The driver's version, or why nothing is known.
    pub driver: Result<Arc<str>, Missing>,
    /// The cards that could be identified, in NVML's order.
    pub cards: Vec<Card>,
    /// What is unknown now.
    pub unknown: Vec<Unknown>,
    /// Processes of pods that were given no device.
    pub without_devices: u64,
    /// What was thrown away since the agent began, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Reads so far.
    pub reads: u64,
    /// Faults of the driver so far, by reason.
    pub faults: BTreeMap<Cow<'static, str>, u64>,
}

/// Why nothing is known of any card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// A short, stable word.
    pub reason: Cow<'static, str>,
    /// For people, with what to do.
    pub message: Arc<str>,
}

impl Default for Snapshot {
    /// Before the first read.
    fn default() -> Self {
        let missing = Missing { reason: "not_read_yet".into(), message: "NVML has not been read yet".into() };
        Self {
            at: None,
            read: None,
            took: Duration::ZERO,
            driver: Err(missing),
            cards: Vec::new(),
            unknown: Vec::new(),
            without_devices: 0,
            dropped: BTreeMap::new(),
            reads: 0,
            faults: BTreeMap::new(),
        }
    }
}

/// Something that the page is silent about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unknown {
    /// The card, by UUID; of a card that cannot say who it is, its last known UUID or `index N`.
    pub card: Arc<str>,
    /// What of it.
    pub what: &'static str,
    /// A short, stable word.
    pub reason: Cow<'static, str>,
}

/// One card.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// NVML's index.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: Arc<str>,
    /// The product's name.
    pub model: Arc<str>,
    /// N of `/dev/nvidiaN`.
    pub minor: u32,
    /// How busy it is.
    pub utilization: Option<DeviceUtilization>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// The processes on it.
    pub processes: Vec<CardProcess>,
    /// Containers that were given the whole card while nobody uses it: a true 0 for them.
    pub idle: Vec<Owner>,
    /// Its MIG instances.
    pub instances: Vec<Instance>,
}

/// One process on a card.
#[derive(Debug, Clone, PartialEq)]
pub struct CardProcess {
    /// Process id on the node.
    pub pid: u32,
    /// The command's name.
    pub name: Arc<str>,
    /// Kind of context.
    pub kind: ProcessKind,
    /// MIG instance.
    pub instance: Option<u32>,
    /// The pod; `None`: not attributable.
    pub owner: Option<Owner>,
    /// How the kubelet gave the card to the pod, where that is known.
    pub mode: Option<Mode>,
    /// Mean since the last read; `None`, as a whole or for one engine: unknown.
    pub utilization: Option<Utilization>,
    /// Bytes on the card.
    pub memory: Option<u64>,
}

/// How a card is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whole.
    Exclusive,
    /// In shares.
    Share,
}

/// One MIG instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// GPU instance id.
    pub id: u32,
    /// The instance's own name, with its profile.
    pub model: Arc<str>,
    /// Its memory.
    pub memory: Memory,
}
