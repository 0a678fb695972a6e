//! How a target is spoken to: one HTTP client per distinct way, shared by all targets of that way, and the files behind
//! it (CA, token, password), which are read anew when they change.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::{ScrapeError, targets::Target};
use crate::config;

/// How long the content of a file is taken for granted. Kubernetes itself takes a minute to update a mounted Secret.
const FILES_CHECKED_EVERY: Duration = Duration::from_secs(1);
/// Largest file with a token or a password.
const SECRET_BYTES: u64 = 64 << 10;
/// Largest CA bundle; the whole of Mozilla's takes a quarter of a megabyte.
const CA_BYTES: u64 = 4 << 20;

/// What makes two targets share a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    trust: Trust,
    bearer_token_file: Option<PathBuf>,
    basic: Option<(String, PathBuf)>,
}

/// Which certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// None: the target is not `https`. The system's roots are not even looked for; an image may have none.
    Plain,
    /// Those of the system's roots.
    System,
    /// Those of the bundle in this file.
    File(PathBuf),
    /// All.
    Any,
}

impl Way {
    fn of(target: &Target) -> Self {
        // Rank and what is believed of the page do not concern the connection.
        let config::Access {
            ca_file,
            insecure_skip_tls_verify,
            bearer_token_file,
            basic_auth,
            honor_timestamps: _,
            absent_means_idle: _,
            rank: _,
        } = &*target.access;
        let trust = match ca_file {
            _ if target.url.scheme() != "https" => Trust::Plain,
            _ if *insecure_skip_tls_verify => Trust::Any,
            Some(path) => Trust::File(path.clone()),
            None => Trust::System,
        };
        let basic = basic_auth
            .as_ref()
            .map(|config::BasicAuth { username, password_file }| (username.clone(), password_file.clone()));
        Self { trust, bearer_token_file: bearer_token_file.clone(), basic }
    }
}

/// All clients that are in use.
#[derive(Debug)]
pub(super) struct Clients {
    idle: Duration,
    clients: BTreeMap<Way, Weak<Client>>,
}

impl Clients {
    /// `interval` is the time between two scrapes of one target: a connection is kept a little longer than that, so that
    /// those of a target that has left are closed soon.
    pub(super) fn new(interval: Duration) -> Self {
        Self { idle: interval * 2 + Duration::from_secs(1), clients: BTreeMap::new() }
    }

    /// The client for that target. It lives as long as a target holds it.
    pub(super) fn of(&mut self, target: &Target) -> Arc<Client> {
        self.clients.retain(|_, client| client.strong_count() > 0);
        let way = Way::of(target);
        if let Some(client) = self.clients.get(&way).and_then(Weak::upgrade) {
            return client;
        }
        let client = Arc::new(Client::new(way.clone(), self.idle));
        self.clients.insert(way, Arc::downgrade(&client));
        client
    }
}

/// The client of one [`Way`]: made when it is first needed, and again when its CA changes.
#[derive(Debug)]
pub(super) struct Client {
    way: Way,
    idle: Duration,
    current: ArcSwapOption<Current>,
    reading: Mutex<()>,
}

/// What the files said when they were last read.
#[derive(Debug)]
struct Current {
    checked: Instant,
    ca: Option<Vec<u8>>,
    ready: Result<Ready, ScrapeError>,
}

/// Ready to send.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub(super) http: reqwest::Client,
    credential: Option<Credential>,
}

#[derive(Clone)]
enum Credential {
    /// A complete header value, marked as sensitive.
    Bearer(HeaderValue),
    Basic {
        username: String,
        password: String,
    },
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(…)",
            Self::Basic { .. } => "Basic(…)",
        })
    }
}

impl Ready {
    /// Adds the credential.
    pub(super) fn authorize(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.credential {
            None => request,
            Some(Credential::Bearer(value)) => request.header(reqwest::header::AUTHORIZATION, value.clone()),
            Some(Credential::Basic { username, password }) => request.basic_auth(username, Some(password)),
        }
    }
}

impl Client {
    fn new(way: Way, idle: Duration) -> Self {
        Self { way, idle, current: ArcSwapOption::empty(), reading: Mutex::new(()) }
    }

