//! From a request to the attributes that RBAC decides on (k8s.io/apiserver, `pkg/endpoints/request/requestinfo.go`).
//!
//! Three deliberate differences, because attributes must name what is served: a metric called `status` or `finalize` is
//! not taken for a subresource of its namespace; a resource called `watch` or `proxy` is not taken for a verb; and
//! `fieldSelector=metadata.name=…` does not narrow a list, as no list here is narrowed by it.

use http::Method;
use serde::Serialize;

use crate::request_path::RequestPath;

/// What a request wants to do, in the words of SubjectAccessReview; empty means not applicable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Attributes {
    /// `resourceAttributes`.
    Resource {
        /// `get`, `list`, `watch`, …
        #[serde(skip_serializing_if = "String::is_empty")]
        verb: String,
        /// Namespace.
        #[serde(skip_serializing_if = "String::is_empty")]
        namespace: String,
        /// API group.
        #[serde(skip_serializing_if = "String::is_empty")]
        group: String,
        /// API version.
        #[serde(skip_serializing_if = "String::is_empty")]
        version: String,
        /// Resource as it stands in the path, e.g. `deployments.apps`.
        resource: String,
        /// Subresource: for custom metrics, the metric.
        #[serde(skip_serializing_if = "String::is_empty")]
        subresource: String,
        /// Object; `*` for a wildcard.
        #[serde(skip_serializing_if = "String::is_empty")]
        name: String,
    },
    /// `nonResourceAttributes`.
    NonResource {
        /// The method in lower case.
        verb: String,
        /// The decoded path.
        path: String,
    },
}

/// The attributes of a request.
#[must_use]
pub fn attributes(method: &Method, path: &RequestPath, query: Option<&str>) -> Attributes {
    let (group, rest) = match path.segments() {
        [prefix, group, rest @ ..] if prefix == "apis" => (group.as_str(), rest),
        [prefix, rest @ ..] if prefix == "api" => ("", rest),
        _ => ("", &[][..]),
    };
    let Some((version, rest)) = rest.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return non_resource(method, path.decoded());
    };
    let (namespace, parts) = match rest {
        [first, namespace] if first == "namespaces" => (namespace.as_str(), rest),
        [first, namespace, parts @ ..] if first == "namespaces" => (namespace.as_str(), parts),
        _ => ("", rest),
    };
    let part = |at: usize| parts.get(at).cloned().unwrap_or_default();
    let (resource, name, subresource) = (part(0), part(1), part(2));
    let verb = match *method {
        Method::GET | Method::HEAD if !name.is_empty() => "get",
        Method::GET | Method::HEAD if wants_watch(query) => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if name.is_empty() => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    };
    Attributes::Resource {
        verb: verb.to_owned(),
        namespace: namespace.to_owned(),
        group: group.to_owned(),
        version: version.clone(),
        resource,
        subresource,
        name,
    }
}

/// The attributes of a path that is no resource, or that nothing serves.
pub(crate) fn non_resource(method: &Method, path: String) -> Attributes {
    Attributes::NonResource { verb: method.as_str().to_ascii_lowercase(), path }
}

/// The first `watch` parameter, by Kubernetes' reading of booleans: everything but `0` and `false` is true.
fn wants_watch(query: Option<&str>) -> bool {
    query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(key)? == "watch").then(|| {
            let value = form_decode(value).unwrap_or_default();
            value != "0" && !value.eq_ignore_ascii_case("false")
        })
    }) == Some(true)
}

fn form_decode(text: &str) -> Option<String> {
    crate::request_path::decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests;
