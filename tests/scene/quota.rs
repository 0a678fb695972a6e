//! The cloud gives no node: its quota is used up. Then a GPU on premises becomes free, and then the quota is raised.

use std::time::Duration;

use futures::{StreamExt, join};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, events::v1::Event};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate::policy::ScalingPolicy;

use super::{
    cluster::{kubectl::kubectl, namespace::Namespace, wait::eventually_or_error, workload::DEPLOYMENT},
    fleet::{ONPREM, Picture, SERVICE},
    karpenter::CLOUD,
    rollout,
    service::{BUSY, CALM, Service, note},
    stage::{CLOUD_GPUS, Stage},
    way::Way,
};

/// Many ticks of the engine, and several periods of HPA and scheduler.
const WHILE: Duration = Duration::from_secs(20);
/// Writes of a status within that time: the first look at it, and one when only figures have changed, which is allowed every
/// 30 s, and one for a word that changes.
const STATUS_WRITES: usize = 3;

async fn give(stage: &Stage, gpus: usize) -> Result<(), String> {
    let limits = json!({"spec": {"limits": {"nvidia.com/gpu": gpus.to_string()}}}).to_string();
    kubectl(stage.plane, &["patch", "nodepool", CLOUD, "--type=merge", "-p", &limits]).await.map(drop)
}

/// Something else that uses the GPU of an on-premises node.
async fn occupy(namespace: &Namespace, node: &str) {
    let pod = json!({
        "metadata": {"name": "batch"},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "batch", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
    });
    namespace.create::<Pod>(pod).await;
}

fn pending(now: &Picture, name: &str) -> usize {
    now.of(name).filter(|pod| pod.node.is_none()).count()
}

/// The condition of the service's policy, once it has that status and reason.
async fn condition(service: &Service<'_>, kind: &str, status: &str, reason: &str) -> Result<Value, String> {
    eventually_or_error(&format!("{kind}={status} because {reason}"), async || {
        let get = ["-n", service.name(), "get", "scalingpolicy", SERVICE, "-o", "json"];
        let policy: Value =
            serde_json::from_str(&kubectl(service.stage.plane, &get).await?).map_err(|error| error.to_string())?;
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
        if found["status"] == status && found["reason"] == reason {
            Ok(found)
        } else {
            Err(policy["status"].to_string())
        }
    })
    .await
}

/// How often objects of a kind in the namespace are written in that time, and once more for each that is there at first.
async fn writes<K>(namespace: &Namespace) -> usize
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let changes = watcher(namespace.api::<K>(), watcher::Config::default()).default_backoff().applied_objects();
    changes
        .take_until(Box::pin(tokio::time::sleep(WHILE)))
        .filter(|change| std::future::ready(change.is_ok()))
        .count()
        .await
}

/// Waits until the Deployment's status tells of all pods that are asked for: its own controller writes that, in its own time.
async fn caught_up(namespace: &Namespace) -> Result<(), String> {
    let deployments: Api<Deployment> = namespace.api();
    eventually_or_error("the Deployment's status to be up to date", async || {
        let deployment = deployments.get(DEPLOYMENT).await.map_err(|error| error.to_string())?;
        let asked = deployment.spec.replicas;
        let status = deployment.status.clone().unwrap_or_default();
        let counted = status.ready_replicas.unwrap_or(0) + status.unavailable_replicas.unwrap_or(0);
        let current = status.observed_generation == deployment.metadata.generation && status.replicas == asked;
        if current && Some(counted) == asked { Ok(()) } else { Err(format!("{asked:?} are asked for: {status:?}")) }
    })
    .await
}

