//! A spec → the engine's policy, in one place.
//!
//! The schema refuses most of what cannot work; what it cannot say is refused here, with the field's path. What the spec
//! leaves out is the engine's default.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{
    spec::{self, Behavior, Boot, Headroom, Objective, ScaleDown, ScaleUp, ScalingPolicySpec, Signals, Use},
    target::Refusal,
};
use crate::{
    config::Duration,
    engine::{self, SignalUse},
    gpu::{FamilyId, Vocabulary},
    signal::PoolNodes,
};

/// What decides for one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What the engine is told.
    pub engine: engine::Policy,
    /// Its pools' nodes, in the same order.
    pub pools: Vec<PoolNodes>,
    /// The family that tells utilization, if one is named.
    pub utilization: Option<FamilyId>,
}

/// Longest time in a policy: a day, the engine's own bound.
const LONGEST: std::time::Duration = std::time::Duration::from_hours(24);

fn invalid(field: impl Into<String>, why: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid { field: field.into(), why: why.to_string() }
}

/// Replaces `to` by a time of the spec, if it says one.
fn set(to: &mut f64, from: Option<Duration>, field: &str) -> Result<(), Refusal> {
    if let Some(time) = from {
        *to = seconds(time, field)?;
    }
    Ok(())
}

fn optional(from: Option<Duration>, field: &str) -> Result<Option<f64>, Refusal> {
    from.map(|time| seconds(time, field)).transpose()
}

fn seconds(time: Duration, field: &str) -> Result<f64, Refusal> {
    if time.0 > LONGEST {
        return Err(invalid(field, format_args!("must be at most 24h, got {time}")));
    }
    Ok(time.0.as_secs_f64())
}

impl Settings {
    /// What the spec says, completed and checked.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] and [`Refusal::ScaleFromZero`].
    pub fn of(spec: &ScalingPolicySpec, vocabulary: &Vocabulary) -> Result<Self, Refusal> {
        let ScalingPolicySpec {
            target_ref: _,
            mode: _,
            min_replicas,
            max_replicas,
            target_utilization,
            signals: Signals { r#use, utilization_metric },
            objective,
            pools,
            behavior,
        } = spec;
        if *min_replicas == 0 {
            return Err(Refusal::ScaleFromZero);
        }
        let defaults = engine::Policy::default();
        let policy = engine::Policy {
            min: *min_replicas,
            max: *max_replicas,
            signals: match r#use {
                Use::Auto => SignalUse::Auto,
                Use::Queue => SignalUse::Queue,
                Use::Utilization => SignalUse::Utilization,
            },
            target_utilization: target_utilization.map_or(defaults.target_utilization, f64::from),
            objective: self::objective(objective)?,
            pools: pools.iter().enumerate().map(|(i, pool)| self::pool(i, pool)).collect::<Result<_, _>>()?,
            behavior: self::behavior(behavior)?,
        };
        // The last word is the engine's own: nothing that it would not accept reaches it.
        policy.validate().map_err(|error| {
            let engine::Invalid { field, rule, value } = error;
            invalid(format!("spec.{field}"), format_args!("{rule}, got {value}"))
        })?;
        let utilization = utilization_metric.as_deref().map(|name| {
            let known = vocabulary.by_name(name);
            known.ok_or_else(|| {
                invalid("spec.signals.utilizationMetric", format_args!("{name} is not a metric of pods here"))
            })
        });
        let nodes = pools.iter().enumerate().map(|(i, pool)| nodes(i, pool)).collect::<Result<_, _>>()?;
        Ok(Self { engine: policy, pools: nodes, utilization: utilization.transpose()? })
    }
}

fn objective(spec: &Objective) -> Result<engine::Objective, Refusal> {
    let Objective { time_to_first_token, time_per_output_token } = spec;
    let mut objective = engine::Objective::default();
    set(&mut objective.time_to_first_token_seconds, *time_to_first_token, "spec.objective.timeToFirstToken")?;
    set(&mut objective.time_per_output_token_seconds, *time_per_output_token, "spec.objective.timePerOutputToken")?;
    Ok(objective)
}

