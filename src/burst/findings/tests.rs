use serde_json::{Value, json};

use super::*;
use crate::cluster::{Index, Scope};

const APP: &str = "isvc.qwen-chat-predictor";

/// A cluster with the services `qwen-chat-predictor` and `web`, with everything listed.
fn index() -> Index {
    let kinds = [&Kind::MEASURED[..], &Kind::DECIDED, &Kind::ORDERED].concat();
    let index = Index::new(&crate::config::Aggregate::default(), &kinds);
    for kind in kinds {
        index.reset(kind, &Scope::Cluster, Vec::new());
    }
    for (name, app) in [("qwen-chat-predictor", APP), ("web", "web")] {
        let deployment = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": app}}, "template": {"metadata": {"labels": {"app": app}}}},
        });
        index.apply(Kind::Deployments, &deployment.to_string());
    }
    index
}

fn unit(pool: &str) -> Value {
    json!({"resource": "ecs", "nodeSelector": {"pool": pool}})
}

fn order_by(index: &Index, name: &str, app: &str, units: &[Value]) {
    let policy = json!({
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"selector": {"app": app}, "units": units},
    });
    index.apply(Kind::ResourcePolicies, &policy.to_string());
}

fn scale_by(index: &Index, pools: &[&str]) {
    let pools: Vec<Value> = pools.iter().map(|name| json!({"name": name, "nodeSelector": {"pool": name}})).collect();
    let policy = json!({
        "metadata": {"name": "chat", "namespace": "default", "uid": "chat"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "qwen-chat-predictor"}, "maxReplicas": 3, "pools": pools},
    });
    index.apply(Kind::ScalingPolicies, &policy.to_string());
}

fn found(index: &Index) -> Vec<Finding> {
    Survey::of(&index.view()).findings()
}

fn words(index: &Index) -> Vec<(&'static str, Option<String>)> {
    let deployment = |finding: &Finding| finding.deployment.as_ref().map(|key| key.name.to_string());
    found(index).iter().map(|finding| (finding.fault.word(), deployment(finding))).collect()
}

fn stands(index: &Index) -> (Option<bool>, &'static str, String) {
    let view = index.view();
    let key = ObjectKey { namespace: "default".into(), name: "qwen-chat-predictor".into() };
    match Survey::of(&view).standing(&view.deployments[&key]) {
        Standing::Unknown => (None, "Unknown", String::new()),
        Standing::Unasked => (None, "Unasked", String::new()),
        Standing::Told { holds, reason, message } => (Some(holds), reason, message.to_string()),
    }
}

#[test]
fn the_seeds_mistake_is_found_at_the_service_that_it_nearly_selects() {
    let index = index();
    order_by(&index, "qwen-chat", "isvc.qwen-predictor", &[unit("onprem"), unit("cloud")]);
    assert_eq!(words(&index), [("SelectsNoPod", Some("qwen-chat-predictor".into()))]);
    let (holds, reason, message) = stands(&index);
    assert_eq!((holds, reason), (Some(false), "SelectsNoPod"));
    assert!(message.contains("app=isvc.qwen-predictor") && message.contains(&format!("app={APP}")), "{message}");
}

#[test]
fn a_right_policy_is_no_finding_and_stands_with_its_pools_in_order() {
    let index = index();
    order_by(&index, "qwen-chat", APP, &[unit("onprem"), unit("cloud")]);
    assert_eq!(words(&index), []);
    let (holds, reason, message) = stands(&index);
    assert_eq!((holds, reason), (Some(true), "ByResourcePolicy"), "{message}");
    assert_eq!(message, "by ResourcePolicy qwen-chat: 1 (ecs), then 2 (ecs)");
}

#[test]
fn fields_that_are_not_honoured_are_named_and_the_order_holds_all_the_same() {
    let index = index();
    let mut cloud = unit("cloud");
    cloud["spotInstance"] = json!(true);
    order_by(&index, "qwen-chat", APP, &[unit("onprem"), cloud]);
    assert_eq!(words(&index), [("FieldsNotHonoured", None)]);
    let (holds, reason, message) = stands(&index);
    assert_eq!((holds, reason), (Some(true), "FieldsNotHonoured"));
    assert!(message.contains("does not honour units[1].spotInstance: true"), "{message}");
}

#[test]
fn two_resource_policies_for_one_service_are_told_beside_both() {
    let index = index();
    order_by(&index, "a", APP, &[unit("onprem"), unit("cloud")]);
    order_by(&index, "b", APP, &[unit("cloud"), unit("onprem")]);
    let found = found(&index);
    let names: Vec<&str> = found.iter().map(|finding| &*finding.about.key.name).collect();
    assert_eq!((names, found[0].fault), (vec!["a", "b"], Fault::SeveralOrders));
    let (holds, reason, message) = stands(&index);
    assert_eq!((holds, reason), (Some(false), "SeveralOrders"));
    assert!(message.contains("ResourcePolicies a and b"), "{message}");
}

#[test]
fn a_resource_policy_and_spec_pools_may_say_the_same_and_not_different_things() {
    let index = index();
    order_by(&index, "qwen-chat", APP, &[unit("onprem"), unit("cloud")]);
    scale_by(&index, &["onprem", "cloud"]);
    assert_eq!(words(&index), []);
    scale_by(&index, &["cloud", "onprem"]);
    assert_eq!(words(&index), [("OrdersDiffer", Some("qwen-chat-predictor".into()))]);
    assert_eq!(stands(&index).1, "OrdersDiffer");
}

#[test]
fn pools_of_the_spec_stand_by_themselves_and_nobody_who_asks_for_none_is_told_of_any() {
    let index = index();
    assert_eq!(stands(&index).1, "Unasked");
    scale_by(&index, &["onprem", "cloud"]);
    let (holds, _, message) = stands(&index);
    assert_eq!((holds, &*message), (Some(true), "by spec.pools: onprem, then cloud"));
}

#[test]
fn where_bursting_is_off_an_order_that_is_asked_for_is_said_not_to_be_kept() {
    let kinds = [&Kind::MEASURED[..], &Kind::DECIDED].concat();
    let off = Index::new(&crate::config::Aggregate::default(), &kinds);
    let deployment = json!({
        "metadata": {"name": "qwen-chat-predictor", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": APP}}, "template": {"metadata": {"labels": {"app": APP}}}},
    });
    off.apply(Kind::Deployments, &deployment.to_string());
    assert_eq!(stands(&off).1, "Unasked");
    scale_by(&off, &["onprem", "cloud"]);
    assert_eq!((stands(&off).0, stands(&off).1), (Some(false), "NotEnabled"));
}

#[test]
fn r1_in_a_namespace_that_is_not_listed_nothing_is_found_and_elsewhere_everything_is() {
    let index = index();
    order_by(&index, "qwen-chat", "isvc.qwen-predictor", &[unit("onprem")]);
    let mut view = (*index.view()).clone();
    view.namespaces = ["default".into(), "other".into()].into();
    let found = |dark: &str| {
        let mut view = view.clone();
        view.unsynced_in.insert(dark.into(), ["deployments"].into());
        Survey::of(&view).findings().len()
    };
    assert_eq!([found("default"), found("other")], [0, 1]);
}

#[test]
fn r1_while_not_everything_is_listed_nothing_is_found_and_nothing_new_is_said() {
    let index = index();
    order_by(&index, "qwen-chat", "isvc.qwen-predictor", &[unit("onprem")]);
    index.lose(Kind::Deployments, &Scope::Cluster);
    assert_eq!(words(&index), []);
    assert_eq!(stands(&index).1, "Unknown");
}
