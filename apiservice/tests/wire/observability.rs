//! `/metrics`, `/version` and the health paths, as the router serves them.

use crate::{get, get_with, server, values::FIXTURE};

#[tokio::test]
async fn requests_are_counted_by_what_was_asked_and_answered() {
    let (app, _) = server(FIXTURE);
    get(&app, "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth").await;
    get(&app, "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/huge").await;
    get(&app, "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/made-up-1").await;
    get(&app, "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/made-up-2").await;
    let page = get(&app, "/metrics").await;
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = String::from_utf8(page.body.to_vec()).expect("text");
    for line in [
        r#"apiserver_request_total{verb="LIST",group="external.metrics.k8s.io",version="v1beta1",resource="queue_depth",subresource="",scope="namespace",code="200"} 1"#,
        r#"apiserver_request_total{verb="LIST",group="custom.metrics.k8s.io",version="v1beta2",resource="pods",subresource="huge",scope="namespace",code="200"} 1"#,
        r#"apiserver_request_total{verb="LIST",group="custom.metrics.k8s.io",version="v1beta2",resource="",subresource="",scope="namespace",code="404"} 2"#,
        "# TYPE apiserver_request_total counter",
        "apiserver_current_inflight_requests 1",
        r#"apiserver_request_duration_seconds_count{verb="LIST",group="external.metrics.k8s.io",version="v1beta1",scope="namespace"} 1"#,
        // Measured five seconds before the fixture's clock.
        r#"metrics_apiserver_metric_freshness_seconds_sum{group="external.metrics.k8s.io"} 5.0"#,
        r#"metrics_apiserver_metric_freshness_seconds_count{group="custom.metrics.k8s.io"} 1"#,
    ] {
        assert!(page.lines().any(|there| there == line), "{line}\n{page}");
    }
    assert!(!page.contains("made-up"), "{page}");
    let open = get_with(&app, "/metrics", &[("accept", "application/openmetrics-text;version=1.0.0")]).await;
    assert!(open.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    assert!(open.body.ends_with(b"# EOF\n"));
}

#[tokio::test]
async fn health_is_plain_text_and_the_version_is_json() {
    let (app, _) = server(FIXTURE);
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        let answer = get(&app, path).await;
        assert_eq!((answer.code.as_u16(), &*answer.body), (200, b"ok".as_slice()), "{path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{path}");
    }
    assert_eq!(&*get(&app, "/readyz?verbose").await.body, b"[+]ping ok\nreadyz check passed\n");
    assert_eq!(get(&app, "/readyz/none").await.code.as_u16(), 404);
    let version = get(&app, "/version").await;
    for field in ["major", "minor", "gitVersion", "gitCommit", "goVersion", "platform"] {
        assert!(version.json()[field].is_string(), "{field}");
    }
}
