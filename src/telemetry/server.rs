//! `/metrics`, `/livez` and `/readyz` over plain HTTP, on a port of their own.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

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
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
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
