//! The harness itself: what the other tests stand on.

use k8s_openapi::api::core::v1::Pod;

use super::{
    kubectl::kubectl,
    kwok,
    namespace::Namespace,
    wait::eventually,
    workload::{DEPLOYMENT, Load, Workload},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_become_ready_and_are_on_the_page_of_an_exporter_pod_that_this_machine_can_reach() {
    let namespace = Namespace::new("groundwork").await;
    let nodes = kubectl(namespace.plane, &["get", "nodes", "--no-headers"]).await.unwrap();
    assert_eq!(nodes.lines().filter(|line| line.contains(" Ready ")).count(), kwok::NODES, "{nodes}");

    let workload = Workload::arena(&namespace, 2, 1, Load::Each(42.0)).await.unwrap();
    let timeline = workload.timeline();
    timeline.until("the HPA that arena makes is accepted and looked at", |m| !m.message.is_empty()).await.unwrap();

    let pods = namespace.api::<Pod>();
    let exporter = eventually("the exporter's pod to be given an address", async || {
        let pod = pods.get("exporter-0").await.map_err(|error| error.to_string())?;
        let port =
            pod.spec.and_then(|spec| spec.containers.first()?.ports.as_ref()?.first().map(|port| port.container_port));
        let ip = pod.status.and_then(|status| status.pod_ip);
        ip.zip(port).map(|(ip, port)| format!("http://{ip}:{port}/metrics")).ok_or_else(|| "it has none".to_owned())
    })
    .await;
    let page = reqwest::get(&exporter).await.unwrap().text().await.unwrap();
    let lines = page.lines().filter(|line| line.contains(&format!("PodName=\"{DEPLOYMENT}-")) && line.ends_with(" 42"));
    assert_eq!(lines.count(), 2, "{exporter}:\n{page}");
    drop(workload);
    namespace.finish().await;
}
