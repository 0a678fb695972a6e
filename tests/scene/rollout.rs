//! Somebody touches the InferenceService during a burst: KServe rolls the Deployment out, while everything is needed.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use tidegate::burst::release::DELETION_COST;

use super::{
    cluster::{kubectl::kubectl, wait::eventually_or_error},
    fleet::{KUBELETS, ONPREM, PREDICTORS, Picture, SERVICE, add_node},
    service::{CALM, Service},
};

/// Rolls out a service of three busy replicas.
pub async fn befalls(service: &Service<'_>) -> Result<(), String> {
    let (name, fleet) = (service.name(), &service.stage.fleet);
    // Room for the first new one: otherwise all of them land in the cloud, because the old ones go last.
    add_node(&service.stage.client, "onprem-beside", KUBELETS).await?;
    let before = service.replicas(&fleet.picture());
    let began = service.record.note("its template is changed");
    kubectl(service.stage.plane, &["-n", name, "annotate", "inferenceservice", SERVICE, "tidegate.test/rollout=1"])
        .await?;
    let rolled = |now: &Picture| {
        let new = |uid: &String| !before.contains(uid);
        service.replicas(now).len() == 3 && service.replicas(now).iter().all(new) && now.of(name).all(|pod| pod.ready)
    };
    let rolled = fleet.until("three ready replicas of the new template", rolled).await?;
    let homes = rolled.ready(name, ONPREM);
    if homes == 0 {
        return Err("no new replica went to the free GPU on premises".into());
    }
    let ended = service.record.note(format!("three new replicas serve, {homes} of them on premises"));
    let asked = service.asked_since(began);
    let samples = service.record.samples();
    let during = samples.iter().filter(|sample| (began..ended).contains(&sample.seconds));
    let least = during.map(|sample| sample.onprem + sample.cloud).min();
    if asked == [3] && least >= Some(3) {
        Ok(())
    } else {
        Err(format!("asked for {asked:?}, {least:?} ready at least"))
    }
}

/// Lets the load fall. The replicas of the new template are told in which order to go, and go in it.
pub async fn ends(service: &Service<'_>) -> Result<(), String> {
    let (name, fleet) = (service.name(), &service.stage.fleet);
    let homes: Vec<String> =
        fleet.picture().of(name).filter(|pod| pod.pool.as_deref() == Some(ONPREM)).map(|pod| pod.uid.clone()).collect();
    service.reads(CALM);
    let pods: Api<Pod> = service.namespace.api();
    let costs = eventually_or_error("two of three replicas to be told to go before the last", async || {
        let list = pods.list(&ListParams::default().labels(PREDICTORS)).await.map_err(|error| error.to_string())?;
        let cost = |pod: &Pod| pod.annotations().get(DELETION_COST).and_then(|cost| cost.parse::<i32>().ok());
        let costs: Vec<(String, i32)> = list.iter().filter_map(|pod| Some((pod.uid()?, cost(pod)?))).collect();
        if costs.len() == 2 { Ok(costs) } else { Err(format!("{costs:?}")) }
    })
    .await?;
    service.record.note(format!("deletion costs stand on {} of its replicas", costs.len()));
    let (pool, left) = service.falls_back().await?;
    let told = costs.iter().any(|(uid, _)| *uid == left);
    if told || !homes.contains(&left) {
        return Err(format!(
            "the replica that is left is in {pool:?}; on premises were {homes:?}, told to go {costs:?}"
        ));
    }
    Ok(())
}
