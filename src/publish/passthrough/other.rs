//! The other adapter, over HTTPS.

use std::{path::Path, sync::Arc, time::Duration};

use apiservice::{CustomMetric, ExternalMetricName, ExternalValue, MetricValue, Resource, Selector, Status};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderValue},
};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::{
    PassthroughError,
    wire::{CustomItem, ExternalItem, List, ResourceList, WireStatus},
};
use crate::config;

/// Longest time for one answer: well below the 60 s after which the API server gives up on us.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Queries under way at once; more are refused at once, so that a slow adapter behind us costs us nothing but its own
/// metrics.
const CONCURRENCY: usize = 32;
/// Largest answer: 10,000 items of a kilobyte.
const ANSWER_BYTES: usize = 10 << 20;
/// Most metrics that are taken over from its discovery, per group.
const METRICS: usize = 20_000;
/// Longest message that is passed on.
const MESSAGE_BYTES: usize = 2 << 10;
/// Our service account's token, where a pod has one.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The custom metrics group's versions, the one that all adapters serve first.
const CUSTOM_VERSIONS: [&str; 2] = ["v1beta1", "v1beta2"];
const CUSTOM_GROUP: &str = "custom.metrics.k8s.io";
const EXTERNAL_GROUP: &str = "external.metrics.k8s.io";
const EXTERNAL_VERSION: &str = "v1beta1";

/// What the other adapter offers, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct Discovery {
    /// The version in which custom metrics are asked for.
    custom_version: &'static str,
    pub(super) custom: Vec<CustomMetric>,
    pub(super) external: Vec<ExternalMetricName>,
}

/// The other adapter.
#[derive(Debug)]
pub(super) struct Other {
    base: Url,
    config: config::Passthrough,
    link: ArcSwap<Link>,
    slots: Semaphore,
    discovery: ArcSwap<Discovery>,
    problem: Mutex<Option<String>>,
}

/// How it is spoken to: made anew when a file changes.
#[derive(Debug)]
struct Link {
    ca: Option<Vec<u8>>,
    client: reqwest::Client,
    authorization: Option<HeaderValue>,
}

/// Why there is no answer. The asker is told in general words, the log in particular ones.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the adapter behind this one answers HTTP {code}: {message}")]
    Refused { code: u16, reason: String, message: String },
    #[error("the adapter behind this one cannot be reached")]
    Unreachable(#[from] reqwest::Error),
    #[error("the adapter behind this one did not answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Slow,
    #[error("the answer of the adapter behind this one is larger than {ANSWER_BYTES} bytes")]
    TooLarge,
    #[error("the answer of the adapter behind this one cannot be read: {0}")]
    Garbled(String),
    #[error("{0:?} is no name that can stand in a path")]
    Name(String),
    #[error("{CONCURRENCY} queries to the adapter behind this one are under way already")]
    Busy,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            // Its judgement about our own credentials is not about the asker's: that one was authorized before.
            Failure::Refused { code: 401 | 403, .. } => Status::service_unavailable(text),
            Failure::Refused { code: code @ 400..=599, reason, message } => {
                Status::new(code, known(code, &reason), message)
            }
            Failure::Name(_) => Status::bad_request(text),
            Failure::Slow => Status::timeout(text),
            Failure::Refused { .. }
            | Failure::Unreachable(_)
            | Failure::TooLarge
            | Failure::Garbled(_)
            | Failure::Busy => Status::service_unavailable(text),
        }
    }
}

/// The reasons of `meta/v1`; what is not one of them is named by its code.
fn known(code: u16, reason: &str) -> &'static str {
    const REASONS: [(u16, &str); 14] = [
        (400, "BadRequest"),
        (404, "NotFound"),
        (405, "MethodNotAllowed"),
        (406, "NotAcceptable"),
        (409, "Conflict"),
        (410, "Gone"),
        (410, "Expired"),
        (413, "RequestEntityTooLarge"),
        (415, "UnsupportedMediaType"),
        (422, "Invalid"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
    ];
    let by_name = REASONS.iter().find(|(_, known)| *known == reason);
    let by_code = || REASONS.iter().find(|(of, _)| *of == code);
    by_name.or_else(by_code).map_or(if code < 500 { "BadRequest" } else { "InternalError" }, |(_, known)| known)
}

