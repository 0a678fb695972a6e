//! A provider of ours before another adapter that listens on a socket, over TLS.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use apiservice::{ObjectName, Quantity};
use axum::{
    Json, Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;

const OURS: f64 = 7.0;

/// Lists and answers `ours` for pods, and `ours` as an external metric.
#[derive(Debug)]
struct Inner;

fn pod_value(value: f64) -> MetricValue {
    let object = ObjectName {
        kind: "Pod".into(),
        api_version: "v1".into(),
        namespace: Some("prod".into()),
        name: "llm-0".into(),
    };
    let timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
    MetricValue { object, timestamp, window: None, value: Quantity::from_f64(value).unwrap() }
}

impl Provider for Inner {
    async fn custom_by_name(
        &self,
        _: &Resource,
        _: Option<&str>,
        _: &str,
        metric: &str,
        _: &Selector,
    ) -> Result<MetricValue, Status> {
        assert_eq!(metric, "ours");
        Ok(pod_value(OURS))
    }

    async fn custom_by_selector(
        &self,
        _: &Resource,
        _: Option<&str>,
        _: &Selector,
        metric: &str,
        _: &Selector,
    ) -> Result<Vec<MetricValue>, Status> {
        assert_eq!(metric, "ours");
        Err(Status::not_found("ours is unknown"))
    }

    async fn external(&self, _: &str, metric: &str, _: &Selector) -> Result<Vec<ExternalValue>, Status> {
        assert_eq!(metric, "ours");
        Ok(Vec::new())
    }

    fn custom_metrics(&self) -> Vec<CustomMetric> {
        vec![custom("pods", Scope::Namespaced, "ours")]
    }

    fn external_metrics(&self) -> Vec<ExternalMetricName> {
        vec![ExternalMetricName("ours".into())]
    }
}

fn resource(name: &str) -> Resource {
    let (name, group) = name.split_once('.').unwrap_or((name, ""));
    Resource { group: group.into(), name: name.into() }
}

fn custom(name: &str, scope: Scope, metric: &str) -> CustomMetric {
    CustomMetric { resource: resource(name), scope, metric: metric.into() }
}

/// What the other adapter was asked.
#[derive(Debug)]
struct Asked {
    uri: String,
    authorization: Option<String>,
}

/// The other adapter, its files, and our provider before it.
struct Rig {
    passthrough: Arc<Passthrough<Inner>>,
    asked: mpsc::UnboundedReceiver<Asked>,
    folder: Folder,
    server: JoinSet<io::Result<()>>,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

struct TlsListener {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

impl Rig {
    /// The other adapter answers as `answer` says, by path.
    async fn start(answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let _already = rustls::crypto::ring::default_provider().install_default();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = Folder(std::env::temp_dir().join(format!("tidegate-passthrough-{}-{number}", std::process::id())));
        std::fs::create_dir_all(&folder.0).unwrap();

        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        std::fs::write(folder.0.join("ca.pem"), params.self_signed(&ca_key).unwrap().pem()).unwrap();
        std::fs::write(folder.0.join("token"), "first\n").unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();

        let (tell, asked) = mpsc::unbounded_channel();
        let app = Router::new().fallback(move |request: Request| {
            let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            let _ended = tell.send(Asked { uri: request.uri().to_string(), authorization });
            let response = answer(request.uri().path());
            async move { response }
        });
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", tcp.local_addr().unwrap());
        let listener = TlsListener { tcp, tls: TlsAcceptor::from(Arc::new(tls)) };
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await });

        let config = config::Passthrough {
            url,
            ca_file: Some(folder.0.join("ca.pem")),
            insecure_skip_tls_verify: false,
            bearer_token_file: Some(folder.0.join("token")),
        };
        let passthrough = Arc::new(Passthrough::new(Inner, &config).unwrap());
        Self { passthrough, asked, folder, server }
    }

    async fn by_name(&self, name: &str, namespace: Option<&str>, metric: &str) -> Result<MetricValue, Status> {
        let everything = Selector::everything();
        self.passthrough.custom_by_name(&resource(name), namespace, "x", metric, &everything).await
    }

    async fn by_selector(&self, metric: &str) -> Result<Vec<MetricValue>, Status> {
        let [objects, metrics] = ["app in (a,b)", "model=qwen"].map(|text| text.parse().unwrap());
        self.passthrough.custom_by_selector(&resource("pods"), Some("prod"), &objects, metric, &metrics).await
    }
}

fn list(items: &Value) -> Response {
    Json(json!({"kind": "MetricValueList", "metadata": {}, "items": items})).into_response()
}

fn item(value: &str) -> Value {
    json!({
        "describedObject": {"kind": "Pod", "namespace": "prod", "name": "llm-0", "apiVersion": "/v1"},
        "metricName": "theirs", "timestamp": "2026-01-02T03:04:05Z", "window": 30, "value": value, "selector": null,
    })
}

fn failure(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    let retry = [("retry-after", "600")];
    (StatusCode::from_u16(code).unwrap(), retry, Json(body)).into_response()
}

#[tokio::test]
async fn what_ours_knows_is_ours_even_when_it_is_unknown_and_the_other_is_not_asked() {
    let mut rig = Rig::start(|_| list(&json!([item("99")]))).await;
    assert_eq!(rig.by_name("pods", Some("prod"), "ours").await.unwrap(), pod_value(OURS));
    assert_eq!(rig.by_selector("ours").await.unwrap_err().message, "ours is unknown");
    assert_eq!(rig.passthrough.external("prod", "ours", &Selector::everything()).await.unwrap(), []);
    assert!(rig.asked.try_recv().is_err());
}

#[tokio::test]
async fn what_ours_does_not_know_is_asked_of_the_other_with_our_credentials() {
    let mut rig = Rig::start(|_| list(&json!([item("1500m")]))).await;
    let found = rig.by_selector("vllm:queue").await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].value.to_string(), "1500m");
    assert_eq!((&*found[0].object.name, found[0].object.namespace.as_deref()), ("llm-0", Some("prod")));
    assert_eq!(found[0].timestamp, "2026-01-02T03:04:05Z".parse().unwrap());
    assert_eq!(found[0].window, Some(Duration::from_secs(30)));
    let asked = rig.asked.recv().await.unwrap();
    assert_eq!(asked.authorization.as_deref(), Some("Bearer first"));
    assert_eq!(
        asked.uri,
        "/apis/custom.metrics.k8s.io/v1beta1/namespaces/prod/pods/*/vllm:queue\
         ?labelSelector=app+in+%28a%2Cb%29&metricLabelSelector=model%3Dqwen"
    );
}

