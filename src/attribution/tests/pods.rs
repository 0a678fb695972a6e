//! From lines to cards and pods.

use super::super::scene::{MEM, SM, Scene, ago, family, key, vocabulary};
use crate::{
    cluster::{Phase, PodState},
    exposition::{Format, Limits},
    gpu::{Sample, page},
    reading::{Measured, Unknown},
    scrape::TargetId,
};

fn one_pod() -> Scene {
    Scene::new().service("llm").ready(&["llm-0"])
}

#[test]
fn r1_one_unknown_process_makes_the_card_and_one_unknown_card_the_pod_unknown() {
    for lines in [
        &["SM llm-0 a#1 NaN"][..],
        &["SM llm-0 a#1 50", "SM llm-0 a#2 NaN"],
        &["SM llm-0 a#2 NaN", "SM llm-0 a#1 50"],
        &["SM llm-0 a#1 50", "SM llm-0 b#2 NaN"],
        &["SM llm-0 a 50", "SM llm-0 a NaN"],
    ] {
        assert_eq!(one_pod().page(lines).pod_reading("llm-0", "SM"), Err(Unknown::Malformed), "{lines:?}");
    }
}

#[test]
fn r1_a_true_zero_is_a_value_and_an_absent_family_is_not() {
    let scene = one_pod().page(&["SM llm-0 a#1 0"]);
    assert_eq!(scene.pod_value("llm-0", "SM"), Some(0.0));
    assert_eq!(scene.pod_reading("llm-0", "MEM"), Err(Unknown::Absent));
}

#[test]
fn r1_a_process_that_the_page_lists_elsewhere_is_missing_from_a_sum_and_not_idle() {
    let missing = Err(Unknown::ProcessMissing { process: "2".into(), card: "a".into() });
    let partial = one_pod().page(&["SM llm-0 a#1 50", "MEM llm-0 a#1 100", "MEM llm-0 a#2 100"]);
    assert_eq!(partial.pod_reading("llm-0", "SM"), missing);
    assert_eq!(partial.pod_value("llm-0", "MEM"), Some(200.0));
    let memory = one_pod().page(&["SM llm-0 a#1 50", "SM llm-0 a#2 0", "MEM llm-0 a#1 100"]);
    assert_eq!(memory.pod_reading("llm-0", "MEM"), missing, "a partial sum of memory is as wrong");
    let other = one_pod().ready(&["llm-1"]).page(&["SM llm-1 b#3 50", "MEM llm-0 a#2 100", "MEM llm-1 b#3 1"]);
    assert_eq!(other.pod_reading("llm-0", "SM"), missing, "the family is on the page, this pod is not in it");
    let none = one_pod().page(&["MEM llm-0 a#2 100"]);
    assert_eq!(none.pod_reading("llm-0", "SM"), Err(Unknown::Absent), "the page does not have the family");
}

#[test]
fn r1_where_absent_means_idle_a_listed_process_is_a_true_zero() {
    let idle = |lines| one_pod().page(lines).change_page(|page| page.absent_means_idle = true);
    assert_eq!(idle(&["MEM llm-0 a#1 100"]).pod_value("llm-0", "SM"), Some(0.0), "no process is busy anywhere");
    assert_eq!(idle(&["SM llm-0 a#1 50", "MEM llm-0 a#2 100"]).pod_value("llm-0", "SM"), Some(50.0));
    let partial = idle(&["SM llm-0 a#1 50", "MEM llm-0 a#2 100"]).pod_reading("llm-0", "MEM");
    assert!(matches!(partial, Err(Unknown::ProcessMissing { .. })), "idle processes still have memory: {partial:?}");
    assert_eq!(idle(&["SM - a#1 50"]).pod_reading("llm-0", "SM"), Err(Unknown::Absent), "nothing lists the pod");
    let old = idle(&["MEM llm-0 a#1 100"]).change_page(|page| page.measured = ago(31));
    assert!(matches!(old.pod_reading("llm-0", "SM"), Err(Unknown::Stale { .. })));
}

/// A page as an exporter writes it, of card `a` and pod `llm-0`: family, process, the process's name, value.
fn text(lines: &[(&str, u32, &str, f64)]) -> Vec<Sample> {
    let line = |(family, process, name, value): &(&str, u32, &str, f64)| {
        format!(
            "{family}{{NamespaceName=\"prod\",PodName=\"llm-0\",ProcessId=\"{process}\",ProcessName=\"{name}\",\
             UUID=\"a\"}} {value}\n"
        )
    };
    let text = lines.iter().map(line).collect::<Vec<_>>().concat();
    let limits = Limits { line_bytes: 200, labels: 8, samples: 100 };
    page::read(&vocabulary(), text.as_bytes(), Format::Text, true, ago(1), &limits).unwrap().samples
}

