//! Which replicas go when 3 become 1: twenty services side by side with us, and twenty without.

use futures::future::join_all;

use super::{
    cluster::namespace::Namespace,
    fleet::{ONPREM, Picture},
    karpenter::CLOUD,
    stage::Stage,
};

const SERVICES: usize = 20;
/// Utilization at which the HPA wants more than three replicas, and one at which it wants one.
const BUSY: f64 = 95.0;
const CALM: f64 = 5.0;

fn uid(picture: &Picture, namespace: &str) -> Option<String> {
    picture.of(namespace).next().map(|pod| pod.uid.clone())
}

/// Lets the services burst and fall back. How many have kept the replica on premises.
async fn kept_at_home(stage: &Stage, prefix: &str, ordered: bool) -> usize {
    let names: Vec<String> = (0..SERVICES).map(|i| format!("{prefix}-{i}")).collect();
    let namespaces = join_all(names.iter().map(|name| Namespace::new(name))).await;
    for namespace in &namespaces {
        if ordered {
            stage.opt_in(namespace).await.unwrap();
            stage.order(namespace, "isvc.qwen-chat-predictor").await.unwrap();
        }
        stage.serve(namespace).await.unwrap();
        stage.fleet.force(&namespace.name, Some(CALM));
    }
    let all = |wanted: &dyn Fn(&str) -> bool| names.iter().all(|name| wanted(name));
    let fleet = &stage.fleet;
    let start = fleet
        .until("each service to have a replica on premises", |now| all(&|name| now.ready(name, ONPREM) == 1))
        .await
        .unwrap();
    let homes: Vec<_> = names.iter().map(|name| uid(&start, name)).collect();
    names.iter().for_each(|name| fleet.force(name, Some(BUSY)));
    fleet
        .until("each service to have two replicas in the cloud", |now| {
            all(&|name| now.ready(name, ONPREM) == 1 && now.ready(name, CLOUD) == 2)
        })
        .await
        .unwrap();
    names.iter().for_each(|name| fleet.force(name, Some(CALM)));
    let end = fleet
        .until("each service to be back at one replica", |now| all(&|name| now.of(name).count() == 1))
        .await
        .unwrap();
    let kept =
        names.iter().zip(&homes).filter(|(name, home)| end.ready(name, ONPREM) == 1 && uid(&end, name) == **home);
    let kept = kept.count();
    for namespace in namespaces {
        namespace.finish().await;
    }
    fleet
        .until("the services and the cloud nodes to go", |now| now.pods.is_empty() && now.machines(CLOUD) == 0)
        .await
        .unwrap();
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r19_the_two_cloud_replicas_go_and_the_one_on_premises_stays_in_20_of_20_releases() {
    let stage = Stage::take(SERVICES).await;
    let with = kept_at_home(&stage, "ordered", true).await;
    // By chance, for comparison: nothing is expected of it.
    let without = kept_at_home(&stage, "unordered", false).await;
    eprintln!(
        "release 3 to 1, the replica on premises kept: {with} of {SERVICES} with us, {without} of {SERVICES} without"
    );
    assert_eq!(with, SERVICES);
}
