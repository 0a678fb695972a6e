//! The server's own metrics, named as `k8s.io/apiserver` and custom-metrics-apiserver name them.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use crate::{
    api::Group,
    path::{Objects, Route},
};

/// Most pairs of resource and metric that get series of their own; both come from paths. What is beyond counts as
/// [`OTHER`].
const MAX_NAMES: usize = 1000;

/// Stands for the resources and metrics beyond [`MAX_NAMES`].
const OTHER: &str = "other";

/// Upper bounds of request durations, in seconds: answers from memory take microseconds, slow backends up to a minute.
const DURATIONS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Upper bounds of the ages of served values, in seconds: 1 s to 6 min, as custom-metrics-apiserver has them.
const FRESHNESS: (f64, f64, u16) = (1.0, 1.364, 20);

/// The server's metrics: cheap to clone, all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    freshness: Family<GroupLabel, Histogram, fn() -> Histogram>,
    names: Arc<Mutex<HashSet<(String, String)>>>,
}

/// What a request is counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) verb: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) scope: &'static str,
    pub(crate) code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    scope: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: &'static str,
}

/// When a request arrived, where something before the router has looked at it already.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received(pub(crate) Instant);

/// A request that is being answered; it counts until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Metrics {
    /// Makes the metrics and registers them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            in_flight: Gauge::default(),
            freshness: Family::new_with_constructor(|| {
                let (start, factor, length) = FRESHNESS;
                Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(start, factor, length))
            }),
            names: Arc::default(),
        };
        registry.register("apiserver_request", "Requests answered", metrics.requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time from a request's head to its complete answer, in seconds",
            metrics.durations.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being answered right now",
            metrics.in_flight.clone(),
        );
        registry.register(
            "metrics_apiserver_metric_freshness_seconds",
            "Age of the values that were served, in seconds",
            metrics.freshness.clone(),
        );
        metrics
    }

    /// A request begins.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// A request has been answered. Names from paths count only if something is there under that name.
    pub(crate) fn answered(&self, mut labels: RequestLabels, code: u16, seconds: f64) {
        if !(200..300).contains(&code) {
            labels = labels.unnamed();
        } else if !labels.resource.is_empty() && !self.is_known(&labels) {
            OTHER.clone_into(&mut labels.resource);
            labels.subresource.clear();
        }
        labels.code = code.to_string();
        let RequestLabels { verb, group, version, scope, .. } = labels;
        self.durations.get_or_create(&DurationLabels { verb, group, version, scope }).observe(seconds);
        self.requests.get_or_create(&labels).inc();
    }

    /// Values were served.
    pub(crate) fn served(&self, group: Group, now: Timestamp, times: impl Iterator<Item = Timestamp>) {
        let histogram = self.freshness.get_or_create(&GroupLabel { group: group.name() });
        for time in times {
            histogram.observe(now.duration_since(time).as_secs_f64().max(0.0));
        }
    }

    /// Whether these names have series of their own; gives them some while there is room.
    fn is_known(&self, labels: &RequestLabels) -> bool {
        let names = (labels.resource.clone(), labels.subresource.clone());
        let mut known = self.names.lock();
        known.contains(&names) || (known.len() < MAX_NAMES && known.insert(names))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RequestLabels {
    /// Without the names that come from the path.
    pub(crate) fn unnamed(self) -> Self {
        Self { resource: String::new(), subresource: String::new(), ..self }
    }

    /// The labels of a request, before its answer is known.
    pub(crate) fn new(method: &http::Method, route: Option<&Route>) -> Self {
        let verb = match method.as_str() {
            "GET" => "GET",
            "HEAD" => "HEAD",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            "OPTIONS" => "OPTIONS",
            _ => OTHER,
        };
        let mut labels = Self { verb, ..Self::default() };
        let api = match route {
            Some(Route::Custom(api, query)) => {
                labels.resource = query.resource.to_string();
                labels.subresource.clone_from(&query.metric);
                labels.scope = match (&query.objects, &query.namespace) {
                    (Objects::Named(_), _) => "resource",
                    (Objects::Selected, Some(_)) => "namespace",
                    (Objects::Selected, None) => "cluster",
                };
                if verb == "GET" && query.objects == Objects::Selected {
                    labels.verb = "LIST";
                }
                *api
            }
            Some(Route::External(api, query)) => {
                labels.resource.clone_from(&query.metric);
                labels.scope = "namespace";
                if verb == "GET" {
                    labels.verb = "LIST";
                }
                *api
            }
            Some(Route::Resources(api)) => *api,
            Some(Route::Group(group)) => {
                labels.group = group.name();
                return labels;
            }
            _ => return labels,
        };
        (labels.group, labels.version) = (api.group().name(), api.version());
        labels
    }
}

/// A page of metrics and its content type: OpenMetrics if `accept` names it, else the text format 0.0.4, which older
/// readers want.
#[must_use]
pub fn page(registry: &Registry, accept: &str) -> (&'static str, String) {
    let mut open = String::new();
    // Writing into a string does not fail, and a metric that does loses only itself and what follows.
    if let Err(error) = text::encode(&mut open, registry) {
        tracing::error!(%error, "the metrics page is incomplete");
    }
    if accept.contains("application/openmetrics-text") {
        return ("application/openmetrics-text; version=1.0.0; charset=utf-8", open);
    }
    ("text/plain; version=0.0.4; charset=utf-8", classic(&open))
}

/// OpenMetrics text in the older format: there a counter's family has the same name as its samples.
fn classic(open: &str) -> String {
    let mut page = String::with_capacity(open.len());
    let mut lines = open.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let counter =
            |line: &str| line.strip_prefix("# TYPE ").and_then(|rest| rest.strip_suffix(" counter")).map(str::to_owned);
        let help = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        let written = if let Some(name) = counter(line) {
            writeln!(page, "# TYPE {name}_total counter")
        } else if let (Some((name, text)), Some(next)) = (help, lines.peek())
            && counter(next).as_deref() == Some(name)
        {
            writeln!(page, "# HELP {name}_total {text}")
        } else {
            writeln!(page, "{line}")
        };
        written.unwrap_or_default(); // into a string
    }
    page
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::{MAX_NAMES, Metrics, RequestLabels, page};

    #[test]
    fn both_formats_name_a_counter_in_their_own_way() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.answered(RequestLabels { verb: "GET", group: "g", ..RequestLabels::default() }, 200, 0.001);
        let (kind, classic) = page(&registry, "text/plain");
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        assert!(classic.contains("# TYPE apiserver_request_total counter\n"), "{classic}");
        assert!(classic.contains("# HELP apiserver_request_total "), "{classic}");
        assert!(!classic.contains("# EOF"), "{classic}");
        let (kind, open) = page(&registry, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert!(open.contains("# TYPE apiserver_request counter\n") && open.ends_with("# EOF\n"), "{open}");
        for text in [classic, open] {
            assert!(text.contains("apiserver_request_total{verb=\"GET\",group=\"g\","), "{text}");
        }
    }

    #[test]
    fn names_from_paths_cannot_grow_the_page_without_bound() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for index in 0..MAX_NAMES + 50 {
            let labels = RequestLabels { verb: "LIST", resource: format!("r{index}"), ..RequestLabels::default() };
            metrics.answered(labels.clone(), 404, 0.0);
            metrics.answered(labels, 200, 0.0);
        }
        let (_, text) = page(&registry, "");
        let series = text.lines().filter(|line| line.starts_with("apiserver_request_total{")).count();
        assert_eq!(series, MAX_NAMES + 2, "one for `other`, one for all that was not found");
        assert!(text.contains(r#"resource="other",subresource="",scope="",code="200"} 50"#), "{text}");
    }
}
