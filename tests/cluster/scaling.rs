//! The main job: the HPA that arena makes, untouched, follows the GPUs.

use k8s_openapi::api::apps::v1::Deployment;

use super::{
    adapter,
    agents::Agents,
    namespace::Namespace,
    timeline::Timeline,
    workload::{AUTOSCALER, DEPLOYMENT, HPA_WOULD_HAVE_ACTED, Load, Workload, create_arena, deployment},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arenas_hpa_goes_from_1_to_3_when_the_gpus_are_busy_and_back_to_1_after() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("scaling").await;
    let workload = Workload::arena(&namespace, 1, 1, Load::Shared(30.0)).await.unwrap();
    let timeline = workload.timeline();
    timeline.until("the HPA reads 30 %", |m| m.active && m.value.as_deref() == Some("30")).await.unwrap();
    timeline.all("one replica below the target", |m| m.replicas == 1).unwrap();

    // One pod can only read 100: the HPA asks for 2, sees 60 on each, and asks for 3, which read 40.
    workload.set_load(Load::Shared(120.0));
    timeline.until("three ready replicas at 40 %", |m| m.ready == 3 && m.value.as_deref() == Some("40")).await.unwrap();
    timeline
        .holds("three replicas as long as the load lasts", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 3)
        .await
        .unwrap();
    assert!([&[1, 3][..], &[1, 2, 3]].contains(&&timeline.steps()[..]), "up, never down:\n{timeline}");

    workload.set_load(Load::Shared(30.0));
    timeline.until("one replica after the load", |m| m.replicas == 1 && m.ready == 1).await.unwrap();
    timeline.until("the HPA reads 30 % again", |m| m.value.as_deref() == Some("30")).await.unwrap();
    timeline.holds("one replica below the target", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 1).await.unwrap();
    let steps = timeline.steps();
    let top = steps.iter().position(|&n| n == 3).unwrap();
    assert!(steps[..=top].is_sorted() && steps[top..].is_sorted_by(|a, b| a > b), "one rise, one fall:\n{timeline}");
    drop(workload);
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_our_own_agents_on_the_nodes_it_goes_from_1_to_3_and_back_and_holds_while_their_drivers_fail() {
    let running = adapter::running().await;
    let namespace = Namespace::new("agents").await;
    let agents = Agents::start(&namespace, &running.adapter.program, 30.0).await.unwrap();
    create_arena(&namespace).await.unwrap();
    namespace.create::<Deployment>(deployment(1)).await;
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, AUTOSCALER);
    timeline.until("the HPA reads 30 %", |m| m.active && m.value.as_deref() == Some("30")).await.unwrap();
    timeline.all("one replica below the target", |m| m.replicas == 1).unwrap();

    agents.set_demand(120.0);
    timeline.until("three ready replicas at 40 %", |m| m.ready == 3 && m.value.as_deref() == Some("40")).await.unwrap();

    agents.set_broken(true);
    timeline.until("the HPA knows nothing", |m| !m.active && m.message.contains("no exporter")).await.unwrap();
    agents.set_demand(30.0);
    timeline.holds("three replicas while nothing is known", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 3).await.unwrap();
    assert!([&[1, 3][..], &[1, 2, 3]].contains(&&timeline.steps()[..]), "up, never down:\n{timeline}");

    agents.set_broken(false);
    timeline.until("one replica after the load", |m| m.replicas == 1 && m.ready == 1).await.unwrap();
    timeline.until("the HPA reads 30 % again", |m| m.value.as_deref() == Some("30")).await.unwrap();
    agents.alive().unwrap();
    let steps = timeline.steps();
    let top = steps.iter().position(|&n| n == 3).unwrap();
    assert!(steps[..=top].is_sorted() && steps[top..].is_sorted_by(|a, b| a > b), "one rise, one fall:\n{timeline}");
    agents.finish().await.unwrap();
    namespace.finish().await;
}
