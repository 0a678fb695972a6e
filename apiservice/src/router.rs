//! From requests to answers. What is not here: who asks and whether they may, which comes before, and the sockets.

mod metric;

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{body::Body, extract::State};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::time::Instant;

use crate::{
    Provider, Status,
    api::Api,
    discovery,
    health::{self, Check},
    metrics::{self, Metrics, Received, RequestLabels},
    negotiation::{self, Discovery, OFFERED},
    openapi::{Document, Documents},
    path::{self, Route, Unroutable},
    query::Parameters,
    response::{Reply, Style},
    status::Details,
    version::VersionInfo,
};

/// How long an answer may take by default: the API server's own limit.
pub const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// What a server serves beside its provider's values.
#[derive(Clone)]
pub struct Options {
    /// The groups and versions.
    pub apis: Vec<Api>,
    /// Checks behind the health paths.
    pub checks: Vec<Check>,
    /// Answer of `/version`.
    pub version: VersionInfo,
    /// The server's own metrics.
    pub metrics: Metrics,
    /// Everything that `/metrics` shows: the server's own, and what else the caller registered.
    pub registry: Arc<Registry>,
    /// The time, for the ages of served values.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How long an answer may take; a client may ask for less.
    pub request_timeout: Duration,
}

impl Options {
    /// All groups and versions, no checks, an empty version; the server's metrics join those in `registry`.
    #[must_use]
    pub fn new(mut registry: Registry, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let metrics = Metrics::register(&mut registry);
        Self {
            apis: Api::ALL.to_vec(),
            checks: Vec::new(),
            version: VersionInfo::default(),
            metrics,
            registry: Arc::new(registry),
            clock: Arc::new(clock),
            request_timeout: REQUEST_TIMEOUT,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("apis", &self.apis)
            .field("checks", &self.checks)
            .field("version", &self.version)
            .field("request_timeout", &self.request_timeout)
            .finish_non_exhaustive()
    }
}

/// Answers all paths of a metrics API server out of `provider`, for anyone: put authentication and authorization before it.
pub fn router<P: Provider>(provider: Arc<P>, options: Options) -> axum::Router {
    let mut options = options;
    options.apis.sort_unstable();
    options.apis.dedup();
    let documents = Documents::new(&options.apis, &options.version.git_version);
    axum::Router::new().fallback(serve::<P>).with_state(Arc::new(Service { provider, options, documents }))
}

/// What all requests share.
struct Service<P> {
    provider: Arc<P>,
    options: Options,
    documents: Documents,
}

/// Why a request is not answered with what it asks for.
enum Refusal {
    /// With this status.
    Status(Status),
    /// With the list of paths that exist.
    Paths,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// One request: counted, never panicking, always with the common headers.
async fn serve<P: Provider>(State(service): State<Arc<Service<P>>>, request: Request<Body>) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let metrics = &service.options.metrics;
    let in_flight = metrics.begin();
    // As in k8s.io/apiserver, the time that authentication and authorization took is part of the duration.
    let started = parts.extensions.get().map_or_else(Instant::now, |Received(at)| *at);
    let parameters = Parameters::parse(parts.uri.query().unwrap_or_default());
    let route = path::parse(parts.uri.path(), &service.options.apis);
    let labels = RequestLabels::new(&parts.method, route.as_ref().ok());
    let answered = AssertUnwindSafe(service.answer(route, &parts, &parameters)).catch_unwind().await;
    let refusal = match answered {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(refusal)) => Err(refusal),
        Err(cause) => {
            let cause = cause.downcast_ref::<&str>().copied().or(cause.downcast_ref::<String>().map(String::as_str));
            tracing::error!(path = parts.uri.path(), cause, "a request panicked");
            Err(Refusal::Status(Status::internal_error(
                "the server failed while it answered this request; its log says how",
            )))
        }
    };
    let style = Style::lenient(&parts.headers, &parameters);
    let reply = refusal.unwrap_or_else(|refusal| match refusal {
        Refusal::Status(status) => Reply::failure(&status, style),
        Refusal::Paths => Reply::object(StatusCode::NOT_FOUND, &discovery::paths(&service.options.apis), style),
    });
    let labels = if reply.vacant { labels.unnamed() } else { labels };
    metrics.answered(labels, reply.status.as_u16(), started.elapsed().as_secs_f64());
    let response = reply.finish(&parts.headers);
    drop(in_flight);
    response
}

