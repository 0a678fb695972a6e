//! The mistake that is in the seed: its ResourcePolicy selects `app: isvc.qwen-predictor`, and the pods of the service that its
//! command makes have `app: isvc.qwen-chat-predictor`.

use k8s_openapi::api::core::v1::{Affinity, Pod};
use kube::{Api, api::ListParams};

use super::{
    cluster::{kubectl::kubectl, namespace::Namespace, wait::eventually},
    fleet::{ONPREM, PREDICTORS, Picture},
    stage::Stage,
};

async fn affinity(namespace: &Namespace) -> Option<Affinity> {
    let pods: Api<Pod> = namespace.api();
    let list = pods.list(&ListParams::default().labels(PREDICTORS)).await.unwrap();
    let [pod] = &list.items[..] else { panic!("one pod is expected: {list:?}") };
    pod.spec.as_ref().unwrap().affinity.clone()
}

fn only(picture: &Picture, namespace: &str) -> Option<String> {
    let mut ready = picture.of(namespace).filter(|pod| pod.ready && pod.pool.as_deref() == Some(ONPREM));
    ready.next().map(|pod| pod.uid.clone()).filter(|_| picture.of(namespace).count() == 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seeds_resource_policy_that_selects_no_pod_is_reported_and_orders_once_its_selector_is_right() {
    let stage = Stage::take(1).await;
    let namespace = Namespace::new("mistake").await;
    let name = &*namespace.name;
    stage.opt_in(&namespace).await.unwrap();
    stage.order(&namespace, "isvc.qwen-predictor").await.unwrap();
    stage.serve(&namespace).await.unwrap();
    let start = stage.fleet.until("one replica", |now| only(now, name).is_some()).await.unwrap();
    // Nobody has a ScalingPolicy here, whose status could tell: `told.rs`.
    let expected = ["SelectsNoPod", "the pods of Deployment qwen-chat-predictor have app=isvc.qwen-chat-predictor"];
    eventually("the event beside the ResourcePolicy", async || {
        let described = ["-n", name, "describe", "resourcepolicy", "qwen-chat"];
        let text = kubectl(stage.plane, &described).await?;
        if expected.iter().all(|part| text.contains(part)) { Ok(()) } else { Err(text) }
    })
    .await;
    assert_eq!(affinity(&namespace).await, None, "an order that selects no pod orders none");

    let right = r#"{"spec": {"selector": {"app": "isvc.qwen-chat-predictor"}}}"#;
    let patch = ["-n", name, "patch", "resourcepolicy", "qwen-chat", "--type=merge", "-p", right];
    kubectl(stage.plane, &patch).await.unwrap();
    // Seen by the adapter a moment later: until then new pods are as the first one.
    let mut before = only(&start, name);
    eventually("a pod that prefers its pools", async || {
        kubectl(stage.plane, &["-n", name, "delete", "pods", "-l", PREDICTORS]).await?;
        let next = stage.fleet.until("the next replica", |now| only(now, name).is_some_and(|uid| Some(uid) != before));
        before = only(&next.await?, name);
        affinity(&namespace).await.map(drop).ok_or_else(|| "it has no affinity".to_owned())
    })
    .await;
    namespace.finish().await;
}