fn pool(i: usize, spec: &spec::Pool) -> Result<engine::Pool, Refusal> {
    let spec::Pool { name, node_selector: _, elastic, cost, max_replicas, return_after, node_release_after, boot } =
        spec;
    let defaults = engine::Pool::default();
    let mut pool =
        engine::Pool { name: name.as_str().into(), cost: *cost, max: *max_replicas, elastic: *elastic, ..defaults };
    let Boot { node, image, load } = boot;
    set(&mut pool.boot.node_seconds, *node, &format!("spec.pools[{i}].boot.node"))?;
    set(&mut pool.boot.image_seconds, *image, &format!("spec.pools[{i}].boot.image"))?;
    set(&mut pool.boot.load_seconds, *load, &format!("spec.pools[{i}].boot.load"))?;
    pool.return_after_seconds = optional(*return_after, &format!("spec.pools[{i}].returnAfter"))?;
    set(&mut pool.node_release_seconds, *node_release_after, &format!("spec.pools[{i}].nodeReleaseAfter"))?;
    Ok(pool)
}

fn nodes(i: usize, spec: &spec::Pool) -> Result<PoolNodes, Refusal> {
    let labels = LabelSelector { match_labels: Some(spec.node_selector.clone()), match_expressions: None };
    let nodes = apiservice::Selector::try_from(&labels)
        .map_err(|error| invalid(format!("spec.pools[{i}].nodeSelector"), error))?;
    Ok(PoolNodes { nodes, elastic: spec.elastic })
}

