//! Few enough names that policies meet: the orders are those of a search through all policies, for each Deployment anew.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::{Index, Kind};

/// Deployment `n` has the labels `app: n` and, half of them, `track: canary`.
const DEPLOYMENTS: [&str; 4] = ["a", "b", "c", "d"];

fn index() -> Index {
    let index = Index::default();
    for namespace in ["one", "two"] {
        for (number, name) in DEPLOYMENTS.iter().enumerate() {
            let mut labels = json!({"app": name});
            if number % 2 == 0 {
                labels["track"] = json!("canary");
            }
            let deployment = json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": labels}}},
            });
            index.apply(Kind::Deployments, &deployment.to_string());
        }
    }
    index
}

fn resource_policy(index: &Index, kind: Kind, (namespace, name): (&str, &str), selector: &Value) {
    let mut spec = json!({"units": [{"nodeSelector": {"pool": name}}, {"nodeSelector": {"pool": "cloud"}}]});
    for (field, value) in selector.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let policy = json!({"metadata": {"name": name, "namespace": namespace, "uid": name}, "spec": spec});
    index.apply(kind, &policy.to_string());
}

fn scaling_policy(index: &Index, (namespace, name): (&str, &str), target: &str, pools: &[&str]) {
    let pools: Vec<Value> = pools.iter().map(|name| json!({"name": name, "nodeSelector": {"pool": name}})).collect();
    let policy = json!({
        "metadata": {"name": name, "namespace": namespace, "uid": name},
        "spec": {"targetRef": {"kind": "Deployment", "name": target}, "maxReplicas": 3, "pools": pools},
    });
    index.apply(Kind::ScalingPolicies, &policy.to_string());
}

/// Who orders the pools of Deployment `one/a`.
fn orderer(index: &Index) -> Result<Option<String>, Vec<Arc<str>>> {
    let view = index.view();
    let key = ObjectKey { namespace: "one".into(), name: "a".into() };
    let order = Orders::of(&view).order(&view.deployments[&key])?;
    Ok(order.map(|order| match order.source {
        Source::ResourcePolicy(policy) => format!("ResourcePolicy {}", policy.key.name),
        Source::ScalingPolicy(name) => format!("ScalingPolicy {name}"),
    }))
}

#[test]
fn a_resource_policy_goes_before_the_services_own_pools_and_another_namespaces_counts_for_nothing() {
    let index = index();
    assert_eq!(orderer(&index), Ok(None));
    scaling_policy(&index, ("one", "s"), "a", &["onprem", "cloud"]);
    assert_eq!(orderer(&index), Ok(Some("ScalingPolicy s".into())));
    resource_policy(&index, Kind::ResourcePolicies, ("two", "r"), &json!({"selector": {"app": "a"}}));
    assert_eq!(orderer(&index), Ok(Some("ScalingPolicy s".into())));
    resource_policy(&index, Kind::PluginResourcePolicies, ("one", "r"), &json!({"podSelector": {"app": "a"}}));
    assert_eq!(orderer(&index), Ok(Some("ResourcePolicy r".into())));
}

#[test]
fn two_resource_policies_for_one_pod_are_named_alibabas_first_and_none_counts() {
    let index = index();
    scaling_policy(&index, ("one", "s"), "a", &["onprem"]);
    resource_policy(&index, Kind::PluginResourcePolicies, ("one", "k"), &json!({"podSelector": {"app": "a"}}));
    resource_policy(&index, Kind::ResourcePolicies, ("one", "z"), &json!({"selector": {"track": "canary"}}));
    resource_policy(&index, Kind::ResourcePolicies, ("one", "y"), &json!({}));
    assert_eq!(orderer(&index), Err(vec!["y".into(), "z".into(), "k".into()]));
}

#[test]
fn of_several_scaling_policies_the_first_by_name_counts_that_names_pools() {
    let index = index();
    scaling_policy(&index, ("one", "t"), "a", &["cloud"]);
    scaling_policy(&index, ("one", "s"), "a", &["onprem"]);
    scaling_policy(&index, ("one", "r"), "a", &[]);
    scaling_policy(&index, ("one", "q"), "nobody", &["edge"]);
    assert_eq!(orderer(&index), Ok(Some("ScalingPolicy s".into())));
}

/// By a search through everything.
fn searched<'v>(view: &'v View, deployment: &Deployment) -> Result<Option<Order<'v>>, Vec<Arc<str>>> {
    let (namespace, labels) = (&deployment.key.namespace, &deployment.template_labels);
    let all = view.resource_policies.values().chain(view.plugin_resource_policies.values());
    let selecting: Vec<_> = all.filter(|policy| policy.selects(namespace, labels)).collect();
    if selecting.len() > 1 {
        return Err(selecting.iter().map(|policy| Arc::clone(&policy.key.name)).collect());
    }
    if let Some(policy) = selecting.first() {
        return Ok(Some(Order { source: Source::ResourcePolicy(policy), units: policy.units.clone() }));
    }
    Ok(view.policies.values().filter(|policy| policy.key.namespace == *namespace).find_map(|policy| {
        let spec = policy.spec.as_ref().ok()?;
        let target = target::find(view, &policy.key.namespace, &spec.target_ref).ok()?;
        let units = spec.pools.iter().map(Unit::from).collect();
        (target.key == deployment.key && !spec.pools.is_empty())
            .then(|| Order { source: Source::ScalingPolicy(&policy.key.name), units })
    }))
}

fn selectors() -> impl Strategy<Value = Value> {
    let labels = prop::sample::select(vec![
        json!({}),
        json!({"app": "a"}),
        json!({"app": "b"}),
        json!({"app": "a", "track": "canary"}),
        json!({"track": "stable"}),
    ]);
    let expressions = prop::sample::select(vec![
        json!([]),
        json!([{"key": "app", "operator": "In", "values": ["a", "c"]}]),
        json!([{"key": "track", "operator": "DoesNotExist"}]),
    ]);
    (labels, expressions).prop_map(|(labels, expressions)| json!({"selector": labels, "matchExpressions": expressions}))
}

proptest! {
    #[test]
    fn orders_and_selections_are_those_of_a_search_through_all_policies(
        ordering in prop::collection::vec((prop::bool::ANY, "one|two", "[p-s]", selectors()), 0..6),
        scaling in prop::collection::vec(("one|two", "[p-s]", "[a-e]", 0..3_usize), 0..6),
    ) {
        let index = index();
        for (alibaba, namespace, name, selector) in &ordering {
            let kind = if *alibaba { Kind::ResourcePolicies } else { Kind::PluginResourcePolicies };
            resource_policy(&index, kind, (namespace, name), selector);
        }
        for (namespace, name, target, pools) in &scaling {
            scaling_policy(&index, (namespace, name), target, &["onprem", "cloud"][..*pools]);
        }
        let view = index.view();
        let orders = Orders::of(&view);
        for deployment in view.deployments.values() {
            prop_assert_eq!(orders.order(deployment), searched(&view, deployment));
        }
        for (policy, selected) in orders.selections(&view) {
            let deployments = view.deployments.values().map(|deployment| &**deployment);
            let all: Vec<_> = deployments
                .filter(|deployment| policy.selects(&deployment.key.namespace, &deployment.template_labels))
                .collect();
            prop_assert_eq!(selected, all);
        }
    }
}
