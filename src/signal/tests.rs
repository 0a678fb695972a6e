//! What the engine is told, and what it is told to be unknown.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Known, Observation, Observer, PoolNodes, Room, Signal, Stage, Work};
use crate::{
    attribution::scene::{Scene, ago, gpus, key, now, vocabulary},
    cluster::{Node, PageHint, Phase, PodState, Resources},
    config::{self, Discovery, Preset, Scrape},
};

const RUNNING: &str = "vllm:num_requests_running";
const WAITING: &str = "vllm:num_requests_waiting";
const CACHE: &str = "vllm:kv_cache_usage_perc";

/// An exporter is asked for, and model servers are.
fn configured() -> Scrape {
    Scrape { discover: vec![Discovery::preset(Preset::DcgmExporter)], ..Scrape::default() }
}

fn observe(scene: &Scene, scrape: &Scrape, pools: &[PoolNodes], now: Timestamp) -> Option<Observation> {
    let (readings, vocabulary) = (scene.readings(), vocabulary());
    let known = Known { readings: &readings, view: &scene.view, vocabulary: &vocabulary, scrape };
    Observer::new(known, now).observe(&key("llm-predictor"), pools, None)
}

fn seen(scene: &Scene) -> Observation {
    observe(scene, &configured(), &[], now()).unwrap()
}

fn scene() -> Scene {
    Scene::new().service("llm-predictor")
}

/// Makes the scene's pods those of a predictor, with a page where nothing else is said.
fn predictors(scene: Scene, names: &[&str]) -> Scene {
    let label = |pod: &mut crate::cluster::Pod| {
        pod.labels.insert("serving.kserve.io/inferenceservice".into(), "llm".into());
        pod.labels.insert("component".into(), "predictor".into());
        pod.ip = Some("10.0.0.7".into());
    };
    names.iter().fold(scene, |scene, name| scene.change_pod(name, label))
}

fn known(value: f64) -> Signal {
    Signal::Known { value, at: ago(1) }
}

