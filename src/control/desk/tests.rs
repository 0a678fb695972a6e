//! A cluster and its pages, tick by tick. The engine has tests of its own: here is what is around it.

use std::time::Duration;

use jiff::SignedDuration;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;
use crate::{
    attribution::scene::{MAX_AGE, SM, Scene, key, now, vocabulary},
    clock::Clock,
    cluster::{Node, ResourcePolicy, ScalingPolicy},
    control::{
        bill::{Cost, Pool},
        lease::Leadership,
        meters::Shown,
        words,
    },
    policy::Mode,
    publish::decided::Desired,
};

fn policy(name: &str, spec: &serde_json::Value) -> Arc<ScalingPolicy> {
    let mut full = json!({"targetRef": {"kind": "Deployment", "name": "llm-predictor"}, "maxReplicas": 3});
    for (field, value) in spec.as_object().unwrap() {
        full[field] = value.clone();
    }
    Arc::new(ScalingPolicy {
        key: key(name),
        uid: format!("uid-{name}").into(),
        created: Some(now()),
        generation: 1,
        spec: Ok(serde_json::from_value(full).unwrap()),
        conditions: Vec::new(),
    })
}

fn scene() -> Scene {
    let names = ["llm-predictor-0", "llm-predictor-1"];
    let mut scene = Scene::new()
        .service("llm-predictor")
        .ready(&names)
        .page(&["SM llm-predictor-0 a#1 40", "SM llm-predictor-1 b#1 44"]);
    Arc::make_mut(scene.view.deployments.get_mut(&key("llm-predictor")).unwrap()).replicas = 2;
    scene.view.policies.insert(key("llm"), policy("llm", &json!({})));
    scene
}

fn snapshot(scene: &Scene) -> Snapshot {
    Snapshot::of(scene.readings(), Arc::new(scene.view.clone()), Arc::new(vocabulary()), now(), MAX_AGE)
}

fn tick(desk: &mut Desk, scene: &Scene, seconds: i64) -> Round {
    let at = now() + SignedDuration::from_secs(seconds);
    desk.tick(&snapshot(scene), &config::Scrape::default(), &mut Meters::default(), at)
}

fn only(round: &Round) -> &Outcome {
    let outcomes = round.outcomes.as_ref().unwrap();
    let [only] = &outcomes[..] else { panic!("{outcomes:?}") };
    only
}

#[test]
fn each_policy_gets_a_decision_with_the_replicas_that_are_there() {
    let mut desk = Desk::default();
    let round = tick(&mut desk, &scene(), 0);
    let outcome = only(&round);
    assert_eq!(outcome.target, Some((key("llm-predictor"), Some("llm".into()))));
    assert_eq!(outcome.mode, Mode::Advise);
    let settled = outcome.verdict.as_ref().unwrap();
    assert_eq!((settled.decision.current, settled.ready, settled.max), (2, 2, 3));
    assert!(settled.durable.is_some(), "what a policy has learned is kept");
}

#[test]
fn a_move_of_whoever_made_it_is_seen_with_its_time() {
    let mut desk = Desk::default();
    let mut scene = scene();
    let last = |round: &Round| only(round).verdict.as_ref().unwrap().last_scale;
    assert_eq!(last(&tick(&mut desk, &scene, 0)), None);
    Arc::make_mut(scene.view.deployments.get_mut(&key("llm-predictor")).unwrap()).replicas = 3;
    let moved = now() + SignedDuration::from_secs(5);
    assert_eq!(last(&tick(&mut desk, &scene, 5)), Some(moved));
    assert_eq!(last(&tick(&mut desk, &scene, 10)), Some(moved));
}

#[test]
fn a_cluster_that_is_not_known_gives_a_reason_instead_of_advice() {
    let mut scene = scene();
    scene.view.unsynced.insert("deployments");
    let round = tick(&mut Desk::default(), &scene, 0);
    let decided = round.decided(Duration::from_secs(15));
    let why = decided.nothing.unwrap();
    assert!(why.contains("deployments are not listed") && decided.advice.is_empty(), "{why}");
}