#[test]
fn r1_a_line_that_is_skipped_never_makes_a_sum_smaller() {
    let long = "x".repeat(200);
    let (quote, long) = ("a\"b", long.as_str());
    let scene = |lines: &[_]| one_pod().page(&[]).change_page(|page| page.samples = text(lines));
    let good = [(SM, 1, "python", 50.0), (MEM, 1, "python", 100.0)];
    let both = [good[0], good[1], (SM, 2, "python", 40.0), (MEM, 2, "python", 100.0)];
    assert_eq!(scene(&both).pod_value("llm-0", "SM"), Some(90.0));
    for (what, sm, mem, sm_known, mem_known) in [
        ("breaks behind the pod's name", quote, "python", false, true),
        ("breaks behind the pod's name in all families", quote, quote, false, false),
        ("is too long, and the process is in another family", long, "python", false, true),
    ] {
        let scene = scene(&[good[0], good[1], (SM, 2, sm, 40.0), (MEM, 2, mem, 100.0)]);
        let known = (scene.pod_value("llm-0", "SM").is_some(), scene.pod_value("llm-0", "MEM").is_some());
        assert_eq!(known, (sm_known, mem_known), "a line that {what}");
    }
}

#[test]
fn r2_samples_older_than_max_age_are_unknown_and_the_oldest_time_is_carried() {
    for (age, known) in [(30, true), (31, false), (-5, true)] {
        let scene = one_pod().page(&["SM llm-0 a#1 50"]).change_page(|page| page.measured = ago(age));
        assert_eq!(scene.pod_value("llm-0", "SM").is_some(), known, "{age}s");
    }
    let scene = one_pod().page(&["SM llm-0 a#1 10 age=9", "SM llm-0 a#2 20 age=4", "SM llm-0 a#3 30"]);
    assert_eq!(scene.pod_reading("llm-0", "SM"), Ok(Measured { value: 60.0, at: ago(9) }));
    let one_old = one_pod().page(&["SM llm-0 a#1 10 age=40", "SM llm-0 a#2 20"]);
    assert!(matches!(one_old.pod_reading("llm-0", "SM"), Err(Unknown::Stale { .. })), "no sum of a part");
}

#[test]
fn r4_totals_repeat_for_each_container_and_never_mix_with_device_series() {
    for (lines, expected) in [
        (&["GPU - a 95", "GPU llm-0 a 40", "GPU llm-0 a 40"][..], 40.0),
        (&["GPU llm-0 a 40", "GPU llm-0 a 30"], 40.0),
        (&["GPU - a 95", "GPU llm-0 a.1 20"], 20.0),
    ] {
        assert_eq!(one_pod().page(lines).pod_value("llm-0", "GPU"), Some(expected), "{lines:?}");
    }
    assert_eq!(one_pod().page(&["GPU - a 95"]).pod_reading("llm-0", "GPU"), Err(Unknown::Absent));
}

#[test]
fn r5_a_busy_card_whose_pods_all_read_zero_is_an_attribution_failure() {
    let failed = Some(95.0);
    for (case, lines, expected) in [
        ("upstream's silent zero", &["GPU - a 95", "GPU llm-0 a 0", "GPU llm-1 a 0"][..], failed),
        ("processes read zero", &["GPU - a 95", "SM llm-0 a#1 0", "SM llm-1 a#2 0"], failed),
        ("another pod is busy", &["GPU - a 95", "GPU llm-0 a 0", "GPU llm-1 a 90"], None),
        ("a pod that is gone is busy", &["GPU - a 95", "GPU llm-0 a 0", "GPU gone a 90"], None),
        ("the card is idle", &["GPU - a 9", "GPU llm-0 a 0"], None),
        ("another card is busy", &["GPU - b 95", "GPU - a 0", "GPU llm-0 a 0"], None),
        ("an unknown neighbour is no witness", &["GPU - a 95", "GPU llm-0 a 0", "GPU llm-1 a NaN"], failed),
        ("MIG has no device utilization", &["GR - a.1 95", "SM llm-0 a.1#1 0"], failed),
        ("the device is unknown", &["GPU - a NaN", "GPU llm-0 a 0"], None),
        ("the device's line is old", &["GPU - a 95 age=40", "GPU llm-0 a 0"], None),
    ] {
        let scene = one_pod().ready(&["llm-1"]).page(lines);
        let name = if lines.iter().any(|line| line.starts_with("SM")) { "SM" } else { "GPU" };
        let reading = scene.pod_reading("llm-0", name);
        let device = match &reading {
            Err(Unknown::AttributionFailed { device, .. }) => Some(*device),
            other => {
                assert_eq!(other.as_ref().unwrap().value, 0.0, "{case}");
                None
            }
        };
        assert_eq!(device, expected, "{case}");
        let noted: Vec<f64> = scene.readings().attribution_failures.into_values().collect();
        assert_eq!(noted, Vec::from_iter(expected), "{case}");
    }
}

