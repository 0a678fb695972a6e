//! What is wrong with the order of pools, found in the cluster's view. Pure.
//!
//! The same findings stand in the status of the ScalingPolicy that they concern (condition `PoolsOrdered`), beside the
//! ResourcePolicy as an event, on `/metrics` and in the log: a service whose pods are not ordered must not look as if they
//! were.

use std::{cell::OnceCell, sync::Arc};

use crate::{
    cluster::{
        Deployment, Kind, ObjectKey, ResourcePolicy, Unit, View,
        resource_policy::{Miss, selects_nothing},
    },
    policy::order::{Order, Orders, Source},
};

/// What is wrong, in one word for `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A ResourcePolicy selects the pods of no Deployment of its namespace.
    SelectsNoPod,
    /// Several ResourcePolicies select the pods of one Deployment: two orders are none.
    SeveralOrders,
    /// A ResourcePolicy and `spec.pools` give the same Deployment different orders.
    OrdersDiffer,
    /// A ResourcePolicy sets fields that Tidegate does not honour.
    FieldsNotHonoured,
    /// A pod carries a deletion cost that somebody else wrote.
    ForeignDeletionCost,
}

impl Fault {
    /// For conditions, events and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::SelectsNoPod => "SelectsNoPod",
            Self::SeveralOrders => "SeveralOrders",
            Self::OrdersDiffer => "OrdersDiffer",
            Self::FieldsNotHonoured => "FieldsNotHonoured",
            Self::ForeignDeletionCost => "ForeignDeletionCost",
        }
    }

    /// Whether an order is in force all the same.
    const fn leaves_an_order(self) -> bool {
        matches!(self, Self::FieldsNotHonoured)
    }
}

/// The object beside which a finding is told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// `apiVersion`.
    pub api_version: &'static str,
    /// `kind`.
    pub kind: &'static str,
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID.
    pub uid: Arc<str>,
}

/// Something that is wrong with the order of pools.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Whose fault it is.
    pub about: About,
    /// What is wrong.
    pub fault: Fault,
    /// The Deployment that it concerns, where it is one's.
    pub deployment: Option<ObjectKey>,
    /// In one sentence.
    pub message: String,
}

fn about(view: &View, policy: &ResourcePolicy) -> About {
    let alibaba = view.resource_policies.get(&policy.key).is_some_and(|known| known.uid == policy.uid);
    let api_version =
        if alibaba { "scheduling.alibabacloud.com/v1alpha1" } else { "scheduling.sigs.x-k8s.io/v1alpha1" };
    About { api_version, kind: "ResourcePolicy", key: policy.key.clone(), uid: Arc::clone(&policy.uid) }
}

/// How the order of a Deployment's pools stands: the condition `PoolsOrdered`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not to be told: not everything is listed yet. What was said before stands.
    Unknown,
    /// Nobody asks for an order.
    Unasked,
    /// There is one, or why there is none.
    Told {
        /// An order is in force.
        holds: bool,
        /// In one word.
        reason: &'static str,
        /// In one sentence.
        message: Arc<str>,
    },
}

/// What there is to tell of one view. What all policies and Deployments have in common is looked up once.
#[derive(Debug)]
pub struct Survey<'v> {
    view: &'v View,
    orders: Orders<'v>,
    /// The ResourcePolicies, each with the Deployments whose pods it selects.
    selections: Vec<(&'v ResourcePolicy, Vec<&'v Deployment>)>,
    /// Those that select none, once somebody has asked.
    misses: OnceCell<Vec<(&'v ResourcePolicy, Miss)>>,
}

impl<'v> Survey<'v> {
    /// Of that view.
    #[must_use]
    pub fn of(view: &'v View) -> Self {
        let orders = Orders::of(view);
        let selections = orders.selections(view);
        Self { view, orders, selections, misses: OnceCell::new() }
    }

