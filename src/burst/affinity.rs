//! The way out: new pods prefer the pools in their order, and keep out of those that are at their maximum.
//!
//! Without it the default scheduler's scores decide, and those favour an empty cloud node over a small on-premises one.
//! A preferred node affinity of any weight outweighs them (measured with kube-scheduler 1.36). It only prefers: a pod
//! that fits nowhere else still goes to the cloud, and node autoscalers ignore preferred terms. A maximum is a required
//! term, which node autoscalers heed: the nodes of the next pool come although there is room in the full one.

use serde_json::{Map, Value, json};

use crate::cluster::Unit;

/// The field of a node affinity that only prefers.
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// The field of a node affinity that must hold.
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
/// Largest weight of a preferred term (`core/v1` PreferredSchedulingTerm: 1 to 100).
const MAX_WEIGHT: usize = 100;
/// Most required terms that are written (R22): each label of each closed pool multiplies them. Beyond it pods are not kept
/// out of those pools.
const MAX_TERMS: usize = 64;

/// The preferred terms for these pools: the first gets the largest weight, the last none, because preferring it would
/// change nothing. Pools without a node selector cannot be preferred, and those that are closed are not.
#[must_use]
pub fn preferred_terms(units: &[Unit], closed: &[bool]) -> Vec<Value> {
    let steps = units.len().saturating_sub(1).min(MAX_WEIGHT);
    units
        .iter()
        .take(steps)
        .enumerate()
        .filter(|(rank, unit)| !unit.node_selector.is_empty() && !closed.get(*rank).copied().unwrap_or(false))
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

/// `terms` (any of which a node must match; none: each node does), narrowed to nodes outside of the closed pools. A node is
/// in a pool if it has all of its labels, and so is outside if any differs. `None` if that takes too many terms.
fn outside(terms: &[Value], units: &[Unit], closed: &[bool]) -> Option<Vec<Value>> {
    let mut terms = if terms.is_empty() { vec![json!({})] } else { terms.to_vec() };
    let shut = units.iter().zip(closed).filter(|(unit, closed)| **closed && !unit.node_selector.is_empty());
    for (unit, _) in shut {
        if terms.len() * unit.node_selector.len() > MAX_TERMS {
            return None;
        }
        let differs = |term: &Value| -> Vec<Value> {
            unit.node_selector
                .iter()
                .map(|(key, value)| {
                    let mut narrowed = term.clone();
                    let expression = json!({"key": key, "operator": "NotIn", "values": [value]});
                    match narrowed["matchExpressions"].as_array_mut() {
                        Some(expressions) => expressions.push(expression),
                        None => narrowed["matchExpressions"] = json!([expression]),
                    }
                    narrowed
                })
                .collect()
        };
        terms = terms.iter().flat_map(differs).collect();
    }
    Some(terms)
}

/// The JSON patch (RFC 6902) that lets this pod prefer the pools in their order and keep out of the closed ones. `None` if
/// there is nothing to say, or if the pod already chooses its node by one of the pools' labels: whoever wrote that knew
/// more. What the pod has stays.
#[must_use]
pub fn patch(pod: &Value, units: &[Unit], closed: &[bool]) -> Option<Value> {
    if chooses_by(pod, units) {
        return None;
    }
    let object = |value: &Value| -> Map<String, Value> { value.as_object().cloned().unwrap_or_default() };
    let mut affinity = object(&pod["spec"]["affinity"]);
    let mut node = object(&affinity.get("nodeAffinity").cloned().unwrap_or_default());
    let before = node.clone();
    let terms = preferred_terms(units, closed);
    if !terms.is_empty() {
        let own = node.get(PREFERRED).and_then(Value::as_array).cloned().unwrap_or_default();
        node.insert(PREFERRED.into(), own.into_iter().chain(terms).collect());
    }
    if closed.contains(&true) {
        let own = node.get(REQUIRED).and_then(|required| required["nodeSelectorTerms"].as_array()).cloned();
        if let Some(terms) = outside(&own.unwrap_or_default(), units, closed).filter(|terms| *terms != [json!({})]) {
            node.insert(REQUIRED.into(), json!({"nodeSelectorTerms": terms}));
        }
    }
    if node == before {
        return None;
    }
    affinity.insert("nodeAffinity".into(), node.into());
    Some(json!([{"op": "add", "path": "/spec/affinity", "value": affinity}]))
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
        assert_eq!(preferred_terms(&pools(&["onprem", "cloud"]), &[]), [preference(100, "onprem")]);
        assert_eq!(preferred_terms(&pools(&["a", "b", "c"]), &[]), [preference(100, "a"), preference(50, "b")]);
        assert_eq!(preferred_terms(&pools(&["only"]), &[]), Vec::<Value>::new());
        assert_eq!(preferred_terms(&[unit(None), unit(Some(("pool", "cloud")))], &[]), Vec::<Value>::new());
    }

    #[test]
    fn weights_stay_within_what_the_api_allows_and_never_rise() {
        let names: Vec<String> = (0..300).map(|n| n.to_string()).collect();
        let units: Vec<Unit> = names.iter().map(|name| unit(Some(("pool", name)))).collect();
        let weights: Vec<u64> =
            preferred_terms(&units, &[]).iter().map(|term| term["weight"].as_u64().unwrap()).collect();
        assert!(weights.iter().all(|weight| (1..=100).contains(weight)), "{weights:?}");
        assert!(weights.is_sorted_by(|a, b| a >= b), "{weights:?}");
    }

    /// The affinity that the pod has after the patch.
    fn patched(spec: &Value, units: &[Unit], closed: &[bool]) -> Value {
        let patch = patch(&json!({"spec": spec}), units, closed).expect("there is something to say");
        assert_eq!((&patch[0]["op"], &patch[0]["path"]), (&json!("add"), &json!("/spec/affinity")), "one operation");
        patch[0]["value"].clone()
    }

    #[test]
    fn the_patch_adds_to_what_the_pod_has_and_replaces_nothing() {
        let units = pools(&["onprem", "cloud"]);
        let term = preference(100, "onprem");
        let zone = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]});
        let own = json!({"weight": 1, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}});
        for (affinity, expected) in [
            (Value::Null, json!({"nodeAffinity": {PREFERRED: [term]}})),
            (json!({"podAntiAffinity": {}}), json!({"podAntiAffinity": {}, "nodeAffinity": {PREFERRED: [term]}})),
            (json!({"nodeAffinity": {REQUIRED: zone}}), json!({"nodeAffinity": {REQUIRED: zone, PREFERRED: [term]}})),
            (json!({"nodeAffinity": {PREFERRED: [own]}}), json!({"nodeAffinity": {PREFERRED: [own, term]}})),
        ] {
            assert_eq!(patched(&json!({"affinity": affinity}), &units, &[false, false]), expected, "{affinity}");
        }
    }

    #[test]
    fn a_pod_keeps_out_of_a_pool_at_its_maximum_and_prefers_the_next_instead() {
        let units = pools(&["onprem", "edge", "cloud"]);
        let not = |pool: &str| json!({"key": "pool", "operator": "NotIn", "values": [pool]});
        let closed = patched(&json!({}), &units, &[true, false, false]);
        assert_eq!(
            closed,
            json!({"nodeAffinity": {
                PREFERRED: [preference(50, "edge")],
                REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [not("onprem")]}]},
            }})
        );
        let both = patched(&json!({}), &units, &[true, true, false]);
        let terms = &both["nodeAffinity"][REQUIRED]["nodeSelectorTerms"];
        assert_eq!(*terms, json!([{"matchExpressions": [not("onprem"), not("edge")]}]));
    }

    #[test]
    fn each_own_requirement_of_the_pod_still_holds_beside_a_maximum() {
        let mut units = pools(&["onprem", "cloud"]);
        units[0].node_selector.insert("gpu".into(), "v100".into());
        let zone = |name: &str| json!({"key": "zone", "operator": "In", "values": [name]});
        let terms = json!([{"matchExpressions": [zone("a")]}, {"matchExpressions": [zone("b")]}]);
        let spec = json!({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}});
        let affinity = patched(&spec, &units, &[true, false]);
        let narrowed = affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].as_array().unwrap().clone();
        // Outside is who differs in either label, in either zone.
        let zones: Vec<_> = narrowed.iter().map(|term| term["matchExpressions"][0].clone()).collect();
        assert_eq!(zones, [zone("a"), zone("a"), zone("b"), zone("b")]);
        let keys: Vec<_> = narrowed.iter().map(|term| term["matchExpressions"][1]["key"].clone()).collect();
        assert_eq!(keys, ["gpu", "pool", "gpu", "pool"]);
    }

    #[test]
    fn r22_a_maximum_that_takes_too_many_terms_is_not_written() {
        let mut unit = unit(None);
        unit.node_selector = (0..9).map(|i| (Arc::from(format!("k{i}")), Arc::from("v"))).collect();
        let units = [unit.clone(), unit, pools(&["cloud"]).remove(0)];
        assert_eq!(patch(&json!({"spec": {}}), &units, &[true, true, false]), None);
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
            assert_eq!(patch(&json!({"spec": spec}), &units, &[true, false]), None, "{spec}");
        }
        let other = json!({"spec": {"nodeSelector": {"zone": "a"}}});
        assert!(patch(&other, &units, &[false, false]).is_some(), "another label is no choice among the pools");
    }
}
