//! Discovery and OpenAPI.

use serde_json::{Value, json};

use crate::{get, get_with, server, values::FIXTURE};

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[tokio::test]
async fn the_legacy_documents_list_every_version_and_metric_with_one_scope_each() {
    let (app, _) = server(FIXTURE);
    let groups = get(&app, "/apis").await.json();
    assert_eq!((&groups["kind"], &groups["apiVersion"]), (&json!("APIGroupList"), &json!("v1")));
    let custom = &groups["groups"][0];
    assert_eq!(custom["name"], "custom.metrics.k8s.io");
    assert_eq!(
        custom["preferredVersion"],
        json!({"groupVersion": "custom.metrics.k8s.io/v1beta2", "version": "v1beta2"})
    );
    assert_eq!(custom["versions"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        groups["groups"][1]["versions"],
        json!([{"groupVersion": "external.metrics.k8s.io/v1beta1", "version": "v1beta1"}])
    );
    let group = get(&app, "/apis/custom.metrics.k8s.io").await.json();
    assert_eq!((&group["kind"], &group["versions"]), (&json!("APIGroup"), &custom["versions"]));

    for version in ["v1beta1", "v1beta2"] {
        let list = get(&app, &format!("/apis/custom.metrics.k8s.io/{version}")).await.json();
        let resource = |name: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": "MetricValueList", "verbs": ["get"]});
        assert_eq!(
            list,
            json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("custom.metrics.k8s.io/{version}"),
                "resources": [
                    resource("deployments.apps/rps", true), resource("nodes/load", false),
                    resource("pods/huge", true), resource("pods/vllm:num_requests_running", true)]})
        );
    }
    assert_eq!(
        get(&app, "/apis/external.metrics.k8s.io/v1beta1").await.json()["resources"],
        json!([{"name": "queue_depth", "singularName": "", "namespaced": true, "kind": "ExternalMetricValueList", "verbs": ["get"]}])
    );
}

