//! Errors as `metav1.Status` (`k8s.io/apimachinery/pkg/apis/meta/v1/types.go`).

use serde::{Serialize, Serializer, ser::SerializeMap};

/// A failure as Kubernetes clients read it. Its message is shown to whoever asks, the HPA's conditions among them: it says
/// what is wrong in the asker's words and gives no internals away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// CamelCase reason, e.g. `NotFound`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What the failure is about; `Some` of an empty one is written as `{}`.
    pub details: Option<Box<Details>>,
}

/// What a failure is about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind or, by Kubernetes' habit, its resource.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

impl Status {
    /// A failure with a code and reason of the caller's choice.
    #[must_use]
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    /// 400: what was asked is malformed.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 401: nobody could be recognised in the credentials that were given.
    #[must_use]
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, "Unauthorized", message)
    }

    /// 403: whoever asks may not.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    /// 404 with reason `NotFound`: also the answer for a service whose value is unknown, with the cause as its message.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(404, "NotFound", message)
    }

    /// 405: everything here is read-only.
    #[must_use]
    pub fn method_not_allowed(method: &str) -> Self {
        let message = format!("the server does not allow {method} on the requested resource: only GET");
        Self::new(405, "MethodNotAllowed", message).about(Details::default())
    }

    /// 406: none of the formats that the asker takes can be written.
    #[must_use]
    pub fn not_acceptable(offered: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {offered}"))
    }

    /// 429: too much was asked. There is no advice when to come back: clients of the HPA would sleep on it.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message)
    }

    /// 500: the failure is on this side.
    #[must_use]
    pub fn internal_error(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message)
    }

    /// 503: the failure is on this side and passes.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: it took longer than the asker or the server allows.
    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// The same failure, saying what it is about.
    #[must_use]
    pub fn about(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", "Status")?;
        map.serialize_entry("apiVersion", "v1")?;
        map.serialize_entry("metadata", &Empty {})?;
        map.serialize_entry("status", "Failure")?;
        map.serialize_entry("message", &self.message)?;
        map.serialize_entry("reason", self.reason)?;
        if let Some(details) = &self.details {
            map.serialize_entry("details", details)?;
        }
        map.serialize_entry("code", &self.code)?;
        map.end()
    }
}

/// `{}`: the metadata of everything that is answered here.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Empty {}

#[cfg(test)]
mod tests {
    use super::{Details, Status};

    #[test]
    fn a_status_is_written_as_kubernetes_writes_it() {
        let plain = Status::not_found("pods \"x\" not found");
        assert_eq!(
            serde_json::to_string(&plain).expect("json"),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","code":404}"#
        );
        let detailed = Status::forbidden("no").about(Details { kind: "pods".to_owned(), ..Details::default() });
        assert!(serde_json::to_string(&detailed).expect("json").contains(r#""details":{"kind":"pods"},"code":403"#));
        let empty = serde_json::to_string(&Status::method_not_allowed("PUT")).expect("json");
        assert!(empty.contains(r#""details":{},"code":405"#), "{empty}");
    }
}
