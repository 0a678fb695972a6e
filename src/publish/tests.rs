//! What is answered, and what is said instead of a number.

#![expect(clippy::float_cmp, reason = "the values are exact, or must be the same to the bit")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use apiservice::{CustomMetric, ExternalMetricName, MetricValue, Provider as _, Resource, Scope, Selector, Status};
use jiff::{SignedDuration, Timestamp};

use super::{Publisher, Snapshot};
use crate::{
    attribution::{
        remember,
        scene::{MAX_AGE, SM, Scene, ago, key, now, vocabulary},
    },
    clock::Clock,
    cluster::{Deployment, PodState},
};

const NAMESPACE: Option<&str> = Some("prod");

fn snapshot(scene: &Scene) -> Snapshot {
    let view = Arc::new(scene.view.clone());
    Snapshot::of(scene.readings(), view, Arc::new(vocabulary()), now(), MAX_AGE)
}

fn resource(text: &str) -> Resource {
    let (name, group) = text.split_once('.').unwrap_or((text, ""));
    Resource { group: group.into(), name: name.into() }
}

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

fn everything() -> Selector {
    Selector::everything()
}

fn by_name(snapshot: &Snapshot, what: &str, name: &str, metric: &str) -> Result<MetricValue, Status> {
    snapshot.custom_by_name(&resource(what), NAMESPACE, name, metric, &everything(), now())
}

fn list(snapshot: &Snapshot, what: &str, objects: &str, now: Timestamp) -> Result<Vec<(String, f64)>, Status> {
    let values = snapshot.custom_by_selector(&resource(what), NAMESPACE, &selector(objects), SM, &everything(), now)?;
    Ok(values.into_iter().map(|value| (value.object.name.to_string(), value.value.as_f64())).collect())
}

fn external(snapshot: &Snapshot, metric: &str, objects: &str) -> Result<Vec<(String, f64)>, Status> {
    let items = snapshot.external("prod", metric, &selector(objects), now())?;
    Ok(items.into_iter().map(|item| (format!("{:?}", item.labels.values()), item.value.as_f64())).collect())
}

fn message<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!((status.code, status.reason), (404, "NotFound"));
    status.message
}

/// A KServe service with two ready pods and a starting one, all of which report.
fn scene() -> Scene {
    Scene::new()
        .service("llm-predictor")
        .ready(&["llm-predictor-0", "llm-predictor-1"])
        .pod("llm-predictor-2", PodState::Starting, 1)
        .page(&["SM llm-predictor-1 b#1 60", "SM llm-predictor-0 a#1 33.5", "SM llm-predictor-2 c#1 9", "GPU - a 40"])
}

#[test]
fn a_wildcard_answers_exactly_the_ready_pods_that_match_and_have_a_value_sorted_by_name() {
    let all = vec![("llm-predictor-0".to_owned(), 33.5), ("llm-predictor-1".to_owned(), 60.0)];
    let snapshot = snapshot(&scene());
    assert_eq!(list(&snapshot, "pods", "app=isvc.llm-predictor", now()), Ok(all.clone()));
    assert_eq!(list(&snapshot, "pods", "", now()), Ok(all.clone()));
    let none = message(list(&snapshot, "pods", "app=other", now()));
    assert_eq!(
        none,
        "the server could not find the metric DCGM_CUSTOM_PROCESS_SM_UTIL for pods matching app=other: there is none in prod"
    );
    let leaving = scene().change_pod("llm-predictor-0", |pod| pod.state = PodState::Leaving);
    assert_eq!(list(&self::snapshot(&leaving), "pods", "", now()), Ok(all[1..].to_vec()));
    let missing = scene().ready(&["llm-predictor-3", "aaa-0"]);
    assert_eq!(list(&self::snapshot(&missing), "pods", "", now()), Ok(all), "pods without a value are left out");
}

