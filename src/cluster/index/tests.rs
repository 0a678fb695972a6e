//! Objects in, views out: no cluster, no waiting.

use serde_json::{Value, json};

use super::*;

/// A ready pod on a node.
pub(crate) fn pod(namespace: &str, name: &str, uid: &str, labels: &Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": labels, "resourceVersion": "1"},
        "spec": {"nodeName": "gpu-1", "containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]},
        "status": {"phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-01-02T03:00:02Z",
                   "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:01:40Z"}]},
    })
}

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey { namespace: namespace.into(), name: name.into() }
}

fn names_of(view: &View) -> Vec<String> {
    view.pods.keys().map(|key| format!("{}/{}", key.namespace, key.name)).collect()
}

fn apply(index: &Index, namespace: &str, name: &str, uid: &str) {
    index.apply(Kind::Pods, &pod(namespace, name, uid, &json!({"app": "x"})).to_string());
}

fn listed(index: &Index, pods: &[(&str, &str)]) -> Vec<Object> {
    pods.iter()
        .map(|(namespace, name)| index.decode(Kind::Pods, &pod(namespace, name, "u", &json!({})).to_string()).unwrap())
        .collect()
}

#[test]
fn what_is_applied_is_seen_and_what_is_deleted_is_gone() {
    let index = Index::default();
    apply(&index, "prod", "a", "u-1");
    apply(&index, "prod", "b", "u-2");
    assert_eq!(names_of(&index.view()), ["prod/a", "prod/b"]);
    index.delete(Kind::Pods, &key("prod", "a"));
    index.delete(Kind::Pods, &key("prod", "never-there"));
    index.delete(Kind::Nodes, &key("", "never-there"));
    assert_eq!(names_of(&index.view()), ["prod/b"]);
}

#[test]
fn a_pod_recreated_under_its_name_is_a_different_pod() {
    let index = Index::default();
    apply(&index, "prod", "a", "u-1");
    let before = index.view();
    apply(&index, "prod", "a", "u-2");
    assert_eq!(&*index.view().pods[&key("prod", "a")].uid, "u-2");
    assert_eq!(&*before.pods[&key("prod", "a")].uid, "u-1", "a view that was taken never changes");
}

#[test]
fn a_reset_removes_what_is_not_listed_within_its_scope_and_touches_nothing_else() {
    let index = Index::default();
    for (namespace, name) in [("prod", "a"), ("prod", "b"), ("test", "c")] {
        apply(&index, namespace, name, "u");
    }
    index.apply(Kind::Nodes, &json!({"metadata": {"name": "gpu-1"}}).to_string());
    index.reset(Kind::Pods, &Scope::Namespace("prod".into()), listed(&index, &[("prod", "b"), ("prod", "d")]));
    assert_eq!(names_of(&index.view()), ["prod/b", "prod/d", "test/c"]);
    index.reset(Kind::Pods, &Scope::Cluster, listed(&index, &[("test", "c")]));
    assert_eq!(names_of(&index.view()), ["test/c"]);
    assert_eq!(index.view().nodes.len(), 1);
    index.reset(Kind::Nodes, &Scope::Cluster, Vec::new());
    assert!(index.view().nodes.is_empty());
}

#[test]
fn an_object_that_can_no_longer_be_read_counts_as_deleted() {
    let index = Index::default();
    apply(&index, "prod", "a", "u-1");
    apply(&index, "prod", "b", "u-2");
    let mut broken = pod("prod", "a", "u-1", &json!({}));
    broken["spec"]["containers"] = json!(7);
    index.apply(Kind::Pods, &broken.to_string());
    assert_eq!(names_of(&index.view()), ["prod/b"], "its neighbour lives");
    index.apply(Kind::Pods, "no JSON at all");
    assert_eq!(names_of(&index.view()), ["prod/b"]);
    apply(&index, "prod", "a", "u-1");
    assert_eq!(names_of(&index.view()), ["prod/a", "prod/b"], "and it is back once it can be read");
}

