//! The engine's advice as external metrics: [`DESIRED_METRIC`], which an HPA follows with target `AverageValue: 1`, and
//! [`DEMAND_METRIC`].
//!
//! What a *hold* answers. The engine holds for two reasons, and they are answered differently:
//!
//! - It does not know (R15, R12): no answer, and the reason. An HPA that has nothing else to go by then stays where it is in
//!   both directions, and shows the reason in its condition `ScalingActive`, where an operator looks first. A number would
//!   have to be the replicas at the time of the decision, and would pull back whoever scales by hand in the meantime.
//! - It knows, and wants what is there, or may go in one direction only (cooldown, N-1, one pod unknown): the answer is what
//!   is there *when the HPA asks*, not when the engine decided: again, so that nothing is pulled back to a number that is a
//!   few seconds old.
//!
//! A decision that is older than [`Decided::max_age`] is unknown (R2): the loop that makes them hangs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apiservice::{ExternalMetricName, ExternalValue, Quantity, Selector, Status};
use jiff::Timestamp;

use super::{
    external::{item_labels, label},
    words::{matching, no_value, some_of},
};
use crate::{
    cluster::{Kind, ObjectKey, View},
    policy::{DEMAND_METRIC, DESIRED_METRIC},
    reading::Unknown,
};

/// What should be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Desired {
    /// So many replicas.
    Move(u32),
    /// What is there.
    Hold,
}

/// What is advised for one Deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Advice {
    /// The InferenceService that it serves.
    pub inference_service: Option<Arc<str>>,
    /// Replicas, or why nobody can say.
    pub desired: Result<Desired, Arc<str>>,
    /// Demand in replica equivalents, or why it is unknown.
    pub demand: Result<f64, Arc<str>>,
    /// A removal is asked for and held back, or ends a move between pools that is under way.
    pub removal_near: bool,
}

/// The last decision for each service.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// When they were made.
    pub at: Timestamp,
    /// Older ones are unknown.
    pub max_age: Duration,
    /// By Deployment.
    pub advice: BTreeMap<ObjectKey, Advice>,
    /// Why there are none at all, if there are none.
    pub nothing: Option<Arc<str>>,
}

impl Decided {
    /// Before the first decision.
    #[must_use]
    pub fn nothing_yet(at: Timestamp) -> Self {
        let why = "no decision was made since the start".into();
        Self { at, max_age: Duration::MAX, advice: BTreeMap::new(), nothing: Some(why) }
    }

    /// Whether the metric is one of ours.
    pub(super) fn serves(metric: &str) -> bool {
        [DESIRED_METRIC, DEMAND_METRIC].contains(&metric)
    }

    /// What discovery lists.
    pub(super) fn metrics() -> impl Iterator<Item = ExternalMetricName> {
        [DESIRED_METRIC, DEMAND_METRIC].into_iter().map(|name| ExternalMetricName(name.into()))
    }

