use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::Request};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use super::secure;
use crate::{
    authentication::{Authenticator, Authority, RequestHeader, Trust, TrustStore, User, request_header::HeaderNames},
    authorization::Authorizer,
    decision_cache::tests::Hands,
    metrics::{self, Metrics},
    server::Limits,
    testing::{
        Server, eventually,
        kube_api::KubeApi,
        pki::{Ca, Issued},
    },
};

/// Any path answers with what the handler sees.
async fn echo(request: Request) -> Json<Value> {
    let User { name, uid, groups, extra } = request.extensions().get::<User>().cloned().unwrap_or_default();
    let headers: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
    Json(json!({"name": name, "uid": uid, "groups": groups, "extra": extra,
                "path": request.uri().path(), "query": request.uri().query(), "headers": headers}))
}

struct Scene {
    kube: KubeApi,
    server: Server,
    client_ca: Ca,
    proxy_ca: Ca,
    proxy: Issued,
    trust: Arc<TrustStore>,
    /// Of the clock by which answers expire.
    hands: Hands,
    registry: Registry,
}

impl Scene {
    async fn start() -> Self {
        let kube = KubeApi::start().await;
        let hands = Hands::default();
        let (client_ca, proxy_ca) = (Ca::new("clients"), Ca::new("front proxies"));
        let store = TrustStore::new(Trust::default());
        store.replace(trust(&client_ca, &proxy_ca));
        let trust = Arc::new(store);
        let authenticator = Authenticator::with_clock(Arc::clone(&trust), Some(kube.client()), &hands.clock());
        let mut registry = Registry::default();
        let app = secure(
            Router::new().fallback(echo),
            Metrics::register(&mut registry),
            Arc::new(authenticator),
            Arc::new(Authorizer::with_clock(kube.client(), hands.clock())),
        );
        let proxy = proxy_ca.issue("front-proxy-client", None);
        let server = Server::start(app, Limits::default()).await;
        Self { kube, server, client_ca, proxy_ca, proxy, trust, hands, registry }
    }
}

fn trust(client_ca: &Ca, proxy_ca: &Ca) -> Trust {
    let names = HeaderNames { uid: vec![http::HeaderName::from_static("x-remote-uid")], ..HeaderNames::default() };
    let proxy = Authority::from_pem("test", proxy_ca.pem().as_bytes()).unwrap();
    Trust {
        client_ca: Some(Authority::from_pem("test", client_ca.pem().as_bytes()).unwrap()),
        request_header: Some(RequestHeader::new(proxy, vec!["front-proxy-client".into()], names)),
    }
}

/// Case, certificate, headers → code, user.
type Case<'a> = (&'a str, Option<&'a Issued>, &'a [(&'a str, &'a str)], u16, &'a str);

const POD: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/pods/llm-0/load";

