//! Who is asking: delegated authentication as Kubernetes' extension API servers do it.
//!
//! In this order, the first success wins: the front proxy's headers under a certificate of the request-header CA, a
//! client certificate, a bearer token by TokenReview, anonymous. A presented credential that proves nothing makes the
//! request fail; anonymous is only for those who presented none (k8s.io/apiserver,
//! `pkg/authentication/authenticatorfactory/delegating.go`).
//!
//! Certificate chains are verified here, per request against the trust of the moment, and not by the TLS handshake: a CA
//! that changes in the cluster's ConfigMap counts at once, also for connections that are open.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, header, request::Parts};

use crate::{
    Status,
    authentication::{peer::Proof, token::TokenReviewer},
    decision_cache::Clock,
};

pub mod certificate;
pub mod config_map;
pub mod peer;
pub mod request_header;
mod token;
pub mod trust;

pub use certificate::Authority;
pub use config_map::watch_trust;
pub use peer::Peer;
pub use request_header::RequestHeader;
pub use trust::{Trust, TrustError, TrustFiles, TrustStore};

/// Every user that was authenticated is in this group.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// The group of those who presented nothing.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user name of those who presented nothing.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

/// Who is asking; handlers find it in the request's extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub name: String,
    /// Unique identifier; empty where the source has none.
    pub uid: String,
    /// Groups, in the order of the source.
    pub groups: Vec<String>,
    /// Extra attributes, keys in lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// Adds `system:authenticated` unless the groups say already what this is. The aggregator's discovery and OpenAPI
    /// calls come without groups and are allowed by `system:discovery` only because of this.
    pub(crate) fn authenticated(mut self) -> Self {
        if !self.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            self.groups.push(AUTHENTICATED.into());
        }
        self
    }
}

/// Why a request has no user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// A credential was presented and proves nothing.
    #[error("{0}")]
    Invalid(String),
    /// A credential was presented, and what is needed to judge it is missing.
    #[error("{0}")]
    Undecided(String),
    /// A certificate was presented, and whom this cluster trusts is not known yet.
    #[error("the server is starting: it has not read yet which certificate authorities this cluster trusts")]
    NotReady,
}

impl From<AuthenticationError> for Status {
    fn from(error: AuthenticationError) -> Self {
        match error {
            // The reason stays in the log: it would help whoever guesses.
            AuthenticationError::Invalid(_) => Self::unauthorized("Unauthorized"),
            AuthenticationError::Undecided(why) => {
                Self::internal_error(format!("authentication could not be decided: {why}"))
            }
            // Go's API servers read the ConfigMap before they listen. Here the port is open from the start, so that
            // probes are answered: a 503 is what the aggregator takes best. It calls the group stale and keeps what it
            // knew, where any other failure makes it ask once more, for the legacy document.
            AuthenticationError::NotReady => Self::service_unavailable(error.to_string()),
        }
    }
}

/// Answers who is asking.
#[derive(Debug)]
pub struct Authenticator {
    trust: Arc<TrustStore>,
    tokens: Option<TokenReviewer>,
}

impl Authenticator {
    /// Trusts certificates by `trust`; asks `client` about bearer tokens. Without a client every bearer token is invalid.
    #[must_use]
    pub fn new(trust: Arc<TrustStore>, client: Option<kube::Client>) -> Self {
        Self::with_clock(trust, client, &Clock::real())
    }

    pub(crate) fn with_clock(trust: Arc<TrustStore>, client: Option<kube::Client>, clock: &Clock) -> Self {
        Self { trust, tokens: client.map(|client| TokenReviewer::new(client, clock.clone())) }
    }

    /// The user behind a request. The peer's certificates are expected in the extensions as [`Arc<Peer>`].
    pub async fn authenticate(&self, request: &Parts) -> Result<User, AuthenticationError> {
        let mut failure = None;
        if let Some(peer) = request.extensions.get::<Arc<Peer>>().filter(|peer| peer.has_certificate()) {
            match self.by_certificate(peer, &request.headers) {
                Ok(user) => return Ok(user.authenticated()),
                Err(error) => failure = Some(error),
            }
        }
        if let Some(token) = bearer_token(&request.headers) {
            match self.by_token(token).await {
                Ok(user) => return Ok(user.authenticated()),
                // What could not be decided outweighs what was decided: the caller may be who it says.
                Err(error @ AuthenticationError::Undecided(_)) => failure = Some(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or_else(|| Ok(User::anonymous()), Err)
    }

    /// Takes away what only authentication may read: the credentials, and identity headers that nobody vouched for.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        headers.remove(header::AUTHORIZATION);
        if let Some(trust) = self.trust.current()
            && let Some(front_proxy) = &trust.request_header
        {
            front_proxy.strip(headers);
        }
    }

    fn by_certificate(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, AuthenticationError> {
        let Some(trust) = self.trust.current() else {
            return Err(AuthenticationError::NotReady);
        };
        let proof = peer.proof(&trust);
        let Proof { proxy, client } = &*proof;
        if let (Some(front_proxy), Ok(())) = (&trust.request_header, proxy)
            && let Some(user) = front_proxy.user(headers)?
        {
            return Ok(user);
        }
        client.clone().map_err(|why| {
            let proxy = proxy.as_ref().err().map_or("the front proxy named no user", String::as_str);
            AuthenticationError::Invalid(format!("as front proxy: {proxy}; as client: {why}"))
        })
    }

    async fn by_token(&self, token: &str) -> Result<User, AuthenticationError> {
        match &self.tokens {
            Some(reviewer) => reviewer.user(token).await,
            None => Err(AuthenticationError::Invalid("bearer tokens are not accepted here".into())),
        }
    }
}

/// The token of an `Authorization: Bearer …` header; the scheme in any case. Anything else is no credential at all.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    let mut words = std::str::from_utf8(value.as_bytes()).ok()?.trim().split(' ');
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
