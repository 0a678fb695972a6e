//! Who is scraped: targets by URL and targets that are pods, as one sorted set.
//!
//! A pure function of the configuration and of the cluster's view: no I/O, no clock. It refuses and says so, entry by
//! entry; a wrong entry never takes the others with it (R21). It does not decide when a target is forgotten: the
//! schedule does, by comparing two sets.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use apiservice::Selector;
use reqwest::Url;

use super::{Subject, TargetId, serving};
use crate::{
    cluster::{ObjectKey, Phase, Pod, View},
    config::{Access, Discovery, Preset, Scrape, UrlTarget},
};

/// Rank of a target whose configuration and preset name none: behind every exporter that is known by name.
pub const DEFAULT_RANK: u32 = 50;

/// One page to fetch, again and again.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// Its name for as long as it exists.
    pub id: TargetId,
    /// Where its page is. Holds no user name and no password.
    pub url: Url,
    /// Node that the page is about, for lines that name none.
    pub node: Option<Arc<str>>,
    /// Where two exporters report the same pod, card and family, the lower rank is heard.
    pub rank: u32,
    /// How it is spoken to.
    pub access: Arc<Access>,
    /// The one pod that the page is about, if it is a model server's; exporters name the pods themselves.
    pub subject: Option<Subject>,
}

/// All targets of one moment, and what was asked for but cannot be one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetSet {
    /// Targets by name.
    pub targets: BTreeMap<TargetId, Arc<Target>>,
    /// What is not scraped, and why.
    pub refusals: Vec<Refusal>,
}

/// Why something that was asked for is not scraped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An entry of `scrape.urls` that cannot be fetched.
    #[error("scrape.urls[{index}] {url}: {reason}")]
    Url {
        /// Position in the configuration.
        index: usize,
        /// The URL without user name and password.
        url: String,
        /// What was expected.
        reason: String,
    },
    /// An entry of `scrape.discover` that selects nothing as it stands.
    #[error("scrape.discover[{index}].{field}: {reason}")]
    Discovery {
        /// Position in the configuration.
        index: usize,
        /// The field.
        field: &'static str,
        /// What was expected.
        reason: String,
    },
    /// A pod that was selected but cannot be fetched.
    #[error("pod {namespace}/{name} (scrape.discover[{index}]): {reason}")]
    Pod {
        /// Position in the configuration.
        index: usize,
        /// Namespace of the pod.
        namespace: Arc<str>,
        /// Name of the pod.
        name: Arc<str>,
        /// What was expected.
        reason: String,
    },
    /// More targets than allowed (R22).
    #[error(
        "{count} targets from {first} on, by name, are not scraped: {setting} allows {limit}; raise it or ask for fewer"
    )]
    OverLimit {
        /// How many.
        count: usize,
        /// The first of them.
        first: TargetId,
        /// The name of the setting.
        setting: &'static str,
        /// Its value.
        limit: usize,
    },
}

/// What is known of an exporter by its name. The label sets are alternatives.
struct Known {
    selectors: &'static [&'static str],
    port: &'static str,
    rank: u32,
}

/// The deployments as their own charts make them; whoever installs otherwise overrides the field that differs.
fn known(preset: Preset) -> Known {
    match preset {
        // The DaemonSet of Alibaba's ack-arms-prometheus, container port `http-metrics`. By number, because the number is
        // also what its tunnel for edge nodes is configured with.
        Preset::AckGpuExporter => Known { selectors: &["k8s-app=ack-prometheus-gpu-exporter"], port: "9445", rank: 20 },
        // NVIDIA's own chart, and the DaemonSet of the GPU operator. Neither prescribes a namespace.
        Preset::DcgmExporter => Known {
            selectors: &["app.kubernetes.io/name=dcgm-exporter", "app=nvidia-dcgm-exporter"],
            port: "9400",
            rank: 30,
        },
        Preset::TidegateAgent => {
            Known { selectors: &["app.kubernetes.io/name=tidegate-agent"], port: "metrics", rank: 10 }
        }
    }
}

