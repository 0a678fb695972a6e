//! One service there and back: the seed's load comes and goes, and how long each step of the way took.

use std::fmt;

use serde::Serialize;
use tokio::time::Instant;

use super::{
    cluster::{namespace::Namespace, timeline::Moment},
    fleet::{ONPREM, Placed, SERVICE},
    gateway::Gateway,
    karpenter::CLOUD,
    ledger::{Machine, Replica},
    load,
    record::Record,
    stage::Stage,
    way::Way,
};

/// Utilization that the seed's HPA aims at, percent.
const TARGET: f64 = 50.0;

/// What became of it. Times are seconds.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Course {
    /// How it was scaled.
    pub way: Way,
    /// The numbers of replicas that were asked for, one after the other.
    pub steps: Vec<i32>,
    /// Whether a decision said that what is on its way is enough; never without a ScalingPolicy.
    pub waited: bool,
    /// Requests that hey saw answered.
    pub answered: u64,
    /// Whether the replica that is left is the one on premises that was there at first.
    pub kept_home: bool,
    /// From utilization above the target to the first new number of replicas.
    pub decided: f64,
    /// To the last one: three.
    pub decided_three: f64,
    /// To the last request for a node.
    pub nodes_asked: f64,
    /// To three ready replicas.
    pub three_ready: f64,
    /// From the load's end to a single replica.
    pub one_left: f64,
    /// To no replica in the cloud; `None` if the one that is left is there.
    pub cloud_replicas_gone: Option<f64>,
    /// To no node in the cloud.
    pub cloud_nodes_gone: Option<f64>,
    /// Replicas that were in the cloud.
    pub cloud_replicas: usize,
    /// Seconds that they held a node there, together.
    pub held_seconds: f64,
    /// Seconds that these nodes were there, together: what a cloud would bill.
    pub node_seconds: f64,
}

/// Plays it in a namespace of that name. The service is gone afterwards.
pub async fn play(stage: &Stage, way: Way, name: &str) -> Result<Course, String> {
    let length = load::length()?;
    let fleet = &stage.fleet;
    let namespace = Namespace::new(name).await;
    way.prepare(stage, &namespace).await?;
    stage.serve(&namespace).await?;
    let start = fleet.until("one replica on premises", |now| now.ready(name, ONPREM) == 1).await?;
    let home = start.of(name).next().map(|pod| pod.uid.clone()).unwrap_or_default();
    way.take_over(stage, &namespace).await?;
    let title = format!("There and back: {}", way.label());
    let timeline = stage.timeline_with(&namespace, way.autoscaler());
    let record = Record::begin(&format!("there_and_back_{name}"), &title, stage, name, timeline);

    let begins = record.note(format!("hey starts: -z {length} -c {}", load::CLIENTS));
    let hey = load::hey(stage.plane.folder(), fleet.gateway(), &Gateway::host(name, SERVICE), length)?;
    let no_room = |pod: &Placed| pod.pool.is_none();
    fleet.until("a pending replica", |now| now.of(name).any(no_room)).await?;
    record.note("a replica finds no GPU on premises");
    fleet.until("three ready replicas", |now| now.ready(name, ONPREM) == 1 && now.ready(name, CLOUD) == 2).await?;
    let ready = record.note("three replicas serve, two of them on cloud nodes");
    let (answered, failed) = hey.outcome().await?;
    let ends = record.note(format!("hey ends: {answered} requests answered"));
    if answered == 0 || !failed.is_empty() {
        return Err(format!("hey: {answered} answered, failed: {failed:?}"));
    }

    let back = fleet.until("one replica", |now| now.of(name).count() == 1).await?;
    let left = back.of(name).next().ok_or("one replica is none")?;
    let in_cloud = left.pool.as_deref() == Some(CLOUD);
    let one_left = record.note(format!("one replica is left: {}", left.pool.as_deref().unwrap_or("nowhere"))) - ends;
    let kept_home = left.pool.as_deref() == Some(ONPREM) && left.uid == home;
    let nodes = usize::from(in_cloud);
    let cloud = || stage.ledger.replicas(name, CLOUD);
    let standing = || cloud().iter().filter(|(_, machine)| machine.gone.is_none()).count();
    fleet.until("the cloud nodes to go", |_| standing() == nodes).await?;
    record.note(if in_cloud { "the other cloud node is gone" } else { "the cloud nodes are gone" });

    let samples = record.samples();
    let hot = samples.iter().find(|s| s.seconds >= begins && s.utilization.is_some_and(|percent| percent > TARGET));
    let hot = hot.ok_or("utilization was never above the target")?.seconds;
    let moments = record.timeline().moments();
    let asked = |reached: &dyn Fn(&Moment) -> bool| {
        let first = moments.iter().find(|moment| moment.at.as_secs_f64() >= begins && reached(moment));
        first.map_or(f64::NAN, |moment| moment.at.as_secs_f64() - hot)
    };
    let last = |of: fn(&(Replica, Machine)) -> Option<Instant>| {
        cloud().iter().map(of).max().flatten().map(|then| record.when(then))
    };
    let course = Course {
        way,
        steps: record.timeline().steps(),
        waited: record.events().iter().any(|event| event.what.contains(" on their way are enough")),
        answered,
        kept_home,
        decided: asked(&|moment| moment.replicas > 1),
        decided_three: asked(&|moment| moment.replicas >= 3),
        nodes_asked: last(|(_, machine)| machine.asked).map_or(f64::NAN, |asked| asked - hot),
        three_ready: ready - hot,
        one_left,
        cloud_replicas_gone: last(|(replica, _)| replica.gone).filter(|_| !in_cloud).map(|gone| gone - ends),
        cloud_nodes_gone: last(|(_, machine)| machine.gone).filter(|_| !in_cloud).map(|gone| gone - ends),
        cloud_replicas: cloud().len(),
        held_seconds: stage.ledger.held_seconds(name, CLOUD),
        node_seconds: stage.ledger.node_seconds(name, CLOUD),
    };
    record.write(&course.to_string())?;
    namespace.finish().await;
    fleet.until("the service to go", |now| now.of(name).count() == 0).await?;
    Ok(course)
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decided, three_ready, one_left, held_seconds, node_seconds, .. } = self;
        write!(f, "decided {decided:.1} s and three ready {three_ready:.1} s after utilization passed {TARGET} %; ")?;
        write!(f, "one left {one_left:.1} s after the load")?;
        if let Some(gone) = self.cloud_nodes_gone {
            write!(f, ", its nodes gone after {gone:.1} s")?;
        }
        write!(f, "; {held_seconds:.0} cloud GPU seconds held, {node_seconds:.0} of nodes")
    }
}
