//! Keeps `caBundle` of our APIServices, and of an admission webhook's registration, current, so that kube-apiserver trusts our
//! self-made certificate.
//!
//! It follows both sides: a new bundle of ours is written, and one that somebody else wrote is written over. It neither
//! creates nor deletes these objects.

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

/// An object that holds a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// An APIService of that name (e.g. `v1beta1.custom.metrics.k8s.io`).
    ApiService(String),
    /// A MutatingWebhookConfiguration of that name, in all its webhooks.
    MutatingWebhook(String),
}

impl Holder {
    fn name(&self) -> &str {
        let (Self::ApiService(name) | Self::MutatingWebhook(name)) = self;
        name
    }

    fn api(&self, client: Client) -> Api<DynamicObject> {
        let (group, kind, plural) = match self {
            Self::ApiService(_) => ("apiregistration.k8s.io", "APIService", "apiservices"),
            Self::MutatingWebhook(_) => {
                ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            }
        };
        let kind = GroupVersionKind::gvk(group, "v1", kind);
        Api::all_with(client, &ApiResource::from_gvk_with_plural(&kind, plural))
    }

    /// The bundle that stands there, base64: `None` also where webhooks of one registration differ.
    fn bundle(&self, object: &DynamicObject) -> Option<Value> {
        match self {
            Self::ApiService(_) => object.data.pointer("/spec/caBundle").cloned(),
            Self::MutatingWebhook(_) => {
                let mut bundles =
                    object.data["webhooks"].as_array()?.iter().map(|one| &one["clientConfig"]["caBundle"]);
                let first = bundles.next()?;
                bundles.all(|bundle| bundle == first).then(|| first.clone())
            }
        }
    }

    /// What puts it there.
    fn patch(&self, webhooks: &[Value], wanted: &Value) -> Patch<Value> {
        match self {
            // The two exclude each other, and skipping verification would make the bundle pointless.
            Self::ApiService(_) => Patch::Merge(json!({"spec": {"caBundle": wanted, "insecureSkipTLSVerify": null}})),
            // Webhooks are merged by name: all else of them stays.
            Self::MutatingWebhook(_) => {
                let webhook = |name: &Value| json!({"name": name, "clientConfig": {"caBundle": wanted}});
                Patch::Strategic(json!({"webhooks": webhooks.iter().map(webhook).collect::<Vec<_>>()}))
            }
        }
    }
}

/// What is known of one holder.
#[derive(Debug)]
struct Known {
    /// The bundle as it was seen, base64.
    bundle: Option<Value>,
    /// Names of the webhooks, where it is a registration of some.
    webhooks: Vec<Value>,
    not_before: Instant,
}

/// Writes every value of `bundle` (PEM) into the holders until `shutdown`. Needs list, watch and patch on these names.
pub async fn keep_ca_bundle(
    client: Client,
    holders: &[Holder],
    mut bundle: watch::Receiver<String>,
    shutdown: impl Future<Output = ()>,
) {
    // One watch for each name: RBAC by resourceNames allows nothing wider.
    let mut events = SelectAll::new();
    for holder in holders {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", holder.name()));
        let watch = watcher(holder.api(client.clone()), config).default_backoff();
        events.push(watch.map(move |event| (holder.clone(), event)).boxed());
    }
    let mut known = BTreeMap::<Holder, Known>::new();
    let mut shutdown = pin!(shutdown);
    // A sender that is gone leaves its last value: it still has to stand in the APIServices.
    let mut follows = true;
    loop {
        let wanted = json!(ByteString(bundle.borrow_and_update().clone().into_bytes()));
        let due = known.values().filter(|known| known.bundle.as_ref() != Some(&wanted)).map(|known| known.not_before);
        let due = due.min();
        tokio::select! {
            () = &mut shutdown => return,
            Some((holder, event)) = events.next() => observe(&mut known, holder, event),
            changed = bundle.changed(), if follows => follows = changed.is_ok(),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                tokio::select! {
                    () = &mut shutdown => return,
                    () = write(&client, &mut known, &wanted) => {}
                }
            }
        }
    }
}

fn observe(
    known: &mut BTreeMap<Holder, Known>,
    holder: Holder,
    event: Result<watcher::Event<DynamicObject>, watcher::Error>,
) {
    match event {
        Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
            let bundle = holder.bundle(&object);
            let webhooks = object.data["webhooks"].as_array().map_or(&[][..], Vec::as_slice);
            let webhooks = webhooks.iter().map(|webhook| webhook["name"].clone()).collect();
            let new = || Known { bundle: None, webhooks: Vec::new(), not_before: Instant::now() };
            let entry = known.entry(holder).or_insert_with(new);
            (entry.bundle, entry.webhooks) = (bundle, webhooks);
        }
        Ok(watcher::Event::Delete(_)) => {
            known.remove(&holder);
        }
        Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
        Err(error) => match holder {
            Holder::ApiService(_) => tracing::warn!(%error, "cannot watch our APIServices; trying again"),
            Holder::MutatingWebhook(_) => {
                tracing::warn!(%error, "cannot watch our webhook's registration; trying again");
            }
        },
    }
}

async fn write(client: &Client, known: &mut BTreeMap<Holder, Known>, wanted: &Value) {
    let now = Instant::now();
    for (holder, known) in known.iter_mut() {
        if known.bundle.as_ref() == Some(wanted) || known.not_before > now {
            continue;
        }
        let patch = holder.patch(&known.webhooks, wanted);
        let (api, parameters) = (holder.api(client.clone()), PatchParams::default());
        let problem = match tokio::time::timeout(TIMEOUT, api.patch(holder.name(), &parameters, &patch)).await {
            Ok(Ok(_)) => {
                tracing::info!(?holder, "caBundle written");
                known.bundle = Some(wanted.clone());
                known.not_before = now + PAUSE;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        };
        tracing::warn!(error = problem, ?holder, "caBundle could not be written; trying again");
        known.not_before = Instant::now() + RETRY;
    }
}

#[cfg(test)]
mod tests;