#[tokio::test]
async fn every_form_of_path_is_passed_on_as_it_came() {
    let mut rig = Rig::start(|_| list(&json!([item("1")]))).await;
    let base = "/apis/custom.metrics.k8s.io/v1beta1";
    for (name, namespace, path) in [
        ("pods", Some("prod"), "/namespaces/prod/pods/x/m"),
        ("deployments.apps", Some("prod"), "/namespaces/prod/deployments.apps/x/m"),
        ("nodes", Some("prod"), "/namespaces/prod/nodes/x/m"),
        ("nodes", None, "/nodes/x/m"),
        ("namespaces", None, "/namespaces/x/metrics/m"),
        ("pods", Some("a/../b"), "/namespaces/a%2F..%2Fb/pods/x/m"),
    ] {
        rig.by_name(name, namespace, "m").await.unwrap();
        assert_eq!(rig.asked.recv().await.unwrap().uri, format!("{base}{path}"));
    }
}

#[tokio::test]
async fn names_that_would_lead_to_another_path_are_refused() {
    let mut rig = Rig::start(|_| list(&json!([item("1")]))).await;
    for (namespace, metric) in [("..", "m"), (".", "m"), ("", "m"), ("prod", "..")] {
        let status = rig.passthrough.external(namespace, metric, &Selector::everything()).await.unwrap_err();
        assert_eq!((status.code, status.reason), (400, "BadRequest"), "{namespace:?} {metric:?}");
    }
    assert!(rig.asked.try_recv().is_err());
}

#[tokio::test]
async fn external_values_keep_their_labels() {
    let mut rig = Rig::start(|_| {
        list(&json!([
            {"metricName": "q", "metricLabels": {"queue": "a"}, "timestamp": "2026-01-02T03:04:05Z", "value": "42"},
            {"metricName": "q", "metricLabels": null, "timestamp": "2026-01-02T03:04:05Z", "windowSeconds": 60, "value": "1"},
        ]))
    })
    .await;
    let found = rig.passthrough.external("prod", "q", &"queue=a".parse().unwrap()).await.unwrap();
    assert_eq!(found[0].labels, BTreeMap::from([("queue".to_owned(), "a".to_owned())]));
    assert_eq!((found[0].value.to_string().as_str(), found[0].window), ("42", None));
    assert_eq!((found[1].labels.len(), found[1].window), (0, Some(Duration::from_mins(1))));
    let path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/q?labelSelector=queue%3Da";
    assert_eq!(rig.asked.recv().await.unwrap().uri, path);
}