fn behavior(spec: &Behavior) -> Result<engine::Behavior, Refusal> {
    let mut behavior = engine::Behavior::default();
    if let Some(ScaleUp { cooldown, max_step, clear_backlog }) = &spec.scale_up {
        set(&mut behavior.up.cooldown_seconds, *cooldown, "spec.behavior.scaleUp.cooldown")?;
        behavior.up.step = *max_step;
        behavior.up.clear_backlog_seconds = optional(*clear_backlog, "spec.behavior.scaleUp.clearBacklog")?;
    }
    if let Some(ScaleDown { window, cooldown, max_step, margin }) = &spec.scale_down {
        behavior.down.window_seconds = optional(*window, "spec.behavior.scaleDown.window")?;
        behavior.down.cooldown_seconds = optional(*cooldown, "spec.behavior.scaleDown.cooldown")?;
        behavior.down.step = max_step.unwrap_or(behavior.down.step);
        behavior.down.margin = margin.unwrap_or(behavior.down.margin);
    }
    if let Some(Headroom { quantile, burst_quantile }) = &spec.headroom {
        behavior.headroom.quantile = quantile.unwrap_or(behavior.headroom.quantile);
        behavior.headroom.burst_quantile = burst_quantile.unwrap_or(behavior.headroom.burst_quantile);
    }
    Ok(behavior)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::attribution::scene::vocabulary;

    fn settings(change: &Value) -> Result<Settings, Refusal> {
        let mut spec = json!({"targetRef": {"kind": "Deployment", "name": "llm"}, "maxReplicas": 8});
        for (field, value) in change.as_object().unwrap() {
            spec[field] = value.clone();
        }
        Settings::of(&serde_json::from_value(spec).unwrap(), &vocabulary())
    }

    #[test]
    fn what_is_left_out_is_the_engines_default() {
        let Settings { engine, pools, utilization } = settings(&json!({})).unwrap();
        assert_eq!(engine, engine::Policy { max: 8, ..engine::Policy::default() });
        assert_eq!((pools.len(), utilization), (0, None));
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are exact")]
    fn every_field_reaches_the_engine() {
        let settings = settings(&json!({
            "minReplicas": 2, "targetUtilization": 55,
            "signals": {"use": "Queue", "utilizationMetric": "DCGM_FI_DEV_GPU_UTIL"},
            "objective": {"timeToFirstToken": "3s", "timePerOutputToken": "150ms"},
            "pools": [
                {"name": "onprem", "nodeSelector": {"pool": "onprem"}, "maxReplicas": 3},
                {"name": "cloud", "nodeSelector": {"pool": "cloud"}, "elastic": true, "cost": 4.5, "returnAfter": "10m",
                 "nodeReleaseAfter": "90s",
                 "boot": {"node": "4m", "image": "20s", "load": "2m"}},
            ],
            "behavior": {
                "scaleUp": {"cooldown": "5s", "maxStep": 4, "clearBacklog": "9s"},
                "scaleDown": {"window": "2m", "cooldown": "30s", "maxStep": 2, "margin": 0.1},
                "headroom": {"quantile": 0.95, "burstQuantile": 0.7},
            },
        }))
        .unwrap();
        let engine = settings.engine;
        assert_eq!((engine.min, engine.target_utilization, engine.signals), (2, 55.0, SignalUse::Queue));
        assert_eq!(engine.objective.time_to_first_token_seconds, 3.0);
        assert_eq!(engine.objective.time_per_output_token_seconds, 0.15);
        let [onprem, cloud] = &engine.pools[..] else { panic!("{:?}", engine.pools) };
        assert_eq!((&*onprem.name, onprem.max, onprem.elastic, onprem.cost), ("onprem", Some(3), false, 1.0));
        assert_eq!((&*cloud.name, cloud.max, cloud.elastic, cloud.cost), ("cloud", None, true, 4.5));
        let boot = engine::Boot { node_seconds: 240.0, image_seconds: 20.0, load_seconds: 120.0 };
        assert_eq!((cloud.boot, cloud.return_after_seconds, cloud.node_release_seconds), (boot, Some(600.0), 90.0));
        let up = engine::Up { cooldown_seconds: 5.0, step: Some(4), clear_backlog_seconds: Some(9.0) };
        let down = engine::Down { window_seconds: Some(120.0), cooldown_seconds: Some(30.0), step: 2, margin: 0.1 };
        let headroom = engine::Headroom { quantile: 0.95, burst_quantile: 0.7 };
        assert_eq!(engine.behavior, engine::Behavior { up, down, headroom });
        assert_eq!(settings.utilization, vocabulary().by_name("DCGM_FI_DEV_GPU_UTIL"));
        let selected: Vec<_> = settings.pools.iter().map(|pool| (pool.nodes.to_string(), pool.elastic)).collect();
        assert_eq!(selected, [("pool=onprem".into(), false), ("pool=cloud".into(), true)]);
    }

    #[test]
    fn what_the_schema_lets_pass_and_cannot_work_is_refused_by_the_fields_path() {
        for (change, expected) in [
            (
                json!({"behavior": {"scaleDown": {"window": "25h"}}}),
                "spec.behavior.scaleDown.window: must be at most 24h, got 25h",
            ),
            (json!({"pools": [{"name": "a", "returnAfter": "99h"}]}), "spec.pools[0].returnAfter: must be at most 24h"),
            (json!({"pools": [{"name": "a", "returnAfter": "5m"}]}), "spec.pools[0].returnAfter: must be left out"),
            (json!({"pools": [{"name": "a", "nodeSelector": {"not a label": "x"}}]}), "spec.pools[0].nodeSelector:"),
            (
                json!({"objective": {"timeToFirstToken": "0s"}}),
                "spec.objective.timeToFirstTokenSeconds: must be above 0",
            ),
            (json!({"signals": {"utilizationMetric": "nvidia_smi"}}), "spec.signals.utilizationMetric: nvidia_smi"),
            (json!({"minReplicas": 9}), "spec.min: must be at most max, got 9"),
            (json!({"minReplicas": 0, "signals": {"use": "Utilization"}}), "spec.minReplicas: 0 cannot work"),
        ] {
            let refusal = settings(&change).unwrap_err().to_string();
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }
}
