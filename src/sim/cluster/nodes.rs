//! The nodes of a simulated cluster, and a node autoscaler for those that are bought when they are needed.
//!
//! Simplified: a node is bought for each pod's worth of GPUs that finds no place, one that comes too late comes all the same,
//! and an empty one is given back after a fixed delay.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::resources;
use crate::cluster;

/// A kubelet's default.
const PODS_PER_NODE: u64 = 110;
/// The label that names a node's pool.
pub const POOL: &str = "pool";

/// A node, or the place of one that can be bought.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name.
    pub name: Arc<str>,
    /// GPUs.
    pub cards: usize,
    /// Value of its label [`POOL`].
    pub pool: Option<Arc<str>>,
    elastic: Option<Elastic>,
}

/// How long it takes to come, and how long it stays empty.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Elastic {
    boot: Duration,
    release: Duration,
}

impl Node {
    /// A node that is always there, in no pool.
    #[must_use]
    pub fn fixed(name: &str, cards: usize) -> Self {
        Self { name: name.into(), cards, pool: None, elastic: None }
    }

    /// The same in that pool.
    #[must_use]
    pub fn in_pool(self, pool: &str) -> Self {
        Self { pool: Some(pool.into()), ..self }
    }

    /// The same, bought for a pod that waits: there after `boot`, and given back once it was empty for `release`.
    #[must_use]
    pub fn elastic(self, boot: Duration, release: Duration) -> Self {
        Self { elastic: Some(Elastic { boot, release }), ..self }
    }
}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Presence {
    Absent,
    Ordered { at: Timestamp },
    There { since: Option<Timestamp>, empty_since: Option<Timestamp> },
}

/// What the node autoscaler has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Ordered(usize),
    Returned(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Nodes(Vec<(Node, Presence)>);

impl Nodes {
    pub(super) fn new(nodes: impl Into<Vec<Node>>) -> Self {
        let presence = |node: &Node| match node.elastic {
            None => Presence::There { since: None, empty_since: None },
            Some(_) => Presence::Absent,
        };
        let with = |node: Node| {
            let there = presence(&node);
            (node, there)
        };
        Self(nodes.into().into_iter().map(with).collect())
    }

    pub(super) fn name(&self, index: usize) -> &Arc<str> {
        &self.0[index].0.name
    }

    /// Those that take pods, by index.
    pub(super) fn there(&self) -> impl Iterator<Item = (usize, &Node)> {
        let there = self.0.iter().enumerate().filter(|(_, (_, there))| matches!(there, Presence::There { .. }));
        there.map(|(index, (node, _))| (index, node))
    }

    /// Those that were bought and have come by now.
    pub(super) fn arrive(&mut self, now: Timestamp) -> impl Iterator<Item = usize> {
        let mut come = Vec::new();
        for (index, (node, there)) in self.0.iter_mut().enumerate() {
            if let (Presence::Ordered { at }, Some(Elastic { boot, .. })) = (*there, node.elastic)
                && now >= at + boot
            {
                *there = Presence::There { since: Some(now), empty_since: None };
                come.push(index);
            }
        }
        come.into_iter()
    }

    /// Buys what is missing for `waiting` GPUs, and gives back what has been empty for long enough.
    pub(super) fn follow(&mut self, now: Timestamp, waiting: usize, used: impl Fn(usize) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        let ordered = self.0.iter().filter(|(_, there)| matches!(there, Presence::Ordered { .. }));
        let mut coming: usize = ordered.map(|(node, _)| node.cards).sum();
        for (index, (node, there)) in self.0.iter_mut().enumerate() {
            let Some(Elastic { release, .. }) = node.elastic else { continue };
            match there {
                Presence::Absent if waiting > coming => {
                    coming += node.cards;
                    *there = Presence::Ordered { at: now };
                    changes.push(Change::Ordered(index));
                }
                Presence::There { empty_since, .. } if used(index) => *empty_since = None,
                Presence::There { empty_since, .. } => {
                    if now >= *empty_since.get_or_insert(now) + release {
                        *there = Presence::Absent;
                        changes.push(Change::Returned(index));
                    }
                }
                Presence::Absent | Presence::Ordered { .. } => {}
            }
        }
        changes
    }

    /// As watches would have shown them.
    pub(super) fn view(&self) -> BTreeMap<Arc<str>, Arc<cluster::Node>> {
        let there = self.0.iter().filter_map(|(node, there)| match there {
            Presence::There { since, .. } => Some((node, *since)),
            Presence::Absent | Presence::Ordered { .. } => None,
        });
        let seen = there.map(|(node, created)| cluster::Node {
            name: Arc::clone(&node.name),
            labels: node.pool.iter().map(|pool| (POOL.into(), Arc::clone(pool))).collect(),
            created,
            open: true,
            lost: false,
            gpus: node.cards as u64,
            allocatable: resources(node.cards, PODS_PER_NODE),
        });
        seen.map(|node| (Arc::clone(&node.name), Arc::new(node))).collect()
    }
}
