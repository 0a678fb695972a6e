//! Values, and every wrong way to ask for them.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::{get, send, server};

pub const FIXTURE: &str = r#"
now: 2026-01-02T03:04:10Z
maxAge: 60s
namespaces: [prod, empty]
objects:
- {apiVersion: v1, kind: Pod, resource: pods, namespace: prod, name: llm-1, labels: {app: llm, tier: b}}
- {apiVersion: v1, kind: Pod, resource: pods, namespace: prod, name: llm-0, labels: {app: llm, tier: a}}
- {apiVersion: v1, kind: Pod, resource: pods, namespace: prod, name: web-0, labels: {app: web}}
- {apiVersion: v1, kind: Pod, resource: pods, namespace: prod, name: old-0, labels: {app: old}}
- {apiVersion: v1, kind: Node, resource: nodes, name: gpu-1}
- {apiVersion: apps/v1, kind: Deployment, resource: deployments.apps, namespace: prod, name: llm}
custom:
- {metric: "vllm:num_requests_running", resource: pods, namespace: prod, name: llm-0, value: 33.5, time: 2026-01-02T03:04:05.678Z, windowSeconds: 30, labels: {model: qwen}}
- {metric: "vllm:num_requests_running", resource: pods, namespace: prod, name: llm-1, value: 1500, time: 2026-01-02T03:04:05Z}
- {metric: "vllm:num_requests_running", resource: pods, namespace: prod, name: web-0, value: .nan, time: 2026-01-02T03:04:05Z}
- {metric: "vllm:num_requests_running", resource: pods, namespace: prod, name: old-0, value: 3, time: 2026-01-02T03:03:09Z}
- {metric: huge, resource: pods, namespace: prod, name: llm-0, value: 1.0e+20, time: 2026-01-02T03:04:05Z}
- {metric: load, resource: nodes, name: gpu-1, value: 0, time: 2026-01-02T03:04:05Z}
- {metric: rps, resource: deployments.apps, namespace: prod, name: llm, value: 0.001, time: 2026-01-02T03:04:05Z}
external:
- {metric: queue_depth, namespace: prod, labels: {queue: a}, value: 42, time: 2026-01-02T03:04:05Z}
- {metric: queue_depth, namespace: prod, labels: {queue: b}, value: 42, time: 2026-01-02T03:03:00Z}
- {metric: queue_depth, namespace: prod, labels: {queue: c}, value: .inf, time: 2026-01-02T03:04:05Z}
"#;

const PODS: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods";

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["describedObject"]["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn a_wildcard_answers_the_selected_pods_sorted_and_leaves_unknown_ones_out() {
    let (app, _) = server(FIXTURE);
    for (query, expected) in [
        ("", ["llm-0", "llm-1"].as_slice()),
        ("?labelSelector=app%3Dllm", &["llm-0", "llm-1"]),
        ("?labelSelector=app%3Dllm%2Ctier+in+%28a%2Cc%29", &["llm-0"]),
        ("?labelSelector=tier%20notin%20(a)", &["llm-1"]),
        ("?labelSelector=!tier", &[]),
        ("?labelSelector=app%3Dold", &[]),
        ("?labelSelector=", &["llm-0", "llm-1"]),
        ("?labelSelector=%zz", &["llm-0", "llm-1"]),
        ("?metricLabelSelector=model%3Dqwen", &["llm-0"]),
        ("?metricLabelSelector=!model", &["llm-1"]),
        ("?limit=500&timeoutSeconds=30&watch=true&resourceVersion=0&timeout=32s", &["llm-0", "llm-1"]),
        ("?fieldSelector=metadata.name%3D*", &["llm-0", "llm-1"]),
    ] {
        let answer = get(&app, &format!("{PODS}/%2A/vllm:num_requests_running{query}")).await;
        assert_eq!(names(&answer.items()), expected, "{query}");
    }
    let empty = get(&app, "/apis/custom.metrics.k8s.io/v1beta2/namespaces/empty/pods/*/huge").await;
    assert!(empty.items().is_empty());
}

