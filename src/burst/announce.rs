//! Tells of findings beside the objects that they are about, as events, and on `/metrics`.
//!
//! A service without a ScalingPolicy has no status of ours to say it in. An event is told once and again after [`AGAIN`]
//! while its finding lasts: the API server forgets events after an hour (`--event-ttl`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::ObjectReference, events::v1::Event};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};
use tokio::time::Instant;

use super::findings::{About, Finding};
use crate::{clock::Clock, cluster::said::said, control::report::news::News, telemetry::family};

/// See the module.
const AGAIN: Duration = Duration::from_mins(55);
/// Most events of one turn (R22); the rest follows in the next.
const EVENTS: usize = 5;
/// Longest time for one event.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What is found at present, for everybody who tells of it.
pub type Found = Arc<Mutex<Vec<Finding>>>;

/// Writes events.
pub(super) struct Announcer {
    pub(super) client: Client,
    /// What we call ourselves in events.
    pub(super) identity: String,
    pub(super) clock: Clock,
    /// What was told, and when.
    pub(super) told: BTreeMap<Finding, Instant>,
}

impl Announcer {
    /// Tells what was not told, or long ago. What is no longer found is forgotten, so that it is told if it comes back.
    pub(super) async fn announce(&mut self, found: &[Finding]) {
        self.told.retain(|finding, _| found.contains(finding));
        for finding in due(found, &self.told, Instant::now()) {
            let About { api_version, kind, key, uid } = &finding.about;
            let regarding = ObjectReference {
                api_version: Some((*api_version).to_owned()),
                kind: Some((*kind).to_owned()),
                namespace: Some(key.namespace.to_string()),
                name: Some(key.name.to_string()),
                uid: Some(uid.to_string()),
                ..ObjectReference::default()
            };
            let news = News::warning(finding.fault.word(), "Order", &finding.message);
            let event = news.event(regarding, &self.identity, self.clock.now());
            let events: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
            let wrote = tokio::time::timeout(TIMEOUT, events.create(&PostParams::default(), &event)).await;
            // One that is lost is not tried again at once: log and metric say the same.
            match wrote {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(error = said(&error), "an event cannot be written"),
                Err(_) => tracing::warn!("an event was not answered"),
            }
            self.told.insert(finding.clone(), Instant::now());
        }
    }
}

fn due<'f>(found: &'f [Finding], told: &BTreeMap<Finding, Instant>, now: Instant) -> Vec<&'f Finding> {
    let rested = |finding: &Finding| told.get(finding).is_none_or(|last| now.duration_since(*last) >= AGAIN);
    found.iter().filter(|finding| rested(finding)).take(EVENTS).collect()
}

/// Shows the findings at each scrape.
#[derive(Debug)]
pub struct Shown(pub Found);

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let found = self.0.lock();
        let help = "1 for each thing that is wrong with the order of pools: a ResourcePolicy that selects no pod, two orders \
                    for one service, fields that are not honoured, deletion costs of somebody else";
        let rows = found.iter().map(|finding| {
            let About { kind, key, .. } = &finding.about;
            let labels = [
                ("namespace", key.namespace.to_string()),
                ("object", format!("{kind}/{}", key.name)),
                ("reason", finding.fault.word().to_owned()),
                ("deployment", finding.deployment.as_ref().map(|key| key.name.to_string()).unwrap_or_default()),
            ];
            (labels, 1.0)
        });
        family(&mut encoder, MetricType::Gauge, "tidegate_pool_order_problem", help, rows)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;
    use crate::{burst::findings::Fault, cluster::ObjectKey};

    fn finding(name: &str) -> Finding {
        let key = ObjectKey { namespace: "prod".into(), name: name.into() };
        let about = About { api_version: "v1", kind: "ResourcePolicy", key: key.clone(), uid: "u".into() };
        Finding { about, fault: Fault::SelectsNoPod, deployment: Some(key), message: "it selects nothing".into() }
    }

    #[test]
    fn a_finding_is_told_once_and_again_before_the_api_server_has_forgotten_it() {
        let found = [finding("a"), finding("b")];
        let start = Instant::now();
        let told = BTreeMap::from([(finding("a"), start)]);
        let names = |now| -> Vec<&str> { due(&found, &told, now).iter().map(|f| &*f.about.key.name).collect() };
        assert_eq!(names(start + Duration::from_mins(30)), ["b"]);
        assert_eq!(names(start + Duration::from_mins(56)), ["a", "b"]);
    }

    #[test]
    fn r22_of_many_findings_a_few_are_told_at_a_time() {
        let found: Vec<Finding> = (0..50).map(|i| finding(&i.to_string())).collect();
        assert_eq!(due(&found, &BTreeMap::new(), Instant::now()).len(), EVENTS);
    }

    #[test]
    fn each_finding_is_a_line_on_the_page() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shown(Arc::new(Mutex::new(vec![finding("qwen-chat")])))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = r#"tidegate_pool_order_problem{namespace="prod",object="ResourcePolicy/qwen-chat",reason="SelectsNoPod",deployment="qwen-chat"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
