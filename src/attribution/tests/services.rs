//! From pods to services.

use std::sync::Arc;

use super::super::{
    Statistic,
    scene::{GPU, SM, Scene, ago, family, key},
};
use crate::{
    attribution::PodCounts,
    cluster::PodState,
    config::Share,
    reading::{Measured, Unknown},
};

/// Pods llm-0.. ready, the n-th with the n-th value; `None`: it does not report.
fn service(values: &[Option<f64>]) -> Scene {
    let mut scene = Scene::new().service("llm");
    let mut lines = Vec::new();
    for (index, value) in values.iter().enumerate() {
        scene = scene.pod(&format!("llm-{index}"), PodState::Ready, 1);
        lines.extend(value.map(|value| format!("SM llm-{index} card{index}#1 {value}")));
    }
    scene.page(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

fn mean(scene: &Scene) -> Result<f64, Unknown> {
    scene.service_reading("llm", "SM", Statistic::Mean).map(|measured| measured.value)
}

#[test]
fn r7_a_service_is_the_mean_over_its_ready_pods_with_statistics_by_name() {
    let scene = service(&[Some(10.0), Some(20.0), Some(60.0)]);
    for (statistic, expected) in [
        (Statistic::Mean, 30.0),
        (Statistic::Sum, 90.0),
        (Statistic::Max, 60.0),
        (Statistic::P50, 20.0),
        (Statistic::P90, 60.0),
        (Statistic::P99, 60.0),
    ] {
        let reading = scene.service_reading("llm", "SM", statistic);
        assert_eq!(reading, Ok(Measured { value: expected, at: ago(1) }), "{statistic:?}");
    }
}

#[test]
fn r8_pods_that_are_not_ready_are_counted_and_neither_idle_nor_busy() {
    let scene = Scene::new()
        .service("llm")
        .ready(&["llm-0"])
        .pod("llm-1", PodState::Starting, 1)
        .pod("llm-2", PodState::Pending, 1)
        .pod("llm-3", PodState::Leaving, 1)
        .page(&["SM llm-0 a#1 80", "SM llm-1 b#1 0", "SM llm-3 c#1 100"]);
    assert_eq!(mean(&scene), Ok(80.0));
    let readings = scene.readings();
    let service = &readings.services[&key("llm")];
    assert_eq!(service.pods, PodCounts { ready: 1, starting: 1, pending: 1, cut_off: 0 });
    assert!(service.families[&family("SM")].missing.is_empty());
    assert_eq!(scene.pod_value("llm-1", "SM"), Some(0.0), "by name it is there to be seen");
}

#[test]
fn r8_a_service_without_ready_pods_is_unknown() {
    let scene = Scene::new().service("llm").pod("llm-0", PodState::Starting, 1).page(&["SM llm-0 a#1 0"]);
    for statistic in Statistic::ALL {
        assert_eq!(scene.service_reading("llm", "SM", statistic), Err(Unknown::NoReadyPods));
    }
}

#[test]
fn r9_with_missing_pods_the_value_stays_on_its_side_of_the_target() {
    let (m, none) = (Some, None);
    for (values, target, expected) in [
        // All report: the mean, whatever the target.
        (&[m(80.0), m(60.0)][..], 50.0, 70.0),
        // Busy: the missing pods count as idle, but the others are not outvoted.
        (&[m(90.0), m(90.0), none], 50.0, 60.0),
        (&[m(60.0), none], 50.0, 50.0),
        (&[m(100.0), none], 50.0, 50.0),
        // Idle: the missing pods count as exactly on target.
        (&[m(10.0), m(10.0), none], 40.0, 20.0),
        (&[m(0.0), none], 50.0, 25.0),
        (&[m(50.0), none], 50.0, 50.0),
    ] {
        let scene = service(values).hpa("h", "llm", SM, target);
        assert_eq!(mean(&scene), Ok(expected), "{values:?} against {target}");
    }
}

#[test]
fn r9_below_the_coverage_a_service_is_unknown_and_names_a_pod_and_its_reason() {
    let values = [Some(10.0), None, None];
    let scene = service(&values).hpa("h", "llm", SM, 50.0);
    let unknown = mean(&scene).unwrap_err();
    assert!(matches!(unknown, Unknown::Coverage { known: 1, ready: 3, .. }), "{unknown:?}");
    assert!(unknown.to_string().ends_with("llm-1: no exporter reports it"), "{unknown}");
    let mut scene = scene;
    scene.settings.coverage = Share(0.3);
    assert_eq!(mean(&scene), Ok(110.0 / 3.0));
    let mut scene = service(&[None, None]).page(&["SM llm-0 a#1 NaN"]);
    scene.settings.coverage = Share(0.0);
    assert!(
        matches!(mean(&scene), Err(Unknown::Coverage { known: 0, ready: 2, .. })),
        "no coverage makes 0 of 2 a number"
    );
}

#[test]
fn r9_the_target_is_that_of_the_hpas_that_read_the_metric() {
    let busy = || service(&[Some(90.0), None]);
    let ambiguous = |scene: &Scene| matches!(mean(scene), Err(Unknown::AmbiguousTarget { missing: 1, ready: 2, .. }));
    assert_eq!(mean(&busy()), Ok(90.0), "nobody reads it: the mean of those that report");
    assert_eq!(mean(&busy().hpa("h", "llm", SM, 60.0).hpa("i", "llm", SM, 60.0)), Ok(60.0), "two that agree");
    assert!(ambiguous(&busy().hpa("h", "llm", SM, 60.0).hpa("i", "llm", SM, 40.0)), "two that do not");
    let other_metric = busy().hpa("h", "llm", SM, 40.0).hpa("i", "llm", GPU, 60.0);
    assert_eq!(mean(&other_metric), Ok(45.0), "another metric's target does not matter");
    let statistic = busy().hpa("h", "llm", "DCGM_CUSTOM_PROCESS_SM_UTIL_max", 60.0);
    assert_eq!(mean(&statistic), Ok(90.0), "nor does that of another statistic");
    let others = busy().service("router").hpa("h", "llm", SM, 40.0).hpa("i", "router", SM, 60.0);
    assert_eq!(mean(&others), Ok(45.0), "an HPA of the service's own goes before others of the namespace");
    let external = busy().service("router").hpa("i", "router", SM, 60.0);
    assert_eq!(mean(&external), Ok(60.0), "an HPA that scales something else may read it as an external metric");
    let mut unlisted = busy().hpa("h", "llm", SM, 40.0);
    unlisted.view.unsynced.insert("horizontalpodautoscalers");
    assert!(matches!(mean(&unlisted), Err(Unknown::ClusterUnknown(_))));
    let mut whole = service(&[Some(90.0)]);
    whole.view.unsynced.insert("horizontalpodautoscalers");
    assert_eq!(mean(&whole), Ok(90.0), "with no pod missing no target is needed");
}

#[test]
fn r9_other_statistics_are_unknown_unless_all_ready_pods_report() {
    let scene = service(&[Some(90.0), Some(80.0), None]).hpa("h", "llm", SM, 50.0);
    for statistic in Statistic::ALL.into_iter().skip(1) {
        let reading = scene.service_reading("llm", "SM", statistic);
        assert!(matches!(reading, Err(Unknown::Coverage { known: 2, ready: 3, .. })), "{statistic:?}: {reading:?}");
    }
}

#[test]
fn what_is_a_service_is_a_deployment_with_something_of_ours() {
    let services = |scene: &Scene| scene.readings().services.into_keys().map(|key| key.name).collect::<Vec<_>>();
    let bare = Scene::new().service("web").pod("web-0", PodState::Ready, 0);
    assert_eq!(services(&bare), Vec::<Arc<str>>::new());
    assert_eq!(services(&bare.clone().hpa("h", "web", "DCGM_FI_DEV_GPU_UTIL_p90", 50.0)), ["web".into()]);
    assert_eq!(services(&bare.clone().hpa("h", "web", "requests", 50.0)), Vec::<Arc<str>>::new());
    assert_eq!(services(&bare.clone().page(&["SM web-0 a#1 5"])), ["web".into()]);
    assert_eq!(services(&bare.pod("web-1", PodState::Pending, 1)), ["web".into()]);
    assert_eq!(services(&Scene::new().service("llm-predictor")), ["llm-predictor".into()], "also at zero replicas");
}

#[test]
fn a_core_service_reads_as_the_deployments_behind_it() {
    let scene = service(&[Some(90.0), None]).hpa("h", "llm", SM, 60.0).hpa("i", "router", SM, 10.0);
    let readings = scene.readings();
    let group = &readings.core_services[&key("llm")][&family("SM")];
    assert_eq!(group.statistics[&Statistic::Mean], Ok(Measured { value: 60.0, at: ago(1) }));
    let mut scene = scene;
    Arc::make_mut(scene.view.core_services.get_mut(&key("llm")).unwrap()).selector.clear();
    assert!(scene.readings().core_services.is_empty(), "no selector selects no pods");
}

#[test]
fn r5_while_a_pod_cannot_be_attributed_its_service_asks_for_more_or_is_unknown() {
    let names = ["llm-0", "llm-1", "llm-2"];
    for (known, expected) in [(90, Some(60.0)), (10, None), (50, None)] {
        let lines = [0, 1].map(|i| format!("SM llm-{i} {i}#1 {known}"));
        let scene = Scene::new().service("llm").hpa("hpa", "llm", SM, 50.0).ready(&names);
        let scene = scene.page(&[&lines[0], &lines[1], "SM llm-2 c#1 0", "GPU - c 95"]);
        let reading = scene.service_reading("llm", "SM", Statistic::Mean);
        assert_eq!(reading.as_ref().ok().map(|measured| measured.value), expected, "{known}: {reading:?}");
    }
}