/// What the HPA fills in for missing pods is its target, and so the words of a few would remove replicas.
#[test]
fn r9_too_few_known_pods_of_a_selection_are_no_answer_and_r5_one_that_cannot_be_attributed_is_none() {
    let names = ["llm-predictor-0", "llm-predictor-1", "llm-predictor-2"];
    let service = || Scene::new().service("llm-predictor").ready(&names);
    let app = "app=isvc.llm-predictor";
    let one = snapshot(&service().page(&["SM llm-predictor-0 a#1 0"]));
    let why = message(list(&one, "pods", app, now()));
    assert!(why.contains("only 1 of 3 ready pods report"), "{why}");
    assert_eq!(list(&one, "pods", "", now()).unwrap().len(), 1, "a list of all pods is for people");
    let two = snapshot(&service().page(&["SM llm-predictor-0 a#1 0", "SM llm-predictor-1 b#1 0"]));
    assert_eq!(list(&two, "pods", app, now()).unwrap().len(), 2);
    let blind = &["SM llm-predictor-0 a#1 10", "SM llm-predictor-1 b#1 10", "SM llm-predictor-2 c#1 0", "GPU - c 95"];
    let why = message(list(&snapshot(&service().page(blind)), "pods", app, now()));
    assert!(why.contains("llm-predictor-2: attribution failed: card c is 95% busy"), "{why}");
    let helper = service().pod("llm-predictor-9", PodState::Ready, 0).pod("llm-predictor-8", PodState::Ready, 0);
    let helpers = snapshot(&helper.page(&["SM llm-predictor-0 a#1 0", "SM llm-predictor-1 b#1 0"]));
    assert_eq!(list(&helpers, "pods", app, now()).unwrap().len(), 2, "pods without a GPU have nothing to report");
}

/// The Deployment that an HPA scales, the metric that it reads, and its target.
type Hpa = (&'static str, &'static str, f64);

/// What it is, what the other two pods read, the HPAs, the question's selector, and what a refusal says.
type BlindCase<'a> = (&'a str, f64, &'a [Hpa], &'a str, Option<&'a str>);

/// The HPA counts a missing pod as 0 while the others ask for more than the target, and as the target while they ask for
/// less: above it they can do nothing but add.
#[test]
fn r5_a_pod_that_cannot_be_attributed_is_left_out_only_while_the_others_can_do_nothing_but_add() {
    const GPU: &str = "DCGM_FI_DEV_GPU_UTIL";
    let app = "app=isvc.llm-predictor";
    let own = |target| ("llm-predictor", SM, target);
    let cases: [BlindCase<'_>; 14] = [
        ("above the target", 90.0, &[own(50.0)], app, None),
        ("a thousandth above", 50.001, &[own(50.0)], app, None),
        ("at the target: the HPA counts the missing one as 0 and removes", 50.0, &[own(50.0)], app, Some("target 50:")),
        ("less than a thousandth above", 50.0004, &[own(50.0)], app, Some("target 50:")),
        ("below", 10.0, &[own(50.0)], app, Some("target 50:")),
        ("idle", 0.0, &[own(50.0)], app, Some("target 50:")),
        ("nobody decides on it", 90.0, &[], app, Some("no HPA is known")),
        ("an HPA that reads something else", 90.0, &[("llm-predictor", GPU, 50.0)], app, Some("no HPA is known")),
        ("two that agree", 90.0, &[own(50.0), own(50.0)], app, None),
        ("two that differ: above both", 90.0, &[own(50.0), own(80.0)], app, None),
        ("two that differ: between them", 60.0, &[own(50.0), own(80.0)], app, Some("target 80:")),
        ("another Deployment's HPA has no say", 60.0, &[own(50.0), ("other", SM, 95.0)], app, None),
        (
            "asked by another selector: all have",
            60.0,
            &[own(50.0), ("other", SM, 95.0)],
            "app in (isvc.llm-predictor)",
            Some("target 95:"),
        ),
        ("asked by another selector: above all", 97.0, &[own(50.0), ("other", SM, 95.0)], "app,app!=other", None),
    ];
    for (case, value, hpas, objects, refused) in cases {
        let names = ["llm-predictor-0", "llm-predictor-1", "llm-predictor-2"];
        let mut scene = Scene::new().service("llm-predictor").service("other").ready(&names);
        for (i, (deployment, metric, target)) in hpas.iter().enumerate() {
            scene = scene.hpa(&format!("hpa-{i}"), deployment, metric, *target);
        }
        let lines = [0, 1].map(|i| format!("SM llm-predictor-{i} card{i}#1 {value}"));
        let scene = scene.page(&[&lines[0], &lines[1], "SM llm-predictor-2 c#1 0", "GPU - c 95"]);
        let answer = list(&snapshot(&scene), "pods", objects, now());
        if let Some(why) = refused {
            let message = message(answer);
            assert!(message.contains("llm-predictor-2: attribution failed: card c is 95% busy"), "{case}: {message}");
            assert!(message.contains(why), "{case}: {message}");
        } else {
            assert_eq!(answer.unwrap().len(), 2, "{case}");
            for unsynced in ["horizontalpodautoscalers", "deployments"] {
                let mut scene = scene.clone();
                scene.view.unsynced.insert(unsynced);
                assert!(list(&snapshot(&scene), "pods", objects, now()).is_err(), "{case}: {unsynced} unknown");
            }
        }
    }
}

