//! `/metrics` and `/healthz`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State as Shared},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::{
    AgentError, State,
    metrics::Own,
    page::{Format, Node, render},
};
use crate::telemetry::process::Process;

/// A token is some hundred bytes; what is longer is another file.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

struct Pages {
    state: Arc<State>,
    node: Node,
    registry: Registry,
}

/// The routes. With a token file, `/metrics` demands what is in it; `/healthz` tells nothing that needs it.
pub(super) fn routes(state: Arc<State>, node: Node, token_file: Option<PathBuf>) -> Result<Router, AgentError> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Own(Arc::clone(&state))));
    registry.register_collector(Box::new(Process));
    let mut page = get(metrics);
    if let Some(path) = token_file {
        token(&path).map_err(|problem| AgentError::Token { path: path.clone(), problem })?;
        page = page.layer(from_fn(move |request: Request, next: Next| {
            let path = path.clone();
            async move { demand(&path, request, next).await }
        }));
    }
    let pages = Arc::new(Pages { state, node, registry });
    Ok(Router::new().route("/metrics", page).route("/healthz", get(health)).with_state(pages))
}

async fn metrics(Shared(pages): Shared<Arc<Pages>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    // Both halves are in the same format: the first as the second is asked for.
    let (content_type, own) = apiservice::metrics::page(&pages.registry, accept);
    let open = content_type.starts_with("application/openmetrics-text");
    let format = if open { Format::OpenMetrics } else { Format::Text };
    let mut text = render(&pages.state.current(Instant::now()), &pages.node, format);
    text.push_str(&own);
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}

/// Alive as long as the loop reads, also where there is nothing to read: a new start would not help.
async fn health(Shared(pages): Shared<Arc<Pages>>) -> Response {
    let now = Instant::now();
    let live = pages.state.is_live(now);
    let snapshot = pages.state.current(now);
    let nvml = snapshot.driver.as_ref().map(|_| ()).map_err(|missing| missing.message.to_string());
    let sources =
        [("nvml", nvml), ("pods", pages.state.pods.health()), ("pod_resources", pages.state.kubelet.health())];
    let lines = sources.map(|(name, health)| format!("{name}: {}\n", health.err().unwrap_or_else(|| "ok".into())));
    let (status, first) =
        if live { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the loop hangs\n") };
    (status, first.to_owned() + &lines.concat()).into_response()
}

/// Lets the request pass if it bears the token. The file is read each time: whoever rotates it replaces the file.
async fn demand(path: &Path, request: Request, next: Next) -> Response {
    let expected = match token(path) {
        Ok(expected) => expected,
        Err(problem) => {
            tracing::warn!(path = %path.display(), problem, "nobody can be let in");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match given {
        Some((_, token)) if same(token.trim().as_bytes(), expected.as_bytes()) => next.run(request).await,
        _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "expected a bearer token\n")
            .into_response(),
    }
}

fn token(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_TOKEN_BYTES {
        return Err(format!("{size} bytes are too many for a token"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    match text.trim() {
        "" => Err("is empty: everyone would be let in".into()),
        token => Ok(token.into()),
    }
}

/// Takes as long for a token that is wrong from the first byte as for one that is wrong in the last.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;
