//! From an answer to a response: format, headers, compression. No answer carries `Retry-After`: clients of the HPA would
//! sleep on it, up to ten times, inside one of its few workers.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::Write as _,
};

use axum::{body::Body, response::IntoResponse};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request};
use serde::Serialize;

use crate::{
    Status,
    negotiation::{self, Format},
    query::Parameters,
    wire::json::WriteJson,
};

/// Bodies up to this size, in bytes, are never compressed: the API server's own threshold.
const COMPRESS_FROM: usize = 128 * 1024;

/// Longest message of a failure, in bytes; the rest is cut off. Messages repeat what was asked, which may be 64 KiB long, and
/// end up in conditions and events, which hold less.
const MAX_MESSAGE: usize = 4096;

/// Longest audit id, in bytes, that is taken over from a request.
const MAX_AUDIT_ID: usize = 64;

/// The content type of JSON.
const JSON: &str = "application/json";

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// An answer before its common headers.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    /// Headers beside the common ones; they win over them.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// A list without items: whether anything has the names that were asked for is not known.
    pub(crate) vacant: bool,
}

/// How objects are written for one client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) pretty: bool,
}

impl Style {
    /// As the client wants it, or `None` if it takes none of our formats.
    pub(crate) fn negotiated(headers: &HeaderMap, parameters: &Parameters<'_>) -> Option<Self> {
        Some(Self { format: negotiation::format(headers)?, pretty: is_pretty(headers, parameters) })
    }

    /// As the client wants it, or JSON.
    pub(crate) fn lenient(headers: &HeaderMap, parameters: &Parameters<'_>) -> Self {
        let format = negotiation::format(headers).unwrap_or(Format::Json);
        Self { format, pretty: is_pretty(headers, parameters) }
    }
}

/// People ask for it, or use a tool that shows them the bytes.
fn is_pretty(headers: &HeaderMap, parameters: &Parameters<'_>) -> bool {
    if parameters.get("pretty").is_some() {
        return parameters.is_on("pretty");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla"].iter().any(|tool| agent.starts_with(tool))
}

impl Reply {
    /// Bytes of a given type.
    pub(crate) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type, body: body.into(), headers: Vec::new(), vacant: false }
    }

    /// Plain text.
    pub(crate) fn text(status: StatusCode, body: String) -> Self {
        Self { status, ..Self::new("text/plain; charset=utf-8", body) }
    }

    /// An object.
    pub(crate) fn object(status: StatusCode, object: &impl Serialize, style: Style) -> Self {
        match encode(object, style) {
            Ok((content_type, body)) => Self { status, ..Self::new(content_type, body) },
            // Nothing that is written here has keys that are no strings or refuses to be serialized.
            Err(error) => {
                tracing::error!(%error, "an answer could not be encoded");
                Self::text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be encoded\n".to_owned())
            }
        }
    }

    /// A list of values.
    pub(crate) fn list(list: &impl WriteJson, style: Style) -> Self {
        if style.format == Format::Yaml || style.pretty {
            return Self::object(StatusCode::OK, list, style);
        }
        let mut body = Vec::new();
        list.write_json(&mut body);
        body.push(b'\n');
        Self::new(JSON, body)
    }

    /// A failure. A code below 400 would turn it into an empty list in the HPA's eyes: it becomes a 500.
    pub(crate) fn failure(status: &Status, style: Style) -> Self {
        let code = StatusCode::from_u16(status.code).ok().filter(|code| code.as_u16() >= 400);
        let code = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.code == code.as_u16() && status.message.len() <= MAX_MESSAGE {
            return Self::object(code, status, style);
        }
        let mut status = Status { code: code.as_u16(), ..status.clone() };
        if status.message.len() > MAX_MESSAGE {
            status.message.truncate(status.message.floor_char_boundary(MAX_MESSAGE));
            status.message.push('…');
        }
        Self::object(code, &status, style)
    }

    /// The same with one more header.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With the headers that all answers share, compressed if it is long and the client takes that.
    pub(crate) fn finish(self, request: &HeaderMap) -> Response<Body> {
        let Self { status, content_type, mut body, headers, vacant: _ } = self;
        let long = body.len() > COMPRESS_FROM;
        let mut coding = None;
        if long
            && negotiation::gzip(request)
            && let Some(compressed) = compress(&body)
        {
            body = compressed;
            coding = Some(HeaderValue::from_static("gzip"));
        }
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        if status != StatusCode::NOT_MODIFIED {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        fields.insert(AUDIT_ID, audit_id(request));
        for (name, value) in headers {
            fields.insert(name, value);
        }
        if long {
            fields.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if let Some(coding) = coding {
            fields.insert(header::CONTENT_ENCODING, coding);
        }
        response
    }
}

impl Status {
    /// This failure as an answer to a request, in the format that the client takes, else in JSON.
    #[must_use]
    pub fn respond(&self, request: &request::Parts) -> Response<Body> {
        let parameters = Parameters::parse(request.uri.query().unwrap_or_default());
        Reply::failure(self, Style::lenient(&request.headers, &parameters)).finish(&request.headers)
    }
}

impl IntoResponse for Status {
    /// In JSON. Where the request is at hand, [`Status::respond`] does better.
    fn into_response(self) -> axum::response::Response {
        Reply::failure(&self, Style { format: Format::Json, pretty: false }).finish(&HeaderMap::new())
    }
}

/// The object's bytes and their type. JSON ends in a newline, as the API server's does.
fn encode(object: &impl Serialize, style: Style) -> Result<(&'static str, Vec<u8>), String> {
    match style.format {
        Format::Json => {
            let mut body = Vec::with_capacity(512);
            let written = if style.pretty {
                serde_json::to_writer_pretty(&mut body, object)
            } else {
                serde_json::to_writer(&mut body, object)
            };
            written.map_err(|error| error.to_string())?;
            body.push(b'\n');
            Ok((JSON, body))
        }
        Format::Yaml => {
            let body = serde_saphyr::to_string(object).map_err(|error| error.to_string())?;
            Ok(("application/yaml", body.into_bytes()))
        }
    }
}

fn compress(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// The request's own id, or a new random one in the form of a UUID.
fn audit_id(request: &HeaderMap) -> HeaderValue {
    if let Some(id) = request.get(AUDIT_ID)
        && (1..=MAX_AUDIT_ID).contains(&id.len())
        && id.as_bytes().iter().all(u8::is_ascii_graphic)
    {
        return id.clone();
    }
    // Each state is keyed anew; that is random enough for an id that only has to be found again in a log.
    let [high, low] = [(); 2].map(|()| RandomState::new().build_hasher().finish());
    let text = format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 50),
        low & 0xffff_ffff_ffff
    );
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
