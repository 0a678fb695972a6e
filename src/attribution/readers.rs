//! Which HPAs read what: R9 needs their targets.

use std::collections::HashMap;

use super::group::Targets;
use crate::cluster::{Autoscaler, Deployment, View};

/// The HPAs of one namespace.
#[derive(Debug, Default)]
pub(super) struct Readers<'a> {
    /// By the name of the Deployment that they scale.
    by_deployment: HashMap<&'a str, Vec<&'a Autoscaler>>,
    /// The targets against which they hold each metric.
    by_metric: HashMap<&'a str, Targets>,
}

impl<'a> Readers<'a> {
    pub(super) fn by_namespace(view: &'a View) -> HashMap<&'a str, Self> {
        let mut all: HashMap<&str, Self> = HashMap::new();
        for autoscaler in view.autoscalers.values() {
            let readers = all.entry(&autoscaler.key.namespace).or_default();
            if &*autoscaler.target_kind == "Deployment" {
                readers.by_deployment.entry(&autoscaler.target_name).or_default().push(autoscaler);
            }
            for (metric, target) in &autoscaler.metrics {
                readers.by_metric.entry(metric).or_insert(Targets::None).add(*target);
            }
        }
        all
    }

    /// The metrics that the HPAs read which scale the Deployment, with their targets.
    pub(super) fn of(&self, deployment: &Deployment) -> impl Iterator<Item = (&'a str, f64)> {
        let scaling = self.by_deployment.get(&*deployment.key.name).into_iter().flatten();
        scaling.flat_map(|autoscaler| &autoscaler.metrics).map(|(metric, target)| (&**metric, *target))
    }

    /// The targets against which the mean of a family is held: those of the HPAs that scale these Deployments and name
    /// the metric. If there are none, those of all HPAs of the namespace that name it: one of them may read the value as
    /// an external or object metric.
    pub(super) fn targets(&self, deployments: &[&Deployment], family: &str) -> Targets {
        let mut own = Targets::None;
        for (metric, target) in deployments.iter().flat_map(|deployment| self.of(deployment)) {
            if metric == family {
                own.add(target);
            }
        }
        if own == Targets::None { self.by_metric.get(family).cloned().unwrap_or(Targets::None) } else { own }
    }
}
