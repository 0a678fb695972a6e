use http::Method;
use serde_json::json;

use super::attributes;
use crate::request_path::RequestPath;

fn of(method: &Method, url: &str) -> serde_json::Value {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    serde_json::to_value(attributes(method, &RequestPath::parse(path).unwrap(), query)).unwrap()
}

#[test]
fn requests_have_the_attributes_of_the_reference_server() {
    let c = "/apis/custom.metrics.k8s.io/v1beta1";
    let e = "/apis/external.metrics.k8s.io/v1beta1";
    let custom = |mut rest: serde_json::Value| {
        rest["group"] = json!("custom.metrics.k8s.io");
        rest["version"] = json!("v1beta1");
        rest
    };
    let external = |verb: &str| {
        json!({"verb": verb, "group": "external.metrics.k8s.io", "version": "v1beta1", "resource": "depth",
               "namespace": "n"})
    };
    let cases = [
        (
            format!("{c}/namespaces/n/pods/x/m"),
            custom(json!({"verb": "get", "resource": "pods", "subresource": "m", "name": "x", "namespace": "n"})),
        ),
        (
            format!("{c}/namespaces/n/pods/%2A/vllm:m?labelSelector=a%3Db"),
            custom(json!({"verb": "get", "resource": "pods", "subresource": "vllm:m", "name": "*", "namespace": "n"})),
        ),
        (
            format!("{c}/namespaces/n/deployments.apps/x/m"),
            custom(json!({"verb": "get", "resource": "deployments.apps", "subresource": "m", "name": "x",
                          "namespace": "n"})),
        ),
        (
            format!("{c}/namespaces/n/metrics/m"),
            custom(json!({"verb": "get", "resource": "metrics", "name": "m", "namespace": "n"})),
        ),
        (
            format!("{c}/nodes/x/m"),
            custom(json!({"verb": "get", "resource": "nodes", "subresource": "m", "name": "x"})),
        ),
        (format!("{c}/namespaces/n/pods"), custom(json!({"verb": "list", "resource": "pods", "namespace": "n"}))),
        (
            format!("{c}/namespaces/n"),
            custom(json!({"verb": "get", "resource": "namespaces", "name": "n", "namespace": "n"})),
        ),
        (format!("{c}/namespaces"), custom(json!({"verb": "list", "resource": "namespaces"}))),
        (
            format!("{c}/watch/x/m"),
            custom(json!({"verb": "get", "resource": "watch", "subresource": "m", "name": "x"})),
        ),
        (format!("{e}/namespaces/n/depth"), external("list")),
        (format!("{e}/namespaces/n/depth?fieldSelector=metadata.name%3Dx"), external("list")),
        (format!("{e}/namespaces/n/depth?watch=true"), external("watch")),
        (format!("{e}/namespaces/n/depth?w%61tch=1"), external("watch")),
        (format!("{e}/namespaces/n/depth?watch"), external("watch")),
        (format!("{e}/namespaces/n/depth?watch=yes"), external("watch")),
        (format!("{e}/namespaces/n/depth?watch=false&watch=true"), external("list")),
        (format!("{e}/namespaces/n/depth?a=watch&watch=0"), external("list")),
        (
            format!("{e}/namespaces/n/status"),
            json!({"verb": "list", "group": "external.metrics.k8s.io", "version": "v1beta1", "resource": "status",
                   "namespace": "n"}),
        ),
        ("/api/v1/nodes/x".into(), json!({"verb": "get", "version": "v1", "resource": "nodes", "name": "x"})),
    ];
    for (url, expected) in cases {
        assert_eq!(of(&Method::GET, &url), expected, "{url}");
        assert_eq!(of(&Method::HEAD, &url), expected, "HEAD {url}");
    }
    for path in [
        "/",
        "/apis",
        "/apis/",
        "/apis/g",
        "/apis/g/v",
        "/apis/g/v/",
        "/api",
        "/api/v1",
        "/openapi/v2",
        "/openapi/v3/apis/g/v",
        "/metrics",
        "/version",
        "/readyz/x",
        "/other/a/b/c/d",
    ] {
        assert_eq!(of(&Method::GET, path), json!({"verb": "get", "path": path}), "{path}");
    }
}

#[test]
fn other_methods_are_other_verbs() {
    let one = "/apis/g/v/namespaces/n/pods/x/m";
    let all = "/apis/g/v/namespaces/n/pods";
    let cases = [
        (Method::POST, all, "create"),
        (Method::PUT, one, "update"),
        (Method::PATCH, one, "patch"),
        (Method::DELETE, one, "delete"),
        (Method::DELETE, all, "deletecollection"),
        (Method::POST, "/metrics", "post"),
    ];
    for (method, path, verb) in cases {
        assert_eq!(of(&method, path)["verb"], verb, "{method} {path}");
    }
    assert_eq!(of(&Method::OPTIONS, one).get("verb"), None);
}
