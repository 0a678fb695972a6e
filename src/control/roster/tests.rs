//! Clusters as JSON, and what is decided for in them.

use serde_json::{Value, json};

use super::*;
use crate::{
    attribution::scene::{SM, vocabulary},
    cluster::{Index, Scope},
};

fn index() -> Index {
    let kinds = [&Kind::MEASURED[..], &Kind::DECIDED].concat();
    let index = Index::new(&crate::config::Aggregate::default(), &kinds);
    for kind in kinds {
        index.reset(kind, &Scope::Cluster, Vec::new());
    }
    index
}

fn deployment(index: &Index, name: &str) {
    let object = json!({
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {}},
    });
    index.apply(Kind::Deployments, &object.to_string());
}

fn policy(index: &Index, name: &str, spec: &Value) {
    let created = format!("2026-01-02T03:04:{:02}Z", index.view().policies.len());
    let metadata = json!({"name": name, "namespace": "prod", "uid": name, "creationTimestamp": created});
    index.apply(Kind::ScalingPolicies, &json!({"metadata": metadata, "spec": spec}).to_string());
}

fn on(deployment: &str) -> Value {
    json!({"targetRef": {"kind": "Deployment", "name": deployment}, "maxReplicas": 3})
}

fn hpa(index: &Index, name: &str, deployment: &str, metric: &str) {
    let target = json!({"type": "AverageValue", "averageValue": "50"});
    let object = json!({
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"maxReplicas": 4, "scaleTargetRef": {"kind": "Deployment", "name": deployment},
                 "metrics": [{"type": "Pods", "pods": {"metric": {"name": metric}, "target": target}}]},
    });
    index.apply(Kind::Autoscalers, &object.to_string());
}

/// Whose, for which Deployment, and why not.
fn entries(index: &Index) -> Vec<(String, Option<String>, Option<&'static str>)> {
    let ours = |name: &str| name == SM;
    let entries = roster(&index.view(), &vocabulary(), ours).unwrap().into_iter();
    entries
        .map(|entry| {
            let whose = match &entry.subject {
                Subject::Policy(policy) => format!("policy {}", policy.key.name),
                Subject::Implied(hpa) => format!("hpa {}", hpa.key.name),
            };
            let deployment = entry.deployment.map(|deployment| deployment.key.name.to_string());
            (whose, deployment, entry.work.err().map(|refusal| refusal.reason()))
        })
        .collect()
}

#[test]
fn a_bad_policy_never_takes_its_neighbours() {
    let index = index();
    deployment(&index, "a");
    deployment(&index, "b");
    policy(&index, "good", &on("a"));
    policy(&index, "unreadable", &json!({"targetRef": 7}));
    policy(&index, "lost", &on("nowhere"));
    let mut day = on("b");
    day["behavior"] = json!({"scaleDown": {"window": "48h"}});
    policy(&index, "too-long", &day);
    let lines = [
        ("policy good", Some("a"), None),
        ("policy lost", None, Some("TargetNotFound")),
        ("policy too-long", Some("b"), Some("InvalidSpec")),
        ("policy unreadable", None, Some("InvalidSpec")),
    ];
    assert_eq!(entries(&index), lines.map(|(whose, target, why)| (whose.into(), target.map(String::from), why)));
}

#[test]
fn of_two_policies_for_one_deployment_the_older_one_works_and_the_other_says_so() {
    let index = index();
    deployment(&index, "a");
    policy(&index, "z-first", &on("a"));
    policy(&index, "a-second", &on("a"));
    let lines = [("policy a-second", Some("SecondPolicy")), ("policy z-first", None)];
    assert_eq!(entries(&index), lines.map(|(whose, why)| (whose.into(), Some("a".into()), why)));
}

#[test]
fn a_service_without_a_policy_whose_hpa_reads_our_metrics_gets_advice() {
    let index = index();
    for name in ["a", "b", "c", "d"] {
        deployment(&index, name);
    }
    hpa(&index, "ours", "a", SM);
    hpa(&index, "theirs", "b", "queue_length");
    hpa(&index, "one", "c", SM);
    hpa(&index, "two", "c", SM);
    hpa(&index, "with-policy", "d", SM);
    policy(&index, "d", &on("d"));
    let lines = [("policy d", "d"), ("hpa ours", "a")];
    assert_eq!(entries(&index), lines.map(|(whose, target)| (whose.into(), Some(target.into()), None)));
}

#[test]
fn nothing_is_decided_before_the_cluster_is_known() {
    for kind in [Kind::ScalingPolicies, Kind::Deployments, Kind::InferenceServices] {
        let index = index();
        index.lose(kind, &Scope::Cluster);
        let why = roster(&index.view(), &vocabulary(), |_| true).unwrap_err();
        assert!(why.contains(kind.name()), "{why}");
    }
}
