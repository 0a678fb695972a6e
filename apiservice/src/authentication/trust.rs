//! What certificates are believed: a snapshot that is replaced while the server runs, by the ConfigMap's watch and by files
//! that change.

use std::{future::Future, path::PathBuf, sync::Arc};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::{
    authentication::{Authority, RequestHeader, request_header::HeaderNames},
    files,
};

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

impl Trust {
    fn is_complete(&self) -> bool {
        self.client_ca.is_some() && self.request_header.is_some()
    }
}

/// Files that replace parts of the ConfigMap; taken up again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustFiles {
    /// Replaces `client-ca-file`.
    pub client_ca: Option<PathBuf>,
    /// Replaces `requestheader-client-ca-file`, with the default header names.
    pub request_header_ca: Option<PathBuf>,
    /// Goes with `request_header_ca`; empty: any common name.
    pub allowed_names: Vec<String>,
}

/// What the files hold, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    client_ca: Option<Vec<u8>>,
    request_header_ca: Option<Vec<u8>>,
}

impl TrustFiles {
    /// Reads the files for the first time, and gives the task that keeps them fresh until `shutdown`: it must be polled.
    /// Whether the ConfigMap is needed beside them says [`TrustStore::wants_config_map`].
    pub fn load(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Arc<TrustStore>, impl Future<Output = ()> + Send + 'static), TrustError> {
        let content = self.read()?;
        let store = Arc::new(TrustStore::new(self.trust(&content)?));
        let handle = Arc::clone(&store);
        let follow = async move {
            let paths: Vec<_> = [&self.client_ca, &self.request_header_ca].into_iter().flatten().collect();
            let names = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let take = |content: &Content| {
                let given = self.trust(content)?;
                handle.change(|parts| parts.given = given);
                Ok(())
            };
            files::follow(&names, content, || self.read(), take, shutdown).await;
        };
        Ok((store, follow))
    }

    fn read(&self) -> Result<Content, TrustError> {
        let Self { client_ca, request_header_ca, allowed_names: _ } = self;
        let read = |path: &PathBuf| {
            files::read(path).map_err(|error| TrustError::Unreadable { path: path.clone(), why: error.to_string() })
        };
        Ok(Content {
            client_ca: client_ca.as_ref().map(read).transpose()?,
            request_header_ca: request_header_ca.as_ref().map(read).transpose()?,
        })
    }

    fn trust(&self, content: &Content) -> Result<Trust, TrustError> {
        let authority = |path: &Option<PathBuf>, pem: &Option<Vec<u8>>| {
            let (Some(path), Some(pem)) = (path, pem) else { return Ok(None) };
            Authority::from_pem(&path.display().to_string(), pem).map(Some)
        };
        let client_ca = authority(&self.client_ca, &content.client_ca)?;
        let request_header = authority(&self.request_header_ca, &content.request_header_ca)?
            .map(|authority| RequestHeader::new(authority, self.allowed_names.clone(), HeaderNames::default()));
        Ok(Trust { client_ca, request_header })
    }
}

/// The trust of the moment: parts that were given, and what the ConfigMap says for the rest.
#[derive(Debug, Default)]
pub struct TrustStore {
    parts: Mutex<Parts>,
    current: ArcSwapOption<Trust>,
}

#[derive(Debug, Default)]
struct Parts {
    given: Trust,
    /// `None` until it was read.
    config_map: Option<Trust>,
}

impl TrustStore {
    /// Waits for the ConfigMap for every part that `given` does not give; with both given there is nothing to wait for.
    #[must_use]
    pub fn new(given: Trust) -> Self {
        let store = Self::default();
        store.change(|parts| parts.given = given);
        store
    }

    /// Believes exactly `trust`; for servers without a cluster.
    #[must_use]
    pub fn only(trust: Trust) -> Self {
        let store = Self::new(trust);
        store.replace(Trust::default());
        store
    }

    /// Whether the ConfigMap has to be watched.
    pub fn wants_config_map(&self) -> bool {
        !self.parts.lock().given.is_complete()
    }

    /// Whether certificates can be judged: a readiness condition.
    pub fn is_loaded(&self) -> bool {
        self.current.load().is_some()
    }

    /// Takes what the ConfigMap says, where nothing was given.
    pub fn replace(&self, trust: Trust) {
        self.change(|parts| parts.config_map = Some(trust));
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.parts.lock();
        change(&mut parts);
        let Parts { given, config_map } = &*parts;
        if given.is_complete() || config_map.is_some() {
            let Trust { client_ca, request_header } = config_map.clone().unwrap_or_default();
            self.current.store(Some(Arc::new(Trust {
                client_ca: given.client_ca.clone().or(client_ca),
                request_header: given.request_header.clone().or(request_header),
            })));
        }
    }

    pub(super) fn current(&self) -> Option<Arc<Trust>> {
        self.current.load_full()
    }
}
