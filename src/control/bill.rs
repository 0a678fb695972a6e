//! What the nodes of pools cost, in GPU seconds. A cloud bills by node, from when it is made until it is gone, whether pods use
//! it or not; what services hold of it is counted beside it, by [`Meters`](super::meters::Meters).
//!
//! A pool is a name and a node selector, as a service's ScalingPolicy gives them, or else the ResourcePolicy that selects its
//! pods. A node counts once in every pool that it matches, however many services share the pool.
//!
//! Nothing is added while nodes or pools are not known (R1). Afterwards a node that is still there is made up for, one that
//! has come meanwhile counts from its making, and one that has gone counts until it was last seen. Nothing outlives a
//! restart: a node that was there before counts from then on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::roster::Entry;
use crate::{
    cluster::{Kind, Node, Unit, View, resource_policy::carries, view::Labels},
    policy::order::Orders,
};

/// Without one of these it is not known what there is, or what for.
const NEEDED: [Kind; 3] = [Kind::Nodes, Kind::ResourcePolicies, Kind::PluginResourcePolicies];

/// A pool of one service, or of several that call the same nodes the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pool {
    /// What its services call it.
    pub(super) name: Arc<str>,
    /// Labels of its nodes; empty: any node.
    pub(super) nodes: Labels,
}

impl Pool {
    /// The selector of its nodes, as kubectl takes it.
    pub(super) fn selector(&self) -> String {
        let pairs: Vec<String> = self.nodes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }
}

impl From<Unit> for Pool {
    fn from(Unit { name, node_selector, max: _ }: Unit) -> Self {
        Self { name, nodes: node_selector }
    }
}

/// The pools of everybody on the roster. A ScalingPolicy's come first: by their names the pods of its service are counted.
pub(super) fn pools(orders: &Orders<'_>, roster: &[Entry]) -> BTreeSet<Pool> {
    let mut pools = BTreeSet::new();
    for Entry { subject, deployment, .. } in roster {
        let Some(deployment) = deployment else { continue };
        let spec = subject.policy().and_then(|policy| policy.spec.as_ref().ok());
        let own = spec.map_or(&[][..], |spec| &spec.pools);
        pools.extend(own.iter().map(|pool| Pool::from(Unit::from(pool))));
        if own.is_empty()
            && let Ok(Some(order)) = orders.order(deployment)
        {
            pools.extend(order.units.into_iter().map(Pool::from));
        }
    }
    pools
}

/// What a pool's nodes have cost since the last time, and what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    /// Seconds times GPUs.
    pub(super) gpu_seconds: f64,
    /// Nodes that are there now.
    pub(super) nodes: u32,
}

/// How far each node has been counted.
#[derive(Debug, Default)]
pub(super) struct Bill {
    /// When counting began.
    began: Option<Timestamp>,
    nodes: BTreeMap<Arc<str>, Counted>,
}

#[derive(Debug)]
struct Counted {
    /// By this a node is told from an earlier one of the same name.
    created: Option<Timestamp>,
    until: Timestamp,
    /// Those that it had when it last had some: a node whose device plugin is away is billed all the same.
    gpus: u64,
}

impl Bill {
    /// What `pools` have cost from the last tick to `now`; `None` while that is not known.
    pub(super) fn tick(&mut self, view: &View, pools: BTreeSet<Pool>, now: Timestamp) -> Option<BTreeMap<Pool, Cost>> {
        if NEEDED.iter().any(|kind| view.unsynced.contains(kind.name())) {
            return None;
        }
        let began = *self.began.get_or_insert(now);
        self.nodes.retain(|name, _| view.nodes.contains_key(name));
        let mut costs: BTreeMap<Pool, Cost> = pools.into_iter().map(|pool| (pool, Cost::default())).collect();
        for node in view.nodes.values() {
            // A clock that is behind the API server's: it is there now.
            let first = || node.created.unwrap_or(now).max(began).min(now);
            let counted = self.nodes.entry(Arc::clone(&node.name)).or_insert_with(|| Counted::new(node, first()));
            if counted.created != node.created {
                *counted = Counted::new(node, first());
            }
            let gpu_seconds = counted.count(node.gpus, now);
            for (_, cost) in costs.iter_mut().filter(|(pool, _)| carries(&node.labels, &pool.nodes)) {
                cost.gpu_seconds += gpu_seconds;
                cost.nodes += 1;
            }
        }
        Some(costs)
    }
}

impl Counted {
    const fn new(node: &Node, until: Timestamp) -> Self {
        Self { created: node.created, until, gpus: 0 }
    }

