//! A service with one replica on premises and two in the cloud, and an HPA with target 50: what is answered when nothing is
//! heard of the site.

use std::sync::Arc;

use apiservice::{Selector, Status};
use jiff::{SignedDuration, Timestamp};

use crate::{
    attribution::scene::{MAX_AGE, SM, Scene, ago, gpus, key, now, vocabulary},
    cluster::{Node, PodState, ResourcePolicy, Unit},
    publish::Snapshot,
};

/// Pods and their nodes.
const PODS: [(&str, &str); 3] = [("llm-0", "home"), ("llm-1", "cloud-1"), ("llm-2", "cloud-2")];

fn unit(name: &str, pool: &str) -> Unit {
    Unit { name: name.into(), node_selector: [("pool".into(), pool.into())].into(), max: None }
}

/// The cloud's replicas read `cloud`, the one on premises what its page says; `None`: there is no page.
fn scene(onprem: Option<&str>, cloud: f64) -> Scene {
    let names = PODS.map(|(pod, _)| pod);
    let mut scene = Scene::new().service("llm").ready(&names).hpa("hpa", "llm", SM, 50.0);
    for (pod, node) in PODS {
        scene = scene.change_pod(pod, |pod| pod.node = Some(node.into()));
        let pool = if node == "home" { "onprem" } else { "cloud" };
        let labels = [("pool".into(), pool.into())].into();
        let node = Node {
            name: node.into(),
            labels,
            created: None,
            open: true,
            lost: false,
            gpus: 1,
            allocatable: gpus(1, 110),
        };
        scene.view.nodes.insert(Arc::clone(&node.name), Arc::new(node));
    }
    let policy = ResourcePolicy {
        key: key("order"),
        uid: "order".into(),
        selector: Selector::everything(),
        units: vec![unit("1 (ecs)", "onprem"), unit("2 (elastic)", "cloud")],
        not_honoured: Vec::new(),
    };
    scene.view.resource_policies.insert(key("order"), Arc::new(policy));
    if let Some(line) = onprem {
        scene = scene.other_page("home", 0, &[line]);
    }
    scene.page(&[&format!("SM llm-1 b#1 {cloud}"), &format!("SM llm-2 c#1 {cloud}")])
}

fn lost(mut scene: Scene) -> Scene {
    Arc::make_mut(scene.view.nodes.get_mut("home").unwrap()).lost = true;
    scene
}

fn state(scene: Scene, state: PodState) -> Scene {
    scene.change_pod("llm-0", |pod| pod.state = state)
}

fn snapshot(scene: &Scene) -> Snapshot {
    Snapshot::of(scene.readings(), Arc::new(scene.view.clone()), Arc::new(vocabulary()), now(), MAX_AGE)
}

/// What an HPA of type Pods gets: the pods that are named, or why there are none.
fn pods(snapshot: &Snapshot, now: Timestamp) -> Result<Vec<String>, String> {
    let resource = apiservice::Resource { group: String::new(), name: "pods".into() };
    let everything = Selector::everything();
    let values =
        snapshot.custom_by_selector(&resource, Some("prod"), &"app=isvc.llm".parse().unwrap(), SM, &everything, now);
    let values = values.map_err(|status: Status| status.message)?;
    Ok(values.into_iter().map(|value| value.object.name.to_string()).collect())
}

/// What an HPA of type External gets.
fn mean(snapshot: &Snapshot) -> Result<f64, String> {
    let items = snapshot.external("prod", SM, &"deployment=llm".parse().unwrap(), now());
    items.map(|items| items[0].value.as_f64()).map_err(|status| status.message)
}