#[test]
fn every_form_of_selector_finds_the_same_pods() {
    let snapshot = snapshot(&scene().service("other").ready(&["other-0"]).page(&["SM other-0 d#1 7"]));
    let names = |objects| {
        list(&snapshot, "pods", objects, now()).map(|items| items.into_iter().map(|item| item.0).collect::<Vec<_>>())
    };
    let mine = Ok(vec!["llm-predictor-0".to_owned(), "llm-predictor-1".to_owned()]);
    for objects in [
        "app=isvc.llm-predictor",
        "app==isvc.llm-predictor,app",
        "app in (isvc.llm-predictor)",
        "app!=other,app,app notin (isvc.other,other)",
        "!track,app=isvc.llm-predictor",
    ] {
        assert_eq!(names(objects), mine, "{objects}");
    }
    assert!(names("app=isvc.llm-predictor,app=other").is_err());
    assert!(names("app=isvc.llm-predictor,track").is_err());
}

#[test]
fn a_value_carries_its_object_and_the_time_it_was_measured() {
    let snapshot = snapshot(&scene());
    for (what, name, kind, api_version, value) in [
        ("pods", "llm-predictor-0", "Pod", "v1", 33.5),
        ("inferenceservices.serving.kserve.io", "llm", "InferenceService", "serving.kserve.io/v1beta1", 46.75),
        ("deployments.apps", "llm-predictor", "Deployment", "apps/v1", 46.75),
        ("services", "llm-predictor", "Service", "v1", 46.75),
    ] {
        let answer = by_name(&snapshot, what, name, SM).unwrap();
        assert_eq!((&*answer.object.kind, &*answer.object.api_version), (kind, api_version));
        assert_eq!((answer.object.namespace.as_deref(), &*answer.object.name), (NAMESPACE, name));
        assert_eq!((answer.value.as_f64(), answer.timestamp, answer.window), (value, ago(1), None), "{what}");
    }
    let node = by_name(&snapshot, "nodes", "n1", "DCGM_FI_DEV_GPU_UTIL").unwrap();
    assert_eq!((node.object.namespace, node.value.as_f64()), (None, 40.0), "the HPA asks with its namespace");
    let starting = by_name(&snapshot, "pods", "llm-predictor-2", SM).unwrap();
    assert_eq!(starting.value.as_f64(), 9.0, "by name also a pod that is not ready");
}

