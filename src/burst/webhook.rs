//! The admission webhook (`admission.k8s.io/v1`) that lets new pods prefer their service's pools in order.
//!
//! It only ever adds a preference, and a requirement to stay out of a pool that is at its maximum; and answers "allowed"
//! whatever happens: a pod that cannot be read, a service without order, a cluster that is not known yet. Registered with
//! `failurePolicy: Ignore` and for namespaces that opt in by label, so that a Tidegate that is down never keeps a pod from
//! being made.

use std::sync::{Arc, OnceLock};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    affinity,
    maximum::{self, Admitted},
};
use crate::{
    clock::Clock,
    cluster::{Deployment, View, view::Labels},
    policy::order::Orders,
    publish::Publisher,
};

/// Where the API server posts its reviews.
pub const PATH: &str = "/mutate-pods";
/// Largest review, bytes: an object may have 1.5 MiB in etcd, and a review holds little beside it (R22).
const MAX_REVIEW: usize = 3 << 20;
const API_VERSION: &str = "admission.k8s.io/v1";

/// `AdmissionReview`, as far as it is read.
#[derive(Debug, Deserialize)]
struct Review {
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    operation: String,
    /// Nothing will come of it.
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    object: Value,
}

/// `AdmissionReview`, as it is answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
}

/// What reviews are answered from.
#[derive(Debug, Clone)]
struct Server {
    publisher: Arc<Publisher>,
    /// Whether the cluster's own scheduler honours ResourcePolicies, once that is known.
    honours: Arc<OnceLock<bool>>,
    admitted: Arc<Mutex<Admitted>>,
    clock: Clock,
}

/// The webhook's routes. Nothing is patched until it is known that the cluster's own scheduler does not honour
/// ResourcePolicies.
pub fn routes(publisher: Arc<Publisher>, honours: Arc<OnceLock<bool>>, clock: Clock) -> Router {
    let server = Server { publisher, honours, admitted: Arc::default(), clock };
    Router::new().route(PATH, post(review)).layer(DefaultBodyLimit::max(MAX_REVIEW)).with_state(server)
}

async fn review(State(server): State<Server>, Json(review): Json<Review>) -> Json<Answer> {
    let Server { publisher, honours, admitted, clock } = server;
    let Review { request: Request { uid, namespace, operation, dry_run, object } } = review;
    let snapshot = publisher.snapshot();
    let patch = (operation == "CREATE" && honours.get() == Some(&false))
        .then(|| patch(&snapshot.view, &namespace, &object, &mut admitted.lock(), (clock.now(), !dry_run)))
        .flatten();
    if patch.is_some() {
        let name = object["metadata"]["generateName"].as_str().unwrap_or_default();
        tracing::debug!(%namespace, pod = name, "a new pod prefers its pools in order");
    }
    let patch = patch.map(|patch| ByteString(patch.to_string().into_bytes()));
    let patch_type = patch.as_ref().map(|_| "JSONPatch");
    let response = Response { uid, allowed: true, patch_type, patch };
    Json(Answer { api_version: API_VERSION, kind: "AdmissionReview", response })
}

/// The patch for a new pod at this time, which is counted unless nothing will come of it; `None`: it stays as it is.
fn patch(
    view: &View,
    namespace: &str,
    pod: &Value,
    admitted: &mut Admitted,
    (now, counts): (Timestamp, bool),
) -> Option<Value> {
    let labels: Labels = serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default();
    let owner = owner(view, namespace, &labels)?;
    let order = Orders::of(view).order(owner).ok().flatten()?;
    let closed = if order.units.iter().any(|unit| unit.max.is_some()) {
        let closed = maximum::closed(view, owner, &order.units, admitted.unseen(view, owner, now));
        if counts {
            admitted.count(owner, now);
        }
        closed
    } else {
        vec![false; order.units.len()]
    };
    affinity::patch(pod, &order.units, &closed)
}

/// The Deployment that the pod is one of.
fn owner<'v>(view: &'v View, namespace: &str, labels: &Labels) -> Option<&'v Deployment> {
    let mut in_namespace = view.deployments.values().filter(|deployment| *deployment.key.namespace == *namespace);
    in_namespace
        .find(|deployment| deployment.selector.matches(|key| labels.get(key).map(|value| &**value)))
        .map(|deployment| &**deployment)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::{Index, Kind};

    /// A cluster with the service `qwen-chat-predictor` and a ResourcePolicy with this selector.
    fn view(selector: &Value) -> Arc<View> {
        let index = Index::new(
            &crate::config::Aggregate::default(),
            &[&Kind::MEASURED[..], &Kind::DECIDED, &Kind::ORDERED].concat(),
        );
        let labels = json!({"app": "isvc.qwen-chat-predictor", "component": "predictor"});
        let deployment = json!({
            "metadata": {"name": "qwen-chat-predictor", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "isvc.qwen-chat-predictor"}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": []}},
            },
        });
        let policy = json!({
            "metadata": {"name": "qwen-chat", "namespace": "default"},
            "spec": {"selector": selector, "units": [
                {"resource": "ecs", "nodeSelector": {"pool": "onprem"}}, {"resource": "elastic", "nodeSelector": {"pool": "cloud"}},
            ]},
        });
        index.apply(Kind::Deployments, &deployment.to_string());
        index.apply(Kind::ResourcePolicies, &policy.to_string());
        index.view()
    }

    fn patch(view: &View, namespace: &str, pod: &Value) -> Option<Value> {
        super::patch(view, namespace, pod, &mut Admitted::default(), (Timestamp::UNIX_EPOCH, true))
    }

    fn pod() -> Value {
        json!({"metadata": {"labels": {"app": "isvc.qwen-chat-predictor", "pod-template-hash": "1"}}, "spec": {"containers": []}})
    }

    #[test]
    fn r19_a_pod_of_an_ordered_service_prefers_the_first_pool() {
        let view = view(&json!({"app": "isvc.qwen-chat-predictor"}));
        let patch = patch(&view, "default", &pod()).expect("there is something to prefer");
        assert_eq!(patch[0]["path"], "/spec/affinity");
        assert_eq!(patch[0]["value"]["nodeAffinity"].as_object().unwrap().len(), 1, "nothing is required: {patch}");
        let term = &patch[0]["value"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(term["preference"]["matchExpressions"][0]["values"], json!(["onprem"]));
    }

    #[test]
    fn a_pod_of_another_namespace_or_service_and_a_policy_that_selects_nothing_change_nothing() {
        let right = view(&json!({"app": "isvc.qwen-chat-predictor"}));
        assert_eq!(patch(&right, "other", &pod()), None);
        assert_eq!(patch(&right, "default", &json!({"metadata": {"labels": {"app": "web"}}})), None);
        assert_eq!(patch(&right, "default", &json!({})), None);
        let seed = view(&json!({"app": "isvc.qwen-predictor"}));
        assert_eq!(patch(&seed, "default", &pod()), None, "the seed's selector");
    }
}
