//! The gate in front of every route: who is asking, may they, and only then the router.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use tower::Layer;

use crate::{
    authentication::Authenticator,
    authorization::{
        Authorizer,
        attributes::{attributes, non_resource},
        impersonation::impersonate,
    },
    refusal::Refusal,
    request_path::{PathError, RequestPath},
};

struct Gate {
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
}

/// Puts authentication, impersonation and authorization in front of everything that `app` serves, its fallback included.
///
/// Handlers find the [`User`](crate::authentication::User) in the request's extensions, and never see a credential or an
/// identity header. The path arrives in its canonical spelling (see [`RequestPath`]).
pub fn secure(app: Router, authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>) -> Router {
    let gate = Arc::new(Gate { authenticator, authorizer });
    // As a service around the whole router, not as a layer within it: nothing is routed before it is allowed.
    Router::new().fallback_service(from_fn_with_state(gate, pass).layer(app))
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    match admit(&gate, request).await {
        Ok(request) => next.run(request).await,
        Err(response) => *response,
    }
}

async fn admit(gate: &Gate, request: Request) -> Result<Request, Box<Response>> {
    let (mut parts, body) = request.into_parts();
    let user = gate.authenticator.authenticate(&parts).await.map_err(|error| {
        tracing::debug!(%error, path = parts.uri.path(), "not authenticated");
        boxed(error)
    })?;
    gate.authenticator.strip(&mut parts.headers);
    let user = impersonate(user, &mut parts.headers, &gate.authorizer).await.map_err(boxed)?;

    let path = RequestPath::parse(parts.uri.path());
    let wanted = match &path {
        Ok(path) => attributes(&parts.method, path, parts.uri.query()),
        Err(PathError::Encoding(_)) => return Err(boxed(bad_path())),
        // Only those who may read such a path learn that there is nothing.
        Err(PathError::Ambiguous(decoded)) => non_resource(&parts.method, decoded.clone()),
    };
    gate.authorizer.authorize(&user, &wanted).await.map_err(boxed)?;

    let path = path.map_err(|_| {
        boxed(Refusal::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource"))
    })?;
    parts.uri = path.respell(&parts.uri).ok_or_else(|| boxed(bad_path()))?;
    parts.extensions.insert(path);
    parts.extensions.insert(user);
    Ok(Request::from_parts(parts, Body::new(body)))
}

fn bad_path() -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "BadRequest", "the path of the request has an invalid percent-encoding")
}

fn boxed(refusal: impl IntoResponse) -> Box<Response> {
    Box::new(refusal.into_response())
}

#[cfg(test)]
mod tests;