#[test]
fn statistics_are_served_by_suffix_for_services_and_not_for_pods() {
    let snapshot = snapshot(&scene());
    for (suffix, expected) in
        [("", 46.75), ("_sum", 93.5), ("_max", 60.0), ("_p50", 46.75), ("_p90", 60.0), ("_p99", 60.0)]
    {
        let metric = format!("{SM}{suffix}");
        for (what, name) in [
            ("inferenceservices.serving.kserve.io", "llm"),
            ("deployments.apps", "llm-predictor"),
            ("services", "llm-predictor"),
        ] {
            assert_eq!(by_name(&snapshot, what, name, &metric).unwrap().value.as_f64(), expected, "{what} {suffix}");
        }
        assert_eq!(external(&snapshot, &metric, "").unwrap()[0].1, expected);
    }
    let pods = message(by_name(&snapshot, "pods", "llm-predictor-0", "DCGM_CUSTOM_PROCESS_SM_UTIL_max"));
    assert!(pods.ends_with("it is not a metric of this resource"), "{pods}");
}

#[test]
fn every_unknown_is_a_404_that_says_why() {
    let nan = scene().change_page(|page| page.samples[0].reading = Err(crate::reading::Unknown::Malformed));
    let snapshot = snapshot(&nan.service("idle-predictor").service("web"));
    for (what, name, metric, why) in [
        ("pods", "llm-predictor-1", SM, "pods llm-predictor-1: the exporter's value is not a number"),
        ("pods", "llm-predictor-9", SM, "there is no pod of that name in prod"),
        ("pods", "llm-predictor-0", "DCGM_CUSTOM_PROCESS_MEM_USED", "no exporter reports it"),
        ("pods", "llm-predictor-0", "requests", "it is not a metric of this resource"),
        ("jobs.batch", "llm", SM, "no metric describes this resource"),
        ("pods.apps", "llm-predictor-0", SM, "no metric describes this resource"),
        ("deployments.apps", "nope", SM, "there is no Deployment of that name in prod"),
        ("deployments.apps", "web", SM, "none of its pods has a GPU"),
        ("deployments.apps", "idle-predictor", SM, "no ready pod"),
        ("inferenceservices.serving.kserve.io", "idle", SM, "no ready pod"),
        ("inferenceservices.serving.kserve.io", "nope", SM, "there is no InferenceService of that name in prod"),
        ("services", "nope", SM, "there is no Service of that name in prod"),
        ("nodes", "n9", SM, "there is no node of that name"),
        ("nodes", "n1", "DCGM_CUSTOM_PROCESS_MEM_USED", "no exporter reports it"),
    ] {
        let message = message(by_name(&snapshot, what, name, metric));
        assert!(message.starts_with(&format!("the server could not find the metric {metric} for {what}")), "{message}");
        assert!(message.ends_with(why), "{what} {name}: {message}");
    }
}

#[test]
fn a_wildcard_without_any_value_names_the_first_pods_and_their_reasons_instead_of_being_empty() {
    let silent =
        Scene::new().service("llm").ready(&["llm-0", "llm-1", "llm-2", "llm-3", "llm-4"]).page(&["SM llm-0 a#1 NaN"]);
    assert_eq!(
        message(list(&snapshot(&silent), "pods", "app=isvc.llm", now())),
        "the server could not find the metric DCGM_CUSTOM_PROCESS_SM_UTIL for pods matching app=isvc.llm: none of 5 in prod has a value: \
         llm-0: the exporter's value is not a number; llm-1: no exporter reports it; llm-2: no exporter reports it; and 2 more"
    );
    let starting = Scene::new().service("llm").pod("llm-0", PodState::Starting, 1).page(&["SM llm-0 a#1 5"]);
    let message = message(list(&snapshot(&starting), "pods", "", now()));
    assert!(message.ends_with("none is ready in prod (1 starting or pending)"), "{message}");
}

#[test]
fn r2_a_snapshot_that_is_not_replaced_goes_stale_by_itself() {
    let snapshot = snapshot(&scene());
    for (after, known) in [(29, true), (30, false)] {
        let later = now() + SignedDuration::from_secs(after);
        assert_eq!(list(&snapshot, "pods", "", later).is_ok(), known, "{after}s");
        assert_eq!(list(&snapshot, "deployments.apps", "", later).is_ok(), known, "{after}s");
        assert_eq!(snapshot.external("prod", SM, &everything(), later).is_ok(), known, "{after}s");
    }
    let later = now() + SignedDuration::from_secs(59);
    let old = message(list(&snapshot, "deployments.apps", "", later));
    assert!(old.ends_with("llm-predictor: last measured 60s ago, more than maxAge 30s"), "{old}");
}

