//! The metrics API server that the real HPA asks, and the target that it scales.
//!
//! Its questions are the clock: what a question finds is decided when it arrives, and what came of the one before is read
//! then, from the API server and not from a watch. So both sides see the same thing at each sync, however late one comes.
//! Answers are never held for long: an HPA that was busy for a sync period begins its next sync at once, from a cache that
//! does not yet have what it has just written, and then cannot write down what it has come to.

use std::{collections::BTreeMap, time::Duration};

use apiservice::{
    CustomMetric, ExternalMetricName, ExternalValue, MetricValue, ObjectName, Provider, Quantity, Resource, Scope,
    Selector, Status,
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tidegate::sim::hpa::{Answer, Metric, PodPhase, Scale};
use tokio::{sync::Mutex, time::Instant};

use super::{
    cast::Cast,
    edges::Edges,
    scenario::{Scenario, pod_name},
};

/// No answer waits for a better moment for so long that it would be later than this. Half the sync period, so that what the
/// controller writes after it has time to come back to it.
const HOLD: Duration = Duration::from_secs(1);
/// Listed in every group: by it the aggregator's answers are known to be ours.
pub const MARK: &str = "hpa-model";

/// The provider.
pub struct Stage {
    client: Client,
    namespace: String,
    start: Instant,
    scenes: Vec<Scene>,
}

/// One scenario and how far it is.
#[derive(Debug)]
pub struct Scene {
    /// The scenario.
    pub scenario: Scenario,
    edges: Edges,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cast: Cast,
    looks: Vec<Look>,
    broken: Option<String>,
    /// When the last answer was given.
    answered: Option<Instant>,
}

/// One sync.
#[derive(Debug, Clone)]
pub struct Look {
    /// When it was answered.
    pub now: Timestamp,
    /// The target's scale, as the controller had read it just before.
    pub scale: Scale,
    /// The pods, as words.
    pub words: String,
    /// The pods.
    pub pods: BTreeMap<String, PodPhase>,
    /// The answer to each metric.
    pub answers: Vec<Result<Answer, String>>,
    /// From the answer before to this question: a little less than the sync period, unless something was late.
    pub rested: Duration,
    /// From this question to its answer.
    pub held: Duration,
    /// What came of it, seen at the next sync.
    pub outcome: Option<Outcome>,
}

/// What a sync came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `spec.replicas` of the target.
    pub replicas: i32,
    /// `status.desiredReplicas` of the HPA.
    pub desired: i32,
    /// Status and reason by type.
    pub conditions: BTreeMap<String, (bool, String)>,
    /// Usage of each metric in thousandths.
    pub usage: Vec<Option<i64>>,
}

impl Stage {
    /// Nothing has been asked yet.
    pub fn new(client: Client, namespace: &str, scenarios: Vec<Scenario>) -> Self {
        let scenes = scenarios.into_iter().map(|scenario| {
            let cast = Cast::new(&client, namespace, scenario.name);
            let state = State { cast, looks: Vec::new(), broken: None, answered: None };
            Scene { edges: Edges::of(&scenario.spec), scenario, state: Mutex::new(state) }
        });
        let scenes = scenes.collect();
        Self { client, namespace: namespace.into(), start: Instant::now(), scenes }
    }

    /// Makes the targets, with the pods of the first step.
    pub async fn set_up(&self) {
        let one = async |Scene { scenario: Scenario { name, initial, steps, .. }, state, .. }: &Scene| {
            let fleet = json!({
                "apiVersion": "tidegate.test/v1", "kind": "Fleet",
                "metadata": {"name": name}, "spec": {"replicas": initial},
            });
            let fleet: DynamicObject = serde_json::from_value(fleet).unwrap();
            self.fleets().create(&PostParams::default(), &fleet).await.unwrap();
            let status = json!({"status": {"replicas": initial, "selector": format!("app={name}")}});
            self.fleets().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
            let cast = &mut state.lock().await.cast;
            cast.set_up().await;
            cast.turn(&steps[0].pods.at((*initial).into())).await.unwrap();
        };
        join_all(self.scenes.iter().map(one)).await;
    }

    /// What is played.
    pub fn scenarios(&self) -> impl Iterator<Item = &Scenario> {
        self.scenes.iter().map(|scene| &scene.scenario)
    }

