//! The reference server's own tables (custom-metrics-apiserver, `pkg/apiserver/installer/apiserver_test.go`).

use std::fmt::Write as _;

use crate::{get, server};

/// Four nodes and sixteen pods; half of each carry `foo=bar`.
fn fixture() -> String {
    let mut objects = String::from("now: 2026-01-02T03:04:05Z\nnamespaces: [ns, default, foo]\nobjects:\n");
    let mut custom = String::from("custom:\n");
    let time = "2026-01-02T03:04:05Z";
    let mut object = |kind: &str, place: &str, name: &str, index: usize| {
        let labels = if index.is_multiple_of(2) { ", labels: {foo: bar}" } else { "" };
        let resource = format!("{}s", kind.to_lowercase());
        writeln!(objects, "- {{apiVersion: v1, kind: {kind}, resource: {resource}, {place}name: {name}{labels}}}")
            .expect("string");
        writeln!(
            custom,
            "- {{metric: some-metric, resource: {resource}, {place}name: {name}, value: {index}, time: {time}}}"
        )
        .expect("string");
    };
    for index in 0..4 {
        object("Node", "", if index == 0 { "foo".to_owned() } else { format!("node-{index}") }.as_str(), index);
    }
    for index in 0..16 {
        object(
            "Pod",
            "namespace: ns, ",
            if index == 0 { "foo".to_owned() } else { format!("pod-{index}") }.as_str(),
            index,
        );
    }
    writeln!(custom, "- {{metric: some-metric, resource: namespaces, name: ns, value: 1, time: {time}}}")
        .expect("string");
    let mut external = String::from("external:\n");
    for (metric, label, value) in
        [("my-external-metric", "bar", 42), ("my-external-metric", "baz", 43), ("other-external-metric", "qux", 44)]
    {
        writeln!(
            external,
            "- {{metric: {metric}, namespace: default, labels: {{foo: {label}}}, value: {value}, time: {time}}}"
        )
        .expect("string");
    }
    format!("{objects}{custom}{external}")
}

#[tokio::test]
async fn custom_metrics_answer_as_the_reference_does() {
    let (app, _) = server(&fixture());
    for version in ["v1beta1", "v1beta2"] {
        let g = format!("/apis/custom.metrics.k8s.io/{version}");
        for (path, code, items) in [
            ("/apis/".to_owned(), 404, None),
            (format!("{g}/blah"), 404, None),
            (format!("{g}/nodes/foo"), 404, None),
            (format!("{g}/namespaces/ns/pods/bar"), 404, None),
            (format!("{g}/nodes/*/some-metric"), 200, Some(4)),
            (format!("{g}/namespaces/ns/pods/*/some-metric"), 200, Some(16)),
            (format!("{g}/namespaces/ns/pods/%2A/some-metric"), 200, Some(16)),
            (format!("{g}/namespaces/ns/metrics/some-metric"), 200, Some(1)),
            (format!("{g}/nodes/*/some-metric?labelSelector=foo%3Dbar"), 200, Some(2)),
            (format!("{g}/namespaces/ns/pods/*/some-metric?labelSelector=foo%3Dbar"), 200, Some(8)),
            (format!("{g}/nodes/foo/some-metric"), 200, Some(1)),
            (format!("{g}/namespaces/ns/nodes/foo/some-metric"), 200, Some(1)),
            (format!("{g}/namespaces/ns/pods/foo/some-metric"), 200, Some(1)),
            (format!("{g}/namespaces/ns/pod/foo/some-metric"), 200, Some(1)),
        ] {
            let answer = get(&app, &path).await;
            assert_eq!(answer.code.as_u16(), code, "{path}");
            assert_eq!((code == 200).then(|| answer.items().len()), items, "{path}");
        }
    }
}

#[tokio::test]
async fn external_metrics_answer_as_the_reference_does() {
    let (app, _) = server(&fixture());
    let x = "/apis/external.metrics.k8s.io/v1beta1";
    for (path, code, items) in [
        (format!("{x}/nonexistent-metric"), 404, None),
        (format!("{x}/namespaces/foo"), 404, None),
        (format!("{x}/namespaces/foo/group/metric"), 404, None),
        (format!("{x}/namespaces/default/my-external-metric"), 200, Some(2)),
        (format!("{x}/namespaces/default/my-external-metric?labelSelector=foo%3Dbar"), 200, Some(1)),
        (format!("{x}/namespaces/foo/nonexistent-metric"), 200, Some(0)),
    ] {
        let answer = get(&app, &path).await;
        assert_eq!(answer.code.as_u16(), code, "{path}");
        assert_eq!((code == 200).then(|| answer.items().len()), items, "{path}");
    }
}