#[test]
fn an_inference_service_stands_for_its_predictor_or_its_only_deployment() {
    let named = |deployment: &str, name: &str| {
        let mut scene = Scene::new().service(deployment).ready(&[&format!("{deployment}-0")]);
        scene = scene.page(&[&format!("SM {deployment}-0 a#1 70")]);
        let change: &mut Deployment = Arc::make_mut(scene.view.deployments.get_mut(&key(deployment)).unwrap());
        change.inference_service = Some(name.into());
        scene
    };
    let value = |scene: &Scene| {
        by_name(&snapshot(scene), "inferenceservices.serving.kserve.io", "llm", SM).map(|value| value.value.as_f64())
    };
    assert_eq!(value(&named("llm-predictor", "llm")), Ok(70.0));
    assert_eq!(value(&named("llm-predictor-00002", "llm")), Ok(70.0), "its only one, by the label");
    let other = message(value(&named("llm-predictor", "other")));
    assert!(other.ends_with("no Deployment serves it"), "{other}");
    let mut two = named("llm-predictor-00001", "llm").service("llm-predictor-00002");
    Arc::make_mut(two.view.deployments.get_mut(&key("llm-predictor-00002")).unwrap()).inference_service =
        Some("llm".into());
    let ambiguous = message(value(&two));
    assert!(
        ambiguous.ends_with(
            "several Deployments serve it (llm-predictor-00001, llm-predictor-00002): ask for one of them by deployments.apps"
        ),
        "{ambiguous}"
    );
}

#[test]
fn services_are_selected_by_their_labels_and_unknown_ones_are_left_out_of_custom_lists() {
    let snapshot = snapshot(&scene().service("idle-predictor"));
    for what in ["inferenceservices.serving.kserve.io", "deployments.apps", "services"] {
        assert_eq!(list(&snapshot, what, "", now()).unwrap().len(), 1, "{what}: the idle one is unknown");
    }
    let team = list(&snapshot, "inferenceservices.serving.kserve.io", "team=a", now());
    assert_eq!(team, Ok(vec![("llm".to_owned(), 46.75)]));
    assert!(list(&snapshot, "inferenceservices.serving.kserve.io", "team=b", now()).is_err());
}

