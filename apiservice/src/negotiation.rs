//! Which format a client takes (`k8s.io/apiserver/pkg/endpoints/handlers/negotiation`).
//!
//! Clauses of `Accept` are taken by quality, then in the order written. A clause that asks for another representation
//! (`as=Table`, `as=PartialObjectMetadataList`) cannot be met and is passed over: kubectl adds a plain one behind it.

use http::{HeaderMap, header};

/// Formats that are written, for people who get none of them.
pub(crate) const OFFERED: &str = "application/json, application/yaml";

/// Most clauses of one header that are looked at; clients send a handful, and each costs an allocation.
const MAX_CLAUSES: usize = 64;

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

/// Which discovery document a client takes at `/apis`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// The list of groups.
    Legacy(Format),
    /// Everything in one document.
    Aggregated,
}

/// The format for a plain object; `None` if the client takes none of ours.
pub(crate) fn format(headers: &HeaderMap) -> Option<Format> {
    first(headers, plain)
}

/// The document for `/apis`.
pub(crate) fn discovery(headers: &HeaderMap) -> Option<Discovery> {
    first(headers, |clause| {
        if clause.is_aggregated_discovery() {
            Some(Discovery::Aggregated)
        } else {
            plain(clause).map(Discovery::Legacy)
        }
    })
}

/// Whether the client takes gzip.
pub(crate) fn gzip(headers: &HeaderMap) -> bool {
    values(headers, &header::ACCEPT_ENCODING)
        .any(|coding| Clause::parse(coding).is_some_and(|clause| clause.media == "gzip" && clause.quality > 0.0))
}

/// What `choose` makes of the best clause that it takes; no header is the same as `*/*`.
fn first<T>(headers: &HeaderMap, choose: impl Fn(&Clause<'_>) -> Option<T>) -> Option<T> {
    let mut clauses: Vec<_> = values(headers, &header::ACCEPT).filter_map(Clause::parse).collect();
    if clauses.is_empty() && values(headers, &header::ACCEPT).next().is_none() {
        clauses.extend(Clause::parse("*/*"));
    }
    clauses.retain(|clause| clause.quality > 0.0);
    clauses.sort_by(|left, right| right.quality.total_cmp(&left.quality));
    clauses.iter().find_map(choose)
}

/// The comma-separated values of all headers of one name.
fn values<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .take(MAX_CLAUSES)
}

/// One alternative.
struct Clause<'a> {
    media: String,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        let mut clause = Self { media, parameters: Vec::new(), quality: 1.0 };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key.eq_ignore_ascii_case("q") {
                clause.quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
            } else {
                clause.parameters.push((key, value));
            }
        }
        Some(clause)
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    fn is_aggregated_discovery(&self) -> bool {
        self.media == "application/json"
            && self.parameter("g") == Some("apidiscovery.k8s.io")
            && self.parameter("v") == Some("v2")
            && self.parameter("as") == Some("APIGroupDiscoveryList")
    }
}

/// The format that a clause names, if it asks for the plain object.
fn plain(clause: &Clause<'_>) -> Option<Format> {
    if clause.parameter("as").is_some_and(|representation| !representation.is_empty()) {
        return None;
    }
    match clause.media.as_str() {
        "*/*" | "application/*" | "application/json" => Some(Format::Json),
        "application/yaml" => Some(Format::Yaml),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::{Discovery, Format, discovery, format, gzip};

    fn accept(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_first_clause_that_can_be_met_decides() {
        let (json, yaml) = (Some(Format::Json), Some(Format::Yaml));
        for (values, expected) in [
            ([].as_slice(), json),
            (&[""], json),
            (&["*/*"], json),
            (&["application/*"], json),
            (&["application/json"], json),
            (&["APPLICATION/JSON"], json),
            (&["application/json; charset=utf-8"], json),
            (&["application/yaml"], yaml),
            (&["application/vnd.kubernetes.protobuf, */*"], json),
            (&["application/vnd.kubernetes.protobuf", "application/yaml"], yaml),
            (&["application/json;q=0.5, application/yaml"], yaml),
            (&["application/yaml;q=0.5,application/json;q=0.9"], json),
            (&["application/json;q=0,application/yaml"], yaml),
            (&["application/json;as=Table;v=v1;g=meta.k8s.io,application/json"], json),
            (&["application/json;as=Table;v=v1;g=meta.k8s.io"], None),
            (&["application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"], None),
            (&["text/html"], None),
            (&["image/png, application/cbor"], None),
            (&["application/vnd.kubernetes.protobuf"], None),
            (&["application/json;q=0"], None),
            (&["application/json;q=x"], None),
            (&["nonsense"], None),
        ] {
            assert_eq!(format(&accept(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn aggregated_discovery_is_answered_to_those_who_name_it() {
        const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let legacy = Some(Discovery::Legacy(Format::Json));
        for (values, expected) in [
            ([].as_slice(), legacy),
            (&["application/json"], legacy),
            (&[V2], Some(Discovery::Aggregated)),
            (&["application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io"], Some(Discovery::Aggregated)),
            (
                &["application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList;profile=nopeer"],
                Some(Discovery::Aggregated),
            ),
            (
                &[
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                ],
                Some(Discovery::Aggregated),
            ),
            (&["application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"], legacy),
            (&["application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"], None),
            (&["text/html"], None),
        ] {
            assert_eq!(discovery(&accept(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn gzip_is_used_only_if_asked_for() {
        for (value, expected) in
            [("gzip", true), ("deflate, gzip;q=0.5", true), ("gzip;q=0", false), ("identity", false), ("*", false)]
        {
            let headers = [(header::ACCEPT_ENCODING, HeaderValue::from_static(value))].into_iter().collect();
            assert_eq!(gzip(&headers), expected, "{value}");
        }
        assert!(!gzip(&HeaderMap::new()));
    }
}
