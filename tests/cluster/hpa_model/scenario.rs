//! What the HPA and its model are both shown: an HPA's spec, and for each of its syncs the pods and the answers.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tidegate::sim::hpa::{
    Answer, Metric, Scale, Spec, Target, Tolerance,
    arithmetic::PodPhase,
    pace::{Amount, Rules, Select},
};

/// The harness' `--horizontal-pod-autoscaler-downscale-stabilization`.
const DOWN_WINDOW: Duration = Duration::from_secs(10);

/// One HPA and what happens to it.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name of the HPA and of its target; its metrics are `NAME-0`, `NAME-1`, …
    pub name: &'static str,
    /// Its spec.
    pub spec: Spec,
    /// Replicas in the beginning.
    pub initial: i32,
    /// One for each sync.
    pub steps: Vec<Step>,
}

/// What one sync finds.
#[derive(Debug, Clone)]
pub struct Step {
    /// The target's pods: a letter for each, and its item on the Pods metric if it has one.
    ///
    /// `r`unning and ready, `s`tarting (running, not ready), `p`ending, `d`eleted (still running and ready), `f`ailed; `x` is
    /// an item of a pod that is not the target's.
    pub pods: Pods,
    /// What each metric is answered.
    pub replies: Vec<Reply>,
}

/// See [`Step::pods`].
#[derive(Debug, Clone)]
pub enum Pods {
    /// As many as letters, for example `r80 r_ p`.
    Listed(String),
    /// As many ready pods as replicas were asked for, which share this load; none takes more than 100.
    Sharing(f64),
}

/// See [`Step::replies`].
#[derive(Debug, Clone)]
pub enum Reply {
    /// The pods' items.
    Items,
    /// Values, in thousandths, one after the other.
    Values(Vec<i64>),
    /// 404 and why.
    Unknown,
}

/// One slot of [`Pods`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pod {
    /// Its letter.
    pub letter: char,
    /// Its item, in thousandths.
    pub item: Option<i64>,
}

impl Pod {
    /// How the HPA sees it; `None` for one that is not the target's.
    pub fn phase(self) -> Option<PodPhase> {
        Some(match self.letter {
            'r' => PodPhase::Running { ready: true },
            's' => PodPhase::Running { ready: false },
            'p' => PodPhase::Pending,
            'd' => PodPhase::Ignored { ready: true },
            'f' => PodPhase::Ignored { ready: false },
            'x' => return None,
            other => panic!("{other:?} is no pod"),
        })
    }
}

impl Pods {
    /// The slots, in order.
    pub fn at(&self, scale: Scale) -> Vec<Pod> {
        match self {
            Self::Sharing(load) => {
                let item = (load / f64::from(scale.wanted) * 1000.0).round().min(100_000.0) as i64;
                vec![Pod { letter: 'r', item: Some(item) }; usize::try_from(scale.wanted).unwrap()]
            }
            Self::Listed(text) => {
                let words = text.split_whitespace().map(|word| {
                    let item = word[1..].parse::<f64>().ok().map(|value| (value * 1000.0).round() as i64);
                    Pod { letter: word.chars().next().unwrap(), item }
                });
                words.collect()
            }
        }
    }
}

impl Reply {
    /// What the model is told, and the metrics API answers. `name` is the scenario's.
    pub fn answer(&self, name: &str, pods: &[Pod]) -> Result<Answer, String> {
        let items = || pods.iter().enumerate().filter_map(|(slot, pod)| Some((pod_name(name, slot), pod.item?)));
        match self {
            Self::Items => {
                Some(items().collect::<BTreeMap<_, _>>()).filter(|items| !items.is_empty()).map(Answer::Items)
            }
            Self::Values(values) => Some(values.clone()).filter(|values| !values.is_empty()).map(Answer::Values),
            Self::Unknown => None,
        }
        .ok_or_else(|| "no value".to_owned())
    }
}

/// Name of the pod in a slot.
pub fn pod_name(scenario: &str, slot: usize) -> String {
    format!("{scenario}-{slot}")
}

/// The HPA object.
pub fn object(scenario: &Scenario) -> Value {
    let Scenario { name, spec, .. } = scenario;
    let Spec { min, max, metrics, behavior, tolerance, .. } = spec;
    let metrics: Vec<Value> = metrics.iter().map(metric).collect();
    let mut object = json!({
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "tidegate.test/v1", "kind": "Fleet", "name": name},
            "minReplicas": min, "maxReplicas": max, "metrics": metrics,
        },
    });
    if let Some(behavior) = behavior {
        let Tolerance { up, down } = tolerance;
        object["spec"]["behavior"] =
            json!({"scaleUp": rules(&behavior.up, *up), "scaleDown": rules(&behavior.down, *down)});
    }
    object
}

fn metric(metric: &Metric) -> Value {
    let milli = |value: i64| format!("{value}m");
    let target = |target: &Target| match target {
        Target::Value(value) => json!({"type": "Value", "value": milli(*value)}),
        Target::Average(value) => json!({"type": "AverageValue", "averageValue": milli(*value)}),
    };
    match metric {
        Metric::Pods { name, average } => json!({"type": "Pods", "pods": {
            "metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": milli(*average)},
        }}),
        Metric::Object { object, name, target: of, .. } => json!({"type": "Object", "object": {
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": object},
            "metric": {"name": name}, "target": target(of),
        }}),
        Metric::External { name, target: of, .. } => {
            json!({"type": "External", "external": {"metric": {"name": name}, "target": target(of)}})
        }
    }
}

fn rules(rules: &Rules, tolerance: f64) -> Value {
    let policies: Vec<Value> = rules
        .policies
        .iter()
        .map(|policy| {
            let (kind, value) = match policy.amount {
                Amount::Pods(pods) => ("Pods", pods),
                Amount::Percent(percent) => ("Percent", percent),
            };
            json!({"type": kind, "value": value, "periodSeconds": policy.period.as_secs()})
        })
        .collect();
    let select = match rules.select {
        Select::Max => "Max",
        Select::Min => "Min",
        Select::Disabled => "Disabled",
    };
    json!({
        "stabilizationWindowSeconds": rules.window.as_secs(), "selectPolicy": select, "policies": policies,
        "tolerance": format!("{}m", (tolerance * 1000.0).round() as i64),
    })
}

/// A spec without behavior.
pub fn spec(name: &'static str, max: i32, metrics: Vec<Metric>) -> Spec {
    Spec {
        namespace: String::new(),
        selector: format!("app={name}"),
        min: 1,
        max,
        metrics,
        behavior: None,
        down_window: DOWN_WINDOW,
        tolerance: Tolerance::default(),
    }
}
