//! What goes over the wire, asked of the router in process. The provider is the example server's.

#[path = "../../examples/fixture/control.rs"]
mod control;
mod discovery;
mod faults;
#[path = "../../examples/fixture/file.rs"]
mod file;
mod formats;
mod hostile;
mod observability;
mod process;
#[path = "../../examples/fixture/provider.rs"]
mod provider;
mod reference;
mod values;

use std::sync::Arc;

use apiservice::Options;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::{file::Fixture, provider::FixtureProvider};

/// An answer that has been read to its end.
#[derive(Debug)]
struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("visible characters"))
    }

    /// `items` of a list.
    fn items(&self) -> Vec<Value> {
        assert_eq!(self.code, StatusCode::OK, "{self:?}");
        self.json()["items"].as_array().expect("items is a list").clone()
    }

    /// Asserts that this is a proper failure, and gives its message.
    fn failure(&self, code: u16, reason: &str) -> String {
        assert_eq!(self.code.as_u16(), code, "{self:?}");
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{self:?}");
        assert_eq!(status["apiVersion"], "v1", "{self:?}");
        assert_eq!(status["status"], "Failure", "{self:?}");
        assert_eq!(status["reason"], reason, "{self:?}");
        assert_eq!(status["code"], code, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        status["message"].as_str().expect("a message").to_owned()
    }
}

/// A server over a fixture file, and the provider behind it.
fn server(fixture: &str) -> (Router, Arc<FixtureProvider>) {
    let provider = Arc::new(FixtureProvider::new(Fixture::parse(fixture).expect("a well-formed fixture")));
    let clock = Arc::clone(&provider);
    let options = Options::new(Registry::default(), move || clock.now());
    (apiservice::router(Arc::clone(&provider), options), provider)
}

async fn send(app: &Router, request: Request<Body>) -> Answer {
    let response: Response<Body> = app.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    // Rules for every answer, whatever it is.
    assert!(!parts.headers.contains_key("retry-after"), "never a Retry-After: {parts:?}");
    assert!(parts.headers.contains_key("audit-id"), "{parts:?}");
    assert_eq!(parts.headers["x-content-type-options"], "nosniff");
    assert_eq!(parts.headers["cache-control"], "no-cache, private");
    assert!(parts.headers.contains_key("content-type") || parts.status == StatusCode::NOT_MODIFIED, "{parts:?}");
    let body = body.collect().await.expect("a complete body").to_bytes();
    Answer { code: parts.status, headers: parts.headers, body }
}

async fn get(app: &Router, path: &str) -> Answer {
    get_with(app, path, &[]).await
}

async fn get_with(app: &Router, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = headers.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    send(app, request.body(Body::empty()).expect("a valid request")).await
}
