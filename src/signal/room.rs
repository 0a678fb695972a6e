//! How many more pods of a service the nodes of a pool could take.
//!
//! Counted is what the scheduler counts first: what is allocatable on each node that is Ready and not cordoned, less what
//! the pods bound to it ask for until they have ended, in whole pods that fit one node. Not considered are taints and
//! tolerations, affinity, topology, volumes, preemption, other schedulers' reservations, and pods that wait for a node
//! themselves: the room is an upper bound, and a pool with nodes that the service's pods do not tolerate is not one of its
//! pools.

use std::collections::HashMap;

use apiservice::Selector;

use super::Room;
use crate::cluster::{Node, Phase, Resources, View};

/// The nodes of one pool of a policy. A node that several pools select belongs to the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolNodes {
    /// Labels of its nodes.
    pub nodes: Selector,
    /// A node autoscaler adds nodes to it.
    pub elastic: bool,
}

impl PoolNodes {
    fn has(&self, node: &Node) -> bool {
        self.nodes.matches(|key| node.labels.get(key).map(|value| &**value))
    }
}

/// The nodes and what is free on them.
#[derive(Debug)]
pub(super) struct Nodes<'a> {
    free: Vec<(&'a Node, Resources)>,
    by_name: HashMap<&'a str, usize>,
    pools: HashMap<Vec<PoolNodes>, Divided>,
}

/// The nodes as one list of pools divides them. Policies share their pools mostly, services what their pods ask for, and
/// the nodes are many: answers are kept.
#[derive(Debug)]
pub(super) struct Divided {
    /// The pool of each node.
    of_node: Vec<Option<usize>>,
    /// Room by what a pod asks for.
    room: HashMap<Resources, Vec<Room>>,
}

impl<'a> Nodes<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let mut free: Vec<(&Node, Resources)> =
            view.nodes.values().map(|node| (&**node, node.allocatable.clone())).collect();
        let by_name: HashMap<&str, usize> =
            free.iter().zip(0..).map(|((node, _), number)| (&*node.name, number)).collect();
        // A pod that is being deleted keeps what it has until it is gone.
        for pod in view.pods.values().filter(|pod| pod.phase != Phase::Finished) {
            if let Some(number) = pod.node.as_ref().and_then(|node| by_name.get(&**node)) {
                free[*number].1.take(&pod.requests);
            }
        }
        Self { free, by_name, pools: HashMap::new() }
    }

    /// Divides the nodes among the pools.
    pub(super) fn divide(&mut self, pools: &[PoolNodes]) {
        if !self.pools.contains_key(pools) {
            let of_node = self.free.iter().map(|(node, _)| pools.iter().position(|pool| pool.has(node))).collect();
            self.pools.insert(pools.to_vec(), Divided { of_node, room: HashMap::new() });
        }
    }

    /// The pool of the node of that name, of pools that were divided before.
    pub(super) fn pool(&self, pools: &[PoolNodes], node: &str) -> Option<usize> {
        self.pools.get(pools)?.of_node[*self.by_name.get(node)?]
    }

    /// How often `pod` fits, by pool.
    pub(super) fn room(&mut self, pools: &[PoolNodes], pod: &Resources) -> Vec<Room> {
        let Some(Divided { of_node, room }) = self.pools.get_mut(pools) else {
            return vec![Room::Unknown; pools.len()];
        };
        if let Some(known) = room.get(pod) {
            return known.clone();
        }
        let mut counts = vec![0_u64; pools.len()];
        for ((node, free), pool) in self.free.iter().zip(of_node) {
            if let Some(pool) = pool
                && node.open
            {
                counts[*pool] = counts[*pool].saturating_add(free.fits(pod));
            }
        }
        let rooms = pools.iter().zip(counts).map(|(pool, count)| {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            if pool.elastic { Room::Elastic(count) } else { Room::Fixed(count) }
        });
        room.entry(pod.clone()).or_insert(rooms.collect()).clone()
    }
}
