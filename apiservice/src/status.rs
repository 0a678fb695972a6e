//! Errors as `metav1.Status`.

/// A failure as Kubernetes clients read it. Its message is shown to whoever asks: it gives no internals away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// CamelCase reason, e.g. `NotFound`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Status {
    /// 404 with reason `NotFound`.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: 404, reason: "NotFound", message: message.into() }
    }
}