#[test]
fn r5_takes_all_utilization_of_the_card_and_leaves_memory_and_other_cards() {
    let scene = one_pod().pod("llm-1", PodState::Ready, 0).page(&[
        "GPU - a 95",
        "GPU - b 95",
        "SM llm-0 a#1 0",
        "ENC llm-0 a#1 7",
        "MEM llm-0 a#1 100",
        "SM llm-1 b#2 80",
    ]);
    assert!(matches!(scene.pod_reading("llm-0", "ENC"), Err(Unknown::AttributionFailed { .. })));
    assert_eq!(scene.pod_value("llm-0", "MEM"), Some(100.0));
    assert_eq!(scene.pod_value("llm-1", "SM"), Some(80.0));
}

#[test]
fn r5_holds_for_zeros_that_stand_for_absent_lines() {
    let scene = one_pod().page(&["GPU - a 95", "MEM llm-0 a#1 100"]).change_page(|page| page.absent_means_idle = true);
    assert!(matches!(scene.pod_reading("llm-0", "SM"), Err(Unknown::AttributionFailed { .. })));
}

#[test]
fn r6_lines_of_pods_that_do_not_exist_are_counted_and_go_no_further() {
    let scene = one_pod().page(&["SM llm-0 a#1 50", "SM gone a#2 50", "SM - a#3 10", "GPU - a 95"]);
    let readings = scene.readings();
    assert_eq!(readings.unattributed, 2, "the pod that is gone and the process without a pod; devices have none");
    assert_eq!(readings.pods.keys().map(|key| &*key.name).collect::<Vec<_>>(), ["llm-0"]);
    assert_eq!(scene.pod_value("llm-0", "SM"), Some(50.0));
    let finished = scene.change_pod("llm-0", |pod| pod.phase = Phase::Finished);
    assert_eq!(finished.readings().pods.len(), 0);
}

#[test]
fn r6_a_recreated_pod_does_not_inherit_its_namesakes_samples() {
    let uid = one_pod().page(&["SM llm-0@uid-old a#1 90"]);
    assert_eq!(uid.pod_reading("llm-0", "SM"), Err(Unknown::BeforeStart));
    let both = one_pod().page(&["SM llm-0@uid-old a#1 90", "SM llm-0@uid-llm-0 a#2 20"]);
    assert_eq!(both.pod_value("llm-0", "SM"), Some(20.0), "its own line counts alone");
    let page = one_pod().page(&["SM llm-0 a#1 90"]);
    for (started, known) in [(0, false), (1, true), (2, true)] {
        let scene = page.clone().change_pod("llm-0", |pod| pod.started = Some(ago(started)));
        assert_eq!(scene.pod_value("llm-0", "SM").is_some(), known, "started {started}s ago, measured 1s ago");
    }
}

#[test]
fn r7_processes_add_up_to_at_most_a_full_card_and_a_pod_is_the_mean_over_its_cards() {
    for (gpus, lines, expected) in [
        (1, &["SM llm-0 a#1 30", "SM llm-0 a#2 40"][..], 70.0),
        (1, &["SM llm-0 a#1 70", "SM llm-0 a#2 60"], 100.0),
        (1, &["SM llm-0 a#1 30", "SM llm-0 a#1 30"], 30.0),
        (2, &["SM llm-0 a#1 100", "SM llm-0 b#1 0"], 50.0),
        (2, &["SM llm-0 a#1 70", "SM llm-0 a#2 60", "SM llm-0 b#3 50"], 75.0),
        (2, &["SM llm-0 a.1#1 10", "SM llm-0 a.2#2 30"], 20.0),
        (0, &["SM llm-0 a#1 10", "SM llm-0 b#1 30"], 20.0),
    ] {
        let scene = one_pod().change_pod("llm-0", |pod| pod.gpus = gpus).page(lines);
        assert_eq!(scene.pod_value("llm-0", "SM"), Some(expected), "{lines:?}");
    }
    let memory = one_pod().page(&["MEM llm-0 a#1 3000", "MEM llm-0 a#2 4000", "MEM llm-0 b#1 5000"]);
    assert_eq!(memory.pod_value("llm-0", "MEM"), Some(12_000.0), "memory adds up");
}