#[tokio::test]
async fn its_errors_keep_code_reason_and_message_and_those_about_us_do_not_look_like_the_askers() {
    for (answer, code, reason, part) in [
        ((404, "NotFound", "no such pod"), 404, "NotFound", "no such pod"),
        ((429, "TooManyRequests", "slow down"), 429, "TooManyRequests", "slow down"),
        ((500, "InternalError", "boom"), 500, "InternalError", "boom"),
        ((503, "Inventive", "later"), 503, "ServiceUnavailable", "later"),
        ((418, "", "teapot"), 418, "BadRequest", "teapot"),
        ((401, "Unauthorized", "who"), 503, "ServiceUnavailable", "answers HTTP 401: who"),
        ((403, "Forbidden", "not you"), 503, "ServiceUnavailable", "answers HTTP 403: not you"),
        ((302, "", "elsewhere"), 503, "ServiceUnavailable", "answers HTTP 302"),
    ] {
        let rig = Rig::start(move |_| failure(answer.0, answer.1, answer.2)).await;
        let status = rig.by_name("pods", Some("prod"), "m").await.unwrap_err();
        assert_eq!((status.code, status.reason), (code, reason), "{answer:?}");
        assert!(status.message.contains(part), "{answer:?}: {status}");
    }
}

#[tokio::test]
async fn answers_that_are_not_what_they_should_be_are_errors_and_never_numbers() {
    let untimed = json!({"describedObject": {"kind": "Pod", "name": "p"}, "timestamp": null, "value": "1"});
    for (body, code) in [
        ("no JSON".to_owned(), 503),
        (json!({"items": [item("NaN")]}).to_string(), 503),
        (json!({"items": [untimed]}).to_string(), 503),
        (json!({"items": null}).to_string(), 404),
        (" ".repeat(11 << 20), 503),
    ] {
        let name = body[..body.len().min(40)].to_owned();
        let rig = Rig::start(move |_| body.clone().into_response()).await;
        assert_eq!(rig.by_name("pods", Some("prod"), "m").await.unwrap_err().code, code, "{name}");
    }
}

#[tokio::test]
async fn an_adapter_that_nobody_can_reach_is_a_503_that_gives_no_address_away() {
    let mut rig = Rig::start(|_| list(&json!([]))).await;
    rig.server.shutdown().await;
    let status = rig.by_name("pods", Some("prod"), "m").await.unwrap_err();
    assert_eq!((status.code, status.message.as_str()), (503, "the adapter behind this one cannot be reached"));
    assert_eq!(rig.by_name("pods", Some("prod"), "ours").await.unwrap(), pod_value(OURS), "ours is not touched by it");
}

#[tokio::test]
async fn more_queries_than_the_limit_are_refused_at_once() {
    // The other adapter accepts and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _already = rustls::crypto::ring::default_provider().install_default();
    let config = config::Passthrough {
        url: format!("https://{}", silent.local_addr().unwrap()),
        ca_file: None,
        insecure_skip_tls_verify: true,
        bearer_token_file: None,
    };
    let passthrough = Arc::new(Passthrough::new(Inner, &config).unwrap());
    let mut waiting = JoinSet::new();
    for _ in 0..32 {
        let passthrough = Arc::clone(&passthrough);
        waiting.spawn(async move { passthrough.external("prod", "m", &Selector::everything()).await });
    }
    let mut connections = Vec::new();
    while connections.len() < 32 {
        connections.push(silent.accept().await.unwrap());
    }
    let status = passthrough.external("prod", "m", &Selector::everything()).await.unwrap_err();
    assert_eq!(status.code, 503);
    assert!(status.message.contains("32 queries"), "{status}");
    assert!(waiting.try_join_next().is_none(), "the others still wait");
}

