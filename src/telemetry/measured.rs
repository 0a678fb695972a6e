//! What was measured, per service, pod and card, and how the targets are doing, in Prometheus' form.
//!
//! Unknown readings have no value series: they have a series that names the reason.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::family;
use crate::{
    attribution::{PodCounts, Readings, Statistic},
    clock::Clock,
    cluster::ObjectKey,
    gpu::Vocabulary,
    publish::Publisher,
    reading::{Reading, Unknown, fresh},
    scrape::{BadLine, Snapshot as Scraped, Store, TargetId, Tracked},
};

/// Shows the current snapshot and targets at each scrape of `/metrics`.
#[derive(Debug)]
pub struct Measured {
    /// What is served.
    pub publisher: Arc<Publisher>,
    /// The targets.
    pub store: Arc<Store>,
    /// The present time.
    pub clock: Clock,
    /// Most services, and most pods, with series of their own.
    pub series: usize,
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let Self { publisher, store, clock, series } = self;
        let (snapshot, scraped, now) = (publisher.snapshot(), store.snapshot(), clock.now());
        let gauge = |encoder: &mut DescriptorEncoder<'_>, name, help, value| {
            family(encoder, MetricType::Gauge, name, help, [([("", ""); 0], value)])
        };
        encode_readings(&mut encoder, &snapshot.readings, &snapshot.vocabulary, (now, snapshot.max_age), *series)?;
        encode_targets(&mut encoder, &scraped)?;
        let age = now.duration_since(snapshot.built).as_secs_f64().max(0.0);
        gauge(
            &mut encoder,
            "tidegate_snapshot_age_seconds",
            "Age of the snapshot that queries are answered from",
            age,
        )?;
        let help =
            "Kinds of objects of which the cluster's state is not known: while there are any, services are unknown";
        let view = &snapshot.view;
        gauge(&mut encoder, "tidegate_cluster_unsynced_kinds", help, view.unsynced.len() as f64)?;
        let help = "Kinds of objects of which the state of this namespace alone is not known: while there are any, its services are \
                    unknown";
        let unsynced = |namespace: &str| view.unsynced_in.get(namespace).map_or(0, BTreeSet::len) as f64;
        let namespaces = view.namespaces.iter().map(|namespace| ([("namespace", &**namespace)], unsynced(namespace)));
        family(&mut encoder, MetricType::Gauge, "tidegate_namespace_unsynced_kinds", help, namespaces)
    }
}

