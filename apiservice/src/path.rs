//! From a request's path to what is asked for.
//!
//! Segments are split first and decoded then, so that an encoded slash cannot move a border: a path that means one thing
//! to the authorizer and another to the router must not exist. Sources: `custom-metrics-apiserver/pkg/apiserver/installer`
//! and the clients in `k8s.io/metrics/pkg/client`.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::{
    Resource,
    api::{Api, Group},
};

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: the list of paths.
    Root,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(Group),
    /// `/apis/GROUP/VERSION`
    Resources(Api),
    /// Values of a custom metric.
    Custom(Api, CustomQuery),
    /// Values of an external metric.
    External(Api, ExternalQuery),
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiV3,
    /// `/openapi/v3/apis/GROUP/VERSION`
    OpenApiV3Of(Api),
    /// `/version`
    Version,
    /// `/metrics`
    Metrics,
    /// `/healthz`, `/livez`, `/readyz`, or one check of theirs.
    Health(Probe, Option<String>),
}

/// A question for a custom metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomQuery {
    /// What is described.
    pub resource: Resource,
    /// Where, if the path says so.
    pub namespace: Option<String>,
    /// Which.
    pub objects: Objects,
    /// The metric.
    pub metric: String,
}

/// Which objects are described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objects {
    /// The one of this name.
    Named(String),
    /// All that the query's label selector selects: the path says `*`.
    Selected,
}

/// A question for an external metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalQuery {
    /// Where.
    pub namespace: String,
    /// The metric.
    pub metric: String,
}

/// A health endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// `/healthz`: all checks, the old way.
    Health,
    /// `/livez`: does it have to be restarted?
    Live,
    /// `/readyz`: may it be asked?
    Ready,
}

/// Why a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unroutable {
    /// 404 with the list of paths: nothing here has such a beginning.
    UnknownPath,
    /// 404: a served group, but no such version, or no path of this shape in it.
    UnknownShape,
    /// 400, with the cause.
    Malformed(&'static str),
}

/// What `path`, as it stands in the request line, asks for, if only `served` are.
pub fn parse(path: &str, served: &[Api]) -> Result<Route, Unroutable> {
    let segments =
        path.strip_prefix('/').ok_or(Unroutable::UnknownPath)?.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    let mut segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
    // Group and version may end in a slash, as their OpenAPI paths do. Nothing else may.
    if matches!(segments.as_slice(), ["apis", _, ""] | ["apis", _, _, ""]) {
        segments.pop();
    }
    if let ["apis", group, rest @ ..] = segments.as_slice()
        && let Some(group) = served.iter().map(|api| api.group()).find(|served| served.name() == *group)
    {
        return in_group(group, rest, served);
    }
    Ok(match segments.as_slice() {
        [""] => Route::Root,
        ["apis"] => Route::Groups,
        ["openapi", "v2"] => Route::OpenApiV2,
        ["openapi", "v3"] => Route::OpenApiV3,
        ["openapi", "v3", "apis", group, version] => {
            Route::OpenApiV3Of(find(group, version, served).ok_or(Unroutable::UnknownPath)?)
        }
        ["version"] => Route::Version,
        ["metrics"] => Route::Metrics,
        [probe] => Route::Health(Probe::named(probe)?, None),
        [probe, check] if !check.is_empty() => Route::Health(Probe::named(probe)?, Some((*check).to_owned())),
        _ => return Err(Unroutable::UnknownPath),
    })
}

/// Within `/apis/GROUP`.
fn in_group(group: Group, rest: &[&str], served: &[Api]) -> Result<Route, Unroutable> {
    let [version, rest @ ..] = rest else { return Ok(Route::Group(group)) };
    let api = find(group.name(), version, served).ok_or(Unroutable::UnknownShape)?;
    if rest.is_empty() {
        return Ok(Route::Resources(api));
    }
    // An encoded slash would have been one to the reference; empty and dot segments are nobody's name.
    if rest.iter().any(|segment| matches!(*segment, "" | "." | "..") || segment.contains('/')) {
        return Err(Unroutable::UnknownShape);
    }
    if let ["namespaces", "*", _, ..] = rest {
        return Err(Unroutable::Malformed("a namespace has to be named: '*' stands for objects only"));
    }
    match (group, rest) {
        (Group::Custom, ["namespaces", namespace, "metrics", metric]) => {
            let resource = Resource { group: String::new(), name: "namespaces".to_owned() };
            Ok(Route::Custom(api, CustomQuery::new(resource, None, namespace, metric)))
        }
        (Group::Custom, ["namespaces", namespace, resource, name, metric]) => {
            Ok(Route::Custom(api, CustomQuery::new(Resource::parse(resource), Some(namespace), name, metric)))
        }
        (Group::Custom, ["namespaces", _, _]) => Err(Unroutable::Malformed(
            "expected namespaces/NAMESPACE/metrics/METRIC or namespaces/NAMESPACE/RESOURCE/NAME/METRIC",
        )),
        (Group::Custom, [resource, name, metric]) => {
            Ok(Route::Custom(api, CustomQuery::new(Resource::parse(resource), None, name, metric)))
        }
        (Group::External, ["namespaces", namespace, metric]) => {
            let query = ExternalQuery { namespace: (*namespace).to_owned(), metric: (*metric).to_owned() };
            Ok(Route::External(api, query))
        }
        _ => Err(Unroutable::UnknownShape),
    }
}

fn find(group: &str, version: &str, served: &[Api]) -> Option<Api> {
    served.iter().copied().find(|api| api.group().name() == group && api.version() == version)
}

fn decode(segment: &str) -> Result<Cow<'_, str>, Unroutable> {
    let bytes = segment.as_bytes();
    let escapes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    for (at, _) in escapes {
        if !bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Unroutable::Malformed("'%' in the path has to be followed by two hexadecimal digits"));
        }
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| Unroutable::Malformed("the path has to be UTF-8"))
}

impl CustomQuery {
    fn new(resource: Resource, namespace: Option<&str>, name: &str, metric: &str) -> Self {
        let objects = if name == "*" { Objects::Selected } else { Objects::Named(name.to_owned()) };
        Self { resource, namespace: namespace.map(str::to_owned), objects, metric: metric.to_owned() }
    }
}

impl Resource {
    /// From `pods` or `deployments.apps`: what follows the first dot is the group.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let (name, group) = text.split_once('.').unwrap_or((text, ""));
        Self { group: group.to_owned(), name: name.to_owned() }
    }
}

impl Probe {
    fn named(name: &str) -> Result<Self, Unroutable> {
        match name {
            "healthz" => Ok(Self::Health),
            "livez" => Ok(Self::Live),
            "readyz" => Ok(Self::Ready),
            _ => Err(Unroutable::UnknownPath),
        }
    }

    /// Its path without the slash.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Health => "healthz",
            Self::Live => "livez",
            Self::Ready => "readyz",
        }
    }
}

#[cfg(test)]
mod tests;
