//! What holds for a service without a ScalingPolicy whose HPA reads one of our metrics: the engine's defaults, with the
//! HPA's bounds and, where it reads utilization, its target. Advice only: the HPA goes on reading what it reads until
//! somebody has it follow.

use super::{settings::Settings, target::follows};
use crate::{
    cluster::Autoscaler,
    engine,
    gpu::{Unit, Vocabulary},
};

/// The engine's bound, and the schema's.
const MOST_REPLICAS: u32 = 10_000;

impl Settings {
    /// What the HPA asks for; `None` if it reads none of our metrics. `ours` tells our metrics by name.
    #[must_use]
    pub fn implied(hpa: &Autoscaler, vocabulary: &Vocabulary, ours: impl Fn(&str) -> bool) -> Option<Self> {
        if !follows(hpa) && !hpa.metrics.iter().any(|(metric, _)| ours(metric)) {
            return None;
        }
        // Of a metric that is not a mean in percent, such as a sum or a queue, the target says nothing about a replica.
        let utilization = hpa.metrics.iter().find_map(|(metric, target)| {
            let family = vocabulary.by_name(metric)?;
            let percent = vocabulary.family(family).unit == Unit::Percent && *target > 0.0 && *target <= 100.0;
            percent.then_some((family, *target))
        });
        let defaults = engine::Policy::default();
        let max = u32::try_from(hpa.max).unwrap_or(1).clamp(1, MOST_REPLICAS);
        let policy = engine::Policy {
            min: u32::try_from(hpa.min).unwrap_or(1).clamp(1, max),
            max,
            target_utilization: utilization.map_or(defaults.target_utilization, |(_, target)| target),
            ..defaults
        };
        Some(Self { engine: policy, pools: Vec::new(), utilization: utilization.map(|(family, _)| family) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        attribution::scene::{SM, key, vocabulary},
        policy::DESIRED_METRIC,
    };

    fn hpa(metrics: &[(&str, f64)]) -> Autoscaler {
        Autoscaler {
            key: key("llm-hpa"),
            target_kind: "Deployment".into(),
            target_name: "llm-predictor".into(),
            metrics: metrics.iter().map(|(name, target)| ((*name).into(), *target)).collect(),
            exact: false,
            min: 2,
            max: 5,
            current: 2,
            desired: 2,
        }
    }

    #[test]
    fn an_hpa_on_our_metrics_gives_bounds_and_target() {
        let default = engine::Policy::default().target_utilization;
        for (metrics, target) in [
            (&[(SM, 50.0)][..], Some(50.0)),
            (&[("queue_length", 9.0), (SM, 50.0)], Some(50.0)),
            (&[("DCGM_CUSTOM_PROCESS_SM_UTIL_sum", 150.0)], Some(default)),
            (&[("DCGM_CUSTOM_PROCESS_MEM_USED", 50.0)], Some(default)),
            (&[(DESIRED_METRIC, 1.0)], Some(default)),
            (&[("queue_length", 9.0)], None),
            (&[], None),
        ] {
            let settings = Settings::implied(&hpa(metrics), &vocabulary(), |name| name.starts_with("DCGM_"));
            assert_eq!(settings.as_ref().map(|settings| settings.engine.target_utilization), target, "{metrics:?}");
            if let Some(settings) = settings {
                assert_eq!((settings.engine.min, settings.engine.max), (2, 5));
            }
        }
    }

    #[test]
    fn bounds_that_the_engine_does_not_know_are_brought_into_its_range() {
        let zero = Autoscaler { min: 0, max: 0, ..hpa(&[(SM, 50.0)]) };
        let settings = Settings::implied(&zero, &vocabulary(), |_| true).unwrap();
        assert_eq!((settings.engine.min, settings.engine.max), (1, 1));
        assert_eq!(settings.engine.validate(), Ok(()));
    }
}