fn unknown(signal: &Signal) -> &str {
    match signal {
        Signal::Unknown(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_come_by_name_with_their_stages_times_and_work() {
    let scene = scene()
        .pod("llm-predictor-c", PodState::Pending, 1)
        .change_pod("llm-predictor-c", |pod| {
            (pod.node, pod.scheduled, pod.started, pod.running, pod.ready_since) = (None, None, None, None, None);
        })
        .pod("llm-predictor-a", PodState::Ready, 1)
        .pod("llm-predictor-b", PodState::Starting, 1)
        .pod("llm-predictor-d", PodState::Leaving, 1)
        .pod("other-a", PodState::Ready, 1)
        .page(&["SM llm-predictor-a a#1 40", "SM llm-predictor-b b#2 99"])
        .server(
            "llm-predictor-a",
            &[
                (RUNNING, 7.0),
                (WAITING, 2.0),
                (CACHE, 0.5),
                ("vllm:prompt_tokens_per_second", 900.0),
                ("vllm:request_success_per_second", 1.5),
            ],
        );
    let observation = seen(&scene);
    let pods: Vec<_> = observation.pods.iter().map(|pod| (&*pod.name, &*pod.uid, pod.stage)).collect();
    assert_eq!(
        pods,
        [
            ("llm-predictor-a", "uid-llm-predictor-a", Stage::Ready),
            ("llm-predictor-b", "uid-llm-predictor-b", Stage::Starting),
            ("llm-predictor-c", "uid-llm-predictor-c", Stage::Pending),
        ]
    );
    let [ready, starting, pending] = &observation.pods[..] else { panic!() };
    assert_eq!(ready.work.utilization, known(40.0));
    assert_eq!((&ready.work.running, &ready.work.waiting), (&known(7.0), &known(2.0)));
    assert_eq!((&ready.work.kv_cache, &ready.work.prompt_tokens), (&known(0.5), &known(900.0)));
    assert_eq!(ready.work.finished, known(1.5));
    assert_eq!(ready.work.generated_tokens, Signal::NotOffered, "its page has no such family, and nobody else's");
    assert_eq!((ready.created, ready.scheduled, ready.running), (ago(3700), Some(ago(3650)), Some(ago(3590))));
    assert_eq!(ready.ready_since, Some(ago(3500)));
    assert_eq!(starting.work, Work::default(), "R8: what it reads while it loads is not its work");
    assert_eq!((starting.running, starting.ready_since), (Some(ago(3590)), None));
    assert_eq!((pending.scheduled, pending.running), (None, None));
    assert_eq!((observation.replicas, observation.cluster_unknown), (1, None));
}

#[test]
fn there_is_no_observation_of_a_deployment_that_is_not_there() {
    let other = Scene::new().service("other");
    assert_eq!(observe(&other, &configured(), &[], now()), None);
}

#[test]
fn r2_a_reading_that_has_grown_old_since_the_snapshot_is_unknown() {
    let scene = scene().ready(&["llm-predictor-a"]).page(&["SM llm-predictor-a a#1 40"]);
    let later = now() + jiff::SignedDuration::from_secs(29);
    let fresh = observe(&scene, &configured(), &[], later).unwrap();
    assert_eq!(fresh.pods[0].work.utilization, known(40.0));
    let later = now() + jiff::SignedDuration::from_secs(30);
    let stale = observe(&scene, &configured(), &[], later).unwrap();
    assert!(unknown(&stale.pods[0].work.utilization).starts_with("last measured 31s ago"));
}

#[test]
fn r1_a_gpu_of_which_no_exporter_reports_is_unknown_where_there_should_be_one() {
    let silent = scene().ready(&["llm-predictor-a"]);
    assert_eq!(unknown(&seen(&silent).pods[0].work.utilization), "no exporter reports it");
    let nobody = observe(&silent, &Scrape::default(), &[], now()).unwrap();
    assert_eq!(nobody.pods[0].work.utilization, Signal::NotOffered, "no exporter is configured");
    let without_gpu = scene().pod("llm-predictor-a", PodState::Ready, 0);
    assert_eq!(seen(&without_gpu).pods[0].work.utilization, Signal::NotOffered);
    let failed = scene().ready(&["llm-predictor-a"]).page(&["SM llm-predictor-a a#1 NaN"]);
    assert_eq!(unknown(&seen(&failed).pods[0].work.utilization), "the exporter's value is not a number");
}

#[test]
fn the_utilization_of_all_pods_is_of_one_family() {
    // Each of two exporters sees one of the pods: a share of cards and a share of processes do not mix.
    let two = scene().ready(&["llm-predictor-a", "llm-predictor-b"]).page(&["SM llm-predictor-a a#1 40"]).other_page(
        "dcgm",
        1,
        &["GPU llm-predictor-b b 80"],
    );
    let observation = seen(&two);
    assert_eq!(observation.pods[0].work.utilization, known(40.0));
    assert!(unknown(&observation.pods[1].work.utilization).starts_with("other pods of the service report it"));
    let one = scene().ready(&["llm-predictor-b"]).page(&["GPU llm-predictor-b b 80"]);
    assert_eq!(seen(&one).pods[0].work.utilization, known(80.0));
    // A policy may name another one.
    let (readings, vocabulary, scrape) = (two.readings(), vocabulary(), configured());
    let known_now = Known { readings: &readings, view: &two.view, vocabulary: &vocabulary, scrape: &scrape };
    let gpu = vocabulary.by_name("DCGM_FI_DEV_GPU_UTIL");
    let named = Observer::new(known_now, now()).observe(&key("llm-predictor"), &[], gpu).unwrap();
    assert_eq!(named.pods[1].work.utilization, known(80.0));
}

#[test]
fn queue_signals_are_unknown_until_the_server_was_asked_and_not_offered_if_it_has_none() {
    let names = ["llm-predictor-a"];
    let ready = || predictors(scene().ready(&names), &names);
    assert_eq!(unknown(&seen(&ready()).pods[0].work.waiting), "its model server has not been read yet");
    let asked = ready().server("llm-predictor-a", &[]);
    assert_eq!(seen(&asked).pods[0].work.waiting, Signal::NotOffered);
    let off = Scrape { serving: config::Serving { enabled: false, ..config::Serving::default() }, ..configured() };
    assert_eq!(observe(&ready(), &off, &[], now()).unwrap().pods[0].work.waiting, Signal::NotOffered);
    let nowhere = scene().ready(&names);
    assert_eq!(seen(&nowhere).pods[0].work.waiting, Signal::NotOffered, "nothing tells where its page would be");
    let failed = ready().server("llm-predictor-a", &[(WAITING, f64::NAN)]);
    assert_eq!(unknown(&seen(&failed).pods[0].work.waiting), "the exporter's value is not a number");
    let declined =
        ready().change_pod("llm-predictor-a", |pod| pod.page = PageHint { declined: true, ..PageHint::default() });
    assert_eq!(seen(&declined).pods[0].work.waiting, Signal::NotOffered);
}

#[test]
fn what_other_pods_of_the_service_offer_is_expected_of_each() {
    let names = ["llm-predictor-a", "llm-predictor-b"];
    for b in [&[][..], &[(RUNNING, 1.0)]] {
        let scene = predictors(scene().ready(&names), &names)
            .server("llm-predictor-a", &[(RUNNING, 1.0), (WAITING, 4.0)])
            .server("llm-predictor-b", b);
        let observation = seen(&scene);
        assert_eq!(observation.pods[0].work.waiting, known(4.0));
        assert!(unknown(&observation.pods[1].work.waiting).starts_with("other pods of the service report it"), "{b:?}");
        assert_eq!(observation.pods[1].work.kv_cache, Signal::NotOffered);
    }
}

#[test]
fn sglang_and_tgi_are_taken_for_the_same() {
    for (running, waiting) in
        [("sglang:num_running_reqs", "sglang:num_queue_reqs"), ("tgi_batch_current_size", "tgi_queue_size")]
    {
        let scene = scene().ready(&["llm-predictor-a"]).server("llm-predictor-a", &[(running, 5.0), (waiting, 6.0)]);
        let work = &seen(&scene).pods[0].work;
        assert_eq!((&work.running, &work.waiting), (&known(5.0), &known(6.0)));
    }
}

#[test]
fn a_cluster_that_is_not_known_says_so() {
    let pools = [pool("pool=onprem", false)];
    for (missing, pools, expected) in [
        ("pods", &[][..], Some("pods are not listed")),
        ("deployments", &[], Some("deployments are not listed")),
        ("nodes", &[], None),
        ("nodes", &pools, Some("nodes are not listed")),
        ("horizontalpodautoscalers", &pools, None),
    ] {
        let mut scene = scene().ready(&["llm-predictor-a"]);
        scene.view.unsynced.insert(missing);
        let observation = observe(&scene, &configured(), pools, now()).unwrap();
        match (expected, observation.cluster_unknown) {
            (Some(expected), Some(said)) => assert!(said.contains(expected), "{said}"),
            (None, None) => {}
            other => panic!("{missing}: {other:?}"),
        }
    }
}

fn pool(selector: &str, elastic: bool) -> PoolNodes {
    PoolNodes { nodes: selector.parse().unwrap(), elastic }
}

/// Nodes as name, pool and number of GPUs.
fn nodes(mut scene: Scene, nodes: &[(&str, &str, u32)]) -> Scene {
    for (name, pool, cards) in nodes {
        let node = Node {
            name: (*name).into(),
            labels: [("pool".into(), (*pool).into())].into(),
            created: None,
            open: true,
            lost: false,
            gpus: (*cards).into(),
            allocatable: gpus(*cards, 110),
        };
        scene.view.nodes.insert((*name).into(), Arc::new(node));
    }
    scene
}

fn on(scene: Scene, pod: &str, node: &str) -> Scene {
    scene.change_pod(pod, |pod| pod.node = Some(node.into()))
}

fn change_node(mut scene: Scene, name: &str, change: impl FnOnce(&mut Node)) -> Scene {
    change(Arc::make_mut(scene.view.nodes.get_mut(name).unwrap()));
    scene
}

#[test]
fn r15_a_pod_that_was_ready_when_its_node_was_lost_counts_as_ready_and_as_unknown_whatever_its_exporter_says() {
    let scene = scene().ready(&["llm-predictor-a", "llm-predictor-b"]);
    let scene = scene.page(&["SM llm-predictor-a a#1 0", "SM llm-predictor-b b#1 5"]);
    let scene = scene.change_pod("llm-predictor-a", |pod| pod.state = PodState::CutOff);
    let observation = observe(&scene, &configured(), &[], now()).unwrap();
    let [lost, seen] = &observation.pods[..] else { panic!("{observation:?}") };
    assert_eq!(lost.stage, Stage::Ready);
    assert!(matches!(&lost.work.utilization, Signal::Unknown(why) if why.contains("is not heard of")), "{lost:?}");
    assert_eq!(seen.work.utilization.value(), Some(5.0));
    let policy = crate::engine::Policy::default();
    let (_, decision) = crate::engine::decide(crate::engine::State::default(), &observation, &policy, now());
    assert_eq!(decision.down, crate::engine::Verdict::Unknown, "{}", decision.sentence());
}

fn room(scene: &Scene, pools: &[PoolNodes]) -> Vec<Room> {
    observe(scene, &configured(), pools, now()).unwrap().room
}

#[test]
fn pods_are_in_the_first_pool_that_selects_their_node() {
    let pools = [pool("pool=onprem", false), pool("pool", true)];
    let scene = nodes(
        scene().ready(&["llm-predictor-a", "llm-predictor-b", "llm-predictor-c"]),
        &[("n-1", "onprem", 1), ("n-2", "cloud", 1)],
    );
    let scene = on(on(scene, "llm-predictor-a", "n-1"), "llm-predictor-b", "n-2");
    let observation = observe(&scene, &configured(), &pools, now()).unwrap();
    let pools: Vec<_> = observation.pods.iter().map(|pod| pod.pool).collect();
    assert_eq!(pools, [Some(0), Some(1), None], "the third one's node has no label");
}

#[test]
fn room_is_what_fits_whole_on_nodes_that_pods_can_come_to() {
    let pools = [pool("pool=onprem", false), pool("pool=cloud", true)];
    let base = || {
        nodes(scene().ready(&["llm-predictor-a"]), &[("n-1", "onprem", 3), ("n-2", "onprem", 2), ("n-3", "cloud", 4)])
    };
    assert_eq!(room(&base(), &pools), [Room::Fixed(5), Room::Elastic(4)]);
    assert_eq!(room(&base(), &[]), []);
    assert_eq!(room(&base(), &[pool("pool=nowhere", true)]), [Room::Elastic(0)]);
    let taken = on(base(), "llm-predictor-a", "n-1");
    assert_eq!(room(&taken, &pools), [Room::Fixed(4), Room::Elastic(4)]);
    // A pod that is being deleted keeps its GPUs until it is gone, and one that has ended has given them back.
    let leaving = taken.clone().change_pod("llm-predictor-a", |pod| pod.state = PodState::Leaving);
    assert_eq!(room(&leaving, &pools)[0], Room::Fixed(4));
    let ended = taken.clone().change_pod("llm-predictor-a", |pod| {
        (pod.state, pod.phase) = (PodState::Leaving, Phase::Finished);
    });
    assert_eq!(room(&ended, &pools)[0], Room::Fixed(5));
    let stranger = on(base().pod("other-a", PodState::Starting, 2), "other-a", "n-1");
    assert_eq!(room(&stranger, &pools)[0], Room::Fixed(3), "whoever has them");
    let closed = change_node(base(), "n-2", |node| node.open = false);
    assert_eq!(room(&closed, &pools)[0], Room::Fixed(3), "cordoned or not Ready");

    // Two GPUs a pod: 3 + 2 + 4 make 1 + 1 and 2.
    let mut large = base();
    let deployment = large.view.deployments.get_mut(&key("llm-predictor")).unwrap();
    Arc::make_mut(deployment).requests = gpus(2, 1);
    assert_eq!(room(&large, &pools), [Room::Fixed(2), Room::Elastic(2)]);

    // Free GPUs without memory beside them are no room.
    let mut hungry = base();
    let deployment = hungry.view.deployments.get_mut(&key("llm-predictor")).unwrap();
    Arc::make_mut(deployment).requests = Resources { memory_bytes: 12 << 30, ..gpus(1, 1) };
    let hungry = change_node(hungry, "n-1", |node| node.allocatable.memory_bytes = 30 << 30);
    assert_eq!(room(&hungry, &pools), [Room::Fixed(2), Room::Elastic(0)]);
}

#[test]
fn room_is_unknown_while_nodes_or_some_pods_are() {
    let pools = [pool("pool=onprem", false)];
    let base = nodes(scene().ready(&["llm-predictor-a"]), &[("n-1", "onprem", 3)]);
    for missing in ["nodes", "pods"] {
        let mut scene = base.clone();
        scene.view.unsynced.insert(missing);
        assert_eq!(room(&scene, &pools), [Room::Unknown], "{missing}");
    }
    let mut partial = base;
    partial.view.namespaces.insert("prod".into());
    assert_eq!(room(&partial, &pools), [Room::Unknown], "pods of other namespaces are not watched");
}
