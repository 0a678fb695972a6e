//! HorizontalPodAutoscalers, `autoscaling/v2`.

use std::sync::Arc;

use serde::Deserialize;

use super::{Metadata, WireQuantity};
use crate::cluster::view::Autoscaler;

#[derive(Deserialize)]
pub(super) struct Wire {
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: TargetRef,
    #[serde(default)]
    min_replicas: Option<i32>,
    max_replicas: i32,
    #[serde(default)]
    metrics: Option<Vec<Metric>>,
    #[serde(default)]
    behavior: Behavior,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Behavior {
    scale_up: Option<Rules>,
    scale_down: Option<Rules>,
}

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    tolerance: Option<WireQuantity>,
}

impl Behavior {
    fn exact(&self) -> bool {
        let zero = |rules: &Option<Rules>| {
            let tolerance = rules.as_ref().and_then(|rules| rules.tolerance.as_ref());
            tolerance.is_some_and(|quantity| quantity.value("tolerance") == Ok(0.0))
        };
        zero(&self.scale_up) && zero(&self.scale_down)
    }
}

#[derive(Deserialize)]
struct TargetRef {
    kind: Arc<str>,
    name: Arc<str>,
}

#[derive(Deserialize)]
struct Metric {
    #[serde(default)]
    pods: Option<Source>,
    #[serde(default)]
    object: Option<Source>,
    #[serde(default)]
    external: Option<Source>,
}

#[derive(Deserialize)]
struct Source {
    metric: MetricName,
    target: Target,
}

#[derive(Deserialize)]
struct MetricName {
    name: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(default)]
    average_value: Option<WireQuantity>,
    #[serde(default)]
    value: Option<WireQuantity>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    current_replicas: Option<i32>,
    desired_replicas: Option<i32>,
}

