//! Clusters as JSON, and what may be scaled in them.

use serde_json::{Value, json};

use super::*;
use crate::cluster::{Index, Kind, Scope};

fn index() -> Index {
    let kinds = [&Kind::MEASURED[..], &Kind::DECIDED].concat();
    let index = Index::new(&crate::config::Aggregate::default(), &kinds);
    for kind in kinds {
        index.reset(kind, &Scope::Cluster, Vec::new());
    }
    index
}

fn deployment(index: &Index, name: &str, service: Option<&str>) {
    let mut labels = json!({"app": name});
    if let Some(service) = service {
        labels["component"] = json!("predictor");
        labels["serving.kserve.io/inferenceservice"] = json!(service);
    }
    let object = json!({
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": labels}}},
    });
    index.apply(Kind::Deployments, &object.to_string());
}

fn service(index: &Index, name: &str, class: Option<&str>, spec: &Value) {
    let annotations = class.map(|class| json!({"serving.kserve.io/autoscalerClass": class}));
    let object = json!({"metadata": {"name": name, "namespace": "prod", "annotations": annotations}, "spec": spec});
    index.apply(Kind::InferenceServices, &object.to_string());
}

fn autoscaler(index: &Index, name: &str, deployment: &str, metric: &str) {
    let object = json!({
        "metadata": {"name": name, "namespace": "prod"},
        "spec": {
            "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": deployment},
            "metrics": [{"type": "External", "external": {"metric": {"name": metric}, "target": {"type": "AverageValue", "averageValue": "1"}}}],
        },
    });
    index.apply(Kind::Autoscalers, &object.to_string());
}

fn scaled_object(index: &Index, name: &str, deployment: &str) {
    let object =
        json!({"metadata": {"name": name, "namespace": "prod"}, "spec": {"scaleTargetRef": {"name": deployment}}});
    index.apply(Kind::ScaledObjects, &object.to_string());
}

fn target(kind: TargetKind, name: &str) -> TargetRef {
    TargetRef { kind, name: name.into() }
}

fn found(index: &Index, kind: TargetKind, name: &str) -> Result<String, &'static str> {
    let view = index.view();
    let outcome = find(&view, "prod", &target(kind, name));
    outcome.map(|deployment| deployment.key.name.to_string()).map_err(|refusal| refusal.reason())
}

#[test]
fn an_inference_service_stands_for_its_predictor_and_a_deployment_for_itself() {
    use TargetKind::{Deployment, InferenceService};
    let index = index();
    service(&index, "llm", Some("external"), &json!({}));
    assert_eq!(found(&index, InferenceService, "llm"), Err("TargetNotFound"), "not deployed yet");
    deployment(&index, "llm-predictor", Some("llm"));
    deployment(&index, "llm-canary-predictor", Some("llm"));
    deployment(&index, "plain", None);
    assert_eq!(found(&index, InferenceService, "llm"), Ok("llm-predictor".into()), "the usual name goes first");
    assert_eq!(found(&index, Deployment, "plain"), Ok("plain".into()));
    assert_eq!(found(&index, Deployment, "nobody"), Err("TargetNotFound"));
    assert_eq!(found(&index, InferenceService, "plain"), Err("TargetNotFound"));
    service(&index, "two", Some("external"), &json!({}));
    deployment(&index, "two-a-predictor", Some("two"));
    assert_eq!(found(&index, InferenceService, "two"), Ok("two-a-predictor".into()), "or else the only one");
    deployment(&index, "two-b-predictor", Some("two"));
    assert_eq!(found(&index, InferenceService, "two"), Err("TargetAmbiguous"));
    assert!(find(&index.view(), "other", &target(Deployment, "plain")).is_err(), "in its own namespace only");
}

