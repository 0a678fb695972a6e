//! Pools: what is in them, what still fits, where the next replica would land and what that costs, and who goes first.

use std::{cmp::Reverse, sync::Arc};

use super::{
    decision::Landing,
    drift::Place,
    policy::{Policy, Pool},
    readiness::{Expected, Readiness},
};
use crate::signal::{Observation, Pod, Room, Stage};

/// One pool at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoolView {
    /// Pods in it, ready or not.
    pub pods: u32,
    /// Most pods that it can hold; `u32::MAX` if nothing limits it, or what does is unknown.
    pub capacity: u32,
    /// Seconds until a replica asked for now could serve there, room or not: with a node first in an elastic pool.
    pub expected: Expected,
    /// The same for the very next one: an empty node may be there.
    pub next: Expected,
    /// Cost of a replica-hour.
    pub cost: f64,
}

/// What the observation says of each of the policy's pools; of one without a limit if it names none.
pub(super) fn pools(observation: &Observation, policy: &Policy, readiness: &[Readiness]) -> Vec<PoolView> {
    let anywhere = [Pool { elastic: true, ..Pool::default() }];
    let named = !policy.pools.is_empty();
    let pools = if named { &policy.pools } else { &anywhere[..] };
    let unlearned = Readiness::default();
    // Pods that wait for a node will take what room there is, from the first pool on.
    let mut waiting = observation.pods.iter().filter(|pod| pod.stage == Stage::Pending).count() as u32;
    let view = |(index, pool): (usize, &Pool)| {
        let here = |pod: &&Pod| if named { pod.pool == Some(index) } else { pod.stage != Stage::Pending };
        let pods = observation.pods.iter().filter(here).count() as u32;
        let room = if named { observation.room.get(index).copied().unwrap_or(Room::Unknown) } else { Room::Unknown };
        let (free, fits) = match room {
            Room::Fixed(free) if !pool.elastic => (free, pods.saturating_add(free)),
            Room::Fixed(free) | Room::Elastic(free) => (free, u32::MAX),
            Room::Unknown => (0, u32::MAX),
        };
        let free = free.min(pool.max.map_or(u32::MAX, |max| max.saturating_sub(pods)));
        let taken = waiting.min(free);
        waiting -= taken;
        let needs_node = free == taken && pool.elastic && room != Room::Unknown;
        let learned = readiness.get(index).unwrap_or(&unlearned);
        PoolView {
            pods,
            capacity: fits.min(pool.max.unwrap_or(u32::MAX)),
            expected: learned.expected(pool, pool.elastic && named),
            next: learned.expected(pool, needs_node),
            cost: pool.cost,
        }
    };
    pools.iter().enumerate().map(view).collect()
}

/// The policy's pools as moves between them see them.
pub(super) fn places(observation: &Observation, policy: &Policy, pools: &[PoolView]) -> Vec<Place> {
    let count = |index: usize, stage: Stage| {
        observation.pods.iter().filter(|pod| pod.pool == Some(index) && pod.stage == stage).count() as u32
    };
    let place = |(index, (pool, view)): (usize, (&Pool, &PoolView))| {
        let free = match observation.room.get(index) {
            Some(Room::Fixed(free) | Room::Elastic(free)) => *free,
            Some(Room::Unknown) | None => 0,
        };
        Place {
            return_after: pool.return_after_seconds,
            ready: count(index, Stage::Ready),
            starting: count(index, Stage::Starting),
            free: free.min(pool.max.map_or(u32::MAX, |max| max.saturating_sub(view.pods))),
            ready_seconds: view.next.p90,
        }
    };
    policy.pools.iter().zip(pools).enumerate().map(place).collect()
}

/// Where the next replica would land: the first pool that has room beyond its pods and those that wait for a node.
pub(super) fn landing(pools: &[PoolView], replicas: u32, wanted_at: impl Fn(usize) -> f64) -> Option<Landing> {
    let mut below = 0_u32;
    for (index, pool) in pools.iter().enumerate() {
        below = below.saturating_add(pool.capacity);
        if replicas < below {
            let Expected { p50, p90, .. } = pool.next;
            let in_time = wanted_at(index) > f64::from(replicas);
            return Some(Landing { pool: index, cost: pool.cost, ready_seconds: (p50, p90), in_time });
        }
    }
    None
}

/// Who goes first (R19): not ready before ready, then the last pool in rank, within it the least work, then the youngest.
/// A pod on a node of no pool is in none that was asked for, and goes before the others; one whose work is unknown goes
/// after those whose work is known.
pub(super) fn release(observation: &Observation) -> Option<&Pod> {
    let work = |pod: &Pod| {
        let known = pod.work.running.value().map(|running| running + pod.work.waiting.value().unwrap_or(0.0));
        (known.is_none(), known.or(pod.work.utilization.value()).unwrap_or(0.0))
    };
    observation.pods.iter().min_by(|a, b| {
        let rank = |pod: &Pod| (pod.stage, Reverse(pod.pool.unwrap_or(usize::MAX)));
        let ((a_unknown, a_work), (b_unknown, b_work)) = (work(a), work(b));
        (rank(a).cmp(&rank(b)))
            .then(a_unknown.cmp(&b_unknown))
            .then(a_work.total_cmp(&b_work))
            .then(b.created.cmp(&a.created))
            .then(a.uid.cmp(&b.uid))
    })
}

/// [`release`]'s UID.
pub(super) fn release_uid(observation: &Observation) -> Option<Arc<str>> {
    release(observation).map(|pod| Arc::clone(&pod.uid))
}