type Row = (Vec<(&'static str, Arc<str>)>, f64);

/// What every family of readings is measured in.
const UNIT: &str = "in the unit of the metric: percent 0 to 100, MiB, a count, a share 0 to 1, per second, or seconds";

/// Writes all readings that are fresh `now` (R2: a snapshot that is not replaced goes stale here as it does in the APIs),
/// and why the others are unknown; at most `limit` services get series of their own, and at most `limit` pods with their cards
/// (R22). What is beyond is counted.
///
/// # Errors
/// The writer's.
pub fn encode_readings(
    encoder: &mut DescriptorEncoder<'_>,
    readings: &Readings,
    vocabulary: &Vocabulary,
    (now, max_age): (Timestamp, Duration),
    limit: usize,
) -> std::fmt::Result {
    let gauge = MetricType::Gauge;
    let still = |reading: &Reading| reading.clone().and_then(|measured| fresh(measured, now, max_age));
    let none = || Vec::<(&'static str, Arc<str>)>::new();
    let mut rows = Rows::default();
    for (key, service) in readings.services.iter().take(limit) {
        let isvc = service.inference_service.clone().unwrap_or_default();
        let labels = |metric: &Arc<str>| {
            let mut labels = object("deployment", key);
            labels.extend([("inferenceservice", Arc::clone(&isvc)), ("metric", Arc::clone(metric))]);
            labels
        };
        let PodCounts { ready, starting, pending, cut_off } = service.pods;
        for (state, count) in [("ready", ready), ("starting", starting), ("pending", pending), ("cut_off", cut_off)] {
            let mut labels = object("deployment", key);
            labels.extend([("inferenceservice", Arc::clone(&isvc)), ("state", Arc::from(state))]);
            rows.service_pods.push((labels, count as f64));
        }
        for (family, group) in &service.families {
            let name = &vocabulary.family(*family).name;
            let Some(reading) = group.statistics.get(&Statistic::Mean) else { continue };
            rows.services.add(labels(name), &still(reading), now);
            rows.missing.push((labels(name), group.missing.len() as f64));
        }
    }
    for (key, families) in readings.pods.iter().take(limit) {
        for (family, pod) in families.iter() {
            let name = &vocabulary.family(*family).name;
            let labels = || {
                let mut labels = object("pod", key);
                labels.push(("metric", Arc::clone(name)));
                labels
            };
            rows.pods.add(labels(), &still(&pod.reading), now);
            for (card, reading) in &pod.cards {
                let mut labels = labels();
                let instance = card.instance.clone().unwrap_or_default();
                labels.extend([("uuid", Arc::clone(&card.uuid)), ("gpu_instance", instance)]);
                rows.cards.extend(still(reading).ok().map(|measured| (labels, measured.value)));
            }
        }
    }
    let hidden = |all: usize| [(none(), all.saturating_sub(limit) as f64)];
    let failures = readings.attribution_failures.iter().take(limit).map(|((target, card), device)| {
        (vec![("target", Arc::clone(&target.0)), ("uuid", Arc::clone(&card.uuid))], *device)
    });
    let Rows { services, pods, cards, service_pods, missing } = rows;
    let help = format!("Mean over the ready pods of a service, {UNIT}; absent while unknown");
    family(encoder, gauge, "tidegate_service_reading", &help, services.values)?;
    let help = "Age of the oldest sample in a service's reading";
    family(encoder, gauge, "tidegate_service_reading_age_seconds", help, services.ages)?;
    let help = "1 while a service's reading is unknown, by reason";
    family(encoder, gauge, "tidegate_service_unknown", help, services.unknown)?;
    let help = "Ready pods of a service without a reading";
    family(encoder, gauge, "tidegate_service_missing_pods", help, missing)?;
    let help = "Pods of a service by state: ready, starting (scheduled, not ready), pending (not scheduled) or cut_off (ready when its node was last heard of)";
    family(encoder, gauge, "tidegate_service_pods", help, service_pods)?;
    let help = format!("What a pod reads over its cards, {UNIT}; absent while unknown");
    family(encoder, gauge, "tidegate_pod_reading", &help, pods.values)?;
    let help = "1 while a pod's reading is unknown, by reason";
    family(encoder, gauge, "tidegate_pod_unknown", help, pods.unknown)?;
    let help = format!("What a pod's processes read on one card, {UNIT}; absent while unknown");
    family(encoder, gauge, "tidegate_card_reading", &help, cards)?;
    let help = "Pods that have readings but no series of their own here, beyond telemetry.series";
    family(encoder, gauge, "tidegate_hidden_pods", help, hidden(readings.pods.len()))?;
    let help = "Services that have no series of their own here, beyond telemetry.series";
    family(encoder, gauge, "tidegate_hidden_services", help, hidden(readings.services.len()))?;
    let help = "Samples that name no pod, or one that does not exist";
    family(encoder, gauge, "tidegate_unattributed_samples", help, [(none(), readings.unattributed as f64)])?;
    let help = "Utilization of a card that is busy while every pod on it reads 0: its pods are unknown";
    family(encoder, gauge, "tidegate_attribution_failure_percent", help, failures)
}

#[derive(Default)]
struct Rows {
    services: Kind,
    pods: Kind,
    cards: Vec<Row>,
    service_pods: Vec<Row>,
    missing: Vec<Row>,
}

#[derive(Default)]
struct Kind {
    values: Vec<Row>,
    ages: Vec<Row>,
    unknown: Vec<Row>,
}

impl Kind {
    fn add(&mut self, mut labels: Vec<(&'static str, Arc<str>)>, reading: &Reading, now: Timestamp) {
        match reading {
            Ok(measured) => {
                self.ages.push((labels.clone(), now.duration_since(measured.at).as_secs_f64().max(0.0)));
                self.values.push((labels, measured.value));
            }
            Err(unknown) => {
                labels.push(("reason", Arc::from(reason(unknown))));
                self.unknown.push((labels, 1.0));
            }
        }
    }
}

fn object(kind: &'static str, key: &ObjectKey) -> Vec<(&'static str, Arc<str>)> {
    vec![("namespace", Arc::clone(&key.namespace)), (kind, Arc::clone(&key.name))]
}

/// A short, stable word for alert rules; the sentence is in the API's answer and in the log.
fn reason(unknown: &Unknown) -> &'static str {
    match unknown {
        Unknown::Absent => "absent",
        Unknown::Stale { .. } => "stale",
        Unknown::ClockAhead { .. } => "clock_ahead",
        Unknown::Malformed => "malformed",
        Unknown::OutOfRange { .. } => "out_of_range",
        Unknown::Blank { .. } => "blank",
        Unknown::PageIncomplete => "page_incomplete",
        Unknown::AttributionFailed { .. } => "attribution_failed",
        Unknown::CutOff { .. } => "cut_off",
        Unknown::PoolSilent { .. } => "pool_silent",
        Unknown::CardsMissing { .. } => "cards_missing",
        Unknown::BeforeStart => "before_start",
        Unknown::BeforeReady => "before_ready",
        Unknown::ProcessMissing { .. } => "process_missing",
        Unknown::NotReady => "not_ready",
        Unknown::NoReadyPods => "no_ready_pods",
        Unknown::Coverage { .. } => "coverage",
        Unknown::AmbiguousTarget { .. } => "ambiguous_target",
        Unknown::BlindSelection { .. } => "blind_selection",
        Unknown::ClusterUnknown(_) => "cluster_unknown",
        Unknown::NoPage(_) => "no_page",
        Unknown::NoRate(_) => "no_rate",
        Unknown::Ambiguous(_) => "ambiguous",
    }
}

/// The targets that are not serving pods: those come and go by the hundred, and are counted only.
fn exporters(scraped: &Scraped) -> impl Iterator<Item = (&TargetId, &Arc<Tracked>)> {
    scraped.targets.iter().filter(|(_, tracked)| tracked.target.subject.is_none())
}

fn server_state(of: &Tracked) -> &'static str {
    match &of.status {
        status if status.offers_nothing.is_some() => "without_page",
        status if status.last_error.is_some() => "failing",
        status if status.last_success.is_some() => "up",
        _ => "waiting",
    }
}

/// Writes how each exporter is doing, and how many model servers are doing how.
///
/// # Errors
/// The writer's.
pub fn encode_targets(encoder: &mut DescriptorEncoder<'_>, scraped: &Scraped) -> std::fmt::Result {
    let (gauge, counter) = (MetricType::Gauge, MetricType::Counter);
    let each = |value: fn(&Tracked) -> Option<f64>| {
        exporters(scraped).filter_map(move |(id, tracked)| Some(([("target", &*id.0)], value(tracked)?)))
    };
    let help = "1 if the last scrape of the target succeeded";
    let up =
        |of: &Tracked| Some(f64::from(u8::from(of.status.last_success.is_some() && of.status.last_error.is_none())));
    family(encoder, gauge, "tidegate_target_up", help, each(up))?;
    let help = "When the target was last scraped with success, in seconds since 1970";
    let last = |of: &Tracked| of.status.last_success.map(|at| at.as_duration().as_secs_f64());
    family(encoder, gauge, "tidegate_target_last_success_timestamp_seconds", help, each(last))?;
    let help = "How long the last scrape took";
    let duration = |of: &Tracked| Some(of.status.duration.as_secs_f64());
    family(encoder, gauge, "tidegate_target_scrape_duration_seconds", help, each(duration))?;
    let help = "Size of the last page, after decompression";
    family(encoder, gauge, "tidegate_target_page_bytes", help, each(|of| Some(of.status.bytes as f64)))?;
    let help = "Recognized samples on the last page";
    family(encoder, gauge, "tidegate_target_samples", help, each(|of| Some(of.status.samples as f64)))?;
    let help = "Scrapes that failed";
    family(encoder, counter, "tidegate_target_failures", help, each(|of| Some(of.status.failures as f64)))?;
    let help = "Ticks without a scrape because the one before was still under way";
    family(encoder, counter, "tidegate_target_missed_ticks", help, each(|of| Some(of.status.missed as f64)))?;
    // All reasons, so that a rate exists before the first bad line.
    let bad = exporters(scraped).flat_map(|(id, tracked)| {
        BadLine::ALL.map(|reason| {
            let count = tracked.status.bad_lines.get(&reason).copied().unwrap_or(0);
            ([("target", &*id.0), ("reason", bad_line(reason))], count as f64)
        })
    });
    family(encoder, counter, "tidegate_target_bad_lines", "Lines that were skipped, by reason", bad)?;
    let help = "Model servers that are asked for their own page, by what came of it";
    let states = ["up", "failing", "without_page", "waiting"].map(|state| {
        let servers = scraped.targets.values().filter(|tracked| tracked.target.subject.is_some());
        ([("state", state)], servers.filter(|tracked| server_state(tracked) == state).count() as f64)
    });
    family(encoder, gauge, "tidegate_model_servers", help, states)?;
    let help = "Targets that the configuration asks for and that are not scraped";
    let none: [(&str, &str); 0] = [];
    family(encoder, gauge, "tidegate_refused_targets", help, [(none, scraped.refusals.len() as f64)])
}

fn bad_line(reason: BadLine) -> &'static str {
    match reason {
        BadLine::Name => "name",
        BadLine::Labels => "labels",
        BadLine::DuplicateLabel => "duplicate_label",
        BadLine::Value => "value",
        BadLine::Timestamp => "timestamp",
        BadLine::TooLong => "too_long",
        BadLine::NoCard => "no_card",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::{
        attribution::scene::{MAX_AGE, Scene, key, page, vocabulary},
        publish::Snapshot,
        scrape::{Batch, Subject, Target, TargetStatus},
    };

    /// The page at that age of a snapshot that is not replaced any more.
    fn shown(age: Duration) -> String {
        show(Scene::new().service("llm").ready(&["llm-0"]), &["SM llm-0 a#1 50"], age, 10)
    }

    fn show(mut scene: Scene, lines: &[&str], age: Duration, series: usize) -> String {
        let clock = Clock::start();
        let then = clock.now() - age;
        scene.pages.push(Batch { measured: then, ..page(lines) });
        let batches: Vec<_> = scene.pages.iter().cloned().map(Arc::new).collect();
        let vocabulary = Arc::new(vocabulary());
        let mut view = scene.view;
        for pod in view.pods.values_mut().map(Arc::make_mut) {
            (pod.started, pod.ready_since) = (None, None);
        }
        let publisher = Arc::new(Publisher::new(Arc::clone(&vocabulary), clock));
        let view = Arc::new(view);
        let none = BTreeSet::new();
        publisher.publish(Snapshot::build(&batches, view, vocabulary, &scene.settings, &none, then, MAX_AGE));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Measured { publisher, store: Arc::new(Store::new()), clock, series }));
        apiservice::metrics::page(&registry, "").1
    }

    #[test]
    fn r22_services_and_pods_beyond_the_limit_are_counted_and_not_shown() {
        let scene = Scene::new().service("a").service("b").service("c").ready(&["a-0", "b-0", "c-0"]);
        let page = show(scene, &["SM a-0 a#1 10", "SM b-0 b#1 20", "SM c-0 c#1 30"], Duration::ZERO, 2);
        let series = |name: &str| page.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
        for (name, count) in [
            ("tidegate_service_reading", 2),
            ("tidegate_service_reading_age_seconds", 2),
            ("tidegate_service_missing_pods", 2),
            ("tidegate_service_pods", 2 * 4),
            ("tidegate_pod_reading", 2),
            ("tidegate_card_reading", 2),
        ] {
            assert_eq!(series(name), count, "{name} in {page}");
        }
        for hidden in ["tidegate_hidden_pods", "tidegate_hidden_services"] {
            let one = |line: &str| line.starts_with(hidden) && line.ends_with(" 1.0");
            assert!(page.lines().any(one), "{hidden} in {page}");
        }
    }

    #[test]
    fn r2_a_snapshot_that_is_not_replaced_goes_stale_here_too() {
        let fresh = shown(MAX_AGE / 2);
        for series in ["tidegate_service_reading{", "tidegate_pod_reading{", "tidegate_card_reading{"] {
            assert!(fresh.contains(series), "{series} in {fresh}");
        }
        let stale = shown(MAX_AGE + Duration::from_secs(1));
        for series in ["tidegate_service_reading{", "tidegate_pod_reading{", "tidegate_card_reading{"] {
            assert!(!stale.contains(series), "{series} in {stale}");
        }
        assert!(stale.contains("reason=\"stale\""), "{stale}");
    }

    #[test]
    fn model_servers_are_counted_by_state_and_have_no_series_of_their_own() {
        let tracked = |n: u32, status: TargetStatus| {
            let target = Target {
                id: TargetId(format!("server:prod/llm-{n}/u").into()),
                url: "http://10.0.0.7:8080/metrics".parse().unwrap(),
                node: None,
                rank: 0,
                access: Arc::default(),
                subject: Some(Subject { pod: key("llm-0"), uid: "u".into() }),
            };
            (target.id.clone(), Arc::new(Tracked { target: Arc::new(target), status, batch: None }))
        };
        let now = Some(Clock::start().now());
        let status = TargetStatus::default;
        let states = [
            status(),
            TargetStatus { last_success: now, ..status() },
            TargetStatus { last_success: now, ..status() },
            TargetStatus { last_success: now, last_error: Some("timed out".into()), ..status() },
            TargetStatus { offers_nothing: Some("connection refused".into()), ..status() },
        ];
        let targets = (0..).zip(states).map(|(n, status)| tracked(n, status)).collect();
        let scraped = Scraped { targets, ..Scraped::default() };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Targets(scraped)));
        let page = apiservice::metrics::page(&registry, "").1;
        for (state, count) in [("up", 2), ("failing", 1), ("without_page", 1), ("waiting", 1)] {
            assert!(page.contains(&format!("tidegate_model_servers{{state=\"{state}\"}} {count}")), "{page}");
        }
        assert!(!page.contains("server:prod"), "{page}");
    }

    #[derive(Debug)]
    struct Targets(Scraped);

    impl Collector for Targets {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
            encode_targets(&mut encoder, &self.0)
        }
    }
}
