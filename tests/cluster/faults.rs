//! Exporters go wrong at peak: the HPA must freeze and say why, whatever the page says. The incumbent chain (exporter →
//! Prometheus → prometheus-adapter) was measured to move the wrong way on all of the odd values here, and to serve a dead
//! exporter's last value as fresh for up to five minutes.

use futures::future::join_all;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tidegate::{
    clock::Clock,
    sim::exporter::{Fault, OddValue},
};

use super::{
    adapter,
    namespace::Namespace,
    timeline::Moment,
    workload::{AUTOSCALER, Exporters, HPA_WOULD_HAVE_ACTED, Load, Workload},
};

struct Row {
    /// Name of the row's namespace, and of its result.
    name: &'static str,
    fault: fn() -> Fault,
    /// What the HPA's condition must quote of our answer.
    says: &'static str,
    /// Whether the adapter trusts the timestamps on the page.
    trusted: bool,
}

const fn row(name: &'static str, fault: fn() -> Fault, says: &'static str) -> Row {
    Row { name, fault, says, trusted: false }
}

const RANGE: &str = "outside of the family's range";
const BLANK: &str = "DCGM's blank value";
const STALE: &str = "last measured";

/// 0.0004 is not among them: it is a credible value, and a pod that reads it is idle.
const ROWS: [Row; 19] = [
    row("nan", || Fault::Values(OddValue::NotANumber), RANGE),
    row("infinite", || Fault::Values(OddValue::Infinite), RANGE),
    row("negative", || Fault::Values(OddValue::Negative), RANGE),
    row("huge", || Fault::Values(OddValue::Huge), RANGE),
    row("blank-int32", || Fault::Values(OddValue::BlankInt32), BLANK),
    row("blank-fp64", || Fault::Values(OddValue::BlankFp64), BLANK),
    row("blank-int64", || Fault::Values(OddValue::BlankInt64), BLANK),
    row("text", || Fault::Values(OddValue::Text), "not a number"),
    row("zero-attribution", || Fault::ZeroAttribution, "attribution failed"),
    row("series-absent", || Fault::SeriesAbsent, "no exporter reports it"),
    row("utilization-absent", || Fault::UtilizationAbsent, "no exporter reports it"),
    row("garbage", || Fault::Garbage, STALE),
    row("endless", || Fault::NeverEnds, STALE),
    row("dead", || Fault::Dead, STALE),
    row("hung", || Fault::HangBeforeHeaders, STALE),
    row("hung-mid-body", || Fault::HangMidBody, STALE),
    row("cut-short", || Fault::CutShort, STALE),
    row("internal-error", || Fault::InternalError, STALE),
    // The page of an exporter that stands still, with the time at which it did.
    Row { trusted: true, ..row("frozen", || Fault::Frozen(Clock::start().now()), STALE) },
];

impl Row {
    /// Two replicas at 48 % of a target of 50: nothing to do. Then the fault, for longer than the HPA needs to act; then the
    /// exporter is well again, and only then the load goes, and a replica with it.
    async fn play(&self) -> Result<(), String> {
        let namespace = Namespace::new(self.name).await;
        let workload =
            Workload::arena(&namespace, 2, Exporters { count: 1, trusted: self.trusted }, Load::Each(48.0)).await?;
        let timeline = workload.timeline();
        timeline.until("the HPA reads 48 %", |m| m.active && m.value.as_deref() == Some("48")).await?;

        workload.set_fault((self.fault)());
        let said = format!("the HPA's condition quotes {:?}", self.says);
        timeline.until(&said, |m| !m.active && m.message.contains(self.says)).await?;
        timeline.holds("unknown as long as the fault lasts", HPA_WOULD_HAVE_ACTED, |m| !m.active).await?;
        timeline.all("two replicas during the fault", |m| m.replicas == 2)?;

        workload.set_fault(Fault::None);
        timeline.until("the HPA reads 48 % again by itself", |m| m.active && m.value.as_deref() == Some("48")).await?;
        timeline.all("two replicas up to the recovery", |m| m.replicas == 2)?;

        workload.set_load(Load::Each(10.0));
        timeline.until("one replica after the load", |m| m.replicas == 1).await?;
        drop(workload);
        namespace.finish().await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exporter_that_goes_wrong_at_peak_freezes_the_hpa_which_says_why_and_recovers() {
    let _adapter = adapter::running().await;
    let results = join_all(ROWS.iter().map(Row::play)).await;
    let failed: Vec<String> = ROWS
        .iter()
        .zip(results)
        .filter_map(|(row, result)| Some(format!("[{}] {}", row.name, result.err()?)))
        .collect();
    assert!(failed.is_empty(), "{} of {} rows failed:\n{}", failed.len(), ROWS.len(), failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_of_two_exporters_is_dead_the_idleness_that_the_other_reports_removes_no_replica() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("half-blind").await;
    let workload = Workload::arena(&namespace, 2, 2, Load::Each(48.0)).await.unwrap();
    let timeline = workload.timeline();
    timeline.until("the HPA reads 48 %", |m| m.active && m.value.as_deref() == Some("48")).await.unwrap();

    workload.set_fault_of(1, Fault::Dead);
    workload.set_load(Load::Each(10.0));
    timeline.until("the HPA reads the exporter that lives", |m| m.value.as_deref() == Some("10")).await.unwrap();
    timeline.holds("two replicas while half is unknown", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 2).await.unwrap();

    workload.set_fault_of(1, Fault::None);
    timeline.until("one replica once all is known", |m| m.replicas == 1).await.unwrap();
    drop(workload);
    namespace.finish().await;
}

/// R5: what nobody can attribute stops removal, and does not stop growth that the other pods ask for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_pod_of_three_cannot_be_attributed_the_hpa_removes_nothing_and_still_grows() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("one-blind").await;
    let workload = Workload::arena(&namespace, 3, 3, Load::Each(48.0)).await.unwrap();
    let four = Patch::Merge(json!({"spec": {"maxReplicas": 4}}));
    namespace.api::<HorizontalPodAutoscaler>().patch(AUTOSCALER, &PatchParams::default(), &four).await.unwrap();
    let timeline = workload.timeline();
    timeline.until("the HPA reads 48 %", |m| m.active && m.value.as_deref() == Some("48")).await.unwrap();

    workload.set_fault_of(2, Fault::ZeroAttribution);
    workload.set_load(Load::Each(30.0));
    let frozen = |m: &Moment| !m.active && m.message.contains("attribution failed");
    timeline.until("the HPA's condition says why", frozen).await.unwrap();
    timeline.holds("frozen below the target", HPA_WOULD_HAVE_ACTED, frozen).await.unwrap();
    timeline.all("three replicas so far", |m| m.replicas == 3).unwrap();

    workload.set_load(Load::Each(90.0));
    timeline.until("a fourth replica", |m| m.replicas == 4).await.unwrap();
    timeline.all("never fewer", |m| m.replicas >= 3).unwrap();
    drop(workload);
    namespace.finish().await;
}
