//! Discovery: which groups, versions and metrics there are.
//!
//! Written in the legacy form and as one aggregated v2 document (`k8s.io/api/apidiscovery/v2`). A document that claims to
//! be v2 is taken as the whole truth by kube-apiserver's aggregator, so it always holds everything. The only verb is `get`:
//! whatever lists and deletes is asked to by the namespace and garbage controllers.
//!
//! An empty list of resources makes older clients log an error at each call, so a group without any metric yet names one
//! constant entry in its place; it goes as soon as there is a metric.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use http::HeaderMap;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Provider, Scope,
    api::{Api, Group},
    status::Empty,
};

/// What stands in a custom group that has no metric yet.
const NO_CUSTOM: &str = "custommetrics";

/// What stands in an external group that has no metric yet.
const NO_EXTERNAL: &str = "externalmetrics";

/// Media type of the aggregated document: clients recognise it by these parameters.
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A resource of a version and the metrics that describe it; none, if it is itself the metric.
#[derive(Debug)]
struct Entry {
    resource: String,
    scope: Scope,
    metrics: BTreeSet<String>,
}

/// `APIResourceList` of a version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceList {
    kind: &'static str,
    api_version: &'static str,
    group_version: &'static str,
    resources: Vec<ListedResource>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedResource {
    name: String,
    singular_name: &'static str,
    namespaced: bool,
    kind: &'static str,
    verbs: [&'static str; 1],
}

/// `APIGroupDiscoveryList`: everything in one document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Aggregated {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<GroupDiscovery>,
}

#[derive(Debug, Serialize)]
struct GroupDiscovery {
    metadata: Metadata,
    versions: Vec<VersionDiscovery>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: &'static str,
}

