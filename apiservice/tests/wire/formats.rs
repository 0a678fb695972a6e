//! Formats, headers and compression.

use std::{fmt::Write as _, io::Read as _};

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::{get, get_with, server, values::FIXTURE};

const METRIC: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/vllm:num_requests_running";

#[tokio::test]
async fn the_client_gets_what_it_accepts_or_is_told_what_there_is() {
    let (app, _) = server(FIXTURE);
    let (json, yaml) = (Some("application/json"), Some("application/yaml"));
    for (accept, expected) in [
        ("application/vnd.kubernetes.protobuf, */*", json),
        ("application/json, */*", json),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", json),
        ("application/*", json),
        ("application/yaml", yaml),
        ("application/json;q=0.1,application/yaml;q=0.2", yaml),
        ("application/json;as=Table;v=v1;g=meta.k8s.io", None),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", None),
        ("text/html", None),
        ("image/png", None),
        ("application/cbor", None),
    ] {
        let answer = get_with(&app, METRIC, &[("accept", accept)]).await;
        if expected.is_some() {
            assert_eq!((answer.code.as_u16(), answer.header("content-type")), (200, expected), "{accept}");
        } else {
            let message = answer.failure(406, "NotAcceptable");
            assert!(message.contains("application/json, application/yaml"), "{message}");
        }
    }
    assert_eq!(get(&app, METRIC).await.header("content-type"), json);
}

#[tokio::test]
async fn yaml_says_the_same_as_json() {
    let (app, _) = server(FIXTURE);
    let x = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/queue_depth";
    for path in [
        METRIC,
        x,
        "/apis",
        "/apis/custom.metrics.k8s.io/v1beta2",
        "/version",
        "/apis/custom.metrics.k8s.io/v9",
        "/nope",
    ] {
        let yaml = get_with(&app, path, &[("accept", "application/yaml")]).await;
        assert_eq!(yaml.header("content-type"), Some("application/yaml"), "{path}");
        let read: Value = serde_saphyr::from_slice(&yaml.body).expect("YAML");
        assert_eq!(read, get(&app, path).await.json(), "{path}");
    }
}

#[tokio::test]
async fn json_is_pretty_for_people() {
    let (app, _) = server(FIXTURE);
    for (query, agent, pretty) in [
        ("", "kube-controller-manager/v1.33.1", false),
        ("", "curl/8.5.0", true),
        ("", "Wget/1.21", true),
        ("", "Mozilla/5.0", true),
        ("?pretty=1", "x", true),
        ("?pretty=true", "x", true),
        ("?pretty=false", "curl/8.5.0", false),
        ("?pretty=0", "x", false),
    ] {
        let answer = get_with(&app, &format!("{METRIC}{query}"), &[("user-agent", agent)]).await;
        assert_eq!(answer.body.starts_with(b"{\n  \"kind\""), pretty, "{query} {agent}");
        assert!(answer.body.ends_with(b"}\n"));
    }
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_ask() {
    let mut fixture = String::from("custom:\n");
    for pod in 0..1000 {
        writeln!(fixture, "- {{metric: m, resource: pods, namespace: prod, name: pod-{pod:04}, value: {pod}, time: 2026-01-02T03:04:05Z}}")
            .expect("a string");
    }
    let (app, _) = server(&fixture);
    let all = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/*/m";
    let plain = get(&app, all).await;
    assert!(plain.body.len() > 128 * 1024, "{}", plain.body.len());
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), (None, Some("Accept-Encoding")));
    let packed = get_with(&app, all, &[("accept-encoding", "gzip")]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
    let mut unpacked = Vec::new();
    GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(unpacked, plain.body);
    assert_eq!(plain.items().len(), 1000);
    let short = get_with(&app, &all.replace('*', "pod-0001"), &[("accept-encoding", "gzip")]).await;
    assert_eq!((short.header("content-encoding"), short.items().len()), (None, 1));
}

#[tokio::test]
async fn an_audit_id_is_taken_over_or_made() {
    let (app, _) = server(FIXTURE);
    let given = get_with(&app, METRIC, &[("audit-id", "abc-1")]).await;
    assert_eq!(given.header("audit-id"), Some("abc-1"));
    let (one, other) = (get(&app, METRIC).await, get(&app, METRIC).await);
    assert_ne!(one.header("audit-id"), other.header("audit-id"));
    assert_eq!(one.header("audit-id").map(str::len), Some(36));
    let too_long = "x".repeat(65);
    assert_ne!(get_with(&app, METRIC, &[("audit-id", &too_long)]).await.header("audit-id"), Some(too_long.as_str()));
}
