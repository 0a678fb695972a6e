//! The main job: the HPA that arena makes, untouched, follows the GPUs.

use super::{
    adapter,
    namespace::Namespace,
    workload::{HPA_WOULD_HAVE_ACTED, Load, Workload},
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
