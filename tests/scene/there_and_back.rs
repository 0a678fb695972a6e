//! The seed's command, its load, and the way back that the seed leaves out.

use std::time::Duration;

use super::{
    cluster::namespace::Namespace,
    fleet::{ONPREM, SERVICE},
    gateway::Gateway,
    karpenter::CLOUD,
    load,
    record::Record,
    stage::Stage,
};

/// The seed's load lasts two minutes; three replicas are there after a third of that.
const LOAD: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seeds_load_bursts_from_one_gpu_on_premises_to_two_cloud_nodes_and_the_cloud_is_given_back() {
    let stage = Stage::take(1).await;
    let namespace = Namespace::new("burst").await;
    let name = namespace.name.as_str();
    stage.opt_in(&namespace).await.unwrap();
    stage.order(&namespace, "isvc.qwen-chat-predictor").await.unwrap();
    stage.serve(&namespace).await.unwrap();
    let record = Record::begin("there_and_back", &stage.fleet, name, stage.timeline(&namespace));
    let start = stage.fleet.until("one replica on premises", |now| now.ready(name, ONPREM) == 1).await.unwrap();
    assert_eq!(start.machines(CLOUD), 0, "the cloud pool is empty at first");
    let home = start.of(name).next().map(|pod| pod.uid.clone()).unwrap();

    record.note("hey starts");
    let hey = load::hey(stage.plane.folder(), stage.fleet.gateway(), &Gateway::host(name, SERVICE), LOAD).unwrap();
    stage
        .fleet
        .until("two pending replicas", |now| now.of(name).filter(|pod| pod.pool.is_none()).count() > 0)
        .await
        .unwrap();
    record.note("replicas find no GPU on premises");
    stage.fleet.until("two cloud nodes", |now| now.machines(CLOUD) == 2).await.unwrap();
    record.note("two cloud nodes are there");
    stage
        .fleet
        .until("three ready replicas", |now| now.ready(name, ONPREM) == 1 && now.ready(name, CLOUD) == 2)
        .await
        .unwrap();
    record.note("three replicas serve");
    let (answered, failed) = hey.outcome().await.unwrap();
    record.note(format!("hey ends: {answered} requests answered"));
    assert!(answered > 0 && failed.is_empty(), "{answered} answered, failed: {failed:?}");

    let back = stage.fleet.until("one replica", |now| now.of(name).count() == 1).await.unwrap();
    let left = back.of(name).next().unwrap();
    record.note(format!("one replica is left: {}", left.pool.as_deref().unwrap_or("nowhere")));
    stage.fleet.until("the cloud nodes to go", |now| now.machines(CLOUD) == 0).await.unwrap();
    record.note("the cloud nodes are gone");
    let file = record.write().unwrap();
    eprintln!("the scene: {}", file.display());
    assert_eq!(
        (left.pool.as_deref(), left.uid.as_str()),
        (Some(ONPREM), home.as_str()),
        "the on-premises replica stays"
    );
    let steps = record.timeline().steps();
    assert_eq!(steps.iter().max(), Some(&3), "{steps:?}");
    namespace.finish().await;
}