#[test]
fn r1_in_a_namespace_that_is_not_listed_nothing_is_decided_and_elsewhere_everything_is() {
    let dark = |namespace: &str| {
        let mut scene = scene();
        scene.view.namespaces = ["prod".into(), "other".into()].into();
        scene.view.unsynced_in.insert(namespace.into(), ["deployments"].into());
        scene
    };
    let mut desk = Desk::default();
    let decided = tick(&mut desk, &dark("other"), 0);
    assert!(only(&decided).verdict.is_ok() && !decided.whole);
    let refused = tick(&mut desk, &dark("prod"), 5);
    let refusal = only(&refused).verdict.clone().unwrap_err();
    assert_eq!(
        (refusal.reason(), refusal.to_string()),
        ("ClusterUnknown", "the cluster's state is not known yet: deployments in namespace prod are not listed".into())
    );
    assert_eq!(desk.kept.len(), 1, "what was learned there is kept");
    assert!(tick(&mut desk, &scene(), 10).whole);
}

#[test]
fn what_was_kept_of_a_policy_is_not_forgotten_before_its_namespace_is_listed() {
    let mut scene = scene();
    scene.view.policies.clear();
    scene.view.namespaces = ["prod".into(), "other".into()].into();
    scene.view.unsynced_in.insert("prod".into(), ["scalingpolicies"].into());
    let mut desk = Desk::new([("uid-llm".into(), State::default())].into(), None);
    tick(&mut desk, &scene, 0);
    assert_eq!(desk.kept.len(), 1, "its policy may be there");
    scene.view.unsynced_in.clear();
    tick(&mut desk, &scene, 5);
    assert!(desk.kept.is_empty(), "it is not");
}

#[test]
fn what_is_decided_for_nobody_is_forgotten_and_what_is_refused_says_so() {
    let mut desk = Desk::default();
    let mut scene = scene();
    tick(&mut desk, &scene, 0);
    assert_eq!(desk.kept.len(), 1);
    scene.view.policies.insert(key("llm"), policy("llm", &json!({"minReplicas": 0})));
    let refused = tick(&mut desk, &scene, 5);
    assert_eq!(only(&refused).verdict.as_ref().unwrap_err().reason(), "ScaleFromZero");
    let decided = refused.decided(Duration::from_secs(15));
    let why = decided.advice[&key("llm-predictor")].desired.clone().unwrap_err();
    assert!(why.contains("spec.minReplicas"), "{why}");
    assert_eq!(desk.kept.len(), 1, "a policy that is edited keeps what it has learned");
    scene.view.policies.clear();
    assert_eq!(tick(&mut desk, &scene, 10).outcomes, Ok(Vec::new()));
    assert_eq!(desk.kept.len(), 0);
}

/// R12, both ways: what is not known is no number, and a hold that is known is what is there.
#[test]
fn unknown_in_both_directions_is_no_number_and_a_hold_is_what_is_there() {
    let mut silent = scene();
    silent.pages.clear();
    let decided = |scene: &Scene| {
        let round = tick(&mut Desk::default(), scene, 0);
        let decision = only(&round).verdict.clone().unwrap().decision;
        let advice = round.decided(Duration::from_secs(15)).advice[&key("llm-predictor")].clone();
        (decision, advice)
    };
    let (decision, advice) = decided(&silent);
    assert_eq!(words::reason(&decision), "Unknown");
    assert!(advice.desired.is_err() && advice.demand.is_err(), "{advice:?}");
    let (mut known, _) = decided(&scene());
    known.up = engine::Verdict::NotNeeded;
    known.desired = known.current;
    let settled = tick(&mut Desk::default(), &scene(), 0);
    let mut outcome = only(&settled).clone();
    outcome.verdict.as_mut().unwrap().decision = known;
    let round = Round { at: now(), outcomes: Ok(vec![outcome]), whole: true };
    let advice = &round.decided(Duration::from_secs(15)).advice[&key("llm-predictor")];
    assert_eq!(advice.desired, Ok(Desired::Hold), "one direction is known to hold: {advice:?}");
}

#[test]
fn gpu_seconds_are_counted_from_tick_to_tick() {
    let mut desk = Desk::default();
    let mut meters = Meters::default();
    let snapshot = snapshot(&scene());
    for second in [0, 5, 10] {
        desk.tick(&snapshot, &config::Scrape::default(), &mut meters, now() + SignedDuration::from_secs(second));
    }
    assert!((meters.gpu_seconds() - 20.0).abs() < 1e-9, "two pods with a GPU for 10 s: {}", meters.gpu_seconds());
}