impl Other {
    pub(super) fn new(config: &config::Passthrough) -> Result<Self, PassthroughError> {
        let base = Url::parse(&config.url)
            .ok()
            .filter(|url| url.scheme() == "https" && url.path() == "/" && url.query().is_none())
            .ok_or_else(|| PassthroughError::Url { url: config.url.clone() })?;
        let discovery = Discovery { custom_version: CUSTOM_VERSIONS[0], custom: Vec::new(), external: Vec::new() };
        Ok(Self {
            base,
            config: config.clone(),
            link: ArcSwap::from_pointee(Link::new(config, None)?),
            slots: Semaphore::new(CONCURRENCY),
            discovery: ArcSwap::from_pointee(discovery),
            problem: Mutex::new(None),
        })
    }

    pub(super) fn discovery(&self) -> Arc<Discovery> {
        self.discovery.load_full()
    }

    pub(super) fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// One object's value (`name`), or those of all that `objects` selects (`*`).
    pub(super) async fn custom(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        objects: &Selector,
        metric: &str,
        metric_selector: &Selector,
    ) -> Result<Vec<MetricValue>, Status> {
        let version = self.discovery.load().custom_version;
        let described = match resource.group.as_str() {
            "" => resource.name.clone(),
            group => format!("{}.{group}", resource.name),
        };
        let mut path = vec!["apis", CUSTOM_GROUP, version];
        match namespace {
            Some(namespace) => path.extend(["namespaces", namespace, &described, name, metric]),
            None if described == "namespaces" => path.extend(["namespaces", name, "metrics", metric]),
            None => path.extend([&described, name, metric]),
        }
        let selectors = [("labelSelector", objects), ("metricLabelSelector", metric_selector)];
        let list: List<CustomItem> = self.query(&path, &selectors).await?;
        Ok(list.items.into_iter().flatten().map(MetricValue::from).collect())
    }

