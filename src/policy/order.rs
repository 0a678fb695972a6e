//! Who orders the pools of a Deployment, and how: the ResourcePolicy that selects its pods, or else its own ScalingPolicy.
//! Pure.
//!
//! What is made of an order, for new pods and for those that go, is [`burst`](crate::burst)'s.

use std::{collections::HashMap, sync::Arc};

use super::{spec::Pool, target};
use crate::cluster::{Deployment, ObjectKey, ResourcePolicy, Unit, View, services::exact};

/// Who ordered a service's pools.
#[derive(Debug, Clone, PartialEq)]
pub enum Source<'v> {
    /// A ResourcePolicy that selects its pods.
    ResourcePolicy(&'v ResourcePolicy),
    /// Its own ScalingPolicy, of that name.
    ScalingPolicy(&'v str),
}

/// The pools of a service, the one that is filled first at the front.
#[derive(Debug, Clone, PartialEq)]
pub struct Order<'v> {
    /// Who says so.
    pub source: Source<'v>,
    /// The pools.
    pub units: Vec<Unit>,
}

/// A label that has to have one exact value; `None`: any pod of the namespace may be selected.
type Label<'v> = Option<(&'v str, &'v str)>;

/// Everybody who orders pools in one view, looked up once for all Deployments: there may be a thousand of both.
#[derive(Debug)]
pub struct Orders<'v> {
    /// All ResourcePolicies, those of Alibaba's group first.
    policies: Vec<&'v ResourcePolicy>,
    /// Their numbers, by namespace and by a label that their pods must have.
    by_label: HashMap<(&'v str, Label<'v>), Vec<usize>>,
    /// By Deployment the first ScalingPolicy by name that names pools for it, and those.
    own: HashMap<&'v ObjectKey, (&'v str, &'v [Pool])>,
}

impl<'v> Orders<'v> {
    /// Those of that view.
    #[must_use]
    pub fn of(view: &'v View) -> Self {
        let policies = view.resource_policies.values().chain(view.plugin_resource_policies.values());
        let policies: Vec<&ResourcePolicy> = policies.map(|policy| &**policy).collect();
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        for (number, policy) in policies.iter().enumerate() {
            by_label.entry((&*policy.key.namespace, exact(&policy.selector))).or_default().push(number);
        }
        let mut own = HashMap::new();
        for policy in view.policies.values() {
            let Ok(spec) = &policy.spec else { continue };
            if spec.pools.is_empty() {
                continue;
            }
            if let Ok(target) = target::find(view, &policy.key.namespace, &spec.target_ref) {
                own.entry(&target.key).or_insert((&*policy.key.name, &spec.pools[..]));
            }
        }
        Self { policies, by_label, own }
    }

    /// The order of the pools of the pods with the Deployment's template. `None`: nobody ordered them.
    ///
    /// # Errors
    /// The names of several ResourcePolicies that select the same pods: two orders are none.
    pub fn order(&self, deployment: &Deployment) -> Result<Option<Order<'v>>, Vec<Arc<str>>> {
        let selecting: Vec<_> = self.selecting(deployment).into_iter().map(|number| self.policies[number]).collect();
        match selecting[..] {
            [] => Ok(self.own(deployment)),
            [policy] => Ok(Some(Order { source: Source::ResourcePolicy(policy), units: policy.units.clone() })),
            _ => Err(selecting.iter().map(|policy| Arc::clone(&policy.key.name)).collect()),
        }
    }

    /// The order that the Deployment's own ScalingPolicy gives, whether it counts or not.
    #[must_use]
    pub fn own(&self, deployment: &Deployment) -> Option<Order<'v>> {
        let (name, pools) = self.own.get(&deployment.key)?;
        Some(Order { source: Source::ScalingPolicy(name), units: pools.iter().map(Unit::from).collect() })
    }

    /// Each ResourcePolicy, with the Deployments of the view whose pods it selects.
    #[must_use]
    pub fn selections(&self, view: &'v View) -> Vec<(&'v ResourcePolicy, Vec<&'v Deployment>)> {
        let mut selections: Vec<_> = self.policies.iter().map(|policy| (*policy, Vec::new())).collect();
        for deployment in view.deployments.values() {
            for number in self.selecting(deployment) {
                selections[number].1.push(&**deployment);
            }
        }
        selections
    }

    /// The numbers of the ResourcePolicies that select the Deployment's pods, in their order.
    fn selecting(&self, deployment: &Deployment) -> Vec<usize> {
        let (namespace, labels) = (&*deployment.key.namespace, &deployment.template_labels);
        let keys = labels.iter().map(|(key, value)| Some((&**key, &**value))).chain([None]);
        let numbers = keys.filter_map(|key| self.by_label.get(&(namespace, key))).flatten().copied();
        let mut selecting: Vec<usize> =
            numbers.filter(|number| self.policies[*number].selects(namespace, labels)).collect();
        selecting.sort_unstable();
        selecting
    }
}

impl From<&Pool> for Unit {
    fn from(pool: &Pool) -> Self {
        let label = |(key, value): (&String, &String)| (key.as_str().into(), value.as_str().into());
        Self {
            name: pool.name.as_str().into(),
            node_selector: pool.node_selector.iter().map(label).collect(),
            max: pool.max_replicas,
        }
    }
}

#[cfg(test)]
mod tests;
