//! Keeps `spec.caBundle` of our APIServices current, so that the aggregator trusts our self-made certificate.
//!
//! It follows both sides: a new bundle of ours is written, and one that somebody else wrote is written over. It neither
//! creates nor deletes APIServices.

use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

use futures::{StreamExt, stream::SelectAll};
use k8s_openapi::ByteString;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

/// Between two writes to one APIService: whoever fights for the field with us must not keep the API server busy.
const PAUSE: Duration = Duration::from_secs(1);
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);
/// Longest time for one write: meanwhile nothing else is followed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of one APIService.
#[derive(Debug)]
struct Known {
    /// `spec.caBundle` as it was seen, base64.
    bundle: Option<Value>,
    not_before: Instant,
}

/// Writes every value of `bundle` (PEM) into the APIServices `names` (e.g. `v1beta1.custom.metrics.k8s.io`) until
/// `shutdown`. Needs get, list, watch and patch on these names.
pub async fn keep_ca_bundle(
    client: Client,
    names: &[String],
    mut bundle: watch::Receiver<String>,
    shutdown: impl Future<Output = ()>,
) {
    let resource = ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"),
        "apiservices",
    );
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    // One watch for each name: RBAC by resourceNames allows nothing wider.
    let mut events = SelectAll::new();
    for name in names {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        events.push(watcher(api.clone(), config).default_backoff().boxed());
    }
    let mut known = BTreeMap::<String, Known>::new();
    let mut shutdown = pin!(shutdown);
    // A sender that is gone leaves its last value: it still has to stand in the APIServices.
    let mut follows = true;
    loop {
        let wanted = json!(ByteString(bundle.borrow_and_update().clone().into_bytes()));
        let due = known.values().filter(|known| known.bundle.as_ref() != Some(&wanted)).map(|known| known.not_before);
        let due = due.min();
        tokio::select! {
            () = &mut shutdown => return,
            Some(event) = events.next() => observe(&mut known, event),
            changed = bundle.changed(), if follows => follows = changed.is_ok(),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                tokio::select! {
                    () = &mut shutdown => return,
                    () = write(&api, &mut known, &wanted) => {}
                }
            }
        }
    }
}

fn observe(known: &mut BTreeMap<String, Known>, event: Result<watcher::Event<DynamicObject>, watcher::Error>) {
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            let bundle = object.data.pointer("/spec/caBundle").cloned();
            let name = object.metadata.name.unwrap_or_default();
            known.entry(name).or_insert_with(|| Known { bundle: None, not_before: Instant::now() }).bundle = bundle;
        }
        Ok(watcher::Event::Delete(object)) => {
            known.remove(object.metadata.name.as_deref().unwrap_or_default());
        }
        Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
        Err(error) => tracing::warn!(%error, "cannot watch our APIServices; trying again"),
    }
}

async fn write(api: &Api<DynamicObject>, known: &mut BTreeMap<String, Known>, wanted: &Value) {
    let now = Instant::now();
    for (name, known) in known.iter_mut() {
        if known.bundle.as_ref() == Some(wanted) || known.not_before > now {
            continue;
        }
        // The two exclude each other, and skipping verification would make the bundle pointless.
        let patch = json!({"spec": {"caBundle": wanted, "insecureSkipTLSVerify": null}});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let problem = match tokio::time::timeout(TIMEOUT, api.patch(name, &parameters, &patch)).await {
            Ok(Ok(_)) => {
                tracing::info!(api_service = name, "caBundle written");
                known.bundle = Some(wanted.clone());
                known.not_before = now + PAUSE;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        tracing::warn!(error = problem, api_service = name, "caBundle could not be written; trying again");
        known.not_before = Instant::now() + RETRY;
    }
}

#[cfg(test)]
mod tests;