#[test]
fn a_service_that_is_merely_refused_keeps_the_gpu_seconds_that_it_has_cost() {
    let (mut desk, mut meters) = (Desk::default(), Meters::default());
    let mut scene = scene();
    let mut tick = |scene: &Scene, meters: &mut Meters, second| {
        desk.tick(&snapshot(scene), &config::Scrape::default(), meters, now() + SignedDuration::from_secs(second));
    };
    tick(&scene, &mut meters, 0);
    tick(&scene, &mut meters, 5);
    scene.view.policies.insert(key("llm"), policy("llm", &json!({"minReplicas": 0})));
    tick(&scene, &mut meters, 10);
    assert!((meters.gpu_seconds() - 10.0).abs() < 1e-9, "{}", meters.gpu_seconds());
    scene.view.deployments.clear();
    tick(&scene, &mut meters, 15);
    assert!(meters.gpu_seconds().abs() < 1e-9, "the Deployment is gone: {}", meters.gpu_seconds());
}

/// A node of that pool with 8 GPUs.
fn node(scene: &mut Scene, name: &str, pool: &str, created: Timestamp) {
    let labels = [("pool".into(), pool.into())].into();
    let node = Node { name: name.into(), labels, created: Some(created), ..(*scene.view.nodes["n1"]).clone() };
    scene.view.nodes.insert(name.into(), Arc::new(node));
}

fn resource_policy(name: &str, app: &str, pool: &str) -> Arc<ResourcePolicy> {
    let policy = json!({
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"selector": {"app": app}, "units": [{"resource": "elastic", "nodeSelector": {"pool": pool}}]},
    });
    Arc::new(ResourcePolicy::from_json(&policy.to_string()).unwrap())
}

/// Labels and value of each line of that family; hundredths of a second are the test's own.
fn series<'p>(page: &'p str, family: &str) -> Vec<(&'p str, f64)> {
    let of = page.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.rsplit_once("} "));
    of.map(|(labels, value)| (labels, value.parse::<f64>().unwrap().round())).collect()
}

#[test]
fn r20_nodes_are_counted_by_the_pools_of_policies_and_of_resource_policies_once_for_all_their_services() {
    let cloud = json!({"pools": [{"name": "cloud", "nodeSelector": {"pool": "cloud", "zone": "a"}}]});
    let mut scene = scene().service("other").service("plain-predictor").hpa("plain", "plain-predictor", SM, 50.0);
    scene.view.policies.insert(key("llm"), policy("llm", &cloud));
    let target = json!({"targetRef": {"kind": "Deployment", "name": "other"}, "pools": cloud["pools"]});
    scene.view.policies.insert(key("other"), policy("other", &target));
    // Where a ScalingPolicy names the pools, by its names pods are counted; the other has none.
    for (service, pool) in [("llm-predictor", "cloud"), ("plain-predictor", "spot")] {
        let deployment = scene.view.deployments.get_mut(&key(service)).unwrap();
        Arc::make_mut(deployment).template_labels = [("app".into(), service.into())].into();
        scene.view.resource_policies.insert(key(service), resource_policy(service, service, pool));
    }
    node(&mut scene, "c1", "cloud", now());
    Arc::make_mut(scene.view.nodes.get_mut("c1").unwrap()).labels.insert("zone".into(), "a".into());
    node(&mut scene, "s1", "spot", now());

    let (clock, mut desk, mut meters) = (Clock::start(), Desk::default(), Meters::default());
    for ago in [10, 0] {
        let at = clock.now() - SignedDuration::from_secs(ago);
        desk.tick(&snapshot(&scene), &config::Scrape::default(), &mut meters, at);
    }
    let page = shown(meters, clock);
    assert_eq!(
        series(&page, "tidegate_node_gpu_seconds_total"),
        [
            (r#"pool="1 (elastic)",node_selector="pool=spot""#, 80.0),
            (r#"pool="cloud",node_selector="pool=cloud,zone=a""#, 80.0),
        ]
    );
}

/// R1 and R2: nodes that were counted have cost what they have cost; how many there are now is another question.
#[test]
fn nodes_are_shown_while_they_are_known_and_their_cost_always() {
    let mut scene = scene();
    let pools = json!({"pools": [{"name": "cloud", "nodeSelector": {"pool": "cloud"}}]});
    scene.view.policies.insert(key("llm"), policy("llm", &pools));
    node(&mut scene, "c1", "cloud", now());
    for (what, unlisted, ago, are_shown) in [
        ("all is known", None, 0, true),
        ("the loop hangs", None, 16, false),
        ("nodes are not listed", Some("nodes"), 0, false),
        ("nothing can be decided", Some("deployments"), 0, false),
    ] {
        let (clock, mut desk, mut meters) = (Clock::start(), Desk::default(), Meters::default());
        let at = |ago| clock.now() - SignedDuration::from_secs(ago);
        let mut tick = |scene: &Scene, at| {
            desk.tick(&snapshot(scene), &config::Scrape::default(), &mut meters, at);
        };
        tick(&scene, at(ago + 20));
        tick(&scene, at(ago + 10));
        let mut last = scene.clone();
        last.view.unsynced.extend(unlisted);
        tick(&last, at(ago));
        let page = shown(meters, clock);
        let of = |family: &str| series(&page, family).iter().map(|(_, value)| *value).collect::<Vec<_>>();
        let cost = if unlisted.is_some() { 80.0 } else { 160.0 };
        assert_eq!(of("tidegate_node_gpu_seconds_total"), [cost], "{what}");
        assert_eq!(of("tidegate_nodes"), if are_shown { &[1.0][..] } else { &[] }, "{what}");
    }
}

/// What `/metrics` shows of these meters.
fn shown(meters: Meters, clock: Clock) -> String {
    let (leadership, max_age) = (Leadership::never(), Duration::from_secs(15));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Shown { meters: Arc::new(Mutex::new(meters)), leadership, clock, max_age }));
    apiservice::metrics::page(&registry, "").1
}

