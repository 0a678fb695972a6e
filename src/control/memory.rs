//! What must outlive a restart: one ConfigMap per policy, in our own namespace, written by the leader only.
//!
//! Not in the policy's status: what was learned is of no use to people, and every reader of policies would carry it. Not in
//! the policy's namespace: there it would take the right to write every ConfigMap of every tenant. Deleting the ConfigMap
//! makes the engine learn anew.
//!
//! Read once, at the start, by every replica. What cannot be used is told, and set aside under another key by the leader when
//! it keeps what is learned anew: a newer version that only stands by must not take from the leader what it goes by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::{
    cluster::{ObjectKey, said::said},
    engine::State,
};

/// Label by which ours are found.
const LABEL: &str = "tidegate.dev/engine-state";
/// Annotation that says whose it is, for people: `namespace/name` of the policy.
const POLICY: &str = "tidegate.dev/policy";
/// Before the policy's UID.
const PREFIX: &str = "tidegate-policy-";
/// Key of the state.
const STATE: &str = "state";
/// Key of a state that could not be used.
const SET_ASIDE: &str = "setAside";
/// When it was written.
const SAVED: &str = "saved";
/// Largest state that is kept, far below the megabyte that an object may have. The engine's is bounded to a few KiB.
const LARGEST: usize = 256 << 10;
/// ConfigMaps that one list asks for.
const PAGE: u32 = 500;
/// What is learned changes with every tick, and is kept so often; a move is kept at once.
pub const EVERY: Duration = Duration::from_mins(5);
/// Longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why something was not kept.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The API server refused.
    #[error("{}", said(.0))]
    Api(#[from] kube::Error),
    /// It did not answer.
    #[error("no answer from the API server within {}s", TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// It is too large.
    #[error("the state has {0} bytes, more than the {LARGEST} that are kept")]
    TooLarge(usize),
}

/// The ConfigMaps.
#[derive(Debug, Clone)]
pub struct Memory {
    config_maps: Api<ConfigMap>,
    /// States that could not be used, by the policies' UIDs, until they are set aside.
    unusable: Arc<Mutex<BTreeMap<Arc<str>, String>>>,
}

impl Memory {
    /// In the namespace of `config_maps`.
    #[must_use]
    pub fn new(config_maps: Api<ConfigMap>) -> Self {
        Self { config_maps, unusable: Arc::default() }
    }

