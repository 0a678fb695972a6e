//! An engine's policy → the ScalingPolicy that an operator applies: the reverse of [`Settings::of`](super::settings::Settings::of).
//!
//! What is the engine's default is left out, so that it stays the engine's to choose. Labels of nodes are not the engine's
//! knowledge: each pool gets the label `pool` with its own name, for the operator to replace.

use std::collections::BTreeMap;

use super::{
    Mode, ScalingPolicy, TargetKind, TargetRef,
    spec::{self, Boot, Headroom, Objective, ScaleDown, ScaleUp, ScalingPolicySpec, Signals, Use},
};
use crate::{
    config::Duration,
    engine::{self, Behavior, Down, SignalUse, Up},
};

/// Where the names have to be written that nobody here knows.
pub const PLACEHOLDER: &str = "my-service";

/// The object.
#[must_use]
pub fn manifest(policy: &engine::Policy) -> ScalingPolicy {
    let defaults = engine::Policy::default();
    let engine::Policy { min, max, signals, target_utilization, objective, pools, behavior } = policy;
    let spec = ScalingPolicySpec {
        target_ref: TargetRef { kind: TargetKind::InferenceService, name: PLACEHOLDER.into() },
        mode: Mode::Advise,
        min_replicas: *min,
        max_replicas: *max,
        target_utilization: other(*target_utilization, &defaults.target_utilization)
            .map(|percent| percent.round() as u32),
        signals: Signals {
            r#use: match signals {
                SignalUse::Auto => Use::Auto,
                SignalUse::Queue => Use::Queue,
                SignalUse::Utilization => Use::Utilization,
            },
            utilization_metric: None,
        },
        objective: self::objective(*objective),
        pools: pools.iter().map(pool).collect(),
        behavior: self::behavior(*behavior),
    };
    ScalingPolicy::new(PLACEHOLDER, spec)
}

/// The value if it is another one than the default.
fn other<T: PartialEq>(value: T, default: &T) -> Option<T> {
    (value != *default).then_some(value)
}

fn time(seconds: f64) -> Option<Duration> {
    std::time::Duration::try_from_secs_f64(seconds).ok().map(Duration)
}

fn other_time(seconds: f64, default: f64) -> Option<Duration> {
    other(seconds, &default).and_then(time)
}

fn objective(objective: engine::Objective) -> Objective {
    let defaults = engine::Objective::default();
    let engine::Objective { time_to_first_token_seconds, time_per_output_token_seconds } = objective;
    Objective {
        time_to_first_token: other_time(time_to_first_token_seconds, defaults.time_to_first_token_seconds),
        time_per_output_token: other_time(time_per_output_token_seconds, defaults.time_per_output_token_seconds),
    }
}

fn pool(pool: &engine::Pool) -> spec::Pool {
    let defaults = engine::Pool::default();
    let engine::Pool { name, cost, max, elastic, boot, node_release_seconds, return_after_seconds } = pool;
    let engine::Boot { node_seconds, image_seconds, load_seconds } = *boot;
    spec::Pool {
        name: name.to_string(),
        node_selector: BTreeMap::from([("pool".to_owned(), name.to_string())]),
        elastic: *elastic,
        cost: *cost,
        max_replicas: *max,
        return_after: return_after_seconds.and_then(time),
        node_release_after: other_time(*node_release_seconds, defaults.node_release_seconds),
        boot: Boot {
            node: other_time(node_seconds, defaults.boot.node_seconds),
            image: other_time(image_seconds, defaults.boot.image_seconds),
            load: other_time(load_seconds, defaults.boot.load_seconds),
        },
    }
}

fn behavior(behavior: Behavior) -> spec::Behavior {
    let defaults = Behavior::default();
    let Behavior { up, down, headroom } = behavior;
    let Up { cooldown_seconds, step, clear_backlog_seconds } = up;
    let scale_up = ScaleUp {
        cooldown: other_time(cooldown_seconds, defaults.up.cooldown_seconds),
        max_step: step,
        clear_backlog: clear_backlog_seconds.and_then(time),
    };
    let Down { window_seconds, cooldown_seconds, step, margin } = down;
    let scale_down = ScaleDown {
        window: window_seconds.and_then(time),
        cooldown: cooldown_seconds.and_then(time),
        max_step: other(step, &defaults.down.step),
        margin: other(margin, &defaults.down.margin),
    };
    let engine::Headroom { quantile, burst_quantile } = headroom;
    let headroom = Headroom {
        quantile: other(quantile, &defaults.headroom.quantile),
        burst_quantile: other(burst_quantile, &defaults.headroom.burst_quantile),
    };
    spec::Behavior {
        scale_up: other(scale_up, &ScaleUp::default()),
        scale_down: other(scale_down, &ScaleDown::default()),
        headroom: other(headroom, &Headroom::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Policy, gpu::Vocabulary, policy::settings::Settings};

    #[test]
    fn what_an_operator_applies_comes_to_the_same_policy_and_names_no_defaults() {
        let pool = |name: &str, elastic| engine::Pool {
            name: name.into(),
            elastic,
            cost: if elastic { 4.0 } else { 1.0 },
            max: (!elastic).then_some(3),
            node_release_seconds: 600.0,
            return_after_seconds: elastic.then_some(900.0),
            ..engine::Pool::default()
        };
        let changed = Policy {
            min: 2,
            max: 12,
            signals: SignalUse::Queue,
            target_utilization: 60.0,
            objective: engine::Objective { time_to_first_token_seconds: 2.5, time_per_output_token_seconds: 0.1 },
            pools: vec![pool("onprem", false), pool("cloud", true)],
            behavior: Behavior {
                up: Up { cooldown_seconds: 30.0, step: Some(2), clear_backlog_seconds: Some(10.0) },
                down: Down { window_seconds: Some(300.0), cooldown_seconds: Some(60.0), step: 2, margin: 0.1 },
                headroom: engine::Headroom { quantile: 0.8, burst_quantile: 0.65 },
            },
        };
        for (policy, mentioned) in [(Policy::default(), false), (changed, true)] {
            let object = manifest(&policy);
            let yaml = serde_saphyr::to_string(&object).unwrap();
            let read: ScalingPolicy = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(Settings::of(&read.spec, &Vocabulary::default()).unwrap().engine, policy, "{yaml}");
            for key in ["behavior", "objective", "targetUtilization", "status"] {
                assert_eq!(yaml.contains(key), mentioned && key != "status", "{key}: {yaml}");
            }
        }
    }
}