impl Wire {
    pub(super) fn decode(self) -> Result<Autoscaler, String> {
        let Self { metadata, spec, status } = self;
        let current = status.current_replicas.unwrap_or(0);
        let mut metrics = Vec::new();
        for metric in spec.metrics.into_iter().flatten() {
            // Resource and ContainerResource metrics are the resource metrics API's and have none of the three.
            let whole = metric.object.or(metric.external);
            let per_replica = whole.as_ref().is_some_and(|source| source.target.average_value.is_some());
            let Some(Source { metric: MetricName { name }, target }) = metric.pods.or(whole) else { continue };
            // `averageValue` decides what the HPA does wherever it is given, whatever `target.type` says: arena writes
            // `type: Utilization` beside it.
            if let Some(quantity) = target.average_value.or(target.value) {
                let value = quantity.value(&format!("target of metric {name}"))?;
                // The HPA divides the one value of an Object or External metric by the replicas before it compares it
                // with `averageValue`: that many times the target is the value at which it stays as it is.
                let shares = if per_replica { f64::from(current.max(1)) } else { 1.0 };
                metrics.push((name, value * shares));
            }
        }
        Ok(Autoscaler {
            key: metadata.key(),
            target_kind: spec.scale_target_ref.kind,
            target_name: spec.scale_target_ref.name,
            metrics,
            exact: spec.behavior.exact(),
            min: spec.min_replicas.unwrap_or(1),
            max: spec.max_replicas,
            current,
            desired: status.desired_replicas.unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::cluster::{
        Autoscaler, Kind,
        decode::{Object, object},
    };

    /// What the arena CLI creates, with the controller's status.
    fn arena() -> Value {
        json!({
            "metadata": {"name": "qwen-chat-hpa", "namespace": "default"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen-chat-predictor"},
                "minReplicas": 1, "maxReplicas": 3,
                "metrics": [{"type": "Pods", "pods": {
                    "metric": {"name": "DCGM_CUSTOM_PROCESS_SM_UTIL"},
                    "target": {"type": "Utilization", "averageValue": "50"},
                }}],
            },
            "status": {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": null},
        })
    }

    fn decode(json: &Value) -> Autoscaler {
        match object(Kind::Autoscalers, &json.to_string(), &[]).unwrap() {
            Object::Autoscaler(autoscaler) => autoscaler,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arenas_autoscaler_is_read_with_its_average_value() {
        let hpa = decode(&arena());
        assert_eq!((&*hpa.target_kind, &*hpa.target_name), ("Deployment", "qwen-chat-predictor"));
        assert_eq!(hpa.metrics, [("DCGM_CUSTOM_PROCESS_SM_UTIL".into(), 50.0)]);
        assert_eq!((hpa.min, hpa.max, hpa.current, hpa.desired), (1, 3, 2, 3));
    }

    #[test]
    fn pods_object_and_external_targets_are_read_and_resource_metrics_are_not_ours() {
        let mut hpa = arena();
        hpa["spec"].as_object_mut().unwrap().remove("minReplicas");
        hpa.as_object_mut().unwrap().remove("status");
        hpa["spec"]["metrics"] = json!([
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            {"type": "Pods", "pods": {"metric": {"name": "a"}, "target": {"type": "AverageValue", "averageValue": "1500m"}}},
            {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "b"}, "target": {"type": "Value", "value": "2k"}}},
            {"type": "External", "external": {"metric": {"name": "c", "selector": {"matchLabels": {"x": "y"}}}, "target": {"type": "AverageValue", "averageValue": 7}}},
        ]);
        let hpa = decode(&hpa);
        assert_eq!(hpa.metrics, [("a".into(), 1.5), ("b".into(), 2000.0), ("c".into(), 7.0)]);
        assert_eq!((hpa.min, hpa.current, hpa.desired), (1, 0, 0));
    }

    /// R9 keeps a value on its side of the one at which the HPA does nothing.
    #[test]
    fn a_value_that_the_hpa_divides_by_its_replicas_is_held_against_as_many_targets() {
        for (replicas, neutral) in [(json!(4), 28.0), (json!(1), 7.0), (json!(0), 7.0), (json!(null), 7.0)] {
            for source in ["object", "external"] {
                let mut hpa = arena();
                let target = json!({"type": "AverageValue", "averageValue": "7"});
                hpa["spec"]["metrics"] = json!([{source: {"metric": {"name": "c"}, "target": target}}]);
                hpa["status"]["currentReplicas"] = replicas.clone();
                assert_eq!(decode(&hpa).metrics, [("c".into(), neutral)], "{source} at {replicas}");
                hpa["spec"]["metrics"][0][source]["target"] = json!({"type": "Value", "value": "7"});
                assert_eq!(decode(&hpa).metrics, [("c".into(), 7.0)], "{source}: not divided");
            }
        }
    }

    #[test]
    fn an_hpa_is_exact_if_it_tolerates_nothing_in_either_direction() {
        for (up, down, exact) in [
            (json!({"tolerance": "0"}), json!({"tolerance": 0}), true),
            (json!({"tolerance": "0"}), json!({}), false),
            (json!({"tolerance": "0"}), json!({"tolerance": "50m"}), false),
            (json!(null), json!(null), false),
        ] {
            let mut hpa = arena();
            hpa["spec"]["behavior"] = json!({"scaleUp": up, "scaleDown": down});
            assert_eq!(decode(&hpa).exact, exact, "{hpa}");
        }
        assert!(!decode(&arena()).exact);
    }

    #[test]
    fn an_unreadable_target_is_an_error_that_names_the_metric() {
        let mut hpa = arena();
        hpa["spec"]["metrics"][0]["pods"]["target"]["averageValue"] = json!("fifty");
        let error = object(Kind::Autoscalers, &hpa.to_string(), &[]).unwrap_err();
        assert!(error.reason.contains("DCGM_CUSTOM_PROCESS_SM_UTIL") && error.reason.contains("fifty"), "{error}");
    }
}