    /// Whether all scenes have come to their end.
    pub async fn finished(&self) -> bool {
        for Scene { scenario, state, .. } in &self.scenes {
            let State { looks, broken, .. } = &*state.lock().await;
            let complete = looks.len() == scenario.steps.len() && looks.iter().all(|look| look.outcome.is_some());
            if !complete && broken.is_none() {
                return false;
            }
        }
        true
    }

    /// Which sync each scene has come to.
    pub async fn progress(&self) -> String {
        let mut text = String::new();
        for scene in &self.scenes {
            text += &format!("{} {}, ", scene.scenario.name, scene.state.lock().await.looks.len());
        }
        text
    }

    /// Each scenario with its syncs, and why it was broken off if it was.
    pub async fn record(&self) -> Vec<(Scenario, Vec<Look>, Option<String>)> {
        let mut record = Vec::new();
        for Scene { scenario, state, .. } in &self.scenes {
            let state = state.lock().await;
            record.push((scenario.clone(), state.looks.clone(), state.broken.clone()));
        }
        record
    }

    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.start.elapsed()
    }

    fn fleets(&self) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "tidegate.test".into(),
            version: "v1".into(),
            api_version: "tidegate.test/v1".into(),
            kind: "Fleet".into(),
            plural: "fleets".into(),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// The answer to a metric; the first metric of a scenario begins a sync.
    async fn ask(&self, namespace: Option<&str>, metric: &str) -> Result<Answer, Status> {
        // The HPAs of the play before may live a little longer.
        let ours = Some(metric).filter(|_| namespace == Some(&self.namespace));
        let found = ours.and_then(|metric| metric.rsplit_once('-')).and_then(|(name, index)| {
            let scene = self.scenes.iter().find(|scene| scene.scenario.name == name)?;
            Some((scene, index.parse::<usize>().ok()?))
        });
        let (scene, index) = found.ok_or_else(|| Status::not_found(format!("metric {metric} not found")))?;
        let mut state = scene.state.lock().await;
        if index == 0
            && state.broken.is_none()
            && let Err(error) = self.sync(scene, &mut state).await
        {
            state.broken = Some(error);
        }
        state.answered = Some(Instant::now());
        let look = state.looks.last().ok_or_else(|| Status::internal_error("nothing has been looked at"))?;
        look.answers[index].clone().map_err(Status::not_found)
    }

    /// Reads what came of the sync before, and sets the stage for this one.
    async fn sync(&self, scene: &Scene, state: &mut State) -> Result<(), String> {
        let Scenario { name, steps, spec, .. } = &scene.scenario;
        let asked = Instant::now();
        let rested = state.answered.map_or(Duration::ZERO, |before| asked - before);
        let words = |error: kube::Error| error.to_string();
        let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), &self.namespace);
        let fleet = self.fleets().get(name).await.map_err(words)?.data;
        let replicas = |value: &Value| i32::try_from(value["replicas"].as_i64().unwrap_or(0)).unwrap_or(i32::MAX);
        let scale = Scale { wanted: replicas(&fleet["spec"]), present: replicas(&fleet["status"]) };
        if let Some(look) = state.looks.last_mut().filter(|look| look.outcome.is_none()) {
            let autoscaler = autoscalers.get(name).await.map_err(words)?;
            look.outcome = Some(Outcome::of(scale.wanted, &autoscaler, spec.metrics.len())?);
        }
        let Some(step) = steps.get(state.looks.len()) else { return Ok(()) };
        if scale.present != scale.wanted {
            // The target follows a sync late.
            let status = Patch::Merge(json!({"status": {"replicas": scale.wanted}}));
            self.fleets().patch_status(name, &PatchParams::default(), &status).await.map_err(words)?;
        }
        let pods = step.pods.at(scale);
        state.cast.turn(&pods).await?;
        let latest = Timestamp::UNIX_EPOCH + (asked + HOLD).duration_since(self.start);
        let now = self.now();
        let moment = scene.edges.moment(&state.looks, now, latest);
        tokio::time::sleep(moment.duration_since(now).unsigned_abs()).await;
        let phases = pods.iter().enumerate().filter_map(|(slot, pod)| Some((pod_name(name, slot), pod.phase()?)));
        state.looks.push(Look {
            now: self.now(),
            scale,
            words: format!("{:?}", step.pods),
            pods: phases.collect(),
            answers: step.replies.iter().map(|reply| reply.answer(name, &pods)).collect(),
            rested,
            held: asked.elapsed(),
            outcome: None,
        });
        Ok(())
    }
}

