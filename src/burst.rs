//! Bursting: which pools a service may use, in which order its replicas fill them, and which replica goes first.
//!
//! On-premises first, the cloud for the overflow, the cloud given back first (R19). The order is that of the ResourcePolicy
//! that selects the service's pods, or of its ScalingPolicy's pools. Where the cluster's own scheduler honours
//! ResourcePolicies, all of it is the scheduler's and nothing is written to pods; elsewhere [`affinity`] orders the way out
//! and [`release`] the way back, [`webhook`] and [`controller`] write what they say.

use std::sync::Arc;

use apiservice::Selector;

use crate::{
    cluster::{Deployment, ObjectKey, ResourcePolicy, Unit, View},
    policy::{ScalingPolicySpec, target},
    signal::PoolNodes,
};

pub mod affinity;
pub mod announce;
pub mod controller;
pub mod findings;
pub mod maximum;
pub mod near;
pub mod release;
pub mod wanted;
pub mod webhook;

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

impl Order<'_> {
    /// The pools as observations want them. Whether a node autoscaler adds nodes is not known here and does not matter:
    /// what is already there is released.
    #[must_use]
    pub fn nodes(&self) -> Vec<PoolNodes> {
        let selector = |unit: &Unit| {
            let labels = unit.node_selector.iter().map(|(key, value)| (key.to_string(), value.to_string()));
            Selector::from_match_labels(labels).unwrap_or_default()
        };
        self.units.iter().map(|unit| PoolNodes { nodes: selector(unit), elastic: false }).collect()
    }
}

/// All ResourcePolicies, those of Alibaba's group first.
fn policies(view: &View) -> impl Iterator<Item = &ResourcePolicy> {
    view.resource_policies.values().chain(view.plugin_resource_policies.values()).map(|policy| &**policy)
}

/// The order of the pools of the pods with the Deployment's template. `None`: nobody ordered them.
///
/// # Errors
/// The names of several ResourcePolicies that select the same pods: two orders are none.
pub fn order<'v>(view: &'v View, deployment: &Deployment) -> Result<Option<Order<'v>>, Vec<Arc<str>>> {
    let governing = crate::cluster::resource_policy::governing(
        policies(view),
        &deployment.key.namespace,
        &deployment.template_labels,
    )?;
    if let Some(policy) = governing {
        return Ok(Some(Order { source: Source::ResourcePolicy(policy), units: policy.units.clone() }));
    }
    Ok(own(view, deployment))
}

/// The order that the Deployment's own ScalingPolicy gives.
fn own<'v>(view: &'v View, deployment: &Deployment) -> Option<Order<'v>> {
    let first = ObjectKey { namespace: Arc::clone(&deployment.key.namespace), name: "".into() };
    let here = view.policies.range(first..).map(|(_, policy)| policy);
    here.take_while(|policy| policy.key.namespace == deployment.key.namespace).find_map(|policy| {
        let spec = policy.spec.as_ref().ok()?;
        let target = target::find(view, &policy.key.namespace, &spec.target_ref).ok()?;
        (target.key == deployment.key && !spec.pools.is_empty())
            .then(|| Order { source: Source::ScalingPolicy(&policy.key.name), units: units(spec) })
    })
}

fn units(spec: &ScalingPolicySpec) -> Vec<Unit> {
    let unit = |pool: &crate::policy::spec::Pool| Unit {
        name: pool.name.as_str().into(),
        node_selector: pool
            .node_selector
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect(),
        max: pool.max_replicas,
    };
    spec.pools.iter().map(unit).collect()
}
