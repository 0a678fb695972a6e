use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use super::{Holder, keep_ca_bundle};
use crate::testing::{PATIENCE, eventually, kube_api::KubeApi};

const OURS: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io";
const OTHER: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.somebody.else";

fn bundle(kube: &KubeApi, path: &str) -> Option<Value> {
    kube.object(path)?.pointer("/spec/caBundle").cloned()
}

fn base64(pem: &str) -> Value {
    json!(ByteString(pem.as_bytes().to_vec()))
}

fn api_service() -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {},
           "spec": {"insecureSkipTLSVerify": true, "group": "external.metrics.k8s.io"}})
}

#[tokio::test]
async fn the_bundle_of_our_api_services_stays_ours() {
    let kube = KubeApi::start().await;
    kube.put(OURS, api_service());
    kube.put(OTHER, api_service());
    let (sender, receiver) = watch::channel("one".to_owned());
    let (stop, stopped) = oneshot::channel::<()>();
    let names = ["v1beta1.external.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io"];
    let names = names.map(|name| Holder::ApiService(name.to_owned()));
    let client = kube.client();
    let task = tokio::spawn(async move {
        keep_ca_bundle(client, &names, receiver, async {
            let _ = stopped.await;
        })
        .await;
    });
    eventually("the bundle is written", || bundle(&kube, OURS) == Some(base64("one"))).await;
    assert_eq!(kube.object(OURS).unwrap()["spec"]["insecureSkipTLSVerify"], Value::Null);
    assert_eq!(kube.object(OURS).unwrap()["spec"]["group"], "external.metrics.k8s.io");

    sender.send_replace("two".into());
    eventually("a new bundle is written", || bundle(&kube, OURS) == Some(base64("two"))).await;

    let mut changed = api_service();
    changed["spec"]["caBundle"] = json!("c29tZWJvZHkgZWxzZQ==");
    kube.put(OURS, changed);
    eventually("somebody else's bundle is written over", || bundle(&kube, OURS) == Some(base64("two"))).await;

    let later = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.custom.metrics.k8s.io";
    kube.put(later, api_service());
    eventually("an APIService that appears later gets it too", || bundle(&kube, later) == Some(base64("two"))).await;

    kube.refuse_writes(1);
    drop(sender);
    kube.put(OURS, api_service());
    eventually("a write that failed is tried again", || bundle(&kube, OURS) == Some(base64("two"))).await;
    assert_eq!(bundle(&kube, OTHER), None, "others are left alone");
    drop(stop);
    task.await.unwrap();
}

#[tokio::test]
async fn a_write_that_is_not_answered_does_not_keep_the_process_from_ending() {
    let kube = KubeApi::start().await;
    kube.put(OURS, api_service());
    let (_sender, receiver) = watch::channel("one".to_owned());
    let (stop, stopped) = oneshot::channel::<()>();
    let (client, names) = (kube.client(), [Holder::ApiService("v1beta1.external.metrics.k8s.io".to_owned())]);
    let task = tokio::spawn(async move {
        keep_ca_bundle(client, &names, receiver, async { stopped.await.unwrap_or_default() }).await;
    });
    eventually("the bundle is written", || bundle(&kube, OURS) == Some(base64("one"))).await;
    kube.answer_after(PATIENCE * 10);
    let before = kube.requests();
    kube.put(OURS, api_service());
    eventually("it is being written again", || kube.requests() > before).await;
    drop(stop);
    tokio::time::timeout(PATIENCE, task).await.expect("it ends although the write does not").unwrap();
}