#[test]
fn external_answers_one_item_for_each_service_and_nothing_if_one_is_unknown() {
    let two = scene().service("chat").ready(&["chat-0"]).page(&["SM chat-0 z#1 20"]);
    let answers = snapshot(&two);
    let (chat, llm) =
        ((r#"["chat", "prod"]"#.to_owned(), 20.0), (r#"["llm-predictor", "llm", "prod"]"#.to_owned(), 46.75));
    for (objects, expected) in [
        ("", vec![chat.clone(), llm.clone()]),
        ("namespace=prod", vec![chat.clone(), llm.clone()]),
        ("inferenceservice=llm", vec![llm.clone()]),
        ("deployment=chat", vec![chat.clone()]),
        ("!inferenceservice", vec![chat.clone()]),
    ] {
        assert_eq!(external(&answers, SM, objects), Ok(expected), "{objects}");
    }
    let nothing = message(external(&answers, SM, "inferenceservice=nope"));
    assert!(
        nothing.ends_with(
            "for services in prod matching inferenceservice=nope: there is none; there are deployment=chat; inferenceservice=llm,deployment=llm-predictor"
        ),
        "{nothing}"
    );
    assert!(message(external(&answers, "requests", "")).ends_with("it is not a metric of services"));
    let silent = snapshot(&two.clone().change_page(|page| page.measured = ago(40)));
    let partial = message(external(&silent, SM, ""));
    assert!(
        partial.contains("services in prod: chat: only 0 of 1 ready pods report"),
        "never a part of the sum: {partial}"
    );
    assert_eq!(
        external(&silent, SM, "inferenceservice=llm"),
        Ok(vec![llm]),
        "one that is unknown does not hide another"
    );
}

/// Nothing says of `shared` that it uses a GPU but what an exporter reported: no InferenceService, no GPU of its own, no HPA.
#[test]
fn a_service_that_only_its_readings_make_one_stays_in_the_external_list_when_its_exporter_restarts() {
    let pods = |scene: Scene| scene.pod("shared-0", PodState::Ready, 0).pod("helper-0", PodState::Ready, 0);
    let mut scene = pods(scene().service("shared").service("helper")).page(&["SM shared-0 z#1 20"]);
    let both = external(&snapshot(&scene), SM, "").unwrap();
    assert_eq!(both.iter().map(|(_, value)| value).sum::<f64>(), 66.75);
    let mut remembered = BTreeSet::new();
    remember(&mut remembered, &scene.readings(), &scene.view);
    assert!(!remembered.contains(&key("helper")), "what never had a reading is no service");

    scene.pages.pop();
    scene.remembered = remembered.clone();
    let why = message(external(&snapshot(&scene), SM, ""));
    assert!(why.contains("services in prod: shared: no exporter reports it"), "never the sum of the others: {why}");
    remember(&mut remembered, &scene.readings(), &scene.view);
    assert!(remembered.contains(&key("shared")), "for as long as the Deployment exists");

    let mut lost = scene.view.clone();
    lost.deployments.clear();
    let mut lost_here = scene.view.clone();
    lost_here.deployments.clear();
    lost_here.unsynced_in.insert("prod".into(), ["deployments"].into());
    lost.unsynced.insert("deployments");
    for lost in [lost, lost_here] {
        remember(&mut remembered, &crate::attribution::Readings::default(), &lost);
        assert!(remembered.contains(&key("shared")), "a watch that is broken says nothing about what exists");
    }
    scene.view.deployments.remove(&key("shared"));
    remember(&mut remembered, &scene.readings(), &scene.view);
    scene.remembered = remembered.clone();
    assert_eq!(external(&snapshot(&scene), SM, "").unwrap().len(), 1);
    assert!(!remembered.contains(&key("shared")), "and no longer");
}

#[test]
fn other_namespaces_are_never_answered_from() {
    let snapshot = snapshot(&scene());
    for what in ["pods", "deployments.apps", "services", "inferenceservices.serving.kserve.io"] {
        for namespace in [Some("prod2"), Some("pro"), Some(""), None] {
            let answer =
                snapshot.custom_by_selector(&resource(what), namespace, &everything(), SM, &everything(), now());
            assert!(answer.is_err(), "{what} in {namespace:?}: {answer:?}");
        }
    }
    assert!(snapshot.external("pro", SM, &everything(), now()).is_err());
}

#[test]
fn a_metric_selector_that_demands_a_label_matches_nothing() {
    let snapshot = snapshot(&scene());
    for (text, known) in [("", true), ("!model", true), ("model!=qwen", true), ("model=qwen", false), ("model", false)]
    {
        let answer =
            snapshot.custom_by_name(&resource("pods"), NAMESPACE, "llm-predictor-0", SM, &selector(text), now());
        assert_eq!(answer.is_ok(), known, "{text}");
    }
}

#[test]
fn nothing_is_answered_about_what_is_not_listed_yet() {
    for (unsynced, what, name) in [
        ("pods", "pods", "llm-predictor-0"),
        ("pods", "deployments.apps", "llm-predictor"),
        ("deployments", "inferenceservices.serving.kserve.io", "llm"),
        ("services", "services", "llm-predictor"),
        ("nodes", "nodes", "n1"),
    ] {
        let mut scene = scene();
        scene.view.unsynced.insert(unsynced);
        let snapshot = snapshot(&scene);
        let why = format!("the cluster's state is not known yet: {unsynced} are not listed");
        assert!(message(by_name(&snapshot, what, name, SM)).ends_with(&why), "{what}");
        assert!(message(list(&snapshot, what, "", now())).ends_with(&why), "{what}");
    }
    let mut scene = scene();
    scene.view.unsynced.insert("deployments");
    assert!(message(external(&snapshot(&scene), SM, "")).ends_with("deployments are not listed"));
}

#[test]
fn r1_one_namespace_that_is_not_listed_is_unknown_alone_and_says_why() {
    let services = [
        ("pods", "llm-predictor-0"),
        ("deployments.apps", "llm-predictor"),
        ("inferenceservices.serving.kserve.io", "llm"),
        ("services", "llm-predictor"),
    ];
    let ask = |snapshot: &Snapshot, namespace: &str, what: &str, name: &str| {
        let (resource, all) = (resource(what), everything());
        let one = snapshot.custom_by_name(&resource, Some(namespace), name, SM, &all, now());
        let many = snapshot.custom_by_selector(&resource, Some(namespace), &all, SM, &all, now());
        (one.map(|one| one.value.as_f64()), many.map(|many| many.len()))
    };
    let alone = snapshot(&scene());
    let listed = snapshot(&scene().beside_unlisted("dark", &[]));
    for (what, name) in services {
        assert_eq!(ask(&listed, "dark", what, name), ask(&alone, "prod", what, name), "while it is listed: {what}");
    }
    for missing in ["pods", "deployments", "services"] {
        let snapshot = snapshot(&scene().beside_unlisted("dark", &[missing]));
        let why = format!("the cluster's state is not known yet: {missing} in namespace dark are not listed");
        for (what, name) in services {
            assert_eq!(ask(&snapshot, "prod", what, name), ask(&alone, "prod", what, name), "{missing}: {what}");
            let needed = match what {
                "pods" => missing == "pods",
                "services" => true,
                _ => missing != "services",
            };
            if needed {
                let (one, many) = ask(&snapshot, "dark", what, name);
                assert!(message(one).ends_with(&why) && message(many).ends_with(&why), "{missing}: {what}");
            }
        }
        assert_eq!(external(&snapshot, SM, ""), external(&alone, SM, ""));
        if missing != "services" {
            assert!(message(snapshot.external("dark", SM, &everything(), now())).ends_with(&why));
        }
    }
}

#[test]
fn of_a_namespace_that_is_not_watched_it_is_said_that_it_is_not() {
    let snapshot = snapshot(&scene().beside_unlisted("dark", &[]));
    let why = "namespace else is not among those that are watched (aggregate.namespaces)";
    assert!(message(snapshot.external("else", SM, &everything(), now())).ends_with(why));
    let pods = snapshot.custom_by_selector(&resource("pods"), Some("else"), &everything(), SM, &everything(), now());
    assert!(message(pods).ends_with(why));
}

#[test]
fn every_family_is_listed_for_pods_those_of_exporters_for_nodes_and_every_statistic_for_services() {
    let snapshot = snapshot(&Scene::new());
    let families = vocabulary().families.len();
    let metrics = snapshot.custom_metrics();
    let count = |name: &str| metrics.iter().filter(|metric| metric.resource.name == name).count();
    let of_exporters = vocabulary().families.iter().filter(|family| !family.by_server).count();
    assert_eq!((count("pods"), count("nodes")), (families, of_exporters));
    for services in ["inferenceservices", "deployments", "services"] {
        assert_eq!(count(services), families * 6);
    }
    let p90 = format!("{SM}_p90");
    assert!(metrics.contains(&CustomMetric {
        resource: resource("deployments.apps"),
        scope: Scope::Namespaced,
        metric: p90.clone()
    }));
    assert!(metrics.contains(&CustomMetric { resource: resource("nodes"), scope: Scope::Cluster, metric: SM.into() }));
    let external = snapshot.external_metrics();
    assert_eq!(external.len(), families * 6);
    assert!(external.contains(&ExternalMetricName(p90)));
}

#[tokio::test]
async fn r12_a_publisher_that_has_measured_nothing_answers_nothing() {
    let clock = Clock::start();
    let publisher = Publisher::new(Arc::new(vocabulary()), clock);
    let ask =
        async || publisher.custom_by_name(&resource("pods"), NAMESPACE, "llm-predictor-0", SM, &everything()).await;
    assert!(message(ask().await).ends_with("the cluster's state is not known yet: pods are not listed"));
    assert!(publisher.external("prod", SM, &everything()).await.is_err());
    assert_eq!(publisher.custom_metrics().is_empty(), publisher.external_metrics().is_empty());

    let mut scene = ["0", "1", "2"].into_iter().fold(scene(), |scene, n| {
        scene.change_pod(&format!("llm-predictor-{n}"), |pod| (pod.started, pod.ready_since) = (None, None))
    });
    let now = clock.now();
    scene.pages[0].measured = now;
    let batches: Vec<_> = scene.pages.iter().cloned().map(Arc::new).collect();
    let snapshot = |max_age| {
        let (view, families) = (Arc::new(scene.view.clone()), Arc::new(vocabulary()));
        Snapshot::build(&batches, view, families, &scene.settings, &scene.remembered, now, max_age)
    };
    publisher.publish(snapshot(Duration::from_mins(10)));
    assert_eq!(ask().await.unwrap().value.as_f64(), 33.5);
    publisher.publish(snapshot(Duration::ZERO));
    assert!(message(ask().await).contains("last measured"), "its own clock is asked at each query");
}

#[test]
fn families_of_model_servers_are_served_by_pod_and_service_and_not_by_node() {
    let scene = scene()
        .server("llm-predictor-0", &[("vllm:num_requests_waiting", 3.0), ("vllm:kv_cache_usage_perc", 0.25)])
        .server("llm-predictor-1", &[("vllm:num_requests_waiting", 8.0), ("vllm:kv_cache_usage_perc", 0.5)]);
    let snapshot = snapshot(&scene);
    let value = |what, name, metric| by_name(&snapshot, what, name, metric).map(|value| value.value.as_f64());
    assert_eq!(value("pods", "llm-predictor-0", "vllm:num_requests_waiting"), Ok(3.0));
    let service = "inferenceservices.serving.kserve.io";
    assert_eq!(value(service, "llm", "vllm:num_requests_waiting"), Ok(5.5));
    assert_eq!(value(service, "llm", "vllm:num_requests_waiting_sum"), Ok(11.0));
    assert_eq!(value("deployments.apps", "llm-predictor", "vllm:kv_cache_usage_perc_max"), Ok(0.5));
    let items = external(&snapshot, "vllm:num_requests_waiting_max", "inferenceservice=llm").unwrap();
    assert_eq!(items.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [8.0], "one item");
    let node = message(by_name(&snapshot, "nodes", "n1", "vllm:num_requests_waiting"));
    assert!(node.contains("not a metric of this resource"), "{node}");
    let listed = snapshot.custom_metrics();
    let resources: Vec<_> = listed.iter().filter(|listed| listed.metric == "vllm:num_requests_waiting").collect();
    assert_eq!(resources.len(), 4, "pods and services in their three guises: {resources:?}");
}

#[test]
fn a_pod_without_a_queue_signal_says_what_became_of_its_page() {
    let waiting = "vllm:num_requests_waiting";
    let said = |scene: Scene| message(by_name(&snapshot(&scene), "pods", "llm-predictor-0", waiting));
    for (scene, expected) in [
        (scene(), "it has not been read; is scrape.serving on"),
        (scene().server("llm-predictor-0", &[]), "offers no page of metrics: connection refused"),
        (scene().server("llm-predictor-0", &[("vllm:num_requests_running", 1.0)]), "the page has no such family"),
    ] {
        let message = said(scene);
        assert!(message.contains(expected), "{message}");
    }
}