    pub(super) async fn external(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<ExternalValue>, Status> {
        let path = ["apis", EXTERNAL_GROUP, EXTERNAL_VERSION, "namespaces", namespace, metric];
        let list: List<ExternalItem> = self.query(&path, &[("labelSelector", selector)]).await?;
        Ok(list.items.into_iter().flatten().map(ExternalValue::from).collect())
    }

    async fn query<T: DeserializeOwned>(&self, path: &[&str], selectors: &[(&str, &Selector)]) -> Result<T, Failure> {
        let _slot = self.slots.try_acquire().map_err(|_| Failure::Busy)?;
        let answer = self.get(path, selectors).await;
        if let Err(error) = &answer {
            debug!(metric = path.last(), error = detail(error), "a query that was passed on failed");
        }
        answer
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str], selectors: &[(&str, &Selector)]) -> Result<T, Failure> {
        // A URL's dots are directions and not names: they would lead to a path that nobody was authorized for.
        if let Some(name) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
            return Err(Failure::Name((*name).to_owned()));
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path);
        }
        for (name, selector) in selectors.iter().filter(|(_, selector)| !selector.is_everything()) {
            url.query_pairs_mut().append_pair(name, &selector.to_string());
        }
        let body = tokio::time::timeout(ANSWER_TIMEOUT, self.body(url)).await.map_err(|_| Failure::Slow)??;
        serde_json::from_slice(&body).map_err(|error| Failure::Garbled(error.to_string()))
    }

    async fn body(&self, url: Url) -> Result<Vec<u8>, Failure> {
        let link = self.link.load_full();
        let mut request = link.client.get(url).header(http::header::ACCEPT, "application/json");
        if let Some(authorization) = &link.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut response = request.send().await?;
        let code = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(Failure::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        if code == 200 {
            return Ok(body);
        }
        let (reason, mut message) = WireStatus::parse(&body)
            .map_or_else(|| (String::new(), "no reason given".into()), |status| (status.reason, status.message));
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        Err(Failure::Refused { code, reason, message })
    }

    /// Looks at files and discovery. What cannot be had stays as it was last known.
    pub(super) async fn refresh(&self) {
        let mut problems = Vec::new();
        match self.reload().await {
            Ok(Some(link)) => self.link.store(Arc::new(link)),
            Ok(None) => {}
            Err(error) => problems.push(error.to_string()),
        }
        let mut discovery = Discovery::clone(&self.discovery.load());
        match self.resources(CUSTOM_GROUP, &CUSTOM_VERSIONS).await {
            Ok(Some((version, list))) => {
                discovery.custom_version = version;
                discovery.custom = list.custom(METRICS);
            }
            Ok(None) => discovery.custom = Vec::new(),
            Err(error) => problems.push(format!("{CUSTOM_GROUP}: {}", detail(&error))),
        }
        match self.resources(EXTERNAL_GROUP, &[EXTERNAL_VERSION]).await {
            Ok(Some((_, list))) => discovery.external = list.external(METRICS),
            Ok(None) => discovery.external = Vec::new(),
            Err(error) => problems.push(format!("{EXTERNAL_GROUP}: {}", detail(&error))),
        }
        for (group, count) in [(CUSTOM_GROUP, discovery.custom.len()), (EXTERNAL_GROUP, discovery.external.len())] {
            if count == METRICS {
                problems.push(format!("{group}: only the first {METRICS} metrics are listed; all can be asked for"));
            }
        }
        let (custom, external) = (discovery.custom.len(), discovery.external.len());
        self.discovery.store(Arc::new(discovery));
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        let before = std::mem::replace(&mut *self.problem.lock(), problem.clone());
        match problem {
            Some(problem) if before.as_ref() != Some(&problem) => {
                warn!(url = %self.base, problem, "the adapter behind this one");
            }
            None if before.is_some() => {
                info!(url = %self.base, custom, external, "the adapter behind this one answers");
            }
            _ => {}
        }
    }

    /// The resources of a group in the first version that is served; `None` if it serves none of them.
    async fn resources(
        &self,
        group: &str,
        versions: &[&'static str],
    ) -> Result<Option<(&'static str, ResourceList)>, Failure> {
        for version in versions {
            match self.get(&["apis", group, version], &[]).await {
                Ok(list) => return Ok(Some((version, list))),
                Err(Failure::Refused { code: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The link anew, if its files have changed.
    async fn reload(&self) -> Result<Option<Link>, PassthroughError> {
        let config = self.config.clone();
        let current = self.link.load_full();
        let read = tokio::task::spawn_blocking(move || Link::new(&config, Some(&current)));
        let link = match read.await {
            Ok(link) => link?,
            Err(_) => return Ok(None), // the runtime shuts down
        };
        let current = self.link.load();
        Ok((link.ca != current.ca || link.authorization != current.authorization).then_some(link))
    }
}

impl Link {
    /// Reads the files. The client, and with it its connections, is that of `before` while the CA is the same.
    fn new(config: &config::Passthrough, before: Option<&Self>) -> Result<Self, PassthroughError> {
        let config::Passthrough { url: _, ca_file, insecure_skip_tls_verify, bearer_token_file } = config;
        let ca = ca_file.as_deref().map(|path| read("caFile", path)).transpose()?;
        let (path, token) = match bearer_token_file {
            Some(path) => (path.as_path(), Some(read("bearerTokenFile", path)?)),
            None => (Path::new(SERVICE_ACCOUNT_TOKEN), std::fs::read(SERVICE_ACCOUNT_TOKEN).ok()), // none outside of a pod
        };
        let authorization = token
            .map(|token| {
                let text = String::from_utf8_lossy(&token);
                HeaderValue::from_str(&format!("Bearer {}", text.trim()))
                    .ok()
                    .filter(|_| !text.trim().is_empty())
                    .map(|mut value| {
                        value.set_sensitive(true);
                        value
                    })
                    .ok_or_else(|| PassthroughError::Content {
                        field: "bearerTokenFile",
                        path: path.into(),
                        expected: "a token on one line",
                    })
            })
            .transpose()?;
        if let Some(before) = before.filter(|before| before.ca == ca) {
            return Ok(Self { ca, client: before.client.clone(), authorization });
        }
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .no_proxy() // a proxy meant for the internet would be told our token and not find the Service
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(*insecure_skip_tls_verify);
        if let (Some(path), Some(ca)) = (ca_file, &ca) {
            let certificates = reqwest::Certificate::from_pem_bundle(ca).ok().filter(|found| !found.is_empty());
            builder = builder.tls_certs_only(certificates.ok_or_else(|| PassthroughError::Content {
                field: "caFile",
                path: path.clone(),
                expected: "certificates in PEM form",
            })?);
        }
        Ok(Self { ca, client: builder.build()?, authorization })
    }
}

fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, PassthroughError> {
    std::fs::read(path).map_err(|error| PassthroughError::Read { field, path: path.into(), error })
}

/// A failure with its causes, for the operator.
fn detail(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = std::error::Error::source(failure);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