    /// Exactly one item: an HPA adds items up, and the replicas of two services together are nobody's.
    pub(super) fn external(
        &self,
        view: &View,
        namespace: &str,
        metric: &str,
        selector: &Selector,
        now: Timestamp,
    ) -> Result<Vec<ExternalValue>, Status> {
        let of = || format!("services in {namespace}{}", matching(selector));
        let refuse = |why: &dyn std::fmt::Display| Err(no_value(metric, &of(), why));
        if let Some(why) = &self.nothing {
            return refuse(why);
        }
        // Of what is not listed it is not known whether anything should be decided.
        if let Some(why) = view.unknown(&Kind::SUBJECTS, namespace) {
            return refuse(&Unknown::ClusterUnknown(why));
        }
        let age = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        if age > self.max_age {
            return refuse(&format!("the last decision was made {}s ago: the engine hangs", age.as_secs()));
        }
        let first = ObjectKey { namespace: namespace.into(), name: "".into() };
        let here = || self.advice.range(first.clone()..).take_while(|(key, _)| *key.namespace == *namespace);
        let mut found = here()
            .filter(|(key, advice)| selector.matches(|wanted| label(key, advice.inference_service.as_deref(), wanted)));
        let (deployment, advice) = match (found.next(), found.next()) {
            (Some(only), None) => only,
            (Some(_), Some(_)) => {
                let names = here().map(|(key, _)| format!("deployment={}", key.name));
                return refuse(&format!("several services match; ask for one of them: {}", some_of(names, "; ")));
            }
            (None, _) => {
                return refuse(&"nothing is decided for it: it needs a ScalingPolicy, or an HPA on one of our metrics");
            }
        };
        let value = if metric == DEMAND_METRIC {
            advice.demand.clone().map(Quantity::from_f64)
        } else {
            advice.desired.clone().and_then(|desired| match desired {
                Desired::Move(replicas) => Ok(Quantity::from_f64(f64::from(replicas))),
                Desired::Hold => match view.deployments.get(deployment) {
                    Some(deployment) => Ok(Quantity::from_f64(f64::from(deployment.replicas.max(0)))),
                    None => Err("the Deployment is gone".into()),
                },
            })
        };
        match value {
            Ok(Some(value)) => {
                let labels = item_labels(deployment, advice.inference_service.as_deref());
                Ok(vec![ExternalValue { labels, timestamp: self.at, window: None, value }])
            }
            Ok(None) => refuse(&"its value is not a number"),
            Err(why) => refuse(&format!("{}: {why}", deployment.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::scene::{Scene, ago, key, now};

    fn advice(desired: Result<Desired, Arc<str>>) -> Advice {
        Advice { inference_service: Some("llm".into()), desired, demand: Ok(1.25), removal_near: false }
    }

    fn decided(services: &[(&str, Advice)]) -> Decided {
        let advice = services.iter().map(|(name, advice)| (key(name), advice.clone())).collect();
        Decided { at: ago(5), max_age: Duration::from_secs(15), advice, nothing: None }
    }

    fn view(replicas: i32) -> Arc<View> {
        let mut view = Scene::new().service("llm-predictor").view;
        Arc::make_mut(view.deployments.get_mut(&key("llm-predictor")).unwrap()).replicas = replicas;
        Arc::new(view)
    }

    fn ask(decided: &Decided, metric: &str, selector: &str) -> Result<f64, String> {
        let answer = decided.external(&view(4), "prod", metric, &selector.parse().unwrap(), now());
        answer.map(|items| items[0].value.as_f64()).map_err(|status| {
            assert_eq!((status.code, status.reason), (404, "NotFound"));
            status.message
        })
    }

    #[test]
    fn one_item_with_the_services_names_and_the_time_of_the_decision() {
        let decided = decided(&[("llm-predictor", advice(Ok(Desired::Move(3))))]);
        for selector in ["inferenceservice=llm", "deployment=llm-predictor", "namespace=prod", ""] {
            assert_eq!(ask(&decided, DESIRED_METRIC, selector), Ok(3.0), "{selector}");
            assert_eq!(ask(&decided, DEMAND_METRIC, selector), Ok(1.25), "{selector}");
        }
        let items = decided.external(&view(4), "prod", DESIRED_METRIC, &Selector::everything(), now()).unwrap();
        assert_eq!((items.len(), items[0].timestamp), (1, ago(5)));
        let labels: Vec<_> = items[0].labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(labels, [("deployment", "llm-predictor"), ("inferenceservice", "llm"), ("namespace", "prod")]);
    }

    #[test]
    fn a_hold_answers_what_is_there_when_it_is_asked_for() {
        let decided = decided(&[("llm-predictor", advice(Ok(Desired::Hold)))]);
        assert_eq!(ask(&decided, DESIRED_METRIC, "deployment=llm-predictor"), Ok(4.0));
    }

    #[test]
    fn r12_unknown_is_no_answer_but_the_reason() {
        let unknown = decided(&[("llm-predictor", advice(Err("no ready pod reports".into())))]);
        let why = ask(&unknown, DESIRED_METRIC, "deployment=llm-predictor").unwrap_err();
        assert!(why.ends_with("llm-predictor: no ready pod reports"), "{why}");
        assert_eq!(ask(&unknown, DEMAND_METRIC, "deployment=llm-predictor"), Ok(1.25), "each for itself");
        let nobody = ask(&unknown, DESIRED_METRIC, "deployment=other").unwrap_err();
        assert!(nobody.contains("needs a ScalingPolicy"), "{nobody}");
        let start = ask(&Decided::nothing_yet(ago(600)), DESIRED_METRIC, "deployment=llm-predictor").unwrap_err();
        assert!(start.ends_with("no decision was made since the start"), "{start}");
    }

    #[test]
    fn r2_a_decision_that_nobody_renews_is_unknown() {
        let mut decided = decided(&[("llm-predictor", advice(Ok(Desired::Move(3))))]);
        decided.at = ago(16);
        let why = ask(&decided, DESIRED_METRIC, "deployment=llm-predictor").unwrap_err();
        assert!(why.contains("16s ago: the engine hangs"), "{why}");
    }

    #[test]
    fn two_services_are_never_added_up() {
        let both = [("llm-predictor", advice(Ok(Desired::Move(3)))), ("llm-canary", advice(Ok(Desired::Move(1))))];
        let why = ask(&decided(&both), DESIRED_METRIC, "inferenceservice=llm").unwrap_err();
        assert!(why.contains("deployment=llm-canary; deployment=llm-predictor"), "{why}");
        assert_eq!(ask(&decided(&both), DESIRED_METRIC, "deployment=llm-canary"), Ok(1.0));
    }
}
