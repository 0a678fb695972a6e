//! What must outlive a restart: one ConfigMap per policy, in our own namespace, written by the leader only.
//!
//! Not in the policy's status: what was learned is of no use to people, and every reader of policies would carry it. Not in
//! the policy's namespace: there it would take the right to write every ConfigMap of every tenant. Deleting the ConfigMap
//! makes the engine learn anew.
//!
//! Read once, at the start. What cannot be used is set aside under another key, with a warning.

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
use serde_json::json;
use tracing::{debug, info, warn};

use crate::{cluster::ObjectKey, engine::State};

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
    #[error("{0}")]
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
}

impl Memory {
    /// In the namespace of `config_maps`.
    #[must_use]
    pub fn new(config_maps: Api<ConfigMap>) -> Self {
        Self { config_maps }
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
                if let Some((uid, state)) = self.restore(map).await {
                    states.insert(uid, state);
                }
            }
            match page.metadata.continue_ {
                Some(token) if !token.is_empty() => parameters = parameters.continue_token(&token),
                _ => break,
            }
        }
        info!(policies = states.len(), "what the engine has learned was read");
        Ok(states)
    }

    async fn restore(&self, map: &ConfigMap) -> Option<(Arc<str>, State)> {
        let name = map.name_any();
        let uid = name.strip_prefix(PREFIX)?;
        let text = map.data.as_ref()?.get(STATE)?;
        match State::restore(text) {
            Ok(state) => Some((uid.into(), state)),
            Err(error) => {
                warn!(config_map = name, %error, "set aside");
                // If it cannot be written the next state replaces it, and only the odd one is lost.
                let patch = Patch::Merge(json!({"data": {STATE: null, SET_ASIDE: text}}));
                let parameters = PatchParams::default();
                let write = self.config_maps.patch(&name, &parameters, &patch);
                if let Ok(Err(error)) = tokio::time::timeout(TIMEOUT, write).await {
                    warn!(config_map = name, %error, "cannot be set aside");
                }
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
        let data = [(STATE, state.to_owned()), (SAVED, now.to_string())];
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(LABEL.to_owned(), "true".to_owned())].into()),
                annotations: Some([(POLICY.to_owned(), format!("{}/{}", policy.namespace, policy.name))].into()),
                ..ObjectMeta::default()
            },
            data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ..ConfigMap::default()
        };
        let patch = Patch::Merge(&map);
        let parameters = PatchParams::default();
        match tokio::time::timeout(TIMEOUT, self.config_maps.patch(&name, &parameters, &patch)).await? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let parameters = PostParams::default();
                tokio::time::timeout(TIMEOUT, self.config_maps.create(&parameters, &map)).await??;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what belongs to no policy any more.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub async fn forget_all_but(&self, uids: &BTreeSet<Arc<str>>) -> Result<(), MemoryError> {
        let parameters = ListParams::default().labels(LABEL);
        let all = tokio::time::timeout(TIMEOUT, self.config_maps.list_metadata(&parameters)).await??;
        for map in all {
            let name = map.name_any();
            if name.strip_prefix(PREFIX).is_some_and(|uid| !uids.contains(uid)) {
                debug!(config_map = name, "its policy is gone");
                tokio::time::timeout(TIMEOUT, self.config_maps.delete(&name, &DeleteParams::default())).await??;
            }
        }
        Ok(())
    }
}
