//! The start of an adapter whose API server is away.

use std::net::{Ipv4Addr, TcpListener as Reserved};

use axum::{body::Body, response::Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::Instant};

use super::*;
use crate::config::Telemetry;

/// An API server without any objects but the Secrets that are created.
#[derive(Debug, Default)]
struct World {
    is_there: bool,
    secret: Option<Value>,
}

type Shared = Arc<Mutex<World>>;

fn answer(code: u16, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

impl World {
    fn handle(&mut self, request: &http::request::Parts, body: &[u8]) -> Response {
        let path = request.uri.path();
        if request.method == http::Method::POST && path.ends_with("/namespaces/tidegate/secrets") {
            self.secret = Some(serde_json::from_slice(body).unwrap());
        }
        match &self.secret {
            Some(secret) if path.contains("/namespaces/tidegate/secrets") => answer(200, secret),
            _ => {
                let status = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
                answer(404, &status)
            }
        }
    }
}

fn client(world: &Shared) -> kube::Client {
    let world = Arc::clone(world);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let world = Arc::clone(&world);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.map_err(|_| "no body")?;
            let mut world = world.lock();
            if world.is_there { Ok(world.handle(&parts, &body)) } else { Err("connection refused") }
        }
    });
    kube::Client::new(service, "tidegate")
}

/// Addresses that are free, unless somebody else takes them at once.
fn addresses() -> [SocketAddr; 2] {
    let reserved = [(); 2].map(|()| Reserved::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    reserved.map(|listener| listener.local_addr().unwrap())
}

/// What the page says, once it says something that `is_it`.
async fn until(client: &reqwest::Client, url: &str, is_it: impl Fn(u16, &str) -> bool) -> String {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let seen = match client.get(url).send().await {
            Ok(response) => {
                let code = response.status().as_u16();
                let page = response.text().await.unwrap();
                if is_it(code, &page) {
                    return page;
                }
                format!("{code} {page}")
            }
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < patience, "{url}: {seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn r21_without_the_api_server_telemetry_is_up_and_the_certificate_comes_when_it_is_back() {
    let _ = rustls::crypto::ring::default_provider().install_default(); // another test may have been first
    let world = Shared::default();
    let [listen, telemetry] = addresses();
    let settings = Config {
        serve: Serve { listen, ..Serve::default() },
        telemetry: Telemetry { listen: telemetry, ..Telemetry::default() },
        ..Config::default()
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let adapter = tokio::spawn(run(settings, client(&world), async { stopped.await.unwrap_or_default() }));

    let pages = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = |name: &str| format!("http://{telemetry}/{name}");
    let why = "there is no serving certificate yet: Secret tidegate/tidegate-serving-certificate: ";
    let ready = until(&pages, &page("readyz"), |code, page| code == 503 && page.starts_with(why)).await;
    assert!(ready.ends_with("connection refused"), "{ready}");
    until(&pages, &page("livez"), |code, _| code == 200).await;
    until(&pages, &page("metrics"), |_, page| page.contains("tidegate_snapshot_age_seconds")).await;
    assert!(!adapter.is_finished());

    world.lock().is_there = true;
    until(&pages, &page("readyz"), |_, page| page == "the aggregator's certificate authorities are not known yet")
        .await;
    let secret = world.lock().secret.clone().expect("the certificate is shared");
    let authority: k8s_openapi::ByteString = serde_json::from_value(secret["data"]["ca.crt"].clone()).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority.0).unwrap();
    let trusting = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    until(&trusting, &format!("https://localhost:{}/livez", listen.port()), |code, _| code == 200).await;

    stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(30), adapter).await;
    ended.expect("it drains").unwrap().unwrap();
}

#[tokio::test]
async fn an_adapter_that_waits_for_its_certificate_ends_when_it_is_told_to() {
    let [listen, telemetry] = addresses();
    let settings = Config {
        serve: Serve { listen, ..Serve::default() },
        telemetry: Telemetry { listen: telemetry, ..Telemetry::default() },
        ..Config::default()
    };
    let ended =
        tokio::time::timeout(Duration::from_secs(30), run(settings, client(&Shared::default()), async {})).await;
    ended.expect("it drains").unwrap();
}