/// Events that we have written.
async fn told(namespace: &Namespace) -> Result<usize, String> {
    let events: Api<Event> = namespace.api();
    let list = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let ours = |event: &&Event| event.reporting_controller.as_deref().is_some_and(|by| by.starts_with("tidegate.dev/"));
    Ok(list.iter().filter(ours).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cloud_node_the_status_says_so_and_nothing_spins_and_room_at_home_is_used_until_the_cloud_comes() {
    let stage = Stage::take(3).await;
    give(&stage, 0).await.unwrap();
    let outcome = without_cloud(&stage).await;
    give(&stage, CLOUD_GPUS).await.unwrap(); // also for the next scene
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

async fn without_cloud(stage: &Stage) -> Result<(), String> {
    let batch = Namespace::new("quota-batch").await;
    occupy(&batch, "onprem-2").await;
    let (act, plain) = join!(
        Service::start(stage, Way::Act, "quota-act", "The cloud gives no node: a ScalingPolicy in mode Act"),
        Service::start(stage, Way::Plain, "quota-plain", "The cloud gives no node: arena's HPA; then a rollout"),
    );
    let (act, plain) = (act?, plain?);
    let both = [&act, &plain];
    for service in both {
        service.reads(BUSY);
    }
    let waits = |now: &Picture| both.iter().all(|service| pending(now, service.name()) > 0);
    stage.fleet.until("a pending replica of each service", waits).await?;

    let unplaced = condition(&act, "Unplaced", "True", "NoNode").await?;
    let said = unplaced["message"].as_str().unwrap_or_default();
    act.record.note(format!("its status says: {said}"));
    for part in ["without a node, the first since 2", "onprem is full with", "cloud got no node"] {
        assert!(said.contains(part), "{said}");
    }
    caught_up(&act.namespace).await?;
    let (before, began) = (told(&act.namespace).await?, act.record.seconds());
    let (statuses, specs, pods) = join!(
        writes::<ScalingPolicy>(&act.namespace),
        writes::<Deployment>(&act.namespace),
        writes::<Pod>(&act.namespace),
    );
    let events = told(&act.namespace).await? - before;
    let (now, asked) = (stage.fleet.picture(), act.asked_since(began));
    let there = now.of(act.name()).count();
    eprintln!(
        "in {WHILE:?}: {statuses} writes of the status, {specs} of the Deployment, {pods} of {there} pods, {events} events"
    );
    assert!(statuses <= STATUS_WRITES && specs == 1 && events <= 1, "{statuses} {specs} {events}");
    assert!(pods <= 2 * there, "{pods} writes of {there} pods");
    assert!(asked.len() == 1 && asked[0] <= 3, "no more are asked for: {asked:?}");
    assert_eq!(now.machines(CLOUD), 0);

    note(both, "a GPU on premises becomes free");
    let pods: Api<Pod> = batch.api();
    pods.delete("batch", &DeleteParams::default()).await.map_err(|error| error.to_string())?;
    let homes = |now: &Picture| both.iter().map(|service| now.ready(service.name(), ONPREM)).sum::<usize>();
    let home = stage.fleet.until("a pending replica to find its place on premises", |now| homes(now) == 3).await?;
    assert_eq!(home.machines(CLOUD), 0, "not one of them has come from the cloud");

    note(both, "the quota is raised");
    give(stage, CLOUD_GPUS).await?;
    let whole = |now: &Picture| {
        both.iter().all(|service| now.of(service.name()).count() == 3 && now.of(service.name()).all(|pod| pod.ready))
    };
    let grown = stage.fleet.until("three ready replicas of each service", whole).await?;
    assert_eq!((homes(&grown), grown.machines(CLOUD)), (3, 3));
    condition(&act, "Unplaced", "False", "Placed").await?;

    act.reads(CALM);
    let (rolled, fallen) = join!(rollout::befalls(&plain), act.falls_back());
    let (pool, _) = fallen?;
    assert_eq!(pool.as_deref(), Some(ONPREM), "the cloud goes first");
    act.finish("placed when there was room, and not asked for twice").await?;
    let rolled = match rolled {
        Ok(()) => rollout::ends(&plain).await,
        failed => failed,
    };
    plain.finish("rolled out with three ready all the time").await?;
    rolled.map_err(|error| format!("the rollout: {error}"))?;
    batch.finish().await;
    Ok(())
}