#[tokio::test]
async fn discovery_lists_both_and_ours_goes_before() {
    let rig = Rig::start(|path| match path {
        "/apis/custom.metrics.k8s.io/v1beta2" => Json(json!({"resources": [
            {"name": "pods/theirs", "namespaced": true}, {"name": "pods/ours", "namespaced": true},
            {"name": "pods/wrong-scope", "namespaced": false}, {"name": "services.core/deep/name", "namespaced": true},
            {"name": "nonsense", "namespaced": true},
        ]}))
        .into_response(),
        "/apis/external.metrics.k8s.io/v1beta1" => {
            Json(json!({"resources": [{"name": "queue"}, {"name": "ours"}]})).into_response()
        }
        _ => failure(404, "NotFound", "not this version"),
    })
    .await;
    let ours = custom("pods", Scope::Namespaced, "ours");
    assert_eq!(rig.passthrough.custom_metrics(), std::slice::from_ref(&ours), "nothing is known of the other yet");
    rig.passthrough.other.refresh().await;
    let theirs = [custom("pods", Scope::Namespaced, "theirs"), custom("services.core", Scope::Namespaced, "deep/name")];
    assert_eq!(rig.passthrough.custom_metrics(), [&[ours][..], &theirs].concat());
    assert_eq!(rig.passthrough.external_metrics(), ["ours", "queue"].map(|name| ExternalMetricName(name.into())));
    assert_eq!(rig.passthrough.problem(), None);
}

#[tokio::test]
async fn discovery_that_fails_leaves_what_was_last_known_and_is_said() {
    let healthy = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&healthy);
    let mut rig = Rig::start(move |path| match (state.load(Ordering::SeqCst), path) {
        (1, "/apis/custom.metrics.k8s.io/v1beta2") => {
            Json(json!({"resources": [{"name": "pods/theirs", "namespaced": true}]})).into_response()
        }
        (1, path) if path.starts_with("/apis/custom.metrics.k8s.io/v1beta1/") => {
            failure(404, "NotFound", "old version")
        }
        (1, path) if path.contains("/pods/") => list(&json!([item("3")])),
        (1, _) => failure(404, "NotFound", "none"),
        _ => failure(500, "InternalError", "boom"),
    })
    .await;
    rig.passthrough.other.refresh().await;
    let known = rig.passthrough.custom_metrics();
    assert_eq!(known.len(), 2);
    assert_eq!(rig.by_name("pods", Some("prod"), "theirs").await.unwrap().value.to_string(), "3", "in its version");
    healthy.store(0, Ordering::SeqCst);
    rig.passthrough.other.refresh().await;
    assert_eq!(rig.passthrough.custom_metrics(), known);
    assert!(
        rig.passthrough
            .problem()
            .unwrap()
            .contains("custom.metrics.k8s.io: the adapter behind this one answers HTTP 500")
    );
    while rig.asked.try_recv().is_ok() {}
    let _lists = (rig.passthrough.custom_metrics(), rig.passthrough.external_metrics());
    assert!(rig.asked.try_recv().is_err(), "discovery is answered from memory");
}

#[tokio::test]
async fn a_token_that_was_replaced_is_used_and_one_that_cannot_be_read_leaves_the_last() {
    let mut rig = Rig::start(|_| list(&json!([item("1")]))).await;
    for (content, expected) in
        [(Some("second"), "Bearer second"), (Some("bro\nken"), "Bearer second"), (None, "Bearer second")]
    {
        let path = rig.folder.0.join("token");
        match content {
            Some(content) => std::fs::write(path, content).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        rig.passthrough.other.refresh().await;
        while rig.asked.try_recv().is_ok() {}
        rig.by_name("pods", Some("prod"), "m").await.unwrap();
        assert_eq!(rig.asked.recv().await.unwrap().authorization.as_deref(), Some(expected), "{content:?}");
    }
    let problem = rig.passthrough.problem().unwrap();
    assert!(problem.contains("serve.passthrough.bearerTokenFile: cannot read"), "{problem}");
}

#[tokio::test]
async fn a_setting_that_cannot_work_is_refused_with_its_name() {
    let rig = Rig::start(|_| list(&json!([]))).await;
    let good = config::Passthrough {
        url: "https://adapter.monitoring.svc".into(),
        ca_file: None,
        insecure_skip_tls_verify: false,
        bearer_token_file: None,
    };
    let token = rig.folder.0.join("token");
    for (change, part) in [
        (
            config::Passthrough { url: "http://adapter".into(), ..good.clone() },
            "serve.passthrough.url: expected https://",
        ),
        (config::Passthrough { url: "https://adapter/apis".into(), ..good.clone() }, "without a path"),
        (config::Passthrough { url: "adapter".into(), ..good.clone() }, "got \"adapter\""),
        (config::Passthrough { ca_file: Some(token), ..good.clone() }, "caFile: /"),
        (
            config::Passthrough { ca_file: Some("/nowhere/ca".into()), ..good.clone() },
            "caFile: cannot read /nowhere/ca",
        ),
        (config::Passthrough { bearer_token_file: Some("/nowhere/t".into()), ..good }, "bearerTokenFile: cannot read"),
    ] {
        let error = Passthrough::new(Inner, &change).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