    /// The client with the files as they are now, give or take [`FILES_CHECKED_EVERY`].
    pub(super) async fn ready(self: &Arc<Self>) -> Result<Ready, ScrapeError> {
        if let Some(current) = self.current.load_full().filter(|current| self.holds(current)) {
            return current.ready.clone();
        }
        let client = Arc::clone(self);
        // Reading files blocks, and so does loading the system's roots.
        match tokio::task::spawn_blocking(move || client.refresh())
            .await
            .map_err(tokio::task::JoinError::try_into_panic)
        {
            Ok(ready) => ready,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // Not run at all: the runtime is going down, and this task with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// Whether what was read need not be read again: it was a moment ago, or there is nothing that could change.
    fn holds(&self, current: &Current) -> bool {
        current.checked.elapsed() < FILES_CHECKED_EVERY || (current.ready.is_ok() && !self.way.has_files())
    }

    /// Reads the files and keeps what they say. The lock is held by a blocking thread: of many scrapes that find the
    /// files unchecked at once, the first reads and the others wait for it.
    fn refresh(&self) -> Result<Ready, ScrapeError> {
        let _reading = self.reading.lock();
        let before = self.current.load_full();
        if let Some(current) = before.as_ref().filter(|current| self.holds(current)) {
            return current.ready.clone();
        }
        let mut ca = None;
        let ready = self.read(before.as_deref(), &mut ca);
        self.current.store(Some(Arc::new(Current { checked: Instant::now(), ca, ready: ready.clone() })));
        ready
    }

    fn read(&self, before: Option<&Current>, ca: &mut Option<Vec<u8>>) -> Result<Ready, ScrapeError> {
        if let Trust::File(path) = &self.way.trust {
            *ca = Some(read_file("caFile", path, CA_BYTES)?);
        }
        // The same client goes on, with its open connections, as long as the CA is the same.
        let http = match before {
            Some(Current { ca: same, ready: Ok(ready), .. }) if same == ca => ready.http.clone(),
            _ => self.build(ca.as_deref())?,
        };
        let credential = match (&self.way.bearer_token_file, &self.way.basic) {
            (None, None) => None,
            (Some(path), None) => Some(bearer(path)?),
            (None, Some((username, path))) => Some(basic(username, path)?),
            (Some(path), Some(_)) => {
                return Err(ScrapeError::Access {
                    field: "bearerTokenFile",
                    path: path.display().to_string(),
                    reason: "excludes basicAuth; remove one of them".into(),
                });
            }
        };
        Ok(Ready { http, credential })
    }

    fn build(&self, ca: Option<&[u8]>) -> Result<reqwest::Client, ScrapeError> {
        // reqwest panics without a process-wide provider. Installing one twice is an error that means it is there.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let builder = reqwest::Client::builder()
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            // A dead HTTP/2 connection swallows one scrape after the other; one of HTTP/1.1 ends with the first.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .pool_idle_timeout(self.idle)
            .pool_max_idle_per_host(1);
        let builder = match &self.way.trust {
            Trust::Plain => builder.tls_certs_only([]),
            Trust::System => builder,
            Trust::Any => builder.tls_danger_accept_invalid_certs(true),
            Trust::File(path) => builder.tls_certs_only(certificates(path, ca.unwrap_or_default())?),
        };
        builder.build().map_err(|error| match &self.way.trust {
            Trust::File(path) => access_error("caFile", path, super::error::deepest(&error)),
            _ => ScrapeError::Tls(super::error::deepest(&error)),
        })
    }
}

impl Way {
    fn has_files(&self) -> bool {
        let Self { trust, bearer_token_file, basic } = self;
        matches!(trust, Trust::File(_)) || bearer_token_file.is_some() || basic.is_some()
    }
}

fn access_error(field: &'static str, path: &Path, reason: impl std::fmt::Display) -> ScrapeError {
    ScrapeError::Access { field, path: path.display().to_string(), reason: reason.to_string() }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<reqwest::Certificate>, ScrapeError> {
    let certificates = reqwest::Certificate::from_pem_bundle(pem)
        .map_err(|error| access_error("caFile", path, super::error::deepest(&error)))?;
    if certificates.is_empty() {
        return Err(access_error("caFile", path, "holds no certificate; expected PEM"));
    }
    Ok(certificates)
}

fn bearer(path: &Path) -> Result<Credential, ScrapeError> {
    let token = read_text("bearerTokenFile", path)?;
    let token = token.trim();
    if token.is_empty() {
        return Err(access_error("bearerTokenFile", path, "is empty"));
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| access_error("bearerTokenFile", path, "holds characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(Credential::Bearer(value))
}

fn basic(username: &str, path: &Path) -> Result<Credential, ScrapeError> {
    if username.contains(':') {
        return Err(access_error("basicAuth.username", Path::new(username), "cannot hold a colon"));
    }
    let password = read_text("basicAuth.passwordFile", path)?;
    // An editor's newline at the end is no part of the password; blanks are.
    let password =
        password.strip_suffix('\n').map_or(password.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    Ok(Credential::Basic { username: username.to_owned(), password: password.to_owned() })
}

fn read_text(field: &'static str, path: &Path) -> Result<String, ScrapeError> {
    String::from_utf8(read_file(field, path, SECRET_BYTES)?).map_err(|_| access_error(field, path, "is not UTF-8"))
}

fn read_file(field: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, ScrapeError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| access_error(field, path, error))?;
    if bytes.len() as u64 > limit {
        return Err(access_error(field, path, format!("is larger than {}", config::Bytes(limit))));
    }
    Ok(bytes)
}
