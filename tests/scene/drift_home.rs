//! A service that had to go to the cloud comes home once there has been room for its `returnAfter`: one more replica on
//! premises first, and only then one less in the cloud. By the engine itself (Act), and through an HPA (Advise).

use std::cell::Cell;

use futures::future::join_all;
use k8s_openapi::api::{autoscaling::v2::HorizontalPodAutoscaler, core::v1::Pod};
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};
use tidegate::policy::hpa::Follower;

use super::{
    cluster::{
        kubectl::{create, kubectl},
        namespace::Namespace,
        wait::eventually,
        workload::{AUTOSCALER, DEPLOYMENT},
    },
    fleet::{ONPREM, Picture, SERVICE},
    karpenter::{CLOUD, POOL},
    stage::Stage,
};

/// Longer than any glance, and far shorter than the default windows of the engine.
const RETURN_AFTER: &str = "5s";
/// Utilization of each replica, percent, at which one is enough.
const CALM: f64 = 20.0;

/// Takes the GPU of an on-premises node.
async fn occupy(namespace: &Namespace, node: usize) {
    let pod = json!({
        "metadata": {"name": format!("other-{node}")},
        "spec": {
            "nodeName": format!("onprem-{node}"), "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "other", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
    });
    namespace.create::<Pod>(pod).await;
}

/// A service of one replica, which may have a second one while it moves.
async fn serve(stage: &Stage, namespace: &Namespace, mode: &str) {
    let name = &namespace.name;
    stage.fleet.force(name, Some(CALM));
    stage.opt_in(namespace).await.unwrap();
    let policy = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "ScalingPolicy", "metadata": {"name": SERVICE, "namespace": name},
        "spec": {
            "targetRef": {"kind": "InferenceService", "name": SERVICE}, "mode": mode, "minReplicas": 1, "maxReplicas": 2,
            "signals": {"use": "Utilization"},
            "pools": [
                {"name": ONPREM, "nodeSelector": {POOL: ONPREM}},
                {"name": CLOUD, "nodeSelector": {POOL: CLOUD}, "elastic": true, "returnAfter": RETURN_AFTER},
            ],
        },
    });
    create(stage.plane, &policy.to_string()).await.unwrap();
    stage.serve(namespace).await.unwrap();
    // Arena's own HPA goes by utilization; one owner at a time (R18).
    let autoscalers: Api<HorizontalPodAutoscaler> = namespace.api();
    autoscalers.delete(AUTOSCALER, &DeleteParams::default()).await.unwrap();
    if mode == "Advise" {
        let follower = Follower {
            policy: SERVICE.into(),
            namespace: name.clone(),
            deployment: DEPLOYMENT.into(),
            min: 1,
            max: 2,
            tolerance: true,
        };
        namespace.create::<HorizontalPodAutoscaler>(follower.object()).await;
    }
}

async fn get(stage: &Stage, namespace: &Namespace, what: &[&str]) -> Result<String, String> {
    kubectl(stage.plane, &[&["get", "--namespace", &namespace.name], what].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_replica_comes_home_once_there_is_room_and_the_service_is_never_without_one() {
    let stage = Stage::take(2).await;
    let others = Namespace::new("others").await;
    occupy(&others, 0).await;
    occupy(&others, 1).await;
    let modes = ["Act", "Advise"];
    let namespaces = join_all(["home-act", "home-advise"].map(Namespace::new)).await;
    for (namespace, mode) in namespaces.iter().zip(modes) {
        serve(&stage, namespace, mode).await;
    }
    let all = |now: &Picture, pool: &str| namespaces.iter().all(|namespace| now.ready(&namespace.name, pool) == 1);
    stage.fleet.until("a replica of each service in the cloud", |now| all(now, CLOUD)).await.unwrap();
    let timelines: Vec<_> = namespaces.iter().map(|namespace| stage.timeline(namespace)).collect();

    others.api::<Pod>().delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await.unwrap();
    let bare = Cell::new(None);
    let home = |now: &Picture| {
        for namespace in &namespaces {
            if now.of(&namespace.name).all(|pod| !pod.ready) {
                bare.set(Some(namespace.name.clone()));
            }
        }
        all(now, ONPREM) && namespaces.iter().all(|namespace| now.of(&namespace.name).count() == 1)
    };
    let came = stage.fleet.until("each service at home", home).await;
    for (timeline, mode) in timelines.iter().zip(modes) {
        eprintln!("{mode}:\n{timeline}");
    }
    came.unwrap();
    assert_eq!(bare.take(), None, "a service without a ready replica");
    stage.fleet.until("the cloud nodes to go", |now| now.machines(CLOUD) == 0).await.unwrap();
    for (timeline, mode) in timelines.iter().zip(modes) {
        assert_eq!(timeline.steps(), [1, 2, 1], "{mode}");
        timeline.all("a ready replica", |moment| moment.ready >= 1).unwrap();
    }

    for namespace in namespaces {
        eventually("the status to say that nothing moves any more", async || {
            let policy: Value =
                serde_json::from_str(&get(&stage, &namespace, &["scalingpolicy", SERVICE, "-o", "json"]).await?)
                    .map_err(|error| error.to_string())?;
            let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let moving = conditions.iter().find(|condition| condition["type"] == "MovingHome");
            if moving.is_some_and(|moving| moving["status"] == "False") { Ok(()) } else { Err(policy.to_string()) }
        })
        .await;
        let events = get(&stage, &namespace, &["events.events.k8s.io"]).await.unwrap();
        assert!(events.contains("MovingHome"), "{events}");
        namespace.finish().await;
    }
    others.finish().await;
}
