//! What is counted about decisions, for Prometheus.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, histogram::Histogram},
};

use super::{
    bill::{Cost, Pool},
    lease::Leadership,
    round::{Outcome, unknown},
    words,
};
use crate::{clock::Clock, cluster::ObjectKey, telemetry::family};

/// Bounds of times to ready: from an image on the node and a small model to a node that has to be bought first.
const READY_SECONDS: [f64; 12] = [5.0, 10.0, 20.0, 40.0, 60.0, 90.0, 120.0, 180.0, 240.0, 360.0, 600.0, 1200.0];
/// Bounds of a forecast's error, replica equivalents: what came less what was expected.
const ERROR_REPLICAS: [f64; 12] = [-8.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0];
/// Most pools that are told apart: whoever may write a policy names its pools. What is beyond counts as [`OTHER`].
const MOST_POOLS: usize = 64;
/// Most pools of one service that are told apart, today's and former ones.
const MOST_POOLS_OF_A_SERVICE: usize = 16;
/// Longest name and node selector of a pool that is told apart, bytes together: far more than 16 labels take, and a
/// ResourcePolicy's may be as long as its author likes.
const LONGEST_POOL: usize = 2048;
/// Stands for the pools beyond.
const OTHER: &str = "other";

type Service = (Arc<str>, Arc<str>);

/// Counters and what was decided last.
#[derive(Debug, Default)]
pub struct Meters {
    /// Decisions by reason.
    decisions: BTreeMap<&'static str, f64>,
    /// Seconds that GPUs were held, by service and pool.
    gpu_seconds: BTreeMap<(Service, Arc<str>), f64>,
    /// Ready replicas, by service and pool.
    ready: BTreeMap<Service, BTreeMap<Arc<str>, u32>>,
    /// Seconds that the GPUs of each pool's nodes were there.
    node_gpu_seconds: BTreeMap<Pool, f64>,
    /// Nodes of each pool; none while they are unknown (R1).
    nodes: BTreeMap<Pool, u32>,
    ready_seconds: BTreeMap<Arc<str>, Histogram>,
    forecast_errors: BTreeMap<Arc<str>, Histogram>,
    last: Vec<Last>,
    /// When that was; `None`: nothing was decided.
    at: Option<Timestamp>,
    /// Moves by outcome.
    moves: BTreeMap<&'static str, f64>,
    /// How long the last tick took.
    tick_seconds: f64,
}