#[test]
fn every_kind_is_kept_under_its_own_name() {
    let index = Index::default();
    for (kind, object) in [
        (
            Kind::Deployments,
            json!({"metadata": {"name": "o", "namespace": "n"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {}}}),
        ),
        (Kind::InferenceServices, json!({"metadata": {"name": "o", "namespace": "n"}})),
        (Kind::CoreServices, json!({"metadata": {"name": "o", "namespace": "n"}})),
        (Kind::Nodes, json!({"metadata": {"name": "o"}})),
        (
            Kind::Autoscalers,
            json!({"metadata": {"name": "o", "namespace": "n"}, "spec": {"maxReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        ),
    ] {
        let count = |view: &View| {
            [
                view.pods.len(),
                view.deployments.len(),
                view.inference_services.len(),
                view.core_services.len(),
                view.nodes.len(),
                view.autoscalers.len(),
            ]
        };
        let position = Kind::MEASURED.iter().position(|k| *k == kind).unwrap();
        let mut expected = [0; 6];
        index.apply(kind, &object.to_string());
        expected[position] = 1;
        assert_eq!(count(&index.view()), expected, "{kind}");
        index.delete(kind, &decode::key(&object.to_string()).unwrap());
        assert_eq!(count(&index.view()), [0; 6], "{kind}");
    }
}

#[test]
fn r1_nothing_is_known_of_a_kind_in_a_namespace_until_its_watch_there_has_listed() {
    let aggregate =
        config::Aggregate { namespaces: vec!["b".into(), "a".into(), "b".into()], ..config::Aggregate::default() };
    let index = Index::new(&aggregate, &Kind::MEASURED);
    assert_eq!(index.view().unsynced.len(), Kind::MEASURED.len());
    assert_eq!(index.watches().len(), 5 * 2 + 1, "nodes do not live in namespaces");
    let [a, b] = ["a", "b"].map(|name| Scope::Namespace(name.into()));
    let why = |namespace| index.view().unknown(&[Kind::Pods], namespace);
    let of_b = Some("pods in namespace b are not listed".to_owned());
    assert_eq!([why("a"), why("b")], [(); 2].map(|()| Some("pods are not listed".to_owned())));
    index.reset(Kind::Pods, &a, Vec::new());
    assert_eq!([why("a"), why("b")], [None, of_b.clone()], "each namespace for itself");
    assert!(!index.view().unsynced.contains("pods"), "they are known somewhere");
    index.reset(Kind::Pods, &b, Vec::new());
    assert_eq!([why("a"), why("b")], [None, None]);
    apply(&index, "b", "p", "u");
    index.lose(Kind::Pods, &b);
    assert_eq!([why("a"), why("b")], [None, of_b]);
    assert_eq!(index.view().pods.len(), 1, "what was known stays beside the word that it may be wrong");
    index.lose(Kind::Pods, &a);
    assert!(index.view().unsynced.contains("pods"));
    let elsewhere = "namespace c is not among those that are watched (aggregate.namespaces)";
    index.reset(Kind::Pods, &a, Vec::new());
    assert_eq!(why("c"), Some(elsewhere.to_owned()));
    index.reset(Kind::Nodes, &Scope::Cluster, Vec::new());
    assert!(index.view().knows(Kind::Nodes, "c"), "nodes do not live in namespaces");
}

#[test]
fn only_a_change_of_a_used_field_is_a_change() {
    let index = Index::default();
    let mut changes = index.changes();
    apply(&index, "prod", "a", "u");
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let view = index.view();
    let mut annotated = pod("prod", "a", "u", &json!({"app": "x"}));
    annotated["metadata"]["annotations"] = json!({"seen": "now"});
    annotated["metadata"]["resourceVersion"] = json!("2");
    index.apply(Kind::Pods, &annotated.to_string());
    index.delete(Kind::Pods, &key("prod", "b"));
    assert!(!changes.has_changed().unwrap());
    assert!(Arc::ptr_eq(&view, &index.view()), "the same picture is the same view");
    index.lose(Kind::Pods, &Scope::Cluster);
    assert!(!changes.has_changed().unwrap(), "it never was in sync");
}
