//! What happens when the provider's backend fails, and the example's control endpoint.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::{control::control, get, get_with, server, values::FIXTURE};

const METRIC: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/vllm:num_requests_running";

async fn put(control: &axum::Router, path: &str, body: &str) -> (u16, String) {
    let request = Request::put(path).body(Body::from(body.to_owned())).expect("a valid request");
    let answer = control.clone().oneshot(request).await.expect("infallible");
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (code, String::from_utf8(body.to_vec()).expect("text"))
}

#[tokio::test]
async fn each_fault_is_a_failure_that_gives_nothing_away_and_passes() {
    let (app, provider) = server(FIXTURE);
    let control = control(provider);
    for (fault, code, reason) in
        [("down", 500, "InternalError"), ("throttled", 429, "TooManyRequests"), ("panic", 500, "InternalError")]
    {
        assert_eq!(put(&control, &format!("/fault/{fault}"), "").await.0, 200, "{fault}");
        for path in [METRIC, "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth"] {
            get(&app, path).await.failure(code, reason);
        }
        assert_eq!(get(&app, "/apis/custom.metrics.k8s.io/v1beta2").await.code.as_u16(), 200, "discovery goes on");
        assert_eq!(put(&control, "/fault/none", "").await.0, 200);
        assert_eq!(get(&app, METRIC).await.items().len(), 2, "the process lives on after {fault}");
    }
    let panicked = {
        put(&control, "/fault/panic", "").await;
        get_with(&app, METRIC, &[("accept", "application/yaml")]).await
    };
    assert_eq!((panicked.code.as_u16(), panicked.header("content-type")), (500, Some("application/yaml")));
}

#[tokio::test]
async fn a_slow_backend_is_waited_for_as_long_as_the_client_wants() {
    let (app, provider) = server(FIXTURE);
    let control = control(provider);
    put(&control, "/fault/slow", "").await;
    let patient = tokio::time::timeout(Duration::from_millis(100), get(&app, METRIC)).await;
    assert!(patient.is_err(), "the answer is still waited for: {patient:?}");
    let message = get(&app, &format!("{METRIC}?timeout=100ms")).await.failure(504, "Timeout");
    assert!(message.contains("0.1 seconds"), "{message}");
}

#[tokio::test]
async fn the_control_endpoint_replaces_the_fixture_or_says_what_is_wrong_with_it() {
    let (app, provider) = server(FIXTURE);
    let control = control(provider);
    let (code, message) = put(&control, "/fixture", "external:\n- {metric: m, namespace: n, value: 1}\n").await;
    assert_eq!(code, 400);
    assert!(message.contains("line 2") && message.contains("field time") && message.contains("expected"), "{message}");
    assert_eq!(get(&app, METRIC).await.items().len(), 2, "a malformed file changes nothing");
    let good = "external:\n- {metric: m, namespace: n, value: 1, time: 2026-01-02T03:04:05Z}\n";
    assert_eq!(put(&control, "/fixture", good).await, (200, "fixture: 0 custom and 1 external values\n".to_owned()));
    assert_eq!(get(&app, "/apis/external.metrics.k8s.io/v1beta1/namespaces/n/m").await.items().len(), 1);
    let (code, message) = put(&control, "/fault/odd", "").await;
    assert_eq!(code, 400);
    assert!(message.contains("none, down, slow, throttled or panic"), "{message}");
}
