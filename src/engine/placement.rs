//! Replicas that are asked for and find no place: which gate is closed, and since when.
//!
//! That a pod waits while a node boots is as it should be, and is not told. What is told stands in the status, and no more
//! replicas are asked for beyond it: they would find no place either.

use std::{fmt::Write as _, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    burst::PoolView,
    demand::seconds,
    policy::{Boot, Policy, Pool},
};
use crate::signal::{Observation, Room, Stage};

/// The scheduler binds a pod that has a place within a second or two; seconds.
const SCHEDULING: f64 = 15.0;
/// A place that we count and the scheduler does not use for so long is none; seconds. Its own back-off is 10 s.
const UNUSED: f64 = 60.0;
/// A node is waited for so many times as long as nine of ten replicas need until Ready.
const PATIENCE: f64 = 2.0;

/// What keeps a replica from a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Gate {
    /// Each pool is full or at its maximum, and none gets nodes.
    PoolsFull,
    /// A node should have come, and has not: quota, stock, or nobody adds nodes.
    NoNode,
    /// There is room by our count, which knows neither taints nor volumes, and the scheduler does not use it.
    Unschedulable,
}

/// Replicas without a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unplaced {
    /// So many.
    pub replicas: u32,
    /// Since when the first of them waits.
    pub since: Timestamp,
    /// What is closed.
    pub gate: Gate,
    /// In one sentence, pool by pool.
    pub message: Arc<str>,
}

/// What waits in vain at `now`, if anything does.
pub(super) fn unplaced(
    observation: &Observation,
    policy: &Policy,
    pools: &[PoolView],
    now: Timestamp,
) -> Option<Unplaced> {
    let waiting = || observation.pods.iter().filter(|pod| pod.stage == Stage::Pending);
    let since = waiting().map(|pod| pod.created).min()?;
    let waited = seconds(now) - seconds(since);
    let named = !policy.pools.is_empty();
    let room = |index: usize| if named { observation.room.get(index).copied() } else { None }.unwrap_or(Room::Unknown);
    let anywhere = [Pool { elastic: true, ..Pool::default() }];
    let told = if named { &policy.pools[..] } else { &anywhere };
    let mut closed = String::new();
    let mut patience = SCHEDULING;
    let mut gate = Gate::PoolsFull;
    for (index, (pool, view)) in told.iter().zip(pools).enumerate() {
        if !closed.is_empty() {
            closed.push_str(", ");
        }
        let name = if named { &*pool.name } else { "the cluster" };
        let full = match (pool.max, room(index)) {
            (Some(max), _) if view.pods >= max => write!(closed, "{name} is at its maximum of {max}"),
            _ if pool.elastic => {
                gate = Gate::NoNode;
                let node = if named { 0.0 } else { Boot::default().node_seconds };
                patience = patience.max(PATIENCE * (view.expected.p90 + node));
                write!(closed, "{name} got no node")
            }
            (_, Room::Fixed(free) | Room::Elastic(free)) if free > 0 => {
                if gate == Gate::PoolsFull {
                    gate = Gate::Unschedulable;
                }
                patience = patience.max(UNUSED);
                write!(closed, "{name} has room for {free} by our count, and the scheduler does not use it")
            }
            (_, Room::Unknown) => return None,
            _ => write!(closed, "{name} is full with {}", view.pods),
        };
        full.ok()?; // writing to a string does not fail
    }
    if waited < patience {
        return None;
    }
    let replicas = waiting().count() as u32;
    let at = since.strftime("%Y-%m-%dT%H:%M:%SZ");
    let message = format!("{replicas} replicas without a node, the first since {at}: {closed}").into();
    Some(Unplaced { replicas, since, gate, message })
}

#[cfg(test)]
mod tests;
