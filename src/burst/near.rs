//! Whether a replica of a service is about to be removed: only then are deletion costs worth their writes.

use crate::{
    attribution::{ServiceReadings, Statistic},
    cluster::{Autoscaler, Deployment, View},
    gpu::Vocabulary,
    policy::target,
    publish::decided::{Advice, Desired},
};

/// Below this share of the target an HPA may remove: its default tolerance of a tenth, half spent, so that the cost is
/// there before the HPA decides.
const NEAR: f64 = 0.95;

/// How near a removal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Near {
    /// It may come in a moment, or in a quarter of an hour, or not at all: the costs have to stand before it is decided,
    /// because a pod goes within milliseconds of the decision.
    Held,
    /// It is decided.
    Decided,
}

/// What is known about one service.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The cluster.
    pub view: &'a View,
    /// The families, by the ids in `readings`.
    pub vocabulary: &'a Vocabulary,
    /// Its readings.
    pub readings: Option<&'a ServiceReadings>,
    /// What the engine advises, where it decides.
    pub advice: Option<&'a Advice>,
}

impl Known<'_> {
    /// Whether a removal is near: the engine wants fewer than there are, would if nothing held it, or moves one between
    /// pools; or an HPA that scales the Deployment wants fewer, or will after its stabilization; or what they go by is unknown or
    /// replicas are cut off, which holds everything, and whoever was held may act on the first value after it.
    #[must_use]
    pub fn removal(&self, deployment: &Deployment) -> Option<Near> {
        let fewer = |advice: &Advice| matches!(advice.desired, Ok(Desired::Move(to)) if i64::from(to) < i64::from(deployment.replicas));
        let engine = self.advice.and_then(|advice| {
            if fewer(advice) { Some(Near::Decided) } else { advice.removal_near.then_some(Near::Held) }
        });
        let autoscalers = target::autoscalers(self.view, &deployment.key);
        let held = self.is_cut_off().then_some(Near::Held);
        autoscalers.filter_map(|hpa| self.wants_fewer(hpa)).chain(engine).chain(held).max()
    }

    fn is_cut_off(&self) -> bool {
        self.readings.is_some_and(|readings| readings.pods.cut_off > 0)
    }

    fn wants_fewer(&self, hpa: &Autoscaler) -> Option<Near> {
        if hpa.desired < hpa.current {
            return Some(Near::Decided);
        }
        if hpa.current <= hpa.min {
            return None;
        }
        // An HPA follows the metric that asks for most. One that is not ours says nothing either way.
        let ours = hpa.metrics.iter().filter_map(|(metric, target)| {
            let family = self.vocabulary.by_name(metric)?;
            let mean = self.readings?.families.get(&family)?.statistics.get(&Statistic::Mean)?;
            (*target > 0.0).then(|| mean.as_ref().map(|mean| mean.value / target))
        });
        // It holds while it does not know, and may remove with the first value after that.
        let Ok(ratios) = ours.collect::<Result<Vec<f64>, _>>() else { return Some(Near::Held) };
        let highest = ratios.into_iter().reduce(f64::max);
        // It removes once `ceil(current × ratio)` is smaller.
        let fewer = |ratio: &f64| *ratio < NEAR && (f64::from(hpa.current) * ratio).ceil() < f64::from(hpa.current);
        highest.filter(fewer).map(|_| Near::Held)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use jiff::Timestamp;

    use super::*;
    use crate::{
        attribution::{GroupReading, PodCounts},
        cluster::ObjectKey,
        reading::{Measured, Reading, Unknown},
    };

    const METRIC: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "default".into(), name: name.into() }
    }

    fn deployment(replicas: i32) -> Deployment {
        Deployment {
            key: key("llm"),
            labels: [].into(),
            selector: "app=llm".parse().unwrap(),
            replicas,
            template_labels: [].into(),
            inference_service: None,
            requests: crate::cluster::Resources::default(),
        }
    }

    /// How near a removal is for three replicas under an HPA with target 50.
    fn near(reading: Reading, desired: i32, advice: Option<&Advice>) -> Option<Near> {
        let vocabulary = Vocabulary::default();
        let hpa = Autoscaler {
            key: key("hpa"),
            target_kind: "Deployment".into(),
            target_name: "llm".into(),
            metrics: vec![(METRIC.into(), 50.0)],
            min: 1,
            max: 3,
            current: 3,
            desired,
            exact: false,
        };
        let view = View { autoscalers: [(key("hpa"), Arc::new(hpa))].into(), ..View::default() };
        let group =
            GroupReading { statistics: [(Statistic::Mean, reading)].into(), known: 3, missing: BTreeMap::new() };
        let readings = ServiceReadings {
            deployment: key("llm"),
            inference_service: None,
            pods: PodCounts { ready: 3, ..PodCounts::default() },
            families: [(vocabulary.by_name(METRIC).unwrap(), group)].into(),
        };
        let known = Known { view: &view, vocabulary: &vocabulary, readings: Some(&readings), advice };
        known.removal(&deployment(3))
    }

    fn measured(value: f64) -> Measured {
        Measured { value, at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn a_removal_is_near_as_soon_as_the_hpa_would_want_fewer_whatever_its_stabilization() {
        for (percent, expected) in
            [(0.0, true), (30.0, true), (33.4, false), (48.0, false), (50.0, false), (90.0, false)]
        {
            assert_eq!(
                near(Ok(measured(percent)), 3, None),
                expected.then_some(Near::Held),
                "{percent} % on three replicas, target 50"
            );
        }
    }

    #[test]
    fn a_removal_is_near_when_hpa_or_engine_has_decided_it() {
        assert_eq!(near(Ok(measured(90.0)), 2, None), Some(Near::Decided));
        let advice = |desired, removal_near| Advice {
            inference_service: None,
            desired: Ok(desired),
            demand: Ok(1.0),
            removal_near,
        };
        for (desired, held, expected) in [
            (Desired::Move(2), false, Some(Near::Decided)),
            (Desired::Move(4), false, None),
            (Desired::Hold, false, None),
            (Desired::Hold, true, Some(Near::Held)),
            (Desired::Move(4), true, Some(Near::Held)),
        ] {
            assert_eq!(near(Ok(measured(90.0)), 3, Some(&advice(desired, held))), expected, "{desired:?} {held}");
        }
    }

    #[test]
    fn while_replicas_are_cut_off_a_removal_is_near_because_it_may_follow_their_return_at_once() {
        let (view, vocabulary) = (View::default(), Vocabulary::default());
        for (cut_off, expected) in [(1, Some(Near::Held)), (0, None)] {
            let readings = ServiceReadings {
                deployment: key("llm"),
                inference_service: None,
                pods: PodCounts { ready: 2, cut_off, ..PodCounts::default() },
                families: BTreeMap::new(),
            };
            let known = Known { view: &view, vocabulary: &vocabulary, readings: Some(&readings), advice: None };
            assert_eq!(known.removal(&deployment(3)), expected, "{cut_off} cut off");
        }
    }

    /// Costs have to stand by then: with the first value the HPA may have nothing left in its stabilization to wait for.
    #[test]
    fn while_a_reading_is_unknown_a_removal_is_near_because_it_may_follow_the_first_value_at_once() {
        assert_eq!(near(Err(Unknown::Absent), 3, None), Some(Near::Held));
    }
}