#[tokio::test]
async fn the_aggregated_document_is_complete_and_tagged() {
    let (app, provider) = server(FIXTURE);
    let answer = get_with(&app, "/apis?timeout=32s", &[("accept", V2)]).await;
    assert_eq!(answer.header("content-type"), Some(V2));
    assert_eq!(answer.header("vary"), Some("Accept"));
    let document = answer.json();
    assert_eq!(
        (&document["kind"], &document["apiVersion"]),
        (&json!("APIGroupDiscoveryList"), &json!("apidiscovery.k8s.io/v2"))
    );
    let versions = |item: usize| document["items"][item]["versions"].as_array().expect("versions").clone();
    assert_eq!(document["items"][0]["metadata"]["name"], "custom.metrics.k8s.io");
    assert_eq!(versions(0).iter().map(|version| &version["version"]).collect::<Vec<_>>(), ["v1beta1", "v1beta2"]);
    let kind = json!({"group": "custom.metrics.k8s.io", "version": "v1beta2", "kind": "MetricValueList"});
    let pods = &versions(0)[1]["resources"][2];
    assert_eq!((&pods["resource"], &pods["scope"]), (&json!("pods"), &json!("Namespaced")));
    assert_eq!(
        pods["subresources"],
        json!([{"subresource": "huge", "responseKind": kind, "verbs": ["get"]},
            {"subresource": "vllm:num_requests_running", "responseKind": kind, "verbs": ["get"]}])
    );
    assert_eq!(versions(0)[1]["resources"][1]["scope"], "Cluster");
    let kind = json!({"group": "external.metrics.k8s.io", "version": "v1beta1", "kind": "ExternalMetricValueList"});
    assert_eq!(
        versions(1)[0],
        json!({"version": "v1beta1", "freshness": "Current", "resources": [{"resource": "queue_depth", "responseKind": kind,
            "scope": "Namespaced", "singularResource": "", "verbs": ["get"]}]})
    );

    let tag = answer.header("etag").expect("a tag").to_owned();
    let again = get_with(&app, "/apis", &[("accept", V2), ("if-none-match", &tag)]).await;
    assert_eq!((again.code.as_u16(), again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
    provider.replace(crate::file::Fixture::parse("").expect("an empty fixture"));
    let changed = get_with(&app, "/apis", &[("accept", V2), ("if-none-match", &tag)]).await;
    assert_eq!(changed.code.as_u16(), 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn who_does_not_name_v2_gets_the_legacy_list() {
    let (app, _) = server(FIXTURE);
    for accept in [
        "application/json",
        "*/*",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
    ] {
        let answer = get_with(&app, "/apis", &[("accept", accept)]).await;
        assert_eq!(answer.json()["kind"], "APIGroupList", "{accept}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{accept}");
    }
    let only = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    get_with(&app, "/apis", &[("accept", only)]).await.failure(406, "NotAcceptable");
}

#[tokio::test]
async fn no_group_is_ever_empty_and_nothing_but_get_is_offered() {
    let (app, _) = server("");
    let names = |list: &Value| {
        list["resources"].as_array().expect("resources").iter().map(|one| one["name"].clone()).collect::<Vec<_>>()
    };
    let custom = get(&app, "/apis/custom.metrics.k8s.io/v1beta2").await.json();
    assert_eq!(names(&custom), ["custommetrics"]);
    let external = get(&app, "/apis/external.metrics.k8s.io/v1beta1").await.json();
    assert_eq!(names(&external), ["externalmetrics"]);
    let document = get_with(&app, "/apis", &[("accept", V2)]).await.json().to_string();
    for verb in ["list", "watch", "delete", "create"] {
        assert!(!document.contains(&format!("\"{verb}\"")), "{document}");
    }
    assert!(!document.contains(r#""resources":[]"#), "{document}");
}

#[tokio::test]
async fn openapi_documents_are_tagged_and_moved_when_their_hash_is_old() {
    let (app, _) = server(FIXTURE);
    for path in ["/openapi/v2", "/openapi/v3", "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2"] {
        let answer = get_with(&app, path, &[("accept", "application/json")]).await;
        assert_eq!((answer.code.as_u16(), answer.header("content-type")), (200, Some("application/json")), "{path}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        assert_eq!(get_with(&app, path, &[("if-none-match", &tag)]).await.code.as_u16(), 304, "{path}");
        assert_eq!(get_with(&app, path, &[("if-none-match", "\"other\"")]).await.code.as_u16(), 200, "{path}");
    }
    let index = get(&app, "/openapi/v3").await.json();
    let paths = index["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 3);
    for (path, entry) in paths {
        let url = entry["serverRelativeURL"].as_str().expect("a URL");
        assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
        let document = get(&app, url).await.json();
        assert_eq!(document["openapi"], "3.0.0");
        assert!(
            document["paths"].as_object().expect("paths").keys().all(|key| key.starts_with(&format!("/{path}/"))),
            "{path}"
        );
        let moved = get(&app, &format!("/openapi/v3/{path}?hash=old")).await;
        assert_eq!((moved.code.as_u16(), moved.header("location")), (301, Some(url)));
    }
    let custom = get(&app, "/openapi/v3/apis/custom.metrics.k8s.io/v1beta2").await.json();
    for path in [
        "",
        "namespaces/{namespace}/metrics/{name}",
        "namespaces/{namespace}/{resource}/{name}/{subresource}",
        "{resource}/{name}/{subresource}",
    ] {
        assert!(custom["paths"].get(format!("/apis/custom.metrics.k8s.io/v1beta2/{path}")).is_some(), "{path}");
    }
    let v2 = get(&app, "/openapi/v2").await.json();
    assert_eq!(v2["swagger"], "2.0");
    assert!(v2["paths"].as_object().expect("paths").keys().all(|path| path.starts_with("/apis/")));
}
