//! SubjectAccessReview: the question, the answer, and how long it is believed.

use std::collections::BTreeMap;

use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    authentication::User,
    authorization::Attributes,
    decision_cache::{Clock, DecisionCache, Key, LookupError},
};

const PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// The `spec`; its JSON is also the key of the cache, so every field counts.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<&'a Attributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<&'a Attributes>,
    user: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
}

#[derive(Deserialize)]
struct Review {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    allowed: bool,
    #[serde(default)]
    denied: bool,
    #[serde(default)]
    reason: String,
}

/// What the cluster's authorizer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// Its words, meant for the user.
    pub(super) reason: String,
}

/// Asks the API server, and remembers its answers for a while, yes and no.
pub(super) struct AccessReviewer {
    client: Client,
    answers: DecisionCache<Verdict>,
}

impl std::fmt::Debug for AccessReviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessReviewer").field("answers", &self.answers).finish_non_exhaustive()
    }
}

impl AccessReviewer {
    pub(super) fn new(client: Client, clock: Clock) -> Self {
        Self { client, answers: DecisionCache::new(clock) }
    }

    pub(super) async fn ask(&self, user: &User, attributes: &Attributes) -> Result<Verdict, LookupError> {
        let (resource_attributes, non_resource_attributes) = match attributes {
            Attributes::Resource { .. } => (Some(attributes), None),
            Attributes::NonResource { .. } => (None, Some(attributes)),
        };
        let User { name, uid, groups, extra } = user;
        let spec = Spec { resource_attributes, non_resource_attributes, user: name, groups, extra, uid };
        let question = serde_json::to_vec(&spec).map_err(|error| LookupError::failed(&error))?;
        let asker = Key::of(name.as_bytes());
        self.answers.get_for(asker, Key::of(&question), || review(self.client.clone(), question)).await
    }
}

/// `question`: the JSON of a [`Spec`].
async fn review(client: Client, question: Vec<u8>) -> Result<Verdict, LookupError> {
    let spec: serde_json::Value = serde_json::from_slice(&question).map_err(|error| LookupError::failed(&error))?;
    let body = json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "spec": spec});
    let Review { status: Status { allowed, denied, reason } } = crate::review::post(&client, PATH, &body).await?;
    Ok(Verdict { allowed: allowed && !denied, reason })
}
