//! What certificates are believed: a snapshot that the ConfigMap's watch replaces while the server runs.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;

use crate::authentication::{Authority, RequestHeader, request_header::HeaderNames};

/// Why a certificate authority or the ConfigMap cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Its content is wrong.
    #[error("{source_name}: {why}")]
    Invalid {
        /// File, or key of the ConfigMap.
        source_name: String,
        /// What was found and what was expected.
        why: String,
    },
    /// A file cannot be read.
    #[error("{path}: cannot be read: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: String,
    },
}

/// The certificates that are believed at one moment.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Whose client certificates name users.
    pub client_ca: Option<Authority>,
    /// Whose client certificates make a front proxy.
    pub request_header: Option<RequestHeader>,
}

/// Files that replace parts of the ConfigMap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// Replaces `client-ca-file`.
    pub client_ca: Option<PathBuf>,
    /// Replaces `requestheader-client-ca-file`, with the default header names.
    pub request_header_ca: Option<PathBuf>,
    /// Goes with `request_header_ca`; empty: any common name.
    pub allowed_names: Vec<String>,
}

impl TrustFiles {
    /// Reads the files.
    pub fn load(&self) -> Result<Trust, TrustError> {
        let Self { client_ca, request_header_ca, allowed_names } = self;
        let authority = |path: &PathBuf| {
            let pem = std::fs::read(path)
                .map_err(|error| TrustError::Unreadable { path: path.clone(), why: error.to_string() })?;
            Authority::from_pem(&path.display().to_string(), &pem)
        };
        let client_ca = client_ca.as_ref().map(authority).transpose()?;
        let request_header = request_header_ca.as_ref().map(authority).transpose()?;
        let request_header = request_header
            .map(|authority| RequestHeader::new(authority, allowed_names.clone(), HeaderNames::default()));
        Ok(Trust { client_ca, request_header })
    }
}

/// The trust of the moment: parts that were given at the start, and what the ConfigMap says for the rest.
#[derive(Debug, Default)]
pub struct TrustStore {
    fixed: Trust,
    current: ArcSwapOption<Trust>,
}

impl TrustStore {
    /// Waits for the ConfigMap for every part that `fixed` does not give; with both given there is nothing to wait for.
    #[must_use]
    pub fn new(fixed: Trust) -> Self {
        let complete = fixed.client_ca.is_some() && fixed.request_header.is_some();
        let current = ArcSwapOption::from(complete.then(|| Arc::new(fixed.clone())));
        Self { fixed, current }
    }

    /// Believes exactly `trust`; for servers without a cluster.
    #[must_use]
    pub fn only(trust: Trust) -> Self {
        Self { current: ArcSwapOption::from_pointee(trust.clone()), fixed: trust }
    }

    /// Whether the ConfigMap has to be watched.
    pub fn wants_config_map(&self) -> bool {
        self.fixed.client_ca.is_none() || self.fixed.request_header.is_none()
    }

    /// Whether certificates can be judged: a readiness condition.
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// Takes what the ConfigMap says, where nothing was given at the start.
    pub fn replace(&self, trust: Trust) {
        let Trust { client_ca, request_header } = trust;
        self.current.store(Some(Arc::new(Trust {
            client_ca: self.fixed.client_ca.clone().or(client_ca),
            request_header: self.fixed.request_header.clone().or(request_header),
        })));
    }

    pub(super) fn current(&self) -> Option<Arc<Trust>> {
        self.current.load_full()
    }
}