/// What was decided last for one service.
#[derive(Debug)]
struct Last {
    deployment: ObjectKey,
    inference_service: Arc<str>,
    /// `None` while it is unknown (R1).
    desired: Option<u32>,
    demand: Option<f64>,
    /// By pool: seconds from now, what is expected, and its margin.
    forecasts: Vec<(usize, f64, f64)>,
    flags: [(&'static str, bool); 7],
}

impl Meters {
    /// A pod became ready.
    pub(super) fn ready_after(&mut self, pool: &str, seconds: f64) {
        histogram(&mut self.ready_seconds, pool, &READY_SECONDS).observe(seconds);
    }

    /// GPUs were held for so many seconds together.
    pub(super) fn held_gpus(&mut self, deployment: &ObjectKey, pool: &str, seconds: f64) {
        let service = (Arc::clone(&deployment.namespace), Arc::clone(&deployment.name));
        let mut key = (service, Arc::from(pool));
        if !self.gpu_seconds.contains_key(&key) {
            let first = (key.0.clone(), Arc::from(""));
            let known = self.gpu_seconds.range(first..).take_while(|((service, _), _)| *service == key.0).count();
            if known >= MOST_POOLS_OF_A_SERVICE {
                key.1 = OTHER.into();
            }
        }
        *self.gpu_seconds.entry(key).or_default() += seconds;
    }

    /// So many replicas of a service are ready, by pool.
    pub(super) fn ready(&mut self, deployment: &ObjectKey, by_pool: BTreeMap<Arc<str>, u32>) {
        self.ready.insert((Arc::clone(&deployment.namespace), Arc::clone(&deployment.name)), by_pool);
    }

    /// What the nodes of all pools have cost since the last time; `None` while that is not known. Pools that no service has any
    /// more take their counters with them.
    pub(super) fn billed(&mut self, costs: Option<BTreeMap<Pool, Cost>>) {
        self.nodes.clear();
        let Some(costs) = costs else { return };
        let before = std::mem::take(&mut self.node_gpu_seconds);
        // Whoever has a series keeps it.
        let (known, new): (Vec<_>, Vec<_>) = costs.into_iter().partition(|(pool, _)| before.contains_key(pool));
        for (pool, cost) in known.into_iter().chain(new) {
            let is_short = pool.name.len() + pool.selector().len() <= LONGEST_POOL;
            let is_told_apart = is_short && self.node_gpu_seconds.len() < MOST_POOLS;
            let pool = if is_told_apart { pool } else { Pool { name: OTHER.into(), nodes: BTreeMap::new() } };
            *self.nodes.entry(pool.clone()).or_default() += cost.nodes;
            let so_far = before.get(&pool).copied().unwrap_or_default();
            *self.node_gpu_seconds.entry(pool).or_insert(so_far) += cost.gpu_seconds;
        }
    }

    /// What came differs from what was expected by so much.
    pub(super) fn missed_by(&mut self, pool: &str, replicas: f64) {
        histogram(&mut self.forecast_errors, pool, &ERROR_REPLICAS).observe(replicas);
    }

    /// A move was tried.
    pub(super) fn moved(&mut self, outcome: &'static str) {
        *self.moves.entry(outcome).or_default() += 1.0;
    }

    /// A tick took so long.
    pub(super) fn ticked(&mut self, seconds: f64) {
        self.tick_seconds = seconds;
    }

    /// Nothing can be decided: what was decided last is no longer true.
    pub(super) fn nothing(&mut self) {
        self.last.clear();
        self.nodes.clear();
        self.at = None;
    }

    /// The decisions of one tick. Services that are gone take their counters with them; one that is merely refused keeps them.
    pub(super) fn services(&mut self, outcomes: &[Outcome], at: Timestamp) {
        self.last.clear();
        self.at = Some(at);
        for Outcome { target, verdict, .. } in outcomes {
            let Some((deployment, inference_service)) = target else { continue };
            match verdict {
                Ok(settled) => {
                    let decision = &settled.decision;
                    *self.decisions.entry(words::reason(decision)).or_default() += 1.0;
                    let flags = &decision.flags;
                    self.last.push(Last {
                        deployment: deployment.clone(),
                        inference_service: inference_service.clone().unwrap_or_default(),
                        desired: unknown(decision).is_none().then_some(decision.desired),
                        demand: decision.demand,
                        forecasts: decision.forecasts.iter().enumerate().map(|(i, f)| (i, f.value, f.margin)).collect(),
                        flags: [
                            ("unknown", flags.unknown.is_some()),
                            ("saturated", flags.saturated.is_some()),
                            ("limited", flags.limited.is_some()),
                            ("unplaced", flags.unplaced.is_some()),
                            ("bursting", flags.bursting.is_some()),
                            ("moving_home", flags.moving.is_some()),
                            ("cannot_tell", flags.cannot_tell.is_some()),
                        ],
                    });
                }
                Err(refusal) => *self.decisions.entry(refusal.reason()).or_default() += 1.0,
            }
        }
        let targets = outcomes.iter().filter_map(|outcome| outcome.target.as_ref());
        let there: BTreeSet<_> = targets.map(|(deployment, _)| (&deployment.namespace, &deployment.name)).collect();
        self.gpu_seconds.retain(|((namespace, name), _), _| there.contains(&(namespace, name)));
        // What is ready now is known of those only for whom it was decided.
        let decided: BTreeSet<_> =
            self.last.iter().map(|last| (&last.deployment.namespace, &last.deployment.name)).collect();
        self.ready.retain(|(namespace, name), _| decided.contains(&(namespace, name)));
    }
}

fn histogram<'a>(all: &'a mut BTreeMap<Arc<str>, Histogram>, pool: &str, bounds: &[f64]) -> &'a Histogram {
    let pool = if all.contains_key(pool) || all.len() < MOST_POOLS { pool } else { OTHER };
    all.entry(pool.into()).or_insert_with(|| Histogram::new(bounds.iter().copied()))
}

