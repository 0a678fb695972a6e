//! The requests of a watch, each with its limit of time and size (R22).

use std::{pin::Pin, time::Duration};

use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use kube::core::{
    params::{ListParams, WatchParams},
    request::Request,
};
use tokio::time::timeout;

use crate::cluster::said::said;

/// Objects per page of a list, as client-go asks for.
const PAGE_OBJECTS: u32 = 500;
/// Longest time for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest page: `PAGE_OBJECTS` of 256 KiB, ten times a big pod.
const PAGE_BYTES: u64 = 128 << 20;
/// Longest time until a watch is answered.
const START_TIMEOUT: Duration = Duration::from_secs(15);
/// The API server ends each watch after this time; a new one then continues at the same position. So a connection that
/// died without a word is found out after a minute, at the price of one cheap request a minute and kind.
pub(super) const WATCH_SECONDS: u32 = 60;
/// Beyond `WATCH_SECONDS` without a byte the connection is dead.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// Largest event: etcd stores at most 1.5 MiB per object, JSON is at most a few times that.
const EVENT_BYTES: u64 = 8 << 20;

/// Why a request or a watch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    /// 404: the kind does not exist.
    #[error("the API server does not know this kind (404)")]
    Absent,
    /// 410: the position, or the list's continuation, is too old.
    #[error("the position in the watch has expired (410)")]
    Expired,
    /// Any other answer that is an error. 403 is the operator's to mend.
    #[error("the API server answers {code}: {message}")]
    Refused { code: u16, message: String },
    /// No answer, or no more of it, in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// More than the limit.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// More objects than are kept of one kind.
    #[error(
        "there are more than {0} objects, which is more than is kept of one kind: name the namespaces that matter in aggregate.namespaces"
    )]
    TooMany(usize),
    /// Not what a Kubernetes API server writes.
    #[error("cannot be read: {0}")]
    Garbled(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Broken(String),
}

impl WatchError {
    pub(super) fn garbled(what: &str, error: &serde_json::Error) -> Self {
        Self::Garbled(format!("{what}: {error}"))
    }

    pub(super) fn refused(code: u16, message: String) -> Self {
        match code {
            404 => Self::Absent,
            410 => Self::Expired,
            _ => Self::Refused { code, message },
        }
    }
}

impl From<kube::Error> for WatchError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::refused(status.code, status.message),
            other => Self::Broken(said(&other)),
        }
    }
}

impl From<std::io::Error> for WatchError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::InvalidData => Self::Garbled(error.to_string()),
            _ => Self::Broken(format!("the connection broke: {}", apiservice::causes(&error))),
        }
    }
}

/// One collection of the API server.
pub(super) struct Connection {
    client: kube::Client,
    request: Request,
    /// Without a byte for so long a watch is dead.
    idle: Duration,
}

impl Connection {
    pub(super) fn new(client: kube::Client, path: String, idle: Duration) -> Self {
        Self { client, request: Request::new(path), idle }
    }

    /// One page of a list, as text.
    pub(super) async fn list(&self, continue_token: Option<&str>) -> Result<String, WatchError> {
        let params = ListParams {
            limit: Some(PAGE_OBJECTS),
            continue_token: continue_token.map(str::to_owned),
            ..ListParams::default()
        };
        let request = self.request.list(&params).map_err(|error| WatchError::Broken(error.to_string()))?;
        let read = async {
            let body = self.client.request_stream(request).await?;
            let mut text = String::new();
            let mut body = std::pin::pin!(body.take(PAGE_BYTES + 1));
            body.read_to_string(&mut text).await?;
            if text.len() as u64 > PAGE_BYTES { Err(WatchError::TooLarge(PAGE_BYTES)) } else { Ok(text) }
        };
        timeout(PAGE_TIMEOUT, read).await.unwrap_or(Err(WatchError::Silent(PAGE_TIMEOUT)))
    }

    /// Begins to watch behind `position`.
    pub(super) async fn watch(&self, position: &str) -> Result<Lines, WatchError> {
        let params = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, ..WatchParams::default() };
        let mut request =
            self.request.watch(&params, position).map_err(|error| WatchError::Broken(error.to_string()))?;
        // A compressed watch would be flushed when a block is full, and decoders differ on one gzip member per event.
        request.headers_mut().insert(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("identity"));
        let start = self.client.request_stream(request);
        let body = timeout(START_TIMEOUT, start).await.map_err(|_| WatchError::Silent(START_TIMEOUT))??;
        Ok(Lines { body: Box::pin(body), line: Vec::new(), idle: self.idle })
    }
}

/// The lines of a watch.
pub(super) struct Lines {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    line: Vec<u8>,
    idle: Duration,
}

impl Lines {
    /// The next line, `None` when the server has ended the watch. A last line without its end was cut off and is not an
    /// event: the next watch brings it again.
    pub(super) async fn next(&mut self) -> Result<Option<&str>, WatchError> {
        self.line.clear();
        let mut bounded = (&mut self.body).take(EVENT_BYTES);
        let read = bounded.read_until(b'\n', &mut self.line);
        timeout(self.idle, read).await.map_err(|_| WatchError::Silent(self.idle))??;
        if self.line.last() != Some(&b'\n') {
            let full = self.line.len() as u64 >= EVENT_BYTES;
            return if full { Err(WatchError::TooLarge(EVENT_BYTES)) } else { Ok(None) };
        }
        std::str::from_utf8(&self.line).map(Some).map_err(|error| WatchError::Garbled(format!("event: {error}")))
    }
}
