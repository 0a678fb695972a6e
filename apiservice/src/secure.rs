//! The gate in front of every route: who is asking, may they, and only then the router.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use http::request::Parts;
use tokio::time::Instant;
use tower::Layer;

use crate::{
    Api, Status,
    authentication::Authenticator,
    authorization::{
        Authorizer,
        attributes::{attributes, non_resource},
        impersonation::impersonate,
    },
    metrics::{Metrics, Received, RequestLabels},
    path,
    request_path::{PathError, RequestPath},
    status::Details,
};

struct Gate {
    metrics: Metrics,
    authenticator: Arc<Authenticator>,
    authorizer: Arc<Authorizer>,
}

/// Puts authentication, impersonation and authorization in front of everything that `app` serves, its fallback included.
///
/// Handlers find the [`User`](crate::authentication::User) in the request's extensions, and never see a credential or an
/// identity header. The path arrives in its canonical spelling (see [`RequestPath`]). What is refused here is counted in
/// `metrics`, which are the router's own: [`Options::metrics`](crate::Options).
pub fn secure(app: Router, metrics: Metrics, authenticator: Arc<Authenticator>, authorizer: Arc<Authorizer>) -> Router {
    let gate = Arc::new(Gate { metrics, authenticator, authorizer });
    // As a service around the whole router, not as a layer within it: nothing is routed before it is allowed.
    Router::new().fallback_service(from_fn_with_state(gate, pass).layer(app))
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let received = Instant::now();
    let (mut parts, body) = request.into_parts();
    let Err(status) = admit(&gate, &mut parts).await else {
        // The router measures from here on, so that what a client waits for is what is observed.
        parts.extensions.insert(Received(received));
        return next.run(Request::from_parts(parts, body)).await;
    };
    let route = path::parse(parts.uri.path(), &Api::ALL).ok();
    let labels = RequestLabels::new(&parts.method, route.as_ref());
    gate.metrics.answered(labels, status.code, received.elapsed().as_secs_f64());
    status.respond(&parts)
}

/// Turns the request's head into what the router may see, or says why it may not.
async fn admit(gate: &Gate, request: &mut Parts) -> Result<(), Status> {
    let user = gate.authenticator.authenticate(request).await.inspect_err(|error| {
        tracing::debug!(%error, path = request.uri.path(), "not authenticated");
    })?;
    gate.authenticator.strip(&mut request.headers);
    let user = impersonate(user, &mut request.headers, &gate.authorizer).await?;

    let path = RequestPath::parse(request.uri.path());
    let wanted = match &path {
        Ok(path) => attributes(&request.method, path, request.uri.query()),
        Err(PathError::Encoding(_)) => return Err(bad_path()),
        // Only those who may read such a path learn that there is nothing.
        Err(PathError::Ambiguous(decoded)) => non_resource(&request.method, decoded.clone()),
    };
    gate.authorizer.authorize(&user, &wanted).await?;

    let path = path
        .map_err(|_| Status::not_found("the server could not find the requested resource").about(Details::default()))?;
    request.uri = path.respell(&request.uri).ok_or_else(bad_path)?;
    request.extensions.insert(path);
    request.extensions.insert(user);
    Ok(())
}

fn bad_path() -> Status {
    Status::bad_request("the path of the request has an invalid percent-encoding")
}

#[cfg(test)]
mod tests;