    /// Who orders the pools.
    #[must_use]
    pub const fn orders(&self) -> &Orders<'v> {
        &self.orders
    }

    /// Everything that is wrong, in a stable order. Nothing in a namespace whose ResourcePolicies or Deployments are not listed.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut found = |policy, fault, deployment: Option<&ObjectKey>, message| {
            findings.push(Finding { about: about(self.view, policy), fault, deployment: deployment.cloned(), message });
        };
        for (policy, miss) in self.misses() {
            found(policy, Fault::SelectsNoPod, Some(&miss.nearest), miss.sentence.clone());
        }
        for (policy, deployments) in self.selections.iter().filter(|(policy, _)| is_known(self.view, &policy.key)) {
            if !policy.not_honoured.is_empty() {
                found(policy, Fault::FieldsNotHonoured, None, not_honoured(policy));
            }
            for deployment in deployments {
                if let Some((fault, message)) = self.contradiction(deployment) {
                    found(policy, fault, Some(&deployment.key), message);
                }
            }
        }
        findings.sort();
        findings
    }

    /// How the order of that Deployment's pools stands.
    #[must_use]
    pub fn standing(&self, deployment: &Deployment) -> Standing {
        if !self.view.ordered {
            let asked = self.orders.own(deployment).is_some_and(|order| order.units.len() > 1);
            let message = "spec.pools names an order, and nothing keeps it: burst.enabled is off in the configuration, so that the \
                           scheduler's own scores place new pods, and which pod goes first is chance";
            return if asked { told(false, "NotEnabled", message.to_owned()) } else { Standing::Unasked };
        }
        if !is_known(self.view, &deployment.key) {
            return Standing::Unknown;
        }
        if let Some((fault, message)) = self.contradiction(deployment) {
            return told(fault.leaves_an_order(), fault.word(), message);
        }
        if let Ok(Some(order)) = self.orders.order(deployment) {
            return in_force(&order);
        }
        let miss = self.misses().iter().map(|(_, miss)| miss).find(|miss| miss.nearest == deployment.key);
        miss.map_or(Standing::Unasked, |miss| told(false, Fault::SelectsNoPod.word(), miss.sentence.clone()))
    }

    fn misses(&self) -> &[(&'v ResourcePolicy, Miss)] {
        self.misses.get_or_init(|| {
            let selecting_none = self
                .selections
                .iter()
                .filter(|(policy, deployments)| deployments.is_empty() && is_known(self.view, &policy.key));
            let miss = |policy: &ResourcePolicy| {
                let templates = self.view.deployments_in(&policy.key.namespace);
                selects_nothing(policy, templates.map(|deployment| (&deployment.key, &deployment.template_labels)))
            };
            selecting_none.filter_map(|(policy, _)| Some((*policy, miss(policy)?))).collect()
        })
    }

    /// Two orders for one Deployment.
    fn contradiction(&self, deployment: &Deployment) -> Option<(Fault, String)> {
        let name = &deployment.key.name;
        match self.orders.order(deployment) {
            Err(names) => {
                let message = format!(
                    "ResourcePolicies {} select the pods of Deployment {name}: two orders are none, leave one",
                    names.join(" and ")
                );
                Some((Fault::SeveralOrders, message))
            }
            Ok(Some(by_resource_policy)) => {
                let Source::ResourcePolicy(policy) = by_resource_policy.source else { return None };
                let own = self.orders.own(deployment)?;
                let nodes = |units: &[Unit]| -> Vec<_> {
                    units.iter().map(|unit| (unit.node_selector.clone(), unit.max)).collect()
                };
                let Source::ScalingPolicy(scaling) = own.source else { return None };
                (nodes(&by_resource_policy.units) != nodes(&own.units)).then(|| {
                    let message = format!(
                        "ResourcePolicy {} places the pods of Deployment {name}, and ScalingPolicy {scaling} reckons with other \
                         pools: give spec.pools the units' nodeSelectors and maxima in the same order",
                        policy.key.name
                    );
                    (Fault::OrdersDiffer, message)
                })
            }
            Ok(None) => None,
        }
    }
}

/// Whether everything is listed that orders are made of in the namespace of that object.
fn is_known(view: &View, object: &ObjectKey) -> bool {
    let needed = [Kind::ResourcePolicies, Kind::PluginResourcePolicies, Kind::Deployments, Kind::ScalingPolicies];
    view.ordered && view.unknown(&needed, &object.namespace).is_none()
}

fn not_honoured(policy: &ResourcePolicy) -> String {
    let ObjectKey { namespace, name } = &policy.key;
    format!("ResourcePolicy {namespace}/{name}: Tidegate does not honour {}", policy.not_honoured.join(", "))
}

fn in_force(order: &Order<'_>) -> Standing {
    let units: Vec<&str> = order.units.iter().map(|unit| &*unit.name).collect();
    let units = units.join(", then ");
    match order.source {
        Source::ResourcePolicy(policy) if !policy.not_honoured.is_empty() => {
            told(true, Fault::FieldsNotHonoured.word(), format!("{units}; {}", not_honoured(policy)))
        }
        Source::ResourcePolicy(policy) => {
            told(true, "ByResourcePolicy", format!("by ResourcePolicy {}: {units}", policy.key.name))
        }
        Source::ScalingPolicy(_) => told(true, "BySpec", format!("by spec.pools: {units}")),
    }
}

fn told(holds: bool, reason: &'static str, message: String) -> Standing {
    Standing::Told { holds, reason, message: message.into() }
}

#[cfg(test)]
mod tests;
