//! The ConfigMap `kube-system/extension-apiserver-authentication`, in which kube-apiserver publishes its certificate
//! authorities and the names of the front proxy's headers.

use std::{collections::BTreeMap, future::Future, pin::pin, sync::Arc};

use futures::StreamExt;
use http::HeaderName;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};

use crate::authentication::{Authority, RequestHeader, Trust, TrustError, TrustStore, request_header::HeaderNames};

/// Where the ConfigMap lives.
const NAMESPACE: &str = "kube-system";
/// Its name.
const NAME: &str = "extension-apiserver-authentication";

impl Trust {
    /// Reads the `data` of the ConfigMap. A missing key is a part that is not offered; a malformed one is an error.
    pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Self, TrustError> {
        let pem = |key: &str| data.get(key).filter(|pem| !pem.trim().is_empty());
        let authority = |key: &str| pem(key).map(|pem| Authority::from_pem(key, pem.as_bytes())).transpose();
        let client_ca = authority("client-ca-file")?;
        let request_header = match authority("requestheader-client-ca-file")? {
            None => None,
            Some(authority) => {
                let defaults = HeaderNames::default();
                let names = HeaderNames {
                    username: headers(data, "requestheader-username-headers")?.unwrap_or(defaults.username),
                    group: headers(data, "requestheader-group-headers")?.unwrap_or(defaults.group),
                    uid: headers(data, "requestheader-uid-headers")?.unwrap_or(defaults.uid),
                    extra_prefixes: strings(data, "requestheader-extra-headers-prefix")?
                        .unwrap_or(defaults.extra_prefixes),
                };
                // An empty prefix would make every header of the client an attribute of its user.
                if names.extra_prefixes.iter().any(String::is_empty) {
                    return Err(invalid("requestheader-extra-headers-prefix", "an empty prefix matches every header"));
                }
                let allowed = strings(data, "requestheader-allowed-names")?.unwrap_or_default();
                Some(RequestHeader::new(authority, allowed, names))
            }
        };
        Ok(Self { client_ca, request_header })
    }
}

fn invalid(key: &str, why: impl Into<String>) -> TrustError {
    TrustError::Invalid { source_name: key.to_owned(), why: why.into() }
}

fn strings(data: &BTreeMap<String, String>, key: &str) -> Result<Option<Vec<String>>, TrustError> {
    let Some(text) = data.get(key).filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    serde_json::from_str(text)
        .map(Some)
        .map_err(|error| invalid(key, format!("expected a JSON array of strings: {error}")))
}

fn headers(data: &BTreeMap<String, String>, key: &str) -> Result<Option<Vec<HeaderName>>, TrustError> {
    let Some(names) = strings(data, key)? else { return Ok(None) };
    let header = |name: &String| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid(key, format!("{name:?} is not a header name")))
    };
    names.iter().map(header).collect::<Result<_, _>>().map(Some)
}

/// The kind, without Kubernetes' own types: those need a version feature that only the final binary may pick.
pub(crate) fn core_resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind))
}

/// Keeps `store` as the ConfigMap says, until `shutdown`. A ConfigMap that is malformed, gone or out of reach leaves what
/// was believed last.
pub async fn watch_trust(client: Client, store: Arc<TrustStore>, shutdown: impl Future<Output = ()>) {
    let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &core_resource("ConfigMap"));
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = pin!(watcher(api, config).default_backoff());
    let mut shutdown = pin!(shutdown);
    loop {
        let event = tokio::select! {
            () = &mut shutdown => return,
            event = events.next() => event,
        };
        match event {
            None => return,
            Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                let data = object.data.get("data").cloned().unwrap_or_default();
                let trust = serde_json::from_value::<Option<BTreeMap<String, String>>>(data)
                    .map_err(|error| invalid("data", error.to_string()))
                    .and_then(|data| Trust::from_config_map(&data.unwrap_or_default()));
                match trust {
                    Ok(trust) => {
                        store.replace(trust);
                        tracing::info!("certificate authorities taken from ConfigMap {NAMESPACE}/{NAME}");
                    }
                    Err(error) => tracing::warn!(%error, "ConfigMap {NAMESPACE}/{NAME} is malformed: nothing changes"),
                }
            }
            Some(Ok(watcher::Event::Delete(_))) => {
                tracing::warn!("ConfigMap {NAMESPACE}/{NAME} is gone: its certificate authorities stay in use");
            }
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
            Some(Err(error)) => tracing::warn!(%error, "cannot watch ConfigMap {NAMESPACE}/{NAME}; trying again"),
        }
    }
}

#[cfg(test)]
mod tests;
