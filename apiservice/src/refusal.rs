//! The answers that the gate itself gives: `metav1.Status` bodies for 400, 401, 403, 404, 500, 503 and 504.
//!
//! It never sets `Retry-After`: client-go would sleep and retry inside the HPA's worker.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A refused request, as the client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status code.
    pub(crate) code: StatusCode,
    /// `metav1.StatusReason`.
    pub(crate) reason: &'static str,
    /// For people; gives no internals away.
    pub(crate) message: String,
    /// What was refused, where it is an object.
    pub(crate) details: Details,
}

/// `metav1.StatusDetails`, the part that is ever set here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// Its API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) group: String,
    /// Its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) kind: String,
}

#[derive(Serialize)]
struct Empty {}

/// `metav1.Status` in the order in which the Go server writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    message: &'a str,
    reason: &'static str,
    details: &'a Details,
    code: u16,
}

impl Refusal {
    /// A refusal without details.
    pub(crate) fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Details::default() }
    }

    /// 500: the question could not be decided, so the answer is no.
    pub(crate) fn undecided(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let wire = Wire {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: "Failure",
            message: &self.message,
            reason: self.reason,
            details: &self.details,
            code: self.code.as_u16(),
        };
        // Strings and numbers always serialize; an empty body would still carry the right code.
        let mut response = Response::new(Body::from(serde_json::to_vec(&wire).unwrap_or_default()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
