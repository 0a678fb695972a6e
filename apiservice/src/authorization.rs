//! May they: delegated authorization by SubjectAccessReview.
//!
//! Nothing is ever allowed because a question could not be asked: an API server out of reach is an error that says so.

use crate::{
    Status,
    authentication::User,
    authorization::access_review::{AccessReviewer, Verdict},
    decision_cache::Clock,
    status::Details,
};

mod access_review;
pub mod attributes;
pub mod impersonation;

pub use attributes::Attributes;

/// Members of this group may do everything; the aggregator's probes come as such.
const MASTERS: &str = "system:masters";
/// Health paths are for everyone, exactly as written: kubelet's probes have no credentials. Their sub-paths are not.
const ALWAYS_ALLOWED: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Why a request may not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// The cluster's authorizer said no.
    #[error("{}", describe_forbidden(user, attributes, reason))]
    Forbidden {
        /// Name of the user.
        user: String,
        /// What was asked for.
        attributes: Box<Attributes>,
        /// The authorizer's words; often empty.
        reason: String,
    },
    /// The question could not be asked.
    #[error("authorization could not be decided: {0}")]
    Undecided(String),
}

/// The message of k8s.io/apiserver's `responsewriters.Forbidden`, which operators know how to read.
fn describe_forbidden(user: &str, attributes: &Attributes, reason: &str) -> String {
    let mut message = match attributes {
        Attributes::NonResource { verb, path } => format!("forbidden: User {user:?} cannot {verb} path {path:?}"),
        Attributes::Resource { verb, namespace, group, resource, subresource, name, .. } => {
            let object = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
            let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
            let full = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            format!(
                "{object}{named} is forbidden: User {user:?} cannot {verb} resource {full:?} in API group {group:?} {place}"
            )
        }
    };
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    message
}

impl From<AuthorizationError> for Status {
    fn from(error: AuthorizationError) -> Self {
        let message = error.to_string();
        match error {
            AuthorizationError::Undecided(_) => Self::internal_error(message),
            AuthorizationError::Forbidden { attributes, .. } => {
                let details = match *attributes {
                    Attributes::NonResource { .. } => Details::default(),
                    Attributes::Resource { group, resource, name, .. } => Details { name, group, kind: resource },
                };
                Self::forbidden(message).about(details)
            }
        }
    }
}

/// Answers whether a user may.
#[derive(Debug)]
pub struct Authorizer {
    reviewer: AccessReviewer,
}

impl Authorizer {
    /// Asks `client`.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self::with_clock(client, Clock::real())
    }

    pub(crate) fn with_clock(client: kube::Client, clock: Clock) -> Self {
        Self { reviewer: AccessReviewer::new(client, clock) }
    }

    /// `Ok` if `user` may do what `attributes` say.
    pub async fn authorize(&self, user: &User, attributes: &Attributes) -> Result<(), AuthorizationError> {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        if let Attributes::NonResource { path, .. } = attributes
            && ALWAYS_ALLOWED.contains(&path.as_str())
        {
            return Ok(());
        }
        match self.reviewer.ask(user, attributes).await {
            Ok(Verdict { allowed: true, .. }) => Ok(()),
            Ok(Verdict { reason, .. }) => Err(AuthorizationError::Forbidden {
                user: user.name.clone(),
                attributes: Box::new(attributes.clone()),
                reason,
            }),
            Err(error) => {
                tracing::warn!(%error, "no answer to a SubjectAccessReview");
                Err(AuthorizationError::Undecided(
                    "the Kubernetes API server did not answer whether this user may do this".into(),
                ))
            }
        }
    }
}