/// R1 and R2: the page for Prometheus is a consumer like any other.
#[tokio::test]
async fn a_number_of_replicas_is_shown_while_it_is_known_and_no_longer() {
    let silent = {
        let mut scene = scene();
        scene.pages.clear();
        scene
    };
    let unlisted = {
        let mut scene = scene();
        scene.view.unsynced.insert("deployments");
        scene
    };
    let cases = [
        ("known", scene(), 0, true),
        ("known, and still young enough", scene(), 14, true),
        ("the loop hangs", scene(), 16, false),
        ("nobody reports", silent, 0, false),
        ("the cluster is not known", unlisted, 0, false),
    ];
    let shown = cases.iter().map(|(what, then, age, _)| {
        let (clock, mut desk, mut meters) = (Clock::start(), Desk::default(), Meters::default());
        let at = clock.now() - SignedDuration::from_secs(*age);
        let mut tick = |scene: &Scene, at| {
            desk.tick(&snapshot(scene), &config::Scrape::default(), &mut meters, at);
        };
        tick(&scene(), at - SignedDuration::from_mins(10));
        tick(then, at);
        (*what, shown(meters, clock).contains("tidegate_desired_replicas{"))
    });
    let expected = cases.iter().map(|(what, _, _, is_shown)| (*what, *is_shown));
    assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn r22_whoever_names_pools_cannot_grow_the_page_without_bound() {
    let mut meters = Meters::default();
    for n in 0..1000 {
        let pool = format!("pool-{n}");
        meters.ready_after(&pool, 1.0);
        meters.missed_by(&pool, 0.5);
        meters.held_gpus(&key("llm-predictor"), &pool, 1.0);
    }
    meters.held_gpus(&key("neighbour"), "onprem", 1.0);
    let pool = |name: &str, label: &str| Pool { name: name.into(), nodes: [("pool".into(), label.into())].into() };
    let long = pool("endless", &"x".repeat(5000));
    let pools = (0..1000).map(|n| pool(&format!("pool-{n}"), "a")).chain([long]);
    for _ in 0..2 {
        meters.billed(Some(pools.clone().map(|pool| (pool, Cost { gpu_seconds: 1.0, nodes: 1 })).collect()));
    }
    assert!((meters.gpu_seconds() - 1001.0).abs() < 1e-9, "all of them count");
    let page = shown(meters, Clock::start());
    let count = |of: &str| series(&page, of).len();
    assert_eq!(count("tidegate_time_to_ready_seconds_count"), 65, "64 and the others: {page}");
    assert_eq!(count("tidegate_forecast_error_replicas_count"), 65, "{page}");
    assert_eq!(count("tidegate_gpu_seconds_total"), 16 + 1 + 1, "{page}");
    let nodes = series(&page, "tidegate_node_gpu_seconds_total");
    assert_eq!(
        (nodes.len(), nodes.iter().map(|(_, seconds)| seconds).sum()),
        (64, 2002.0),
        "63 and the others, and all of them count: {page}"
    );
    assert!(!page.contains("endless"), "{page}");
}