    /// Everything that was kept, by the policies' UIDs. Where we may not read it, nothing was.
    ///
    /// # Errors
    /// [`MemoryError`]: to be tried again, because deciding without would forget it for good.
    pub async fn read(&self) -> Result<BTreeMap<Arc<str>, State>, MemoryError> {
        let mut states = BTreeMap::new();
        let mut parameters = ListParams::default().labels(LABEL).limit(PAGE);
        loop {
            let page = match tokio::time::timeout(TIMEOUT, self.config_maps.list(&parameters)).await? {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    warn!(error = status.message, "what the engine has learned is not kept: ConfigMaps cannot be read");
                    return Ok(BTreeMap::new());
                }
                Err(error) => return Err(error.into()),
            };
            for map in &page.items {
                states.extend(self.restore(map));
            }
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => parameters = parameters.continue_token(&token),
                _ => break,
            }
        }
        info!(policies = states.len(), "what the engine has learned was read");
        Ok(states)
    }

    fn restore(&self, map: &ConfigMap) -> Option<(Arc<str>, State)> {
        let name = map.name_any();
        let uid: Arc<str> = name.strip_prefix(PREFIX)?.into();
        let text = map.data.as_ref()?.get(STATE)?;
        match State::restore(text) {
            Ok(state) => Some((uid, state)),
            Err(error) => {
                warn!(config_map = name, %error, "what the engine has learned cannot be used and is set aside");
                self.unusable.lock().insert(uid, text.clone());
                None
            }
        }
    }

    /// Keeps a policy's state.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub async fn keep(&self, uid: &str, policy: &ObjectKey, state: &str, now: Timestamp) -> Result<(), MemoryError> {
        if state.len() > LARGEST {
            return Err(MemoryError::TooLarge(state.len()));
        }
        let name = format!("{PREFIX}{uid}");
        let unusable = self.unusable.lock().get(uid).cloned();
        let aside = unusable.map(|text| (SET_ASIDE, text));
        let data = [(STATE, state.to_owned()), (SAVED, now.to_string())].into_iter().chain(aside);
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
                annotations: Some([(POLICY.to_owned(), format!("{}/{}", policy.namespace, policy.name))].into()),
                ..ObjectMeta::default()
            },
            data: Some(data.map(|(key, value)| (key.to_owned(), value)).collect()),
            ..ConfigMap::default()
        };
        let patch = Patch::Merge(&map);
        let parameters = PatchParams::default();
        match tokio::time::timeout(TIMEOUT, self.config_maps.patch(&name, &parameters, &patch)).await? {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let parameters = PostParams::default();
                tokio::time::timeout(TIMEOUT, self.config_maps.create(&parameters, &map)).await??;
            }
            Err(error) => return Err(error.into()),
        }
        self.unusable.lock().remove(uid);
        Ok(())
    }

    /// Removes what belongs to no policy any more, as long as we `may_write`.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub async fn forget_all_but(
        &self,
        uids: &BTreeSet<Arc<str>>,
        may_write: impl Fn() -> bool,
    ) -> Result<(), MemoryError> {
        let parameters = ListParams::default().labels(LABEL);
        let all = tokio::time::timeout(TIMEOUT, self.config_maps.list_metadata(&parameters)).await??;
        for map in all {
            let name = map.name_any();
            if !may_write() {
                break;
            }
            if name.strip_prefix(PREFIX).is_some_and(|uid| !uids.contains(uid)) {
                debug!(config_map = name, "its policy is gone");
                tokio::time::timeout(TIMEOUT, self.config_maps.delete(&name, &DeleteParams::default())).await??;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, response::Response};
    use serde_json::{Value, json};

    use super::*;
    use crate::attribution::scene::{key, now};

    /// A namespace with one ConfigMap of a version to come, and what was written to it.
    fn memory() -> (Memory, Arc<Mutex<Vec<Value>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writes = Arc::clone(&written);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let writes = Arc::clone(&writes);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.map_err(|_| "no body")?;
                let map = json!({"metadata": {"name": "tidegate-policy-u-1"}, "data": {STATE: r#"{"version":999}"#}});
                if parts.method != http::Method::GET {
                    writes.lock().push(serde_json::from_slice(&body).map_err(|_| "no JSON")?);
                    return Ok::<_, &str>(Response::new(Body::from(map.to_string())));
                }
                let list = json!({"metadata": {"resourceVersion": "1"}, "items": [map]});
                Ok(Response::new(Body::from(list.to_string())))
            }
        });
        (Memory::new(Api::namespaced(kube::Client::new(service, "tidegate"), "tidegate")), written)
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_used_stays_until_the_leader_keeps_another_and_is_kept_beside_it() {
        let (memory, written) = memory();
        let restored = memory.read().await.unwrap();
        assert!(restored.is_empty() && written.lock().is_empty(), "whoever reads may be standing by");
        for _ in 0..2 {
            memory.keep("u-1", &key("llm"), "{}", now()).await.unwrap();
        }
        let data: Vec<Value> = written.lock().iter().map(|map| map["data"].clone()).collect();
        let [first, second] = &data[..] else { panic!("{data:?}") };
        assert_eq!((&first[STATE], &first[SET_ASIDE]), (&json!("{}"), &json!(r#"{"version":999}"#)));
        assert_eq!((&second[STATE], &second[SET_ASIDE]), (&json!("{}"), &Value::Null), "a merge leaves it there");
    }
}