    /// GPU seconds until `now`. A new node has its GPUs only once a device plugin has told of them; it has cost before.
    fn count(&mut self, gpus: u64, now: Timestamp) -> f64 {
        if gpus > 0 {
            self.gpus = gpus;
        }
        if self.gpus == 0 {
            return 0.0;
        }
        self.gpus as f64 * now.duration_since(std::mem::replace(&mut self.until, now)).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::attribution::scene::now;

    fn at(second: i64) -> Timestamp {
        now() + SignedDuration::from_secs(second)
    }

    fn labels(pool: &str) -> Labels {
        [("pool".into(), pool.into())].into()
    }

    fn pool(name: &str) -> Pool {
        Pool { name: name.into(), nodes: labels(name) }
    }

    /// Nodes as name, pool, second of their making, and GPUs.
    fn view(nodes: &[(&str, &str, i64, u64)]) -> View {
        let node = |(name, pool, created, gpus): &(&str, &str, i64, u64)| Node {
            name: (*name).into(),
            labels: labels(pool),
            created: Some(at(*created)),
            open: true,
            lost: false,
            gpus: *gpus,
            allocatable: crate::cluster::Resources::default(),
        };
        let nodes = nodes.iter().map(node);
        View { nodes: nodes.map(|node| (Arc::clone(&node.name), Arc::new(node))).collect(), ..View::default() }
    }

    /// GPU seconds of pool `cloud` from tick to tick.
    fn timeline(ticks: &[(i64, &View)]) -> Vec<Option<f64>> {
        let mut bill = Bill::default();
        let cost = |(second, view): &(i64, &View)| {
            let costs = bill.tick(view, [pool("cloud")].into(), at(*second))?;
            Some(costs[&pool("cloud")].gpu_seconds)
        };
        ticks.iter().map(cost).collect()
    }

    #[test]
    fn r20_a_node_costs_from_its_making_until_it_is_gone_whatever_runs_on_it() {
        let (none, one) = (view(&[]), view(&[("a", "cloud", 7, 1)]));
        let two = view(&[("a", "cloud", 7, 1), ("b", "cloud", 11, 8)]);
        let ticks = [(0, &none), (5, &none), (10, &one), (15, &two), (20, &two), (25, &one), (30, &none)];
        let seconds = [0.0, 0.0, 3.0, 5.0 + 8.0 * 4.0, 5.0 + 8.0 * 5.0, 5.0, 0.0];
        assert_eq!(timeline(&ticks), seconds.map(Some));
    }

    #[test]
    fn a_node_that_was_there_before_us_costs_from_our_first_look() {
        let old = view(&[("a", "cloud", -3600, 4)]);
        assert_eq!(timeline(&[(0, &old), (5, &old)]), [0.0, 20.0].map(Some));
    }

    #[test]
    fn gpus_that_a_device_plugin_tells_of_late_have_cost_since_the_nodes_making_and_cost_while_it_is_away() {
        let (none, dark) = (view(&[]), view(&[("a", "cloud", 2, 0)]));
        let lit = view(&[("a", "cloud", 2, 2)]);
        let ticks = [(0, &none), (5, &dark), (10, &lit), (15, &dark), (20, &lit)];
        assert_eq!(timeline(&ticks), [0.0, 0.0, 16.0, 10.0, 10.0].map(Some));
    }

    #[test]
    fn a_node_made_again_under_the_same_name_costs_from_its_own_making() {
        let (first, second) = (view(&[("a", "cloud", 0, 1)]), view(&[("a", "cloud", 9, 1)]));
        assert_eq!(timeline(&[(0, &first), (5, &first), (10, &second)]), [0.0, 5.0, 1.0].map(Some));
    }

    #[test]
    fn a_node_that_the_api_servers_clock_makes_in_our_future_costs_from_when_we_see_it() {
        let (none, ahead) = (view(&[]), view(&[("a", "cloud", 8, 1)]));
        assert_eq!(timeline(&[(0, &none), (5, &ahead), (10, &ahead)]), [0.0, 0.0, 5.0].map(Some));
    }

    #[test]
    fn r1_while_nodes_are_unknown_nothing_is_added_and_it_is_made_up_for_as_far_as_it_is_known_then() {
        let before = view(&[("stays", "cloud", -60, 1), ("goes", "cloud", -60, 1)]);
        let mut blind = before.clone();
        blind.unsynced.insert(Kind::Nodes.name());
        let mut unordered = before.clone();
        unordered.unsynced.insert(Kind::ResourcePolicies.name());
        let after = view(&[("stays", "cloud", -60, 1), ("comes", "cloud", 14, 1)]);
        let ticks = [(0, &before), (5, &before), (10, &blind), (15, &unordered), (20, &after)];
        assert_eq!(timeline(&ticks), [Some(0.0), Some(10.0), None, None, Some(15.0 + 6.0)]);
    }

    #[test]
    fn a_node_counts_in_each_pool_that_it_matches_and_pools_of_one_name_are_told_apart_by_their_nodes() {
        let any = Pool { name: "any".into(), nodes: Labels::new() };
        let namesake = Pool { name: "cloud".into(), nodes: labels("spot") };
        let pools = BTreeSet::from([any.clone(), namesake.clone(), pool("cloud"), pool("onprem")]);
        let view = view(&[("a", "cloud", 0, 1), ("b", "spot", 0, 2), ("c", "edge", 0, 4)]);
        let mut bill = Bill::default();
        bill.tick(&view, pools.clone(), at(0)).unwrap();
        let costs = bill.tick(&view, pools, at(10)).unwrap();
        let cost = |pool: &Pool| (costs[pool].gpu_seconds, costs[pool].nodes);
        let expected = [(70.0, 3), (20.0, 1), (10.0, 1), (0.0, 0)];
        assert_eq!([&any, &namesake, &pool("cloud"), &pool("onprem")].map(cost), expected);
    }

    #[test]
    fn a_node_that_comes_into_a_pool_later_has_not_cost_it_before() {
        let (elsewhere, here) = (view(&[("a", "edge", 2, 1)]), view(&[("a", "cloud", 2, 1)]));
        assert_eq!(timeline(&[(0, &elsewhere), (5, &elsewhere), (10, &here)]), [0.0, 0.0, 5.0].map(Some));
    }
}
