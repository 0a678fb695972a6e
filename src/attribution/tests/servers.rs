//! Pages of model servers.

use crate::{
    attribution::{
        Statistic::{Max, Mean, Sum},
        scene::{Scene, ago, family, key},
    },
    cluster::PodState,
    reading::{Measured, Unknown},
    scrape::Batch,
};

const WAITING: &str = "vllm:num_requests_waiting";
const CACHE: &str = "vllm:kv_cache_usage_perc";

/// A KServe service of two ready pods and a starting one, whose GPUs report.
fn scene() -> Scene {
    Scene::new()
        .service("llm-predictor")
        .ready(&["llm-predictor-0", "llm-predictor-1"])
        .pod("llm-predictor-2", PodState::Starting, 1)
        .page(&["SM llm-predictor-0 a#1 40", "SM llm-predictor-1 b#2 60", "SM llm-predictor-2 c#3 0"])
}

#[test]
fn what_a_server_says_stands_beside_what_its_gpus_say_and_becomes_the_services_statistics() {
    let scene = scene()
        .server("llm-predictor-0", &[(WAITING, 3.0), (CACHE, 0.25)])
        .server("llm-predictor-1", &[(WAITING, 8.0), (CACHE, 0.75)]);
    assert_eq!(scene.pod_value("llm-predictor-0", "SM"), Some(40.0));
    assert_eq!(scene.pod_value("llm-predictor-0", WAITING), Some(3.0));
    for (name, statistic, expected) in
        [(WAITING, Mean, 5.5), (WAITING, Sum, 11.0), (WAITING, Max, 8.0), (CACHE, Mean, 0.5), (CACHE, Max, 0.75)]
    {
        let reading = scene.service_reading("llm-predictor", name, statistic);
        assert_eq!(reading, Ok(Measured { value: expected, at: ago(1) }), "{name} {statistic:?}");
    }
    assert!(scene.readings().seen.contains(&family(WAITING)));
}

#[test]
fn r6_a_page_is_about_the_pod_that_was_asked_and_not_about_its_namesake() {
    let recreated = scene()
        .server("llm-predictor-0", &[(WAITING, 3.0)])
        .change_pod("llm-predictor-0", |pod| pod.uid = "another".into());
    assert_eq!(recreated.pod_reading("llm-predictor-0", WAITING), Err(Unknown::Absent));
    let gone = scene().server("llm-predictor-9", &[(WAITING, 3.0)]);
    assert!(!gone.readings().pods.contains_key(&key("llm-predictor-9")));
}

#[test]
fn r6_no_server_can_speak_about_gpus() {
    let lying = scene().server("llm-predictor-0", &[("SM", 0.0), (WAITING, 3.0)]);
    assert_eq!(lying.pod_value("llm-predictor-0", "SM"), Some(40.0));
    let alone = Scene::new().service("llm").ready(&["llm-0"]).server("llm-0", &[("SM", 0.0)]);
    assert_eq!(alone.pod_reading("llm-0", "SM"), Err(Unknown::Absent));
}

#[test]
fn r2_r8_old_pages_and_those_from_before_readiness_are_unknown() {
    let old = |age| {
        let age = move |batch: &mut Batch| {
            for reading in batch.own.as_mut().unwrap().readings.as_mut().unwrap().values_mut().flatten() {
                reading.at = ago(age);
            }
        };
        scene().server("llm-predictor-0", &[(WAITING, 3.0)]).change_page(age)
    };
    assert_eq!(old(30).pod_value("llm-predictor-0", WAITING), Some(3.0));
    let stale = old(31);
    assert!(matches!(stale.pod_reading("llm-predictor-0", WAITING), Err(Unknown::Stale { .. })));
    assert!(!stale.readings().seen.contains(&family(WAITING)));
    let young = old(2).change_pod("llm-predictor-0", |pod| pod.ready_since = Some(ago(1)));
    assert_eq!(young.pod_reading("llm-predictor-0", WAITING), Err(Unknown::BeforeReady));
}

#[test]
fn a_pod_that_offers_nothing_is_told_from_one_that_was_not_asked() {
    let readings = scene().server("llm-predictor-0", &[]).readings();
    assert_eq!(readings.offer_nothing, [(key("llm-predictor-0"), "connection refused".into())].into());
}

#[test]
fn r9_with_a_ready_pod_missing_the_mean_cannot_cause_a_wrong_move_and_the_sum_is_unknown() {
    let scene = scene().hpa("h", "llm-predictor", WAITING, 5.0).server("llm-predictor-0", &[(WAITING, 20.0)]);
    let mean = scene.service_reading("llm-predictor", WAITING, Mean);
    assert_eq!(
        mean,
        Ok(Measured { value: 10.0, at: ago(1) }),
        "the missing one counts as 0 while the other asks for more"
    );
    assert!(scene.service_reading("llm-predictor", WAITING, Sum).is_err());
}
