//! The way out: new pods prefer the pools in their order.
//!
//! Without it the default scheduler's scores decide, and those favour an empty cloud node over a small on-premises one.
//! A preferred node affinity of any weight outweighs them (measured with kube-scheduler 1.36). It only prefers: a pod
//! that fits nowhere else still goes to the cloud, and node autoscalers ignore preferred terms.

use serde_json::{Value, json};

use super::Unit;

/// The field of a node affinity that only prefers.
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// Largest weight of a preferred term (`core/v1` PreferredSchedulingTerm: 1 to 100).
const MAX_WEIGHT: usize = 100;

/// The preferred terms for these pools: the first gets the largest weight, the last none, because preferring it would
/// change nothing. Pools without a node selector cannot be preferred.
#[must_use]
pub fn preferred_terms(units: &[Unit]) -> Vec<Value> {
    let steps = units.len().saturating_sub(1).min(MAX_WEIGHT);
    units
        .iter()
        .take(steps)
        .enumerate()
        .filter(|(_, unit)| !unit.node_selector.is_empty())
        .map(|(rank, unit)| {
            let expressions: Vec<_> = unit
                .node_selector
                .iter()
                .map(|(key, value)| json!({"key": key, "operator": "In", "values": [value]}))
                .collect();
            let weight = MAX_WEIGHT * (steps - rank) / steps;
            json!({"weight": weight, "preference": {"matchExpressions": expressions}})
        })
        .collect()
}

/// The JSON patch (RFC 6902) that lets this pod prefer the pools in their order. `None` if there is nothing to prefer, or
/// if the pod already chooses its node by one of the pools' labels: whoever wrote that knew more.
#[must_use]
pub fn patch(pod: &Value, units: &[Unit]) -> Option<Value> {
    let terms = preferred_terms(units);
    if terms.is_empty() || chooses_by(pod, units) {
        return None;
    }
    let affinity = &pod["spec"]["affinity"];
    let node = &affinity["nodeAffinity"];
    let preferred = &node[PREFERRED];
    let operations = if preferred.is_array() {
        let path = format!("/spec/affinity/nodeAffinity/{PREFERRED}/-");
        terms.into_iter().map(|term| json!({"op": "add", "path": path, "value": term})).collect()
    } else if node.is_object() {
        vec![json!({"op": "add", "path": format!("/spec/affinity/nodeAffinity/{PREFERRED}"), "value": terms})]
    } else if affinity.is_object() {
        vec![json!({"op": "add", "path": "/spec/affinity/nodeAffinity", "value": {PREFERRED: terms}})]
    } else {
        vec![json!({"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": {PREFERRED: terms}}})]
    };
    Some(Value::Array(operations))
}

/// Whether the pod's own node selector or node affinity names a label of a pool, or it is bound already.
fn chooses_by(pod: &Value, units: &[Unit]) -> bool {
    let spec = &pod["spec"];
    if spec["nodeName"].as_str().is_some_and(|name| !name.is_empty()) {
        return true;
    }
    let ours = |key: &str| units.iter().any(|unit| unit.node_selector.contains_key(key));
    let selected = spec["nodeSelector"].as_object().is_some_and(|labels| labels.keys().any(|key| ours(key)));
    selected || names_key(&spec["affinity"]["nodeAffinity"], &ours)
}

/// Whether some `{"key": …}` within is one of ours. Node affinities nest three deep.
fn names_key(value: &Value, ours: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::Object(fields) => {
            fields.get("key").and_then(Value::as_str).is_some_and(ours)
                || fields.values().any(|field| names_key(field, ours))
        }
        Value::Array(items) => items.iter().any(|item| names_key(item, ours)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn unit(label: Option<(&str, &str)>) -> Unit {
        let node_selector = label.into_iter().map(|(key, value)| (Arc::from(key), Arc::from(value))).collect();
        Unit { name: "u".into(), node_selector, max: None }
    }

    fn pools(names: &[&'static str]) -> Vec<Unit> {
        names.iter().map(|name| unit(Some(("pool", name)))).collect()
    }

    fn preference(weight: u32, pool: &str) -> Value {
        json!({"weight": weight, "preference": {"matchExpressions": [{"key": "pool", "operator": "In", "values": [pool]}]}})
    }

    #[test]
    fn r19_the_first_pool_is_preferred_most_and_the_last_not_at_all() {
        assert_eq!(preferred_terms(&pools(&["onprem", "cloud"])), [preference(100, "onprem")]);
        assert_eq!(preferred_terms(&pools(&["a", "b", "c"])), [preference(100, "a"), preference(50, "b")]);
        assert_eq!(preferred_terms(&pools(&["only"])), Vec::<Value>::new());
        assert_eq!(preferred_terms(&[unit(None), unit(Some(("pool", "cloud")))]), Vec::<Value>::new());
    }

    #[test]
    fn weights_stay_within_what_the_api_allows_and_never_rise() {
        let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let units: Vec<Unit> = names.iter().map(|name| unit(Some(("pool", name)))).collect();
        let weights: Vec<u64> = preferred_terms(&units).iter().map(|term| term["weight"].as_u64().unwrap()).collect();
        assert!(weights.iter().all(|weight| (1..=100).contains(weight)), "{weights:?}");
        assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
    }

    #[test]
    fn the_patch_adds_to_what_the_pod_has_and_replaces_nothing() {
        let units = pools(&["onprem", "cloud"]);
        let term = preference(100, "onprem");
        for (spec, path, value) in [
            (
                json!({}),
                "/spec/affinity",
                json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}),
            ),
            (
                json!({"affinity": {"podAntiAffinity": {}}}),
                "/spec/affinity/nodeAffinity",
                json!({"preferredDuringSchedulingIgnoredDuringExecution": [term]}),
            ),
            (
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}}),
                "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution",
                json!([term]),
            ),
            (
                json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}),
                "/spec/affinity/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution/-",
                term.clone(),
            ),
        ] {
            let patched = patch(&json!({"spec": spec}), &units);
            assert_eq!(patched, Some(json!([{"op": "add", "path": path, "value": value}])), "{spec}");
        }
    }

    #[test]
    fn a_pod_that_chooses_by_a_pools_label_is_left_alone() {
        let units = pools(&["onprem", "cloud"]);
        let term = json!({"matchExpressions": [{"key": "pool", "operator": "NotIn", "values": ["cloud"]}]});
        for spec in [
            json!({"nodeSelector": {"pool": "cloud"}}),
            json!({"nodeName": "gpu-1"}),
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
            json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": term}]}}}),
        ] {
            assert_eq!(patch(&json!({"spec": spec}), &units), None, "{spec}");
        }
        let other = json!({"spec": {"nodeSelector": {"zone": "a"}}});
        assert!(patch(&other, &units).is_some(), "another label is no choice among the pools");
    }
}
