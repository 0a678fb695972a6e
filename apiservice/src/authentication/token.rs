//! Bearer tokens, by TokenReview.

use std::collections::BTreeMap;

use kube::Client;
use serde::Deserialize;
use serde_json::json;

use crate::{
    authentication::{AuthenticationError, User},
    decision_cache::{Clock, DecisionCache, Key, LookupError},
};

const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

#[derive(Deserialize)]
struct Review {
    #[serde(default)]
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
struct ReviewStatus {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: UserInfo,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// Asks the API server, and remembers its answers for a while, good and bad, by a digest of the token.
pub(super) struct TokenReviewer {
    client: Client,
    /// `None`: the token is no good.
    answers: DecisionCache<Option<User>>,
}

impl std::fmt::Debug for TokenReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReviewer").field("answers", &self.answers).finish_non_exhaustive()
    }
}

impl TokenReviewer {
    pub(super) fn new(client: Client, clock: Clock) -> Self {
        Self { client, answers: DecisionCache::new(clock) }
    }

    pub(super) async fn user(&self, token: &str) -> Result<User, AuthenticationError> {
        let lookup = || review(self.client.clone(), token.to_owned());
        match self.answers.get(Key::of(token.as_bytes()), lookup).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(AuthenticationError::Invalid("invalid bearer token".into())),
            Err(error) => {
                tracing::warn!(%error, "no answer to a TokenReview");
                Err(AuthenticationError::Undecided(
                    "the Kubernetes API server did not answer about the bearer token".into(),
                ))
            }
        }
    }
}

async fn review(client: Client, token: String) -> Result<Option<User>, LookupError> {
    let body = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "spec": {"token": token}});
    let review: Review = crate::review::post(&client, PATH, &body).await?;
    let ReviewStatus { authenticated, user: UserInfo { username, uid, groups, extra } } = review.status;
    // An authenticated nobody is not a user: it would be asked about under an empty name.
    Ok((authenticated && !username.is_empty()).then(|| User {
        name: username,
        uid,
        groups: groups.unwrap_or_default(),
        extra: extra.unwrap_or_default(),
    }))
}
