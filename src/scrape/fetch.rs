//! One page over HTTP: request, head, body up to a limit.
//!
//! The body is collected as it streams and counted after decompression, so that a body that never ends and a small body
//! that unpacks to gigabytes both stop at the limit. Nothing here knows what stands on a page.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Response, StatusCode, Url, Version,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use tokio::time::Instant;

use super::{
    ScrapeError,
    access::Client,
    error::{Stage, location_words},
};
use crate::{config::Bytes, exposition::Format};

/// What is asked for: OpenMetrics says where a page ends, the text format is what GPU exporters speak.
const ACCEPT: HeaderValue = HeaderValue::from_static(
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,text/plain;q=0.3,*/*;q=0.1",
);
/// Tells an exporter how long it may take; the header that Prometheus sends.
const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// A page that arrived whole; its bytes are in the buffer that was lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fetched {
    /// When the answer's head arrived. That is when the body began to arrive: exporters send the head with the first
    /// bytes of the body, after they have collected. Where one sends it earlier, the stamp is early, never late, and a
    /// page that trickles in does not become younger by it (R2).
    pub(super) arrived: Instant,
    /// The page's format.
    pub(super) format: Format,
    /// Whether the protocol says that this was all. A body that ends with its connection may have been cut anywhere.
    pub(super) complete: bool,
}

/// Limits of one scrape.
#[derive(Debug, Clone, Copy)]
pub(super) struct FetchLimits {
    /// `scrape.timeout`.
    pub(super) timeout: Duration,
    /// Largest page.
    pub(super) page: Bytes,
    /// The setting that says so.
    pub(super) page_setting: &'static str,
}

/// Fetches the page at `url` into `body`.
pub(super) async fn fetch(
    client: &Arc<Client>,
    url: &Url,
    limits: FetchLimits,
    body: &mut Vec<u8>,
) -> Result<Fetched, ScrapeError> {
    let mut stage = Stage::default();
    match tokio::time::timeout(limits.timeout, attempt(client, url, limits, body, &mut stage)).await {
        Ok(result) => result,
        Err(_) => Err(ScrapeError::Timeout { limit: limits.timeout, stage }),
    }
}

async fn attempt(
    client: &Arc<Client>,
    url: &Url,
    limits: FetchLimits,
    body: &mut Vec<u8>,
    stage: &mut Stage,
) -> Result<Fetched, ScrapeError> {
    let ready = client.ready().await?;
    *stage = Stage::Head;
    let request = || {
        ready.authorize(
            ready
                .http
                .get(url.clone())
                .header(header::ACCEPT, ACCEPT)
                .header(TIMEOUT_HEADER, limits.timeout.as_secs_f64().to_string()),
        )
    };
    let mut sent = request().send().await.map_err(|error| ScrapeError::from_head(&error));
    // dcgm-exporter closes a connection that was idle for ten seconds, which is also our default interval: a request may
    // meet the close on its way. One more try is on a new connection, and asking twice for a page does no harm.
    if let Err(ScrapeError::NoAnswer(_)) = sent {
        sent = request().send().await.map_err(|error| ScrapeError::from_head(&error));
    }
    let mut response = sent?;
    let arrived = Instant::now();
    let (format, complete) = judge_head(&response)?;
    let too_large = ScrapeError::TooLarge { setting: limits.page_setting, limit: limits.page };
    let limit = usize::try_from(limits.page.0).unwrap_or(usize::MAX);
    if response.content_length().is_some_and(|length| length > limits.page.0) {
        return Err(too_large);
    }
    body.clear();
    *stage = Stage::Body(0);
    loop {
        let chunk = response.chunk().await.map_err(|error| ScrapeError::from_body(&error, body.len() as u64))?;
        let Some(chunk) = chunk else { break };
        if chunk.len() > limit - body.len() {
            return Err(too_large);
        }
        body.extend_from_slice(&chunk);
        *stage = Stage::Body(body.len() as u64);
    }
    Ok(Fetched { arrived, format, complete })
}

fn judge_head(response: &Response) -> Result<(Format, bool), ScrapeError> {
    let headers = response.headers();
    let status = response.status();
    if let (true, Some(location)) = (status.is_redirection(), headers.get(header::LOCATION)) {
        return Err(ScrapeError::Redirect { location: location_words(&printable(location)) });
    }
    if status != StatusCode::OK {
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; check bearerTokenFile or basicAuth in the target's access settings"
            }
            StatusCode::NOT_FOUND => "; check the path",
            _ => "",
        };
        return Err(ScrapeError::Status { status: status.to_string(), hint });
    }
    // The client takes this header away with the compression that it undoes.
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
        return Err(ScrapeError::Encoding(format!("{} was not asked for", printable(encoding))));
    }
    let framed = response.version() >= Version::HTTP_2
        || headers.contains_key(header::TRANSFER_ENCODING)
        || headers.contains_key(header::CONTENT_LENGTH);
    Ok((format(headers)?, framed))
}

/// The page's format by its content type. A type that is certainly no page of metrics gets a clear word; what calls itself
/// something unheard of may still be one.
fn format(headers: &HeaderMap) -> Result<Format, ScrapeError> {
    let text = headers.get(header::CONTENT_TYPE).map(printable).unwrap_or_default();
    let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media.as_str() {
        "text/html" | "application/json" | "application/vnd.google.protobuf" => Err(ScrapeError::ContentType(media)),
        _ => Ok(Format::from_content_type(&text)),
    }
}

/// A header's value for a message: shortened, nothing but printable ASCII.
fn printable(value: &HeaderValue) -> String {
    const LONGEST: usize = 200;
    value
        .as_bytes()
        .iter()
        .take(LONGEST)
        .map(|byte| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' })
        .collect()
}
