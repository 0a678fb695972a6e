//! A cloud node dies: its Node object goes, without a drain, and what ran on it is heard of no more.

use super::{
    cluster::kubectl::kubectl,
    fleet::{ONPREM, Picture},
    karpenter::CLOUD,
    service::Service,
    stage::Stage,
};

/// Within an HPA's tolerance of the target 50: three stay. Were one of them counted as idle, two would be wanted.
const STEADY: f64 = 46.0;

/// The node of one replica in the cloud, and the replica.
fn victim(service: &Service<'_>, now: &Picture) -> Option<(String, String)> {
    let pod = now.of(service.name()).find(|pod| pod.pool.as_deref() == Some(CLOUD))?;
    Some((pod.node.clone()?, pod.uid.clone()))
}

/// No one drains: Karpenter's finalizer, which would, is taken away with the node.
async fn kill(stage: &Stage, node: &str) -> Result<(), String> {
    kubectl(stage.plane, &["patch", "node", node, "--type=merge", "-p", r#"{"metadata": {"finalizers": null}}"#])
        .await?;
    kubectl(stage.plane, &["delete", "node", node, "--ignore-not-found"]).await.map(drop)
}

/// Bursts, loses one of its two cloud nodes, and has three replicas again.
pub async fn befalls(service: Service<'_>) -> Result<(), String> {
    let (stage, fleet) = (service.stage, &service.stage.fleet);
    let grown = service.burst().await?;
    service.reads(STEADY);
    let (node, lost) = victim(&service, &grown).ok_or("there is no replica in the cloud")?;
    let died = service.record.note(format!("the node {node} dies"));
    kill(stage, &node).await?;
    let name = service.name();
    let whole = |now: &Picture| {
        now.of(name).all(|pod| pod.uid != lost) && now.of(name).count() == 3 && now.of(name).all(|pod| pod.ready)
    };
    let whole = fleet.until("the lost replica to be replaced", whole).await?;
    let asked = service.asked_since(died);
    let took = service.record.note("three replicas serve again") - died;
    let homes = whole.ready(name, ONPREM);
    service.finish(&format!("replaced after {took:.0} s, asked for all the time: {asked:?}")).await?;
    if asked == [3] && homes == 1 { Ok(()) } else { Err(format!("asked for {asked:?}, {homes} on premises")) }
}