#[derive(Debug, Serialize)]
struct VersionDiscovery {
    version: &'static str,
    resources: Vec<ResourceDiscovery>,
    freshness: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDiscovery {
    resource: String,
    response_kind: ResponseKind,
    scope: &'static str,
    singular_resource: &'static str,
    verbs: &'static [&'static str],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<SubresourceDiscovery>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubresourceDiscovery {
    subresource: String,
    response_kind: ResponseKind,
    verbs: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct ResponseKind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
}

/// `GET /apis/GROUP/VERSION`
pub(crate) fn resource_list<P: Provider>(api: Api, provider: &P) -> ResourceList {
    let mut resources = Vec::new();
    for Entry { resource, scope, metrics } in entries(api.group(), provider) {
        let listed = |name| ListedResource {
            name,
            singular_name: "",
            namespaced: scope == Scope::Namespaced,
            kind: api.list_kind(),
            verbs: ["get"],
        };
        if metrics.is_empty() {
            resources.push(listed(resource));
        } else {
            resources.extend(metrics.iter().map(|metric| listed(format!("{resource}/{metric}"))));
        }
    }
    ResourceList { kind: "APIResourceList", api_version: "v1", group_version: api.group_version(), resources }
}

/// `GET /apis` for clients that take v2.
pub(crate) fn aggregated<P: Provider>(served: &[Api], provider: &P) -> Aggregated {
    let items = groups(served)
        .map(|group| GroupDiscovery {
            metadata: Metadata { name: group.name() },
            versions: versions(served, group).map(|api| version(api, provider)).collect(),
        })
        .collect();
    Aggregated { kind: "APIGroupDiscoveryList", api_version: "apidiscovery.k8s.io/v2", metadata: Empty {}, items }
}

fn version<P: Provider>(api: Api, provider: &P) -> VersionDiscovery {
    let kind = ResponseKind { group: api.group().name(), version: api.version(), kind: api.list_kind() };
    let resources = entries(api.group(), provider)
        .map(|Entry { resource, scope, metrics }| {
            let is_metric = metrics.is_empty();
            ResourceDiscovery {
                resource,
                // A resource that only carries metrics cannot be read itself; the kind is empty, not absent, as the
                // aggregator writes it, because clients of 1.26 do not survive its absence.
                response_kind: if is_metric { kind } else { ResponseKind::default() },
                scope: match scope {
                    Scope::Namespaced => "Namespaced",
                    Scope::Cluster => "Cluster",
                },
                singular_resource: "",
                verbs: if is_metric { &["get"] } else { &[] },
                subresources: metrics
                    .into_iter()
                    .map(|subresource| SubresourceDiscovery { subresource, response_kind: kind, verbs: &["get"] })
                    .collect(),
            }
        })
        .collect();
    VersionDiscovery { version: api.version(), resources, freshness: "Current" }
}

/// `GET /apis` for everyone else.
pub(crate) fn group_list(served: &[Api], headers: &HeaderMap) -> Value {
    let groups: Vec<_> = groups(served).map(|group| described(served, group, headers)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/GROUP`
pub(crate) fn group(served: &[Api], group: Group, headers: &HeaderMap) -> Value {
    let mut described = described(served, group, headers);
    described["kind"] = "APIGroup".into();
    described["apiVersion"] = "v1".into();
    described
}

fn described(served: &[Api], group: Group, headers: &HeaderMap) -> Value {
    let mut versions: Vec<_> = versions(served, group)
        .map(|api| json!({"groupVersion": api.group_version(), "version": api.version()}))
        .collect();
    versions.reverse(); // the preferred one first, as clients without a preference take the first
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    json!({
        "name": group.name(),
        "preferredVersion": versions.first(),
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// All paths, for people who ask for one that does not exist.
pub(crate) fn paths(served: &[Api]) -> Value {
    let mut paths = vec!["/apis".to_owned()];
    for group in groups(served) {
        paths.push(format!("/apis/{}", group.name()));
        paths.extend(versions(served, group).map(|api| format!("/apis/{}", api.group_version())));
    }
    paths.extend(["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3"].map(str::to_owned));
    paths.extend(served.iter().map(|api| format!("/openapi/v3/apis/{}", api.group_version())));
    paths.extend(["/readyz", "/version"].map(str::to_owned));
    json!({"paths": paths})
}

/// An entity tag for these bytes, the same from every replica and version of the program.
pub(crate) fn tag(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().take(16).fold(String::with_capacity(32), |mut tag, byte| {
        write!(tag, "{byte:02X}").unwrap_or_default(); // into a string
        tag
    })
}

fn groups(served: &[Api]) -> impl Iterator<Item = Group> {
    served.iter().map(|api| api.group()).collect::<BTreeSet<_>>().into_iter()
}

fn versions(served: &[Api], group: Group) -> impl Iterator<Item = Api> {
    served.iter().copied().filter(move |api| api.group() == group)
}

/// What a group holds, sorted, each resource with one scope: a resource with two makes the whole version unusable.
fn entries<P: Provider>(group: Group, provider: &P) -> impl Iterator<Item = Entry> + use<P> {
    let mut entries = BTreeMap::new();
    match group {
        Group::Custom => {
            for metric in provider.custom_metrics().into_iter().filter(|metric| is_segment(&metric.metric)) {
                let resource = metric.resource.to_string();
                let scope = metric.scope;
                let entry = entries.entry(resource).or_insert_with_key(|resource| Entry {
                    resource: resource.clone(),
                    scope,
                    metrics: BTreeSet::new(),
                });
                if entry.scope != scope {
                    tracing::warn!(
                        resource = entry.resource,
                        "a resource is listed with two scopes; the first one stands"
                    );
                }
                entry.metrics.insert(metric.metric);
            }
        }
        Group::External => {
            let names = provider.external_metrics().into_iter().map(|name| name.0).filter(|name| is_segment(name));
            entries.extend(names.map(|name| (name.clone(), metric_entry(name))));
        }
    }
    if entries.is_empty() {
        let name = if group == Group::Custom { NO_CUSTOM } else { NO_EXTERNAL }.to_owned();
        entries.insert(name.clone(), metric_entry(name));
    }
    entries.into_values()
}

fn metric_entry(resource: String) -> Entry {
    Entry { resource, scope: Scope::Namespaced, metrics: BTreeSet::new() }
}

/// Whether a name can stand in a path, and so can be asked for at all.
fn is_segment(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '%'])
}
