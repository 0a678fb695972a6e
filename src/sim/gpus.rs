//! The GPUs of one simulated node: cards, the pods on them, and how busy each is. Both exporters render from this.
//!
//! Simplified: a pod is equally busy on all of its cards, its processes on a card share that evenly, and what a card
//! reads as a whole is the sum of its processes. Memory does not follow the load.

use std::sync::Arc;

use crate::cluster::ObjectKey;

/// MiB of a simulated card, as a V100 with 32 GB reports it.
pub const CARD_MEMORY_MIB: f64 = 32_510.0;

/// One simulated node with GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuNode {
    /// Name of the node.
    pub name: Arc<str>,
    /// ACK's `NodePoolId`.
    pub pool: Arc<str>,
    /// Number of cards.
    pub cards: usize,
    /// Pods that use a GPU here.
    pub pods: Vec<GpuPod>,
}

/// A pod with its processes on cards of the node.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuPod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID.
    pub uid: Arc<str>,
    /// Container names; the first one holds the processes, the others merely see the GPU.
    pub containers: Vec<Arc<str>>,
    /// Cards by index on the node.
    pub cards: Vec<usize>,
    /// Processes on each of these cards.
    pub processes_per_card: usize,
    /// Utilization of each of its cards, percent.
    pub percent: f64,
    /// Memory used on each of its cards, MiB.
    pub memory_mib: f64,
}

/// One process on one card, with its share of what the pod does there.
#[derive(Debug, Clone, PartialEq)]
pub struct Process<'a> {
    /// Process id on the node.
    pub pid: u32,
    /// Index of the card.
    pub card: usize,
    /// Whose process it is.
    pub pod: &'a GpuPod,
    /// Utilization, percent of the card.
    pub percent: f64,
    /// Memory, MiB.
    pub memory_mib: f64,
}

impl GpuPod {
    /// A pod with one container `kserve-container` and one process on each of these cards, idle.
    #[must_use]
    pub fn new(namespace: &str, name: &str, uid: &str, cards: impl Into<Vec<usize>>) -> Self {
        Self {
            key: ObjectKey { namespace: namespace.into(), name: name.into() },
            uid: uid.into(),
            containers: vec!["kserve-container".into()],
            cards: cards.into(),
            processes_per_card: 1,
            percent: 0.0,
            memory_mib: 24_576.0,
        }
    }
}

impl GpuNode {
    /// A node without pods.
    #[must_use]
    pub fn new(name: &str, cards: usize) -> Self {
        Self { name: name.into(), pool: "default".into(), cards, pods: Vec::new() }
    }

    /// The card's UUID: made from the node's name, so that it is unique in the cluster and the same in each run.
    #[must_use]
    pub fn uuid(&self, card: usize) -> String {
        // FNV-1a; any stable hash does.
        let hash = self
            .name
            .bytes()
            .chain(card.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!(
            "GPU-{:08x}-{:04x}-4{card:03x}-a000-{:012x}",
            hash >> 32,
            (hash >> 16) & 0xffff,
            hash & 0xffff_ffff_ffff
        )
    }

    /// All processes, by card and pod.
    pub fn processes(&self) -> impl Iterator<Item = Process<'_>> {
        (0..self.cards).flat_map(move |card| {
            let here = self.pods.iter().enumerate().filter(move |(_, pod)| pod.cards.contains(&card));
            here.flat_map(move |(i, pod)| {
                let share = pod.processes_per_card.max(1) as f64;
                (0..pod.processes_per_card.max(1)).map(move |n| Process {
                    pid: (10_000 + i * 100 + card * 10 + n) as u32,
                    card,
                    pod,
                    percent: pod.percent / share,
                    memory_mib: pod.memory_mib / share,
                })
            })
        })
    }

    /// Utilization of the card as a whole, percent: the sum of its processes, at most 100.
    #[must_use]
    pub fn device_percent(&self, card: usize) -> f64 {
        self.pods.iter().filter(|pod| pod.cards.contains(&card)).map(|pod| pod.percent).sum::<f64>().min(100.0)
    }

    /// Memory used on the card, MiB.
    #[must_use]
    pub fn device_memory_mib(&self, card: usize) -> f64 {
        self.pods.iter().filter(|pod| pod.cards.contains(&card)).map(|pod| pod.memory_mib).sum()
    }
}