impl Outcome {
    fn of(replicas: i32, autoscaler: &HorizontalPodAutoscaler, metrics: usize) -> Result<Self, String> {
        let status = autoscaler.status.clone().ok_or("the HPA has no status after a sync")?;
        let conditions = status.conditions.into_iter().flatten();
        let conditions = conditions.map(|one| (one.type_, (one.status == "True", one.reason.unwrap_or_default())));
        let mut usage: Vec<Option<i64>> = Vec::new();
        for metric in status.current_metrics.into_iter().flatten() {
            let current = (metric.pods.map(|pods| pods.current))
                .or_else(|| metric.object.map(|object| object.current))
                .or_else(|| metric.external.map(|external| external.current));
            let quantity = current.and_then(|current| current.average_value.or(current.value));
            let milli = quantity.map(|quantity| quantity.0.parse::<Quantity>().map(Quantity::millis));
            usage.push(milli.transpose().map_err(|error| error.to_string())?);
        }
        usage.resize(metrics, None);
        let desired = status.desired_replicas;
        Ok(Self { replicas, desired, conditions: conditions.collect(), usage })
    }
}

/// A value that is measured now.
fn value(object: ObjectName, milli: i64) -> MetricValue {
    MetricValue { object, timestamp: now(), window: None, value: quantity(milli) }
}

fn quantity(milli: i64) -> Quantity {
    Quantity::from_nanos(i128::from(milli) * 1_000_000)
}

#[expect(clippy::disallowed_methods, reason = "the HPA shows no interest in it, and a server must say a time")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

impl Provider for Stage {
    async fn custom_by_name(
        &self,
        _: &Resource,
        namespace: Option<&str>,
        name: &str,
        metric: &str,
        _: &Selector,
    ) -> Result<MetricValue, Status> {
        let object = ObjectName {
            kind: "Service".into(),
            api_version: "v1".into(),
            namespace: namespace.map(Into::into),
            name: name.into(),
        };
        match self.ask(namespace, metric).await? {
            Answer::Values(values) => Ok(value(object, values.iter().sum())),
            Answer::Items(_) => Err(Status::internal_error("a Pods metric was asked for as an Object metric")),
        }
    }

    async fn custom_by_selector(
        &self,
        _: &Resource,
        namespace: Option<&str>,
        _: &Selector,
        metric: &str,
        _: &Selector,
    ) -> Result<Vec<MetricValue>, Status> {
        let Answer::Items(items) = self.ask(namespace, metric).await? else { return Ok(Vec::new()) };
        let object = |name: &str| ObjectName {
            kind: "Pod".into(),
            api_version: "v1".into(),
            namespace: namespace.map(Into::into),
            name: name.into(),
        };
        Ok(items.iter().map(|(name, milli)| value(object(name), *milli)).collect())
    }

    async fn external(&self, namespace: &str, metric: &str, _: &Selector) -> Result<Vec<ExternalValue>, Status> {
        let Answer::Values(values) = self.ask(Some(namespace), metric).await? else { return Ok(Vec::new()) };
        let values = values.iter().enumerate().map(|(i, milli)| ExternalValue {
            labels: [("part".to_owned(), i.to_string())].into(),
            timestamp: now(),
            window: None,
            value: quantity(*milli),
        });
        Ok(values.collect())
    }

    fn custom_metrics(&self) -> Vec<CustomMetric> {
        let metrics = self.scenes.iter().flat_map(|scene| &scene.scenario.spec.metrics);
        let named = metrics.filter_map(|metric| match metric {
            Metric::Pods { name, .. } => Some(("pods", name.clone())),
            Metric::Object { resource, name, .. } => Some((resource.as_str(), name.clone())),
            Metric::External { .. } => None,
        });
        let custom = |(resource, metric): (&str, String)| CustomMetric {
            resource: Resource { group: String::new(), name: resource.into() },
            scope: Scope::Namespaced,
            metric,
        };
        named.chain([("pods", MARK.to_owned())]).map(custom).collect()
    }

    fn external_metrics(&self) -> Vec<ExternalMetricName> {
        let metrics = self.scenes.iter().flat_map(|scene| &scene.scenario.spec.metrics);
        let named = metrics.filter_map(|metric| match metric {
            Metric::External { name, .. } => Some(name.clone()),
            _ => None,
        });
        named.chain([MARK.to_owned()]).map(ExternalMetricName).collect()
    }
}