impl<P: Provider> Service<P> {
    async fn answer(
        &self,
        route: Result<Route, Unroutable>,
        request: &request::Parts,
        parameters: &Parameters<'_>,
    ) -> Result<Reply, Refusal> {
        let Options { apis, checks, version, registry, .. } = &self.options;
        let route = route.map_err(|unroutable| match unroutable {
            Unroutable::UnknownPath => Refusal::Paths,
            Unroutable::UnknownShape => {
                let status = Status::not_found("the server could not find the requested resource");
                status.about(Details::default()).into()
            }
            Unroutable::Malformed(cause) => Status::bad_request(cause).into(),
        })?;
        // The health paths answer any method, as the API server's do.
        if let Route::Health(probe, only) = &route {
            let (code, text) = health::answer(checks, *probe, only.as_deref(), parameters).ok_or(Refusal::Paths)?;
            return Ok(Reply::text(code, text));
        }
        if request.method != Method::GET {
            return Err(Status::method_not_allowed(request.method.as_str()).into());
        }
        let style = || Style::negotiated(&request.headers, parameters).ok_or_else(|| Status::not_acceptable(OFFERED));
        Ok(match route {
            Route::Custom(api, query) => self.custom(api, &query, parameters, style()?).await?,
            Route::External(api, query) => self.external(api, &query, parameters, style()?).await?,
            Route::Root => object(&discovery::paths(apis), style()?),
            Route::Groups => match negotiation::discovery(&request.headers) {
                Some(Discovery::Aggregated) => self.aggregated(request),
                Some(Discovery::Legacy(_)) => object(&discovery::group_list(apis, &request.headers), style()?)
                    .with(header::VARY, HeaderValue::from_static("Accept")),
                None => return Err(Status::not_acceptable(OFFERED).into()),
            },
            Route::Group(group) => object(&discovery::group(apis, group, &request.headers), style()?),
            Route::Resources(api) => object(&discovery::resource_list(api, &*self.provider), style()?),
            Route::OpenApiV2 => tagged(request, &self.documents.v2),
            Route::OpenApiV3 => tagged(request, &self.documents.v3),
            Route::OpenApiV3Of(api) => {
                let document = self.documents.of(api).ok_or(Refusal::Paths)?;
                match parameters.get("hash") {
                    Some(hash) if hash != document.tag => moved(api, document),
                    _ => tagged(request, document),
                }
            }
            Route::Version => object(version, style()?),
            Route::Metrics => {
                let accept = request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
                let (content_type, page) = metrics::page(registry, accept.unwrap_or_default());
                Reply::new(content_type, page)
            }
            Route::Health(..) => return Err(Refusal::Paths),
        })
    }

    /// The aggregated discovery document, unless the client has it already.
    fn aggregated(&self, request: &request::Parts) -> Reply {
        let document = discovery::aggregated(&self.options.apis, &*self.provider);
        // Derived strings and lists always encode.
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let document = Document { tag: discovery::tag(&body), body };
        let mut reply = tagged(request, &document);
        reply.content_type = discovery::AGGREGATED;
        reply.with(header::VARY, HeaderValue::from_static("Accept"))
    }
}

/// A successful answer with an object.
fn object(object: &impl Serialize, style: Style) -> Reply {
    Reply::object(StatusCode::OK, object, style)
}

/// A JSON document with its entity tag, or 304 if the client has this one.
fn tagged(request: &request::Parts, document: &Document) -> Reply {
    let tag = format!("\"{}\"", document.tag);
    let known = request.headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|value| value.split(',')).map(|value| value.trim().trim_start_matches("W/"));
    let mut reply = if known.into_iter().any(|known| known == tag || known == "*") {
        Reply { status: StatusCode::NOT_MODIFIED, ..Reply::new("application/json", "") }
    } else {
        Reply::new("application/json", document.body.clone())
    };
    // Hexadecimal digits in quotes are a valid value.
    reply.headers.extend(HeaderValue::try_from(tag).map(|tag| (header::ETAG, tag)));
    reply
}

/// Where the current version of a document is.
fn moved(api: Api, document: &Document) -> Reply {
    let place = format!("/openapi/v3/apis/{}?hash={}", api.group_version(), document.tag);
    let location: Option<(HeaderName, _)> = HeaderValue::try_from(place).ok().map(|place| (header::LOCATION, place));
    let mut reply = Reply::text(StatusCode::MOVED_PERMANENTLY, String::new());
    reply.headers.extend(location);
    reply
}