/// The targets that `config` asks for in the cluster as `view` shows it, exporters and model servers. Names are compared
/// bytewise; the first `config.targets` exporters of them are kept, and the first `config.serving.targets` servers.
#[must_use]
pub fn targets(config: &Scrape, view: &View) -> TargetSet {
    let mut set = TargetSet::default();
    for (index, entry) in config.urls.iter().enumerate() {
        add_url(&mut set, index, entry);
    }
    for (index, entry) in config.discover.iter().enumerate() {
        match Rule::new(index, entry) {
            Ok(rule) => add_pods(&mut set, &rule, view),
            Err(refusal) => set.refusals.push(refusal),
        }
    }
    limit(&mut set.targets, &mut set.refusals, "scrape.targets", config.targets);
    // On a limit of their own: tenants cannot crowd out exporters.
    let servers = view.pods.values().filter_map(|pod| serving::target(&config.serving, pod));
    let mut servers = servers.map(|target| (target.id.clone(), Arc::new(target))).collect();
    limit(&mut servers, &mut set.refusals, "scrape.serving.targets", config.serving.targets);
    set.targets.append(&mut servers);
    set
}

/// Keeps the first `limit` targets.
fn limit(
    targets: &mut BTreeMap<TargetId, Arc<Target>>,
    refusals: &mut Vec<Refusal>,
    setting: &'static str,
    limit: usize,
) {
    if let Some(first) = targets.keys().nth(limit).cloned() {
        let count = targets.split_off(&first).len();
        refusals.push(Refusal::OverLimit { count, first, setting, limit });
    }
}

fn add_url(set: &mut TargetSet, index: usize, entry: &UrlTarget) {
    let UrlTarget { url: text, node, access } = entry;
    let refuse = |reason: String| Refusal::Url { index, url: without_userinfo(text), reason };
    let url = match parse_url(text) {
        Ok(url) => url,
        Err(reason) => return set.refusals.push(refuse(reason)),
    };
    let target = Target {
        id: TargetId(text.as_str().into()),
        url,
        node: node.as_deref().map(Arc::from),
        rank: access.rank.unwrap_or(DEFAULT_RANK),
        access: Arc::new(access.clone()),
        subject: None,
    };
    match set.targets.entry(target.id.clone()) {
        Entry::Vacant(vacant) => {
            vacant.insert(Arc::new(target));
        }
        Entry::Occupied(_) => set.refusals.push(refuse("is listed before; the first entry counts".into())),
    }
}

/// A URL that can be fetched as it stands.
fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("expected http://HOST:PORT/PATH or https://…: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("expected the scheme http or https, got {:?}", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("expected a host".into());
    }
    // It would stand in every log line and metric that names the target.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; put them into access.basicAuth".into());
    }
    Ok(url)
}

/// Everything up to the last `@` of the authority is dropped, also where the URL does not parse.
pub(super) fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, host)| format!("…@{host}"));
    };
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://…@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

enum Port {
    Number(u16),
    Name(String),
}

/// One entry of `scrape.discover` with its preset filled in.
struct Rule {
    index: usize,
    namespace: Option<String>,
    selectors: Vec<Selector>,
    port: Port,
    path: String,
    scheme: &'static str,
    rank: u32,
    access: Arc<Access>,
}

