use serde_json::json;

use super::{MAX_CONFLICTS, SharedCertificate};
use crate::{
    testing::{kube_api::KubeApi, service},
    tls::{SelfMade, TlsError, self_made::wall_clock},
};

const PATH: &str = "/api/v1/namespaces/tidegate/secrets/adapter-tls";

fn shared(kube: &KubeApi) -> SharedCertificate {
    SharedCertificate::new(kube.client(), service(), "adapter-tls")
}

#[tokio::test]
async fn replicas_that_start_together_serve_one_authority() {
    let kube = KubeApi::start().await;
    let (one, two, three) = (shared(&kube), shared(&kube), shared(&kube));
    let now = wall_clock();
    let (one, two, three) = tokio::join!(one.current(None, now), two.current(None, now), three.current(None, now));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_eq!(one, three.unwrap());
    assert_eq!(kube.object(PATH).unwrap()["type"], "kubernetes.io/tls");
    assert_eq!(kube.version(), 1, "written once");
}

#[tokio::test]
async fn an_empty_secret_is_filled_and_one_of_somebody_else_is_left_alone() {
    let kube = KubeApi::start().await;
    kube.put(PATH, json!({"metadata": {"labels": {"a": "b"}}, "type": "Opaque"}));
    let made = shared(&kube).current(None, wall_clock()).await.unwrap();
    assert_eq!(shared(&kube).current(None, wall_clock()).await.unwrap(), made);
    assert_eq!(kube.object(PATH).unwrap()["metadata"]["labels"]["a"], "b");

    kube.put(PATH, json!({"metadata": {}, "data": {"password": "eA=="}}));
    let error = shared(&kube).current(None, wall_clock()).await.unwrap_err();
    assert!(
        matches!(&error, TlsError::Secret { name, why } if name == "tidegate/adapter-tls" && why.contains("ca.crt"))
    );
    assert_eq!(kube.object(PATH).unwrap()["data"], json!({"password": "eA=="}));
}

#[tokio::test]
async fn lost_races_are_run_again_but_not_for_ever() {
    let kube = KubeApi::start().await;
    kube.refuse_writes(MAX_CONFLICTS - 1);
    shared(&kube).current(None, wall_clock()).await.unwrap();
    kube.delete(PATH);
    kube.refuse_writes(MAX_CONFLICTS);
    assert!(shared(&kube).current(None, wall_clock()).await.is_err());
}

#[tokio::test]
async fn a_secret_that_was_deleted_comes_back_as_it_was() {
    let kube = KubeApi::start().await;
    let made = shared(&kube).current(None, wall_clock()).await.unwrap();
    kube.delete(PATH);
    assert_eq!(shared(&kube).current(Some(&made), wall_clock()).await.unwrap(), made);
    assert_eq!(shared(&kube).current(None, wall_clock()).await.unwrap(), made);
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_in_the_secret_by_one_of_them() {
    let kube = KubeApi::start().await;
    let old = SelfMade::new(&service(), "2026-01-01T00:00:00Z".parse().unwrap()).unwrap();
    let now = "2026-03-01T00:00:00Z".parse().unwrap();
    shared(&kube).current(Some(&old), "2026-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    let (one, two) = (shared(&kube), shared(&kube));
    let (one, two) = tokio::join!(one.current(Some(&old), now), two.current(Some(&old), now));
    let one = one.unwrap();
    assert_eq!(one, two.unwrap());
    assert_ne!(one, old);
    assert_eq!(one.ca_bundle(), old.ca_bundle());
    assert_eq!(kube.version(), 2);
}

#[tokio::test]
async fn the_handle_serves_what_the_secret_holds() {
    let kube = KubeApi::start().await;
    let (_tls, bundle, _follow) = shared(&kube).serve(std::future::pending()).await.unwrap();
    let held = shared(&kube).current(None, wall_clock()).await.unwrap();
    assert_eq!(bundle.borrow().as_str(), held.ca_bundle());
    kube.stop();
}