#[tokio::test]
async fn each_version_has_its_own_items_and_echoes_the_metrics_selector() {
    let (app, _) = server(FIXTURE);
    let object = json!({"kind": "Pod", "namespace": "prod", "name": "llm-0", "apiVersion": "v1"});
    let path = "namespaces/prod/pods/llm-0/vllm%3Anum_requests_running?metricLabelSelector=model+in+%28qwen%29";
    let selector = json!({"matchExpressions": [{"key": "model", "operator": "In", "values": ["qwen"]}]});
    assert_eq!(
        get(&app, &format!("/apis/custom.metrics.k8s.io/v1beta2/{path}")).await.json(),
        json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {}, "items": [{
            "describedObject": object,
            "metric": {"name": "vllm:num_requests_running", "selector": selector},
            "timestamp": "2026-01-02T03:04:05Z", "windowSeconds": 30, "value": "33500m"}]})
    );
    assert_eq!(
        get(&app, &format!("/apis/custom.metrics.k8s.io/v1beta1/{path}")).await.json(),
        json!({"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta1", "metadata": {}, "items": [{
            "describedObject": object,
            "metricName": "vllm:num_requests_running", "selector": selector,
            "timestamp": "2026-01-02T03:04:05Z", "window": 30, "value": "33500m"}]})
    );
    assert_eq!(
        get(&app, "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth").await.json(),
        json!({"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {},
            "items": [{"metricName": "queue_depth", "metricLabels": {"queue": "a"}, "timestamp": "2026-01-02T03:04:05Z", "value": "42"}]})
    );
    let plain = get(&app, &format!("{PODS}/llm-1/vllm:num_requests_running")).await.items();
    assert_eq!(plain[0]["metric"], json!({"name": "vllm:num_requests_running", "selector": null}));
    assert_eq!(plain[0].get("windowSeconds"), None, "a window that is not there is left out");
}

#[tokio::test]
async fn values_are_canonical_and_within_the_hpas_arithmetic() {
    let (app, _) = server(FIXTURE);
    let v1beta2 = "/apis/custom.metrics.k8s.io/v1beta2";
    for (path, value) in [
        ("namespaces/prod/pods/llm-1/vllm:num_requests_running", "1500"),
        ("namespaces/prod/pods/llm-0/huge", "9223372036854775"),
        ("nodes/gpu-1/load", "0"),
        ("namespaces/prod/nodes/gpu-1/load", "0"),
        ("namespaces/prod/node/gpu-1/load", "0"),
        ("namespaces/prod/deployments.apps/llm/rps", "1m"),
        ("namespaces/prod/deployment.apps/llm/rps", "1m"),
    ] {
        let items = get(&app, &format!("{v1beta2}/{path}")).await.items();
        assert_eq!(items.len(), 1, "{path}");
        assert_eq!(items[0]["value"], value, "{path}");
    }
}