impl Rule {
    fn new(index: usize, entry: &Discovery) -> Result<Self, Refusal> {
        let Discovery { preset, namespace: _, selector, port, path, scheme, access } = entry;
        let refuse = |field, reason| Refusal::Discovery { index, field, reason };
        let preset = preset.map(known);

        let texts: Vec<&str> = match (selector.as_deref().map(str::trim), &preset) {
            (Some(text), _) if !text.is_empty() => vec![text],
            (None, Some(preset)) => preset.selectors.to_vec(),
            _ => return Err(refuse("selector", "expected a label selector such as app=exporter, or a preset".into())),
        };
        let selectors = texts
            .iter()
            .map(|text| text.parse::<Selector>().map_err(|error| refuse("selector", format!("{text:?}: {error}"))))
            .collect::<Result<_, _>>()?;
        let port = match port.as_deref().or(preset.as_ref().map(|preset| preset.port)) {
            None | Some("") => return Err(refuse("port", "expected a port's name or number, or a preset".into())),
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
                Ok(number) if number > 0 => Port::Number(number),
                _ => return Err(refuse("port", format!("expected a number from 1 to 65535, got {text}"))),
            },
            Some(name) => Port::Name(name.into()),
        };
        let path = match path.as_deref() {
            None => "/metrics",
            Some(path) if path.starts_with('/') => path,
            Some(path) => return Err(refuse("path", format!("expected a path that starts with /, got {path:?}"))),
        };
        let scheme = match scheme.as_deref() {
            None | Some("http") => "http",
            Some("https") => "https",
            Some(other) => return Err(refuse("scheme", format!("expected http or https, got {other:?}"))),
        };
        // No namespace is called `*`: with it, a preset's namespace can be widened to all.
        let namespace = entry.namespace().filter(|name| *name != "*").map(str::to_owned);
        Ok(Self {
            index,
            namespace,
            selectors,
            port,
            path: path.into(),
            scheme,
            rank: access.rank.or(preset.as_ref().map(|preset| preset.rank)).unwrap_or(DEFAULT_RANK),
            access: Arc::new(access.clone()),
        })
    }

    /// Selected by labels, running, and reachable by an address. A pod that is being deleted still runs: its page is
    /// good until it is gone.
    fn selects(&self, pod: &Pod) -> bool {
        pod.phase == Phase::Running
            && pod.ip.is_some()
            && self.selectors.iter().any(|selector| selector.matches(|key| pod.labels.get(key).map(|value| &**value)))
    }

    fn url(&self, pod: &Pod) -> Result<Url, String> {
        let text = pod.ip.as_deref().unwrap_or_default();
        let host = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
            Err(_) => return Err(format!("status.podIP {text:?} is not an IP address")),
        };
        let port = match &self.port {
            Port::Number(number) => *number,
            Port::Name(name) => {
                let named = pod.ports.iter().find(|(other, _)| other.as_deref() == Some(name));
                named.map(|(_, number)| *number).ok_or_else(|| {
                    let others: Vec<&str> = pod.ports.iter().filter_map(|(other, _)| other.as_deref()).collect();
                    format!("no container port is named {name:?}; it has [{}]", others.join(", "))
                })?
            }
        };
        Url::parse(&format!("{}://{host}:{port}{}", self.scheme, self.path)).map_err(|error| error.to_string())
    }
}

fn add_pods(set: &mut TargetSet, rule: &Rule, view: &View) {
    let start = ObjectKey { namespace: rule.namespace.as_deref().unwrap_or_default().into(), name: "".into() };
    let pods = view
        .pods
        .range(start..)
        .map(|(_, pod)| pod)
        .take_while(|pod| rule.namespace.as_deref().is_none_or(|namespace| *pod.key.namespace == *namespace));
    for pod in pods.filter(|pod| rule.selects(pod)) {
        let ObjectKey { namespace, name } = &pod.key;
        let refuse = |reason| Refusal::Pod {
            index: rule.index,
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
            reason,
        };
        let url = match rule.url(pod) {
            Ok(url) => url,
            Err(reason) => {
                set.refusals.push(refuse(reason));
                continue;
            }
        };
        let id = TargetId(format!("{namespace}/{name}/{}", pod.uid).into());
        match set.targets.entry(id.clone()) {
            Entry::Vacant(vacant) => {
                let access = Arc::clone(&rule.access);
                let (node, rank) = (pod.node.clone(), rule.rank);
                vacant.insert(Arc::new(Target { id, url, node, rank, access, subject: None }));
            }
            // One target per pod: a second entry that leads to the same page is harmless, another page is said.
            Entry::Occupied(taken) if taken.get().url == url => {}
            Entry::Occupied(taken) => {
                let first = taken.get().url.to_string();
                set.refusals.push(refuse(format!("{url} is a second page of this pod; {first} is scraped")));
            }
        }
    }
}

#[cfg(test)]
mod tests;
