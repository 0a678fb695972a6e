//! A cluster and its pages, tick by tick. The engine has tests of its own: here is what is around it.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::{
    attribution::scene::{MAX_AGE, Scene, key, now, vocabulary},
    cluster::ScalingPolicy,
    control::words,
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
    let round = Round { at: now(), outcomes: Ok(vec![outcome]) };
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