#[tokio::test]
async fn credentials_have_the_results_of_the_reference_server() {
    let scene = Scene::start().await;
    scene.kube.knows_token("good", json!({"username": "alice", "uid": "u1", "groups": ["dev"], "extra": {"k": ["v"]}}));
    for user in ["alice", "carol", "dave"] {
        scene.kube.allow(json!({"user": user}));
    }
    let rogue = Ca::new("nobody knows");
    let carol = scene.client_ca.issue("carol", Some("ops"));
    let past = scene.client_ca.issue_with("carol", None, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let server_only = scene.client_ca.issue_with("carol", None, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let nameless = scene.client_ca.issue("", Some("ops"));
    let stranger_proxy = scene.proxy_ca.issue("somebody-else", None);
    let rogue_proxy = rogue.issue("front-proxy-client", None);
    let rogue_client = rogue.issue("carol", None);
    let dave = ("X-Remote-User", "dave");
    let good = ("Authorization", "Bearer good");
    let bad = ("Authorization", "Bearer bad");
    let cases: &[Case<'_>] = &[
        ("proxy cert + X-Remote-User", Some(&scene.proxy), &[dave], 200, "dave"),
        ("proxy cert, CN not allowed", Some(&stranger_proxy), &[dave], 401, ""),
        ("proxy cert without X-Remote-User", Some(&scene.proxy), &[], 401, ""),
        ("proxy cert of an unknown CA", Some(&rogue_proxy), &[dave], 401, ""),
        ("X-Remote-* without a certificate", None, &[dave, ("X-Remote-Group", "system:masters")], 403, ""),
        ("client cert", Some(&carol), &[], 200, "carol"),
        ("client cert, headers are ignored", Some(&carol), &[dave, ("X-Remote-Group", "system:masters")], 200, "carol"),
        ("client cert of an unknown CA", Some(&rogue_client), &[], 401, ""),
        ("expired client cert", Some(&past), &[], 401, ""),
        ("a server's certificate", Some(&server_only), &[], 401, ""),
        ("client cert without a name", Some(&nameless), &[], 401, ""),
        ("client cert + invalid token", Some(&carol), &[bad], 200, "carol"),
        ("unknown cert + valid token", Some(&rogue_client), &[good], 200, "alice"),
        ("valid token", None, &[good], 200, "alice"),
        ("scheme in lower case", None, &[("Authorization", "bearer good")], 200, "alice"),
        ("invalid token", None, &[bad], 401, ""),
        ("nothing", None, &[], 403, ""),
        ("Basic", None, &[("Authorization", "Basic YTpi")], 403, ""),
        ("empty Bearer", None, &[("Authorization", "Bearer ")], 403, ""),
        ("Bearer alone", None, &[("Authorization", "Bearer")], 403, ""),
    ];
    for (case, identity, headers, code, user) in cases {
        let client = scene.server.client();
        let client = identity.map_or(client.clone(), |identity| client.with(identity));
        let answer = client.get(POD, headers).await;
        assert_eq!(answer.code, *code, "{case}: {answer:?}");
        let body = answer.json();
        if *code == 200 {
            assert_eq!(body["name"], *user, "{case}");
            assert!(body["groups"].as_array().unwrap().contains(&json!("system:authenticated")), "{case}: {body}");
        } else {
            assert_eq!(body["kind"], "Status", "{case}: {body}");
            assert_eq!(body["code"], *code, "{case}: {body}");
            assert_eq!(body["reason"], if *code == 401 { "Unauthorized" } else { "Forbidden" }, "{case}: {body}");
            assert!(answer.head.contains("content-type: application/json"), "{case}: {answer:?}");
            assert!(!answer.head.contains("retry-after"), "{case}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn health_is_for_everyone_but_not_for_a_wrong_token() {
    let scene = Scene::start().await;
    let client = scene.server.client();
    for path in ["/healthz", "/livez", "/readyz", "/readyz?verbose", "/%68ealthz"] {
        assert_eq!(client.get(path, &[]).await.code, 200, "{path}");
        assert_eq!(client.get(path, &[("Authorization", "Bearer bad")]).await.code, 401, "{path}");
    }
    for path in
        ["/readyz/ping", "/healthz/", "//healthz", "/healthz/../metrics", "/healthz%2f", "/healthzz", "/metrics"]
    {
        assert_eq!(client.get(path, &[]).await.code, 403, "{path}");
    }
}

#[tokio::test]
async fn the_front_proxys_words_are_taken_and_go_no_further() {
    let scene = Scene::start().await;
    let headers = [
        ("X-Remote-User", "dave"),
        ("X-Remote-Uid", "42"),
        ("X-Remote-Group", "system:masters"),
        ("X-Remote-Group", "second"),
        ("X-Remote-Extra-Foo%2FBar", "one"),
        ("x-remote-extra-foo%2fbar", "two"),
        ("X-Remote-Extra-bad%zz", "three"),
        ("Authorization", "Bearer bad"),
    ];
    let body = scene.server.client().with(&scene.proxy).get("/version", &headers).await.json();
    assert_eq!(body["name"], "dave");
    assert_eq!(body["uid"], "42");
    assert_eq!(body["groups"], json!(["system:masters", "second", "system:authenticated"]));
    assert_eq!(body["extra"], json!({"foo/bar": ["one", "two"], "bad%zz": ["three"]}));
    assert_eq!(body["headers"], json!(["host", "connection"]));
    assert!(scene.kube.access_reviews().is_empty(), "system:masters needs no question");
}

#[tokio::test]
async fn a_user_without_groups_becomes_authenticated_and_an_unauthenticated_one_does_not() {
    let scene = Scene::start().await;
    scene.kube.allow(json!({"user": "system:aggregator", "groups": ["system:authenticated"]}));
    scene.kube.allow(json!({"user": "x", "groups": ["system:unauthenticated"]}));
    let client = scene.server.client().with(&scene.proxy);
    assert_eq!(client.get("/openapi/v2", &[("X-Remote-User", "system:aggregator")]).await.code, 200);
    let headers = [("X-Remote-User", "x"), ("X-Remote-Group", "system:unauthenticated")];
    assert_eq!(client.get("/openapi/v2", &headers).await.code, 200);
}

#[tokio::test]
async fn a_certificate_authority_that_changes_counts_at_once_also_on_open_connections() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scene = Scene::start().await;
    scene.kube.allow(json!({"user": "carol"}));
    let carol = scene.client_ca.issue("carol", None);
    let mut stream = scene.server.client().with(&carol).connect().await.unwrap();
    let mut ask = async || {
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..count]).split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask().await, "200");
    let next = Ca::new("next");
    scene.trust.replace(trust(&next, &scene.proxy_ca));
    assert_eq!(ask().await, "401");
    let carol = next.issue("carol", None);
    assert_eq!(scene.server.client().with(&carol).get("/version", &[]).await.code, 200);
}

#[tokio::test]
async fn an_answer_about_a_token_is_asked_once_for_all_and_believed_for_ten_seconds() {
    let scene = Scene::start().await;
    scene.kube.knows_token("good", json!({"username": "alice", "groups": ["system:masters"]}));
    scene.kube.answer_after(Duration::from_millis(100));
    let client = scene.server.client();
    let at_once = (0..10).map(|_| client.get(POD, &[("Authorization", "Bearer good")]));
    for answer in futures::future::join_all(at_once).await {
        assert_eq!(answer.code, 200);
    }
    assert_eq!(scene.kube.token_reviews(), 1);
    assert_eq!(client.get(POD, &[("Authorization", "Bearer bad")]).await.code, 401);
    assert_eq!(client.get(POD, &[("Authorization", "Bearer bad")]).await.code, 401);
    assert_eq!(scene.kube.token_reviews(), 2);

    scene.kube.forget_tokens();
    assert_eq!(client.get(POD, &[("Authorization", "Bearer good")]).await.code, 200);
    scene.hands.advance(Duration::from_secs(10));
    assert_eq!(client.get(POD, &[("Authorization", "Bearer good")]).await.code, 401);
    assert_eq!(scene.kube.token_reviews(), 3);
}

#[tokio::test]
async fn yes_and_no_are_asked_once_for_all_and_believed_for_ten_seconds() {
    let scene = Scene::start().await;
    let client = scene.server.client();
    scene.kube.answer_after(Duration::from_millis(100));
    for answer in futures::future::join_all((0..10).map(|_| client.get(POD, &[]))).await {
        assert_eq!(answer.code, 403);
    }
    assert_eq!(scene.kube.access_reviews().len(), 1);
    scene.kube.allow(json!({"user": "system:anonymous"}));
    assert_eq!(client.get(POD, &[]).await.code, 403);
    scene.hands.advance(Duration::from_secs(10));
    assert_eq!(client.get(POD, &[]).await.code, 200);
    scene.kube.deny_all();
    assert_eq!(client.get(POD, &[]).await.code, 200);
    scene.hands.advance(Duration::from_secs(10));
    assert_eq!(client.get(POD, &[]).await.code, 403);
    assert_eq!(scene.kube.access_reviews().len(), 3);
}

#[tokio::test]
async fn nothing_is_allowed_while_the_api_server_is_out_of_reach_but_what_was_answered_lately() {
    let scene = Scene::start().await;
    scene.kube.knows_token("good", json!({"username": "alice"}));
    scene.kube.allow(json!({"user": "alice"}));
    let good = [("Authorization", "Bearer good")];
    let client = scene.server.client();
    assert_eq!(client.get(POD, &good).await.code, 200);
    let first_review = scene.kube.access_reviews();
    scene.kube.stop();
    eventually("the API server is gone", || std::net::TcpStream::connect(scene.kube.address()).is_err()).await;

    assert_eq!(client.get(POD, &good).await.code, 200, "believed until it expires");
    let answer = client.get("/metrics", &good).await;
    assert_eq!(answer.code, 500, "{answer:?}");
    assert_eq!(answer.json()["reason"], "InternalError");
    assert!(answer.json()["message"].as_str().unwrap().starts_with("authorization could not be decided"), "{answer:?}");
    let answer = client.get(POD, &[("Authorization", "Bearer other")]).await;
    assert_eq!(answer.code, 500, "{answer:?}");
    assert!(
        answer.json()["message"].as_str().unwrap().starts_with("authentication could not be decided"),
        "{answer:?}"
    );
    assert_eq!(client.get("/healthz", &[]).await.code, 200);
    scene.hands.advance(Duration::from_secs(10));
    assert_eq!(client.get(POD, &good).await.code, 500);
    assert_eq!(scene.kube.access_reviews(), first_review);
}

#[tokio::test]
async fn a_certificate_before_any_trust_was_read_is_told_to_come_back_and_is_not_anonymous() {
    let kube = KubeApi::start().await;
    let trust = Arc::new(TrustStore::new(Trust::default()));
    let authenticator = Arc::new(Authenticator::new(Arc::clone(&trust), None));
    let metrics = Metrics::register(&mut Registry::default());
    let app = secure(Router::new().fallback(echo), metrics, authenticator, Arc::new(Authorizer::new(kube.client())));
    let server = Server::start(app, Limits::default()).await;
    let ca = Ca::new("clients");
    let client = server.client().with(&ca.issue("carol", Some("system:masters")));
    assert!(!trust.is_loaded());
    for path in ["/apis", "/apis/custom.metrics.k8s.io/v1beta2", POD] {
        let answer = client.get(path, &[]).await;
        assert_eq!(answer.code, 503, "{path}: {answer:?}");
        assert_eq!(
            (&answer.json()["kind"], &answer.json()["reason"]),
            (&json!("Status"), &json!("ServiceUnavailable"))
        );
        assert!(answer.json()["message"].as_str().unwrap().starts_with("the server is starting"), "{answer:?}");
        assert!(!answer.head.contains("retry-after"), "{answer:?}");
    }
    assert_eq!(server.client().get("/livez", &[]).await.code, 200, "who shows nothing can be judged already");
    trust.replace(self::trust(&ca, &ca));
    assert!(trust.is_loaded());
    assert_eq!(client.get(POD, &[]).await.code, 200);
}

#[tokio::test]
async fn what_is_served_is_what_was_authorized_however_the_path_is_spelled() {
    let scene = Scene::start().await;
    scene.kube.allow(json!({"resourceAttributes": {"namespace": "mine"}}));
    let client = scene.server.client();
    let served = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/mine/pods/*/load";
    for path in [
        served,
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/mine/pods/%2A/load",
        "/%61pis/custom%2emetrics.k8s.io/v1beta2/n%61mespaces/m%69ne/%70ods/%2a/lo%61d",
    ] {
        let answer = client.get(path, &[]).await;
        assert_eq!(answer.code, 200, "{path}: {answer:?}");
        assert_eq!(answer.json()["path"], served, "{path}");
    }
    let group = "/apis/custom.metrics.k8s.io/v1beta2";
    for path in [
        "/namespaces/mine/../prod/pods/x/load",
        "/namespaces/mine/%2e%2e/prod/pods/x/load",
        "/namespaces/mine%2F..%2Fprod/pods/x/load",
        "/namespaces/mine%2Fpods/x/load",
        "//namespaces/mine/pods/x/load",
        "/namespaces//mine/pods/x/load",
        "/namespaces/mine/./pods/x/load",
        "/namespaces/mine/pods/x/a%2Fb",
        "/namespaces/mine/pods/x%00/load",
        "/n%61mespaces/prod/pods/x/load",
        "/namespaces/m%2569ne/pods/x/load",
        "/namespaces/MINE/pods/x/load",
    ] {
        let answer = client.get(&format!("{group}{path}"), &[]).await;
        assert_eq!(answer.code, 403, "{path}: {answer:?}");
    }
    for path in ["/namespaces/mine/pods/x/a%zz", "/namespaces/mine/pods/x/a%", "/namespaces/mine/pods/%ff/load"] {
        let answer = client.get(&format!("{group}{path}"), &[]).await;
        assert_eq!(answer.code, 400, "{path}: {answer:?}");
        assert_eq!(answer.json()["reason"], "BadRequest");
    }
    let masters = [("X-Remote-User", "root"), ("X-Remote-Group", "system:masters")];
    let root = scene.server.client().with(&scene.proxy);
    for path in ["/namespaces//mine/pods/x/load", "/namespaces/mine/pods/x/a%2Fb", "/namespaces/mine/../pods/x/load"] {
        let answer = root.get(&format!("{group}{path}"), &masters).await;
        assert_eq!(answer.code, 404, "{path}: {answer:?}");
        assert_eq!(answer.json()["reason"], "NotFound");
    }
    let odd = root.get(&format!("{group}/namespaces/mine/pods/x/a%25b%3Fc?d=%zz&e=1+2"), &masters).await.json();
    assert_eq!(odd["path"], format!("{group}/namespaces/mine/pods/x/a%25b%3Fc"));
    assert_eq!(odd["query"], "d=%zz&e=1+2");
}

#[tokio::test]
async fn a_refusal_names_the_user_and_what_was_asked_as_kubernetes_does() {
    let scene = Scene::start().await;
    let carol = scene.server.client().with(&scene.client_ca.issue("carol", None));
    let status = carol.get(POD, &[]).await.json();
    assert_eq!(
        status,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
               "message": "pods.custom.metrics.k8s.io \"llm-0\" is forbidden: User \"carol\" cannot get resource \
                           \"pods/load\" in API group \"custom.metrics.k8s.io\" in the namespace \"prod\"",
               "reason": "Forbidden",
               "details": {"name": "llm-0", "group": "custom.metrics.k8s.io", "kind": "pods"}, "code": 403})
    );
    let status = carol.get("/metrics", &[]).await.json();
    assert_eq!(status["message"], "forbidden: User \"carol\" cannot get path \"/metrics\"");
    assert_eq!(status["details"], json!({}));
}

#[tokio::test]
async fn acting_as_someone_else_needs_a_yes_for_every_name() {
    let scene = Scene::start().await;
    let carol = scene.server.client().with(&scene.client_ca.issue("carol", None));
    for resource in ["users", "groups", "serviceaccounts", "uids", "userextras"] {
        let attributes = json!({"verb": "impersonate", "resource": resource});
        if resource != "groups" {
            scene.kube.allow(json!({"user": "carol", "resourceAttributes": attributes}));
        }
    }
    scene.kube.allow(json!({"resourceAttributes": {"resource": "groups", "name": "dev"}}));
    scene.kube.allow(json!({"user": "bob"}));
    scene.kube.allow(json!({"user": "system:serviceaccount:prod:hpa"}));

    let headers = [
        ("Impersonate-User", "bob"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Scope", "view"),
    ];
    let body = carol.get(POD, &headers).await.json();
    assert_eq!(body["name"], "bob", "{body}");
    assert_eq!(body["uid"], "7");
    assert_eq!(body["groups"], json!(["dev", "system:authenticated"]));
    assert_eq!(body["extra"], json!({"scope": ["view"]}));
    assert_eq!(body["headers"], json!(["host", "connection"]));
    let asked = scene.kube.access_reviews();
    let attributes: Vec<_> = asked.iter().map(|spec| &spec["resourceAttributes"]).collect();
    assert_eq!(attributes[0]["resource"], "users");
    assert_eq!(
        attributes[2],
        &json!({"verb": "impersonate", "group": "authentication.k8s.io", "version": "v1",
                                      "resource": "uids", "name": "7"})
    );
    assert_eq!(attributes[3]["subresource"], "scope");

    let body = carol.get(POD, &[("Impersonate-User", "system:serviceaccount:prod:hpa")]).await.json();
    assert_eq!(
        body["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:prod", "system:authenticated"])
    );

    let cases: &[(&[(&str, &str)], u16)] = &[
        (&[("Impersonate-User", "bob"), ("Impersonate-Group", "system:masters")], 403),
        (&[("Impersonate-Group", "dev")], 400),
        (&[("Impersonate-Whatever", "x"), ("Impersonate-User", "bob")], 400),
        (&[("Impersonate-User", "bob"), ("Impersonate-User", "root")], 400),
    ];
    for (headers, code) in cases {
        let answer = carol.get(POD, headers).await;
        assert_eq!(answer.code, *code, "{headers:?}: {answer:?}");
    }
    let anonymous = scene.server.client().get("/healthz", &[("Impersonate-User", "bob")]).await;
    assert_eq!(anonymous.code, 403, "never ignored: {anonymous:?}");
}

#[tokio::test]
async fn a_refusal_is_written_as_every_other_answer_and_counted_as_one() {
    let scene = Scene::start().await;
    let client = scene.server.client();
    let headers = [("Accept", "application/yaml"), ("Audit-Id", "abc-123"), ("X-Remote-User", "dave")];
    let answer = client.get(POD, &headers).await;
    assert_eq!(answer.code, 403);
    assert!(answer.head.contains("content-type: application/yaml"), "{answer:?}");
    assert!(answer.head.contains("audit-id: abc-123"), "{answer:?}");
    assert!(answer.body.contains("reason: Forbidden"), "{answer:?}");
    let list = POD.replace("llm-0", "*");
    assert_eq!(client.get(&list, &[("Authorization", "Bearer bad")]).await.code, 401);
    assert_eq!(client.request("DELETE", &list, &[]).await.code, 403);
    assert_eq!(client.get("/healthz%zz", &[]).await.code, 400);
    scene.kube.stop();
    eventually("the API server is gone", || std::net::TcpStream::connect(scene.kube.address()).is_err()).await;
    assert_eq!(client.get("/apis/external.metrics.k8s.io/v1beta1/namespaces/a/b", &[]).await.code, 500);
    // What the router answers, the router counts.
    assert_eq!(client.get("/healthz", &[]).await.code, 200);

    let (_, page) = metrics::page(&scene.registry, "");
    let custom = r#"group="custom.metrics.k8s.io",version="v1beta2""#;
    let external = r#"group="external.metrics.k8s.io",version="v1beta1""#;
    let nothing = r#"group="",version="""#;
    let named = r#"resource="",subresource="",scope="#;
    let mut counted: Vec<_> = page.lines().filter(|line| line.starts_with("apiserver_request_total{")).collect();
    counted.sort_unstable();
    let mut expected = [
        format!(r#"verb="DELETE",{custom},{named}"namespace",code="403""#),
        format!(r#"verb="GET",{custom},{named}"resource",code="403""#),
        format!(r#"verb="GET",{nothing},{named}"",code="400""#),
        format!(r#"verb="LIST",{custom},{named}"namespace",code="401""#),
        format!(r#"verb="LIST",{external},{named}"namespace",code="500""#),
    ]
    .map(|labels| format!("apiserver_request_total{{{labels}}} 1"));
    expected.sort_unstable();
    assert_eq!(counted, expected);
    let durations = page.lines().filter(|line| line.starts_with("apiserver_request_duration_seconds_count{"));
    assert_eq!(durations.filter(|line| line.ends_with(" 1")).count(), 5, "{page}");
}