#[test]
fn while_a_whole_pool_or_a_node_is_out_of_sight_the_others_may_only_add() {
    let (silent, cut_off) = ("none of the 1 ready pods in pool 1 (ecs) reports", "node home is not heard of");
    let (all, others) = (&["llm-0", "llm-1", "llm-2"][..], &["llm-1", "llm-2"][..]);
    for (what, scene, expected) in [
        ("heard", scene(Some("SM llm-0 a#1 60"), 5.0), Ok(all)),
        ("silent", scene(None, 5.0), Err(silent)),
        ("silent since too long", scene(Some("SM llm-0 a#1 60 age=31"), 5.0), Err(silent)),
        ("silent, the others at the target", scene(None, 50.0), Err(silent)),
        ("silent, the others busy", scene(None, 90.0), Ok(others)),
        ("lost, and still called ready", lost(scene(None, 5.0)), Err(cut_off)),
        ("lost", state(lost(scene(None, 5.0)), PodState::CutOff), Err(cut_off)),
        ("lost, the others busy", state(lost(scene(None, 90.0)), PodState::CutOff), Ok(others)),
        (
            "cut off from the cluster and not from us: nobody sends it work",
            state(lost(scene(Some("SM llm-0 a#1 0"), 5.0)), PodState::CutOff),
            Err(cut_off),
        ),
        ("the node is back before its pod", state(scene(Some("SM llm-0 a#1 0"), 5.0), PodState::CutOff), Err(cut_off)),
        ("an odd value is no silence", scene(Some("SM llm-0 a#1 NaN"), 5.0), Ok(others)),
    ] {
        let snapshot = snapshot(&scene);
        let (pods, mean) = (pods(&snapshot, now()), mean(&snapshot));
        match expected {
            Ok(names) => {
                assert_eq!(pods.as_deref(), Ok(&*names.iter().map(ToString::to_string).collect::<Vec<_>>()), "{what}");
                assert!(mean.is_ok(), "{what}: {mean:?}");
            }
            Err(why) => {
                let pods = pods.expect_err(what);
                assert!(pods.contains(why) && pods.contains("more than the target 50"), "{what}: {pods}");
                assert!(mean.as_ref().is_err_and(|mean| mean.contains(why)), "{what}: {mean:?}");
            }
        }
    }
}

#[test]
fn what_is_answered_when_the_others_are_busy_adds_no_more_than_the_hpa_would() {
    assert_eq!(mean(&snapshot(&scene(None, 90.0))), Ok(60.0), "R9: the silent one counts as idle for who would add");
}

#[test]
fn a_hold_ends_when_the_cluster_gives_the_pod_up_and_holds_for_nobody_who_ordered_no_pools() {
    let mut gone = lost(scene(None, 5.0));
    gone.view.nodes.remove("home");
    let mut unordered = scene(None, 5.0);
    unordered.view.resource_policies.clear();
    let beside = scene(None, 5.0).ready(&["llm-3"]).other_page("home", 0, &["SM llm-3 d#1 5"]);
    let beside = beside.change_pod("llm-3", |pod| pod.node = Some("home".into()));
    for (what, scene) in [
        ("evicted", state(lost(scene(None, 5.0)), PodState::Leaving)),
        ("the node is deleted: its pods follow", gone),
        ("no order of pools", unordered),
        ("another replica on premises is heard", beside),
    ] {
        let snapshot = snapshot(&scene);
        assert!(pods(&snapshot, now()).is_ok() && mean(&snapshot).is_ok(), "{what}");
    }
}

/// The HPA may ask a moment after the value has become too old, and before the next snapshot.
#[test]
fn silence_is_told_by_the_time_of_the_question() {
    let mut scene = scene(Some("SM llm-0 a#1 60"), 5.0);
    scene.pages[0].measured = ago(29);
    for sample in &mut scene.pages[0].samples {
        sample.reading.as_mut().unwrap().at = ago(29);
    }
    let snapshot = snapshot(&scene);
    assert_eq!(pods(&snapshot, now()).map(|names| names.len()), Ok(3));
    let later = pods(&snapshot, now() + SignedDuration::from_secs(2));
    assert!(later.as_ref().is_err_and(|why| why.contains("pool 1 (ecs)")), "{later:?}");
}
