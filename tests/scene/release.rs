//! Which replicas go when 3 become 1: twenty services side by side with us, and twenty without.

use std::time::Duration;

use futures::future::join_all;

use super::{
    cluster::namespace::Namespace,
    fleet::{ONPREM, Picture},
    karpenter::CLOUD,
    stage::Stage,
};

const SERVICES: usize = 20;
/// Prefix of the namespaces with a ResourcePolicy.
const ORDERED: &str = "ordered";
/// Utilization at which the HPA wants more than three replicas, and one at which it wants one.
const BUSY: f64 = 95.0;
const CALM: f64 = 5.0;

fn uid(picture: &Picture, namespace: &str) -> Option<String> {
    picture.of(namespace).next().map(|pod| pod.uid.clone())
}

/// Without an order, which of several ready pods goes is told by the logarithms of their ages first, so that soon after a
/// burst the old one stays by itself. Only when the ages are of one power of two, this long after, is it chance.
const UNTIL_AGES_SAY_NOTHING: Duration = Duration::from_secs(75);

/// Lets all services burst and fall back side by side. How many have kept the replica on premises: with us, and without.
async fn kept_at_home(stage: &Stage) -> [usize; 2] {
    let of = |prefix: &str| -> Vec<String> { (0..SERVICES).map(|i| format!("{prefix}-{i}")).collect() };
    let names = [of(ORDERED), of("unordered")].concat();
    let fleet = &stage.fleet;
    let force = |percent: f64| {
        for name in &names {
            fleet.force(name, Some(percent));
        }
    };
    force(CALM);
    let namespaces = join_all(names.iter().map(|name| Namespace::new(name))).await;
    for namespace in &namespaces {
        if namespace.name.starts_with(ORDERED) {
            stage.opt_in(namespace).await.unwrap();
            stage.order(namespace, "isvc.qwen-chat-predictor").await.unwrap();
        }
        stage.serve(namespace).await.unwrap();
    }
    let all = |wanted: &dyn Fn(&str) -> bool| names.iter().all(|name| wanted(name));
    let start = fleet
        .until("each service to have a replica on premises", |now| all(&|name| now.ready(name, ONPREM) == 1))
        .await
        .unwrap();
    let homes: Vec<_> = names.iter().map(|name| uid(&start, name)).collect();
    force(BUSY);
    fleet
        .until("each service to have two replicas in the cloud", |now| {
            all(&|name| now.ready(name, ONPREM) == 1 && now.ready(name, CLOUD) == 2)
        })
        .await
        .unwrap();
    tokio::time::sleep(UNTIL_AGES_SAY_NOTHING).await;
    force(CALM);
    let end = fleet
        .until("each service to be back at one replica", |now| all(&|name| now.of(name).count() == 1))
        .await
        .unwrap();
    let stayed: Vec<bool> =
        names.iter().zip(&homes).map(|(name, home)| end.ready(name, ONPREM) == 1 && uid(&end, name) == *home).collect();
    for namespace in namespaces {
        namespace.finish().await;
    }
    fleet
        .until("the services and the cloud nodes to go", |now| now.pods.is_empty() && now.machines(CLOUD) == 0)
        .await
        .unwrap();
    let (with, without) = stayed.split_at(SERVICES);
    [with, without].map(|services| services.iter().filter(|stayed| **stayed).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r19_the_two_cloud_replicas_go_and_the_one_on_premises_stays_in_20_of_20_releases() {
    let stage = Stage::take(2 * SERVICES).await;
    // Without us it is chance, for comparison: nothing is expected of it.
    let [with, without] = kept_at_home(&stage).await;
    eprintln!(
        "release 3 to 1, the replica on premises kept: {with} of {SERVICES} with us, {without} of {SERVICES} without"
    );
    assert_eq!(with, SERVICES);
}
