//! `/metrics`, `/livez` and `/readyz` over plain HTTP, on a port of their own.

use std::{future::Future, sync::Arc, time::Duration};

use apiservice::{Limits, metrics::Metrics};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// Open connections; beyond, new ones wait until one closes.
const CONNECTIONS: usize = 64;
/// Open connections from one address; beyond, a new one is closed.
const CONNECTIONS_OF_ONE: usize = 32;
/// To send a request's head, the first and each that follows; beyond, the connection is closed. As short as a kubelet's patience with a probe.
const HEADER_READ: Duration = Duration::from_secs(5);
/// Longest time for an answer: Prometheus' own default; a page takes milliseconds.
const REQUEST: Duration = Duration::from_secs(10);
/// Longest time for answers under way at the end.
const DRAIN: Duration = Duration::from_secs(2);

/// Says whether the process is well: `Err` with the reason in words.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the pages show.
pub struct Pages {
    /// Everything on `/metrics`.
    pub registry: Arc<Registry>,
    /// Where requests are counted that the connection refuses.
    pub metrics: Metrics,
    /// The loop ticked lately.
    pub live: Check,
    /// There is something true to serve.
    pub ready: Check,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// Serves the pages until `shutdown`.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    pages: Arc<Pages>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    serve_within(limits(), listener, pages, shutdown).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    pages: Arc<Pages>,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let metrics = pages.metrics.clone();
    let routes = Router::new()
        .route("/metrics", get(page))
        .route("/livez", get(async |State(pages): State<Arc<Pages>>| health(&pages.live)))
        .route("/readyz", get(async |State(pages): State<Arc<Pages>>| health(&pages.ready)))
        .with_state(pages);
    apiservice::server::serve_plain(listener, routes, metrics, limits, shutdown).await
}

/// Serves any routes over plain HTTP until `shutdown`, within the same limits.
///
/// # Errors
/// The listener fails.
pub async fn serve_routes(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    apiservice::server::serve_plain(listener, routes, None, limits(), shutdown).await
}

/// Readers are a few: Prometheus, the kubelet, people. Whoever sends half a request, or does not read the answer, must
/// neither keep them out nor keep the process from ending.
fn limits() -> Limits {
    Limits {
        connections: CONNECTIONS,
        connections_of_one: CONNECTIONS_OF_ONE,
        header_read: HEADER_READ,
        request: REQUEST,
        first_request: Duration::ZERO,
        drain: DRAIN,
        ..Limits::default()
    }
}

fn health(check: &Check) -> Response {
    match check() {
        Ok(()) => "ok".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn page(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (content_type, page) = apiservice::metrics::page(&pages.registry, accept);
    ([(header::CONTENT_TYPE, content_type)], page).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;

    async fn start(limits: Limits) -> (std::net::SocketAddr, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let well: Check = Arc::new(|| Ok(()));
        let metrics = Metrics::register(&mut Registry::default());
        let pages = Pages { registry: Arc::default(), metrics, live: Arc::clone(&well), ready: well };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { stopped.await.unwrap_or_default() };
        (address, stop, tokio::spawn(serve_within(limits, listener, Arc::new(pages), shutdown)))
    }

    async fn ask(stream: &mut TcpStream) {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_connection_that_never_finishes_does_not_keep_the_process_from_ending() {
        let (address, stop, server) = start(limits()).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
        // Connections are taken in their order: once this one is answered, the other is the server's to end.
        let mut client = TcpStream::connect(address).await.unwrap();
        ask(&mut client).await;
        stop.send(()).unwrap();
        let ended = tokio::time::timeout(DRAIN * 10, server).await;
        ended.expect("it ends although the client does not").unwrap().unwrap();
        drop((slow, client));
    }

    #[tokio::test]
    async fn r22_connections_beyond_the_limit_wait_and_those_that_ask_nothing_make_room() {
        let limits = Limits { connections: 2, header_read: Duration::from_secs(3), ..limits() };
        let (address, _stop, _server) = start(limits).await;
        let idle = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut third = TcpStream::connect(address).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(100), ask(&mut third)).await;
        assert!(waits.is_err(), "there is no room for a third");
        let mut answer = [0; 15];
        tokio::time::timeout(DRAIN * 10, third.read_exact(&mut answer)).await.expect("room").unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        drop(idle);
    }
}
