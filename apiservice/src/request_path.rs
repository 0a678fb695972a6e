//! One reading of a request's path, for authorization and for the router.
//!
//! The path is decoded once, segment by segment; what is authorized is computed from these segments, and the request goes
//! on under a path that is spelled again from the same segments. So whatever a router matches on, raw or decoded, it sees
//! what was authorized. Paths that different readers could read differently (an encoded slash, dot segments, empty
//! segments) are never routed.

use http::{Uri, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What must be encoded inside a segment: everything but RFC 3986 `pchar`.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A path as it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath {
    /// Decoded segments; none is empty.
    segments: Vec<String>,
    trailing_slash: bool,
}

/// Why a path cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `%` without two hex digits, or bytes that are not UTF-8.
    #[error("the path {0:?} has an invalid percent-encoding")]
    Encoding(String),
    /// Readers could disagree about what it names; carries the decoded path.
    #[error("the path {0:?} has an empty segment, a dot segment or an encoded slash")]
    Ambiguous(String),
}

/// Percent-decodes strictly: `None` for a bad escape or for bytes that are not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let well_formed = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit) && bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit)
    });
    if !well_formed {
        return None;
    }
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

impl RequestPath {
    /// Reads the raw path of a request.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        let ambiguous = || match decode(raw) {
            Some(decoded) => PathError::Ambiguous(decoded),
            None => PathError::Encoding(raw.to_owned()),
        };
        let relative = raw.strip_prefix('/').ok_or_else(ambiguous)?;
        if relative.is_empty() {
            return Ok(Self { segments: Vec::new(), trailing_slash: true });
        }
        let (relative, trailing_slash) = relative.strip_suffix('/').map_or((relative, false), |rest| (rest, true));
        let mut segments = Vec::new();
        for segment in relative.split('/') {
            let segment = decode(segment).ok_or_else(|| PathError::Encoding(raw.to_owned()))?;
            if segment.is_empty() || segment == "." || segment == ".." || segment.contains(['/', '\0']) {
                return Err(ambiguous());
            }
            segments.push(segment);
        }
        Ok(Self { segments, trailing_slash })
    }

    /// The decoded segments.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The decoded path, as `nonResourceAttributes` name it.
    pub fn decoded(&self) -> String {
        let mut path: String = self.segments.iter().flat_map(|segment| ["/", segment]).collect();
        if self.trailing_slash {
            path.push('/');
        }
        path
    }

    /// The same path in its one canonical spelling.
    pub fn canonical(&self) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.extend(utf8_percent_encode(segment, SEGMENT));
        }
        if self.trailing_slash {
            path.push('/');
        }
        path
    }

    /// `uri` with its path in canonical spelling, its query untouched. `None` if that is no URI any more (too long).
    pub(crate) fn respell(&self, uri: &Uri) -> Option<Uri> {
        let path = self.canonical();
        if path == uri.path() {
            return Some(uri.clone());
        }
        let mut parts = uri.clone().into_parts();
        let path_and_query = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests;
