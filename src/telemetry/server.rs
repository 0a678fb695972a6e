//! `/metrics`, `/livez` and `/readyz` over plain HTTP, on a port of their own.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot};

/// Longest time for answers under way at the end; a page takes milliseconds.
const DRAIN: Duration = Duration::from_secs(2);

/// Says whether the process is well: `Err` with the reason in words.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the pages show.
pub struct Pages {
    /// Everything on `/metrics`.
    pub registry: Arc<Registry>,
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
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async |State(pages): State<Arc<Pages>>| health(&pages.live)))
        .route("/readyz", get(async |State(pages): State<Arc<Pages>>| health(&pages.ready)))
        .with_state(pages);
    serve_routes(listener, routes, shutdown).await
}

/// Serves any routes over plain HTTP until `shutdown`.
///
/// # Errors
/// The listener fails.
pub async fn serve_routes(
    listener: TcpListener,
    routes: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (draining, drains) = oneshot::channel();
    let told = async move {
        shutdown.await;
        let _ = draining.send(()); // nobody listens: the server has ended by itself
    };
    // Whoever sends half a request, or does not read the answer, must not keep the process from ending.
    let overdue = async {
        match drains.await {
            Ok(()) => tokio::time::sleep(DRAIN).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = axum::serve(listener, routes).with_graceful_shutdown(told) => ended,
        () = overdue => Ok(()),
    }
}

fn health(check: &Check) -> Response {
    match check() {
        Ok(()) => "ok".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason).into_response(),
    }
}

async fn metrics(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (content_type, page) = apiservice::metrics::page(&pages.registry, accept);
    ([(header::CONTENT_TYPE, content_type)], page).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn a_connection_that_never_finishes_does_not_keep_the_process_from_ending() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let well: Check = Arc::new(|| Ok(()));
        let pages = Arc::new(Pages { registry: Arc::default(), live: Arc::clone(&well), ready: well });
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, pages, async { stopped.await.unwrap_or_default() }));
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nHost:").await.unwrap();
        // Connections are taken in their order: once this one is answered, the other is the server's to end.
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 15];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stop.send(()).unwrap();
        let ended = tokio::time::timeout(DRAIN * 10, server).await;
        ended.expect("it ends although the client does not").unwrap().unwrap();
        drop((slow, client));
    }
}