#[test]
fn r7_an_eight_card_pod_reads_at_most_a_hundred_and_needs_all_its_cards() {
    let lines: Vec<String> = (0..8).map(|card| format!("SM llm-0 card{card}#1 90")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let pod = one_pod().change_pod("llm-0", |pod| pod.gpus = 8);
    assert_eq!(pod.clone().page(&lines).pod_value("llm-0", "SM"), Some(90.0));
    let seven = pod.page(&lines[1..]).pod_reading("llm-0", "SM");
    assert_eq!(seven, Err(Unknown::CardsMissing { reported: 7, requested: 8 }));
}

#[test]
fn of_two_exporters_exactly_one_is_heard_for_each_pod_card_and_family() {
    let (known, other) = (&["SM llm-0 a#1 40"][..], &["SM llm-0 a#1 60"][..]);
    for (case, scene, expected) in [
        ("the lower rank", one_pod().other_page("x", 1, known).other_page("y", 0, other), 60.0),
        ("equal ranks: the smaller id", one_pod().other_page("x", 0, known).other_page("y", 0, other), 40.0),
        ("known before ranked", one_pod().other_page("x", 0, &["SM llm-0 a#1 NaN"]).other_page("y", 9, other), 60.0),
        (
            "fresh before ranked",
            one_pod().other_page("x", 0, &["SM llm-0 a#1 40 age=50"]).other_page("y", 9, other),
            60.0,
        ),
        (
            "attribution that works before one that does not",
            one_pod().other_page("x", 0, &["GPU - a 95", "SM llm-0 a#1 0"]).other_page("y", 9, other),
            60.0,
        ),
    ] {
        assert_eq!(scene.pod_value("llm-0", "SM"), Some(expected), "{case}");
    }
    let families = one_pod().other_page("x", 0, known).other_page("y", 9, &["SM llm-0 a#1 1", "MEM llm-0 a#1 7"]);
    assert_eq!((families.pod_value("llm-0", "SM"), families.pod_value("llm-0", "MEM")), (Some(40.0), Some(7.0)));
}

#[test]
fn nodes_have_the_devices_own_value_or_the_sum_of_all_their_processes() {
    let scene = one_pod().page(&[
        "GPU - a 90",
        "GPU llm-0 a 30",
        "GPU - b 10",
        "SM llm-0 a#1 30",
        "SM - a#2 40",
        "SM gone b#3 10",
        "MEM llm-0 a#1 100",
        "MEM gone b#3 50",
    ]);
    let node = &scene.readings().nodes["n1"];
    let value = |name: &str| node[&family(name)].as_ref().unwrap().value;
    assert_eq!((value("GPU"), value("SM"), value("MEM")), (50.0, 40.0, 150.0));
    let unknown = one_pod().page(&["GPU - a 90", "GPU - b NaN"]).readings();
    assert_eq!(unknown.nodes["n1"][&family("GPU")], Err(Unknown::Malformed));
}

#[test]
fn a_lines_node_counts_where_the_cluster_has_it_and_the_targets_node_otherwise() {
    let nodes = |line: &str| one_pod().page(&[line]).readings().nodes.into_keys().collect::<Vec<_>>();
    assert_eq!(nodes("GPU - a 90 node=n1"), ["n1".into()]);
    assert_eq!(nodes("GPU - a 90 node=a-pods-hostname"), ["n1".into()]);
}

#[test]
fn families_of_another_vocabulary_are_passed_over() {
    let scene = one_pod().page(&["SM llm-0 a#1 50"]).change_page(|page| {
        let mut foreign = page.samples[0].clone();
        foreign.family.0 = 99;
        page.samples.push(foreign);
    });
    assert_eq!(scene.pod_value("llm-0", "SM"), Some(50.0));
    assert_eq!(scene.readings().seen, [family("SM")].into());
}

#[test]
fn nothing_is_said_about_pods_while_they_are_not_listed() {
    let mut scene = one_pod().page(&["SM llm-0 a#1 50", "GPU - a 10"]);
    scene.view.unsynced.insert("pods");
    let readings = scene.readings();
    assert!(readings.pods.is_empty() && readings.services.is_empty() && readings.core_services.is_empty());
    assert_eq!(readings.nodes.len(), 1, "nodes do not depend on pods");
}

#[test]
fn r1_of_a_namespace_that_is_not_listed_nothing_is_said_and_of_the_others_what_there_is() {
    let scene = || one_pod().page(&["SM llm-0 a#1 50"]);
    let (alone, both) = (scene().readings(), scene().beside_unlisted("else", &[]).readings());
    assert_eq!((both.pods.len(), both.services.len(), both.core_services.len()), (2, 2, 2));
    for kind in ["pods", "deployments"] {
        let readings = scene().beside_unlisted("else", &[kind]).readings();
        assert_eq!((&readings.services, &readings.core_services), (&alone.services, &alone.core_services), "{kind}");
        assert_eq!(readings.pods.len(), if kind == "pods" { 1 } else { 2 }, "{kind}");
        assert_eq!(readings.pods[&key("llm-0")], alone.pods[&key("llm-0")], "{kind}");
    }
}

#[test]
fn an_attribution_failure_names_target_and_card() {
    let failures = one_pod().page(&["GPU - a 95", "GPU llm-0 a 0"]).readings().attribution_failures;
    let (target, card) = failures.into_keys().next().unwrap();
    assert_eq!((target, &*card.uuid), (TargetId("exporter".into()), "a"));
}

#[test]
fn r8_what_a_pod_did_while_it_loaded_its_model_is_not_the_ready_replicas() {
    let lines = &["SM llm-0 a#1 0"];
    // The page is of one second ago.
    for (ready_since, expected) in [(ago(2), true), (ago(1), true), (ago(0), false)] {
        let scene = one_pod().change_pod("llm-0", |pod| pod.ready_since = Some(ready_since)).page(lines);
        let expected = if expected { Ok(0.0) } else { Err(Unknown::BeforeReady) };
        assert_eq!(scene.pod_reading("llm-0", "SM").map(|measured| measured.value), expected, "{ready_since}");
        let starting = scene.change_pod("llm-0", |pod| pod.state = PodState::Starting);
        assert_eq!(starting.pod_value("llm-0", "SM"), Some(0.0), "by name a starting pod may be asked for");
    }
}

/// A StatefulSet's pod moves to another node and keeps its name; the dead node's exporter stays a target, with its last
/// page, for as long as the node object exists.
#[test]
fn r6_what_a_namesake_left_on_another_card_does_not_make_the_pod_unknown() {
    for old in [31, 3590, 3601] {
        let moved = one_pod()
            .page(&["SM llm-0 b#2 20"])
            .other_page("dead-node", 0, &["SM llm-0 a#1 90"])
            .change_page(|page| page.measured = ago(old))
            .change_pod("llm-0", |pod| pod.started = Some(ago(10)));
        assert_eq!(moved.pod_value("llm-0", "SM"), Some(20.0), "a page from {old}s ago");
    }
    let uid = one_pod().page(&["SM llm-0@uid-old a#1 90", "SM llm-0 b#2 20"]);
    assert_eq!(uid.pod_value("llm-0", "SM"), Some(20.0), "another UID's card");
    let fewer = one_pod()
        .change_pod("llm-0", |pod| pod.gpus = 2)
        .page(&["SM llm-0@uid-old a#1 90", "SM llm-0 b#2 20"])
        .pod_reading("llm-0", "SM");
    assert_eq!(fewer, Err(Unknown::CardsMissing { reported: 1, requested: 2 }), "nor does it stand in for a card");
}

#[test]
fn r6_a_pod_that_has_not_started_owns_no_samples() {
    let waiting = |state| {
        one_pod()
            .page(&["SM llm-0 a#1 90"])
            .change_pod("llm-0", |pod| {
                (pod.started, pod.phase, pod.state) = (None, Phase::Pending, state);
            })
            .pod_reading("llm-0", "SM")
    };
    for state in [PodState::Pending, PodState::Starting] {
        assert_eq!(waiting(state), Err(Unknown::BeforeStart), "{state:?}: the line is its namesake's");
    }
    let running = one_pod().page(&["SM llm-0 a#1 90"]).change_pod("llm-0", |pod| pod.started = None);
    assert_eq!(running.pod_value("llm-0", "SM"), Some(90.0), "it runs, and nobody says since when");
}
