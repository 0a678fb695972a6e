//! Who is asked for a page of its own, and what a failure means.

use super::*;
use crate::{
    cluster::{PageHint, Phase, Resources, View},
    config::Scrape,
    scrape::{Refusal, targets},
};

const PREDICTOR: &[(&str, &str)] = &[(INFERENCE_SERVICE, "qwen"), (COMPONENT, "predictor"), (POD_TEMPLATE_HASH, "x")];
const TRANSFORMER: &[(&str, &str)] =
    &[(INFERENCE_SERVICE, "qwen"), (COMPONENT, "transformer"), (POD_TEMPLATE_HASH, "x")];
const DEPLOYMENT: &[(&str, &str)] = &[("app", "llm"), (POD_TEMPLATE_HASH, "x")];

fn pod(labels: &[(&str, &str)], gpus: u32, port: Option<u16>) -> Pod {
    Pod {
        key: ObjectKey { namespace: "prod".into(), name: "llm-0".into() },
        uid: "u-1".into(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        node: Some("n1".into()),
        ip: Some("10.0.0.7".into()),
        ports: Vec::new(),
        phase: Phase::Running,
        state: PodState::Ready,
        created: None,
        scheduled: None,
        started: None,
        running: None,
        ready_since: None,
        gpus,
        requests: Resources::default(),
        deletion_cost: None,
        page: PageHint { port, ..PageHint::default() },
    }
}

fn url(config: &Serving, pod: &Pod) -> Option<String> {
    serving_url(config, pod).map(String::from)
}

#[test]
fn ready_predictors_are_asked_and_ready_gpu_pods_of_deployments_that_tell_a_port() {
    for (labels, gpus, port, expected) in [
        (PREDICTOR, 1, None, Some("http://10.0.0.7:8080/metrics")),
        (PREDICTOR, 0, None, Some("http://10.0.0.7:8080/metrics")),
        (PREDICTOR, 1, Some(8000), Some("http://10.0.0.7:8000/metrics")),
        (DEPLOYMENT, 1, Some(8000), Some("http://10.0.0.7:8000/metrics")),
        (DEPLOYMENT, 1, None, None),
        (DEPLOYMENT, 0, Some(8000), None),
        (TRANSFORMER, 0, Some(8000), None),
        (&[("app", "a-bare-pod")], 1, Some(8000), None),
    ] {
        assert_eq!(
            url(&Serving::default(), &pod(labels, gpus, port)).as_deref(),
            expected,
            "{labels:?} {gpus} {port:?}"
        );
    }
}

#[test]
fn pods_that_do_not_serve_decline_or_have_no_address_are_left_alone() {
    let predictor = pod(PREDICTOR, 1, None);
    let declined = PageHint { declined: true, ..PageHint::default() };
    for left_alone in [
        Pod { state: PodState::Starting, ..predictor.clone() },
        Pod { state: PodState::Pending, ..predictor.clone() },
        Pod { state: PodState::Leaving, ..predictor.clone() },
        Pod { ip: None, ..predictor.clone() },
        Pod { ip: Some("metadata.internal".into()), ..predictor.clone() },
        Pod { page: declined, ..predictor.clone() },
    ] {
        assert_eq!(url(&Serving::default(), &left_alone), None, "{left_alone:?}");
    }
    assert_eq!(url(&Serving { enabled: false, ..Serving::default() }, &predictor), None);
}

#[test]
fn the_address_is_the_pods_own_whatever_its_annotations_say() {
    let with_path = |path: &str| {
        let page = PageHint { port: Some(8000), path: Some(path.into()), declined: false };
        url(&Serving::default(), &Pod { page, ..pod(PREDICTOR, 1, None) })
    };
    for (path, expected) in [
        ("/v1/metrics?all=1", "http://10.0.0.7:8000/v1/metrics?all=1"),
        ("//evil.example/metrics", "http://10.0.0.7:8000//evil.example/metrics"),
        ("/@evil.example/", "http://10.0.0.7:8000/@evil.example/"),
        ("/../..", "http://10.0.0.7:8000/"),
    ] {
        assert_eq!(with_path(path).as_deref(), Some(expected));
    }
    let six = Pod { ip: Some("fd00::7".into()), ..pod(PREDICTOR, 1, None) };
    assert_eq!(url(&Serving::default(), &six).as_deref(), Some("http://[fd00::7]:8080/metrics"));
    let elsewhere = Serving { port: 9000, path: "/stats".into(), ..Serving::default() };
    assert_eq!(url(&elsewhere, &pod(PREDICTOR, 1, None)).as_deref(), Some("http://10.0.0.7:9000/stats"));
}

#[test]
fn r22_servers_are_limited_apart_from_exporters() {
    let pods = (0..5).map(|n| {
        let key = ObjectKey { namespace: "prod".into(), name: format!("llm-{n}").into() };
        (key.clone(), Arc::new(Pod { key, ..pod(PREDICTOR, 1, None) }))
    });
    let view = View { pods: pods.collect(), ..View::default() };
    let serving = Serving { targets: 3, ..Serving::default() };
    let set = targets(&Scrape { targets: 1, serving, ..Scrape::default() }, &view);
    let names: Vec<&str> = set.targets.keys().map(|id| &*id.0).collect();
    assert_eq!(names, ["server:prod/llm-0/u-1", "server:prod/llm-1/u-1", "server:prod/llm-2/u-1"]);
    let first = TargetId("server:prod/llm-3/u-1".into());
    assert_eq!(set.refusals, [Refusal::OverLimit { count: 2, first, setting: "scrape.serving.targets", limit: 3 }]);
    assert!(set.targets.values().all(|target| *target.access == Access::default()), "no credential goes to a tenant");
}

#[test]
fn a_server_without_a_page_is_told_from_one_that_may_have_one_later() {
    let status = |status: &str| ScrapeError::Status { status: status.into(), hint: "" };
    for (error, at_once) in [
        (ScrapeError::ConnectionRefused, true),
        (ScrapeError::NoFamily, true),
        (ScrapeError::ContentType("text/html".into()), true),
        (status("404 Not Found"), true),
        (status("401 Unauthorized"), true),
        (status("503 Service Unavailable"), false),
        (ScrapeError::NoAnswer("closed".into()), false),
        (ScrapeError::Connect("no route".into()), false),
    ] {
        assert_eq!(offers_nothing(&error, 1), at_once, "{error}");
        assert!(offers_nothing(&error, PATIENCE), "{error}");
    }
}