#[tokio::test]
async fn unknown_is_an_error_for_one_object_and_says_what_is_unknown() {
    let (app, _) = server(FIXTURE);
    for (path, parts) in [
        ("namespaces/prod/pods/web-0/vllm:num_requests_running", ["web-0", "no current value"]),
        ("namespaces/prod/pods/old-0/vllm:num_requests_running", ["old-0", "no current value"]),
        ("namespaces/prod/pods/llm-1/vllm:num_requests_running?metricLabelSelector=a%3Db", ["llm-1", "a=b"]),
        ("namespaces/prod/pods/none/vllm:num_requests_running", ["none", "not found"]),
        ("namespaces/none/pods/llm-0/vllm:num_requests_running", ["none", "not found"]),
        ("namespaces/prod/pods/llm-0/none", ["none", "not found"]),
        ("namespaces/prod/pods/*/none", ["none", "not found"]),
        ("namespaces/prod/services/x/none", ["services", "no metric"]),
        ("pods/llm-0/vllm:num_requests_running", ["pods", "namespaces"]),
    ] {
        let answer = get(&app, &format!("/apis/custom.metrics.k8s.io/v1beta2/{path}")).await;
        let message = answer.failure(404, "NotFound");
        assert!(parts.iter().all(|part| message.contains(part)), "{path}: {message}");
        assert_eq!(answer.json().get("details"), None, "{path}");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told_so() {
    let (app, _) = server(FIXTURE);
    let metric = "namespaces/prod/pods/llm-0/huge";
    for (path, part) in [
        ("namespaces/prod/x".to_owned(), "namespaces/NAMESPACE/metrics/METRIC"),
        ("namespaces/*/pods/x/huge".to_owned(), "namespace"),
        ("namespaces/prod/pods/%zz/huge".to_owned(), "hexadecimal"),
        (format!("{metric}?labelSelector=a%3D%3D%3Db"), "labelSelector"),
        (format!("{metric}?labelSelector=a+in+%28"), "expected"),
        (format!("{metric}?metricLabelSelector=,"), "metricLabelSelector"),
        (format!("{metric}?metricLabelSelector=a%3E1"), "metricLabelSelector"),
        (format!("{metric}?fieldSelector=metadata.name%3Dother"), "fieldSelector"),
        (format!("{metric}?fieldSelector=spec.nodeName%3Dx"), "fieldSelector"),
        (format!("{metric}?limit=ten"), "limit"),
        (format!("{metric}?timeoutSeconds=1.5"), "timeoutSeconds"),
        (format!("{metric}?timeout=soon"), "timeout"),
    ] {
        let message =
            get(&app, &format!("/apis/custom.metrics.k8s.io/v1beta2/{path}")).await.failure(400, "BadRequest");
        assert!(message.contains(part), "{path}: {message}");
    }
    let x = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth";
    get(&app, &format!("{x}?labelSelector=a%3D%3D%3Db")).await.failure(400, "BadRequest");
    get(&app, &format!("{x}?watch=true")).await.failure(405, "MethodNotAllowed");
    assert_eq!(get(&app, &format!("{x}?watch=false")).await.items().len(), 1);
}

#[tokio::test]
async fn paths_that_do_not_exist_are_told_apart() {
    let (app, _) = server(FIXTURE);
    for path in [
        "/apis/custom.metrics.k8s.io/v1",
        "/apis/external.metrics.k8s.io/v1beta2/namespaces/prod/queue_depth",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/llm-0/a%2Fb",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods//huge",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/../huge",
    ] {
        let answer = get(&app, path).await;
        answer.failure(404, "NotFound");
        assert_eq!(answer.json()["details"], json!({}), "{path}");
    }
    for path in ["/apis/", "/apis/apps", "/apis/apps/v1/deployments", "/api/v1", "/nope", "//", "/version/", "/readyz/"]
    {
        let answer = get(&app, path).await;
        assert_eq!(answer.code.as_u16(), 404, "{path}");
        let paths = answer.json();
        assert!(paths["paths"].as_array().expect("paths").contains(&json!("/apis/external.metrics.k8s.io/v1beta1")));
    }
}

#[tokio::test]
async fn only_get_is_allowed_except_on_health_paths() {
    let (app, _) = server(FIXTURE);
    for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        for path in [
            "/apis",
            "/apis/custom.metrics.k8s.io/v1beta2",
            &format!("{PODS}/llm-0/huge"),
            "/version",
            "/metrics",
            "/openapi/v2",
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a valid request");
            let answer = send(&app, request).await;
            assert_eq!(answer.code.as_u16(), 405, "{method} {path}");
            // An answer to HEAD has no body.
            if method != "HEAD" {
                answer.failure(405, "MethodNotAllowed");
                assert_eq!(answer.json()["details"], json!({}));
            }
            assert_eq!(answer.header("allow"), None);
        }
        let request = Request::builder().method(method).uri("/healthz").body(Body::empty()).expect("a valid request");
        assert_eq!(send(&app, request).await.code.as_u16(), 200, "{method}");
    }
}