/// Shows the meters at each scrape. Decisions older than `max_age` are not shown (R2): the loop that makes them hangs.
#[derive(Debug)]
pub struct Shown {
    /// What is counted.
    pub meters: Arc<Mutex<Meters>>,
    /// Whether this process writes.
    pub leadership: Leadership,
    /// The present time.
    pub clock: Clock,
    /// The age beyond which a decision is unknown.
    pub max_age: Duration,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let meters = self.meters.lock();
        let Meters {
            decisions,
            gpu_seconds,
            ready,
            node_gpu_seconds,
            nodes,
            ready_seconds,
            forecast_errors,
            last,
            at,
            moves,
            tick_seconds,
        } = &*meters;
        let age = at.and_then(|at| Duration::try_from(self.clock.now().duration_since(at)).ok()).unwrap_or_default();
        let is_young = age <= self.max_age;
        let last = if is_young { &last[..] } else { &[] };
        let (ready, nodes) = (is_young.then_some(ready), is_young.then_some(nodes));
        let encoder = &mut encoder;
        let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
        let none = || Vec::<(&'static str, Arc<str>)>::new();
        let service = |last: &Last| {
            vec![
                ("namespace", Arc::clone(&last.deployment.namespace)),
                ("deployment", Arc::clone(&last.deployment.name)),
                ("inferenceservice", Arc::clone(&last.inference_service)),
            ]
        };
        let help = "Replicas that a service should have; absent while unknown";
        let rows = last.iter().filter_map(|last| Some((service(last), f64::from(last.desired?))));
        family(encoder, gauge, "tidegate_desired_replicas", help, rows)?;
        let help = "Demand of a service in replica equivalents; absent while unknown";
        let rows = last.iter().filter_map(|last| Some((service(last), last.demand?)));
        family(encoder, gauge, "tidegate_demand_replicas", help, rows)?;
        let by_pool = |value: fn(&(usize, f64, f64)) -> f64| {
            last.iter().flat_map(move |last| {
                last.forecasts.iter().map(move |forecast| {
                    let mut labels = service(last);
                    labels.push(("pool", Arc::from(forecast.0.to_string())));
                    (labels, value(forecast))
                })
            })
        };
        let help =
            "Demand expected for when a replica asked for now could serve, by rank of the pool, replica equivalents";
        family(encoder, gauge, "tidegate_forecast_replicas", help, by_pool(|forecast| forecast.1))?;
        let help = "Reserve for the error of that forecast, replica equivalents";
        family(encoder, gauge, "tidegate_forecast_margin_replicas", help, by_pool(|forecast| forecast.2))?;
        let help = "1 while a service is unknown, saturated, limited, has replicas without a place, bursts, moves a replica home, or its utilization cannot tell";
        let rows = last.iter().flat_map(|last| {
            last.flags.iter().map(move |(condition, holds)| {
                let mut labels = service(last);
                labels.push(("condition", Arc::from(*condition)));
                (labels, f64::from(u8::from(*holds)))
            })
        });
        family(encoder, gauge, "tidegate_service_condition", help, rows)?;

        let help = "Decisions by what bound them last";
        let rows = decisions.iter().map(|(reason, count)| ([("reason", *reason)], *count));
        family(encoder, counter, "tidegate_decisions", help, rows)?;
        let help = "Attempts to write replicas, by outcome";
        family(encoder, counter, "tidegate_moves", help, moves.iter().map(|(o, count)| ([("outcome", *o)], *count)))?;
        let help = "Seconds that a service's pods held GPUs, from when they were bound to a node, by pool";
        let labels = |(namespace, deployment): &Service, pool: &Arc<str>| {
            let [namespace, deployment, pool] = [namespace, deployment, pool].map(Arc::clone);
            vec![("namespace", namespace), ("deployment", deployment), ("pool", pool)]
        };
        let rows = gpu_seconds.iter().map(|((service, pool), seconds)| (labels(service, pool), *seconds));
        family(encoder, counter, "tidegate_gpu_seconds", help, rows)?;
        let help = "Ready replicas of a service by pool; the pool is empty for replicas outside of all pools";
        let of = |(service, pools): (&Service, &BTreeMap<Arc<str>, u32>)| -> Vec<_> {
            pools.iter().map(|(pool, ready)| (labels(service, pool), f64::from(*ready))).collect()
        };
        family(encoder, gauge, "tidegate_ready_replicas", help, ready.into_iter().flatten().flat_map(of))?;
        let help = "Seconds that the GPUs of a pool's nodes were there, held by pods or not: of each node from its making, or from \
                    when this process began to count";
        let labels = |pool: &Pool| [("pool", Arc::clone(&pool.name)), ("node_selector", pool.selector().into())];
        let rows = node_gpu_seconds.iter().map(|(pool, seconds)| (labels(pool), *seconds));
        family(encoder, counter, "tidegate_node_gpu_seconds", help, rows)?;
        let help = "Nodes of a pool; absent while unknown";
        let rows = nodes.into_iter().flatten().map(|(pool, nodes)| (labels(pool), f64::from(*nodes)));
        family(encoder, gauge, "tidegate_nodes", help, rows)?;
        let help = "Seconds from a pod's creation to ready, by pool";
        histograms(encoder, "tidegate_time_to_ready_seconds", help, ready_seconds)?;
        let help = "What came less what was expected, by pool, replica equivalents";
        histograms(encoder, "tidegate_forecast_error_replicas", help, forecast_errors)?;
        let help = "Whether this process writes to the cluster";
        let leads = f64::from(u8::from(self.leadership.holds()));
        family(encoder, gauge, "tidegate_leader", help, [(none(), leads)])?;
        let help = "How long the last round of decisions took";
        family(encoder, gauge, "tidegate_decision_round_seconds", help, [(none(), *tick_seconds)])
    }
}

fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: &BTreeMap<Arc<str>, Histogram>,
) -> std::fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (pool, histogram) in all {
        histogram.encode(metric.encode_family(&[("pool", &**pool)])?)?;
    }
    Ok(())
}

#[cfg(test)]
impl Meters {
    pub(super) fn gpu_seconds(&self) -> f64 {
        self.gpu_seconds.values().sum()
    }
}
