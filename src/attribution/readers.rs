//! Which HPAs read what: R9 needs their targets.

use std::collections::HashMap;

use apiservice::Selector;

use super::group::Targets;
use crate::cluster::{Autoscaler, Deployment, Kind, ObjectKey, View};

/// The highest target against which an HPA holds what the pods that `selector` selects read in a family: of the HPAs that
/// scale the Deployments of exactly this selector, which is what they ask by, or else of all HPAs of the namespace that name
/// the family. `None` if there is none, or if the HPAs are not known.
pub(crate) fn highest_target(view: &View, namespace: &str, selector: &Selector, family: &str) -> Option<f64> {
    if view.unknown(&[Kind::Autoscalers, Kind::Deployments], namespace).is_some() {
        return None;
    }
    let first = ObjectKey { namespace: namespace.into(), name: "".into() };
    let reading = || {
        let autoscalers = view.autoscalers.range(&first..).map(|(_, autoscaler)| autoscaler);
        let autoscalers = autoscalers.take_while(|autoscaler| *autoscaler.key.namespace == *namespace);
        autoscalers.flat_map(|autoscaler| {
            let targets = autoscaler.metrics.iter().filter(|(metric, _)| **metric == *family);
            targets.map(move |(_, target)| (autoscaler, *target))
        })
    };
    let scales = |autoscaler: &Autoscaler| {
        let key = ObjectKey { namespace: namespace.into(), name: autoscaler.target_name.clone() };
        *autoscaler.target_kind == *"Deployment"
            && view.deployments.get(&key).is_some_and(|deployment| deployment.selector == *selector)
    };
    let own = reading().filter(|(autoscaler, _)| scales(autoscaler)).map(|(_, target)| target);
    own.reduce(f64::max).or_else(|| reading().map(|(_, target)| target).reduce(f64::max))
}

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