/// R18, and what KServe was measured to do.
#[test]
fn one_owner_at_a_time() {
    use Mode::{Act, Advise};
    let none = json!({});
    let workers = json!({"predictor": {"workerSpec": {}}});
    for (class, spec, advise, act) in [
        (Some("external"), &none, None, None),
        (Some("none"), &none, Some("AutoscalerClassNone"), Some("AutoscalerClassNone")),
        (Some("hpa"), &none, None, Some("ForeignOwner")),
        (None, &none, None, Some("ForeignOwner")),
        (Some("keda"), &none, None, Some("ForeignOwner")),
        (Some("none"), &workers, Some("MultiNode"), Some("MultiNode")),
    ] {
        let index = index();
        service(&index, "llm", class, spec);
        deployment(&index, "llm-predictor", Some("llm"));
        let view = index.view();
        let (_, deployment) = view.deployments.first_key_value().unwrap();
        for (mode, expected) in [(Advise, advise), (Act, act)] {
            let outcome = may(&view, deployment, mode).err().map(|refusal| refusal.reason());
            assert_eq!(outcome, expected, "{class:?} {mode:?}");
        }
    }
}

#[test]
fn an_hpa_or_a_scaled_object_on_the_same_deployment_is_an_owner_whatever_it_reads() {
    for foreign in [
        |index: &Index| autoscaler(index, "theirs", "llm", "queue_length"),
        |index: &Index| autoscaler(index, "follows", "llm", DESIRED_METRIC),
        |index: &Index| scaled_object(index, "keda", "llm"),
    ] {
        let index = index();
        deployment(&index, "llm", None);
        deployment(&index, "other", None);
        autoscaler(&index, "elsewhere", "other", "queue_length");
        let of = |view: &Arc<View>, name: &str| {
            let key = ObjectKey { namespace: "prod".into(), name: name.into() };
            may(view, &view.deployments[&key], Mode::Act)
        };
        assert_eq!(of(&index.view(), "llm"), Ok(()));
        foreign(&index);
        let refusal = of(&index.view(), "llm").unwrap_err();
        assert_eq!(refusal.reason(), "ForeignOwner");
        assert!(refusal.to_string().contains("already scales Deployment llm; there must be one owner"), "{refusal}");
    }
}

#[test]
fn of_two_policies_for_one_target_the_older_one_counts() {
    let index = index();
    for (name, created) in [("b", "2026-01-02T03:04:05Z"), ("a", "2026-01-02T03:04:06Z"), ("c", "2026-01-02T03:04:05Z")]
    {
        let object = json!({
            "metadata": {"name": name, "namespace": "prod", "uid": name, "creationTimestamp": created},
            "spec": {"targetRef": {"kind": "Deployment", "name": "llm"}, "maxReplicas": 2},
        });
        index.apply(Kind::ScalingPolicies, &object.to_string());
    }
    let view = index.view();
    let all: Vec<_> = view.policies.values().collect();
    assert_eq!(&*first(&all).unwrap().key.name, "b");
    assert!(first(&[]).is_none());
}

#[test]
fn acting_needs_to_see_who_else_scales() {
    for kind in [Kind::Autoscalers, Kind::ScaledObjects] {
        let index = index();
        deployment(&index, "llm", None);
        index.lose(kind, &Scope::Cluster);
        let view = index.view();
        let (_, deployment) = view.deployments.first_key_value().unwrap();
        assert_eq!(may(&view, deployment, Mode::Act).unwrap_err().reason(), "OwnersUnknown");
        assert_eq!(may(&view, deployment, Mode::Advise), Ok(()));
    }
}

#[test]
fn advice_is_followed_by_the_one_hpa_that_reads_it() {
    let index = index();
    deployment(&index, "llm", None);
    let following = |index: &Index| {
        let view = index.view();
        let (_, deployment) = view.deployments.first_key_value().unwrap();
        following(&view, deployment)
    };
    assert_eq!(following(&index), Following::Nobody);
    autoscaler(&index, "theirs", "llm", "queue_length");
    assert_eq!(following(&index), Following::Other(Owner::Autoscaler("theirs".into())));
    autoscaler(&index, "theirs", "llm", DESIRED_METRIC);
    assert_eq!(following(&index), Following::By { autoscaler: "theirs".into(), exact: false });
    autoscaler(&index, "another", "llm", DESIRED_METRIC);
    assert_eq!(following(&index), Following::Several(vec!["another".into(), "theirs".into()]));
}
