//! One service that has burst: what the faults befall.

use super::{
    cluster::namespace::Namespace,
    fleet::{ONPREM, Picture, SERVICE},
    karpenter::CLOUD,
    record::Record,
    stage::Stage,
    way::Way,
};

/// Utilization at which more than three replicas are wanted, percent.
pub const BUSY: f64 = 95.0;
/// Utilization at which one replica is wanted.
pub const CALM: f64 = 5.0;

/// A service with a replica on premises.
pub struct Service<'a> {
    /// Where it runs.
    pub stage: &'a Stage,
    /// Its namespace.
    pub namespace: Namespace,
    /// What happens to it.
    pub record: Record,
    /// UID of its replica on premises.
    pub home: String,
}

/// Notes an event that befalls several services.
pub fn note<'s>(services: impl IntoIterator<Item = &'s Service<'s>>, what: &str) {
    for service in services {
        service.record.note(what);
    }
}

impl<'a> Service<'a> {
    /// Starts it in a namespace of that name, with one replica that has little to do.
    pub async fn start(stage: &'a Stage, way: Way, name: &str, title: &str) -> Result<Self, String> {
        let namespace = Namespace::new(name).await;
        stage.fleet.force(name, Some(CALM));
        way.prepare(stage, &namespace).await?;
        stage.serve(&namespace).await?;
        let start = stage.fleet.until("one replica on premises", |now| now.ready(name, ONPREM) == 1).await?;
        let home = start.of(name).next().map(|pod| pod.uid.clone()).unwrap_or_default();
        way.take_over(stage, &namespace).await?;
        let timeline = stage.timeline_with(&namespace, way.autoscaler());
        let record = Record::begin(name, title, stage, name, timeline);
        Ok(Self { stage, namespace, record, home })
    }

    /// Its name, and that of its namespace.
    pub fn name(&self) -> &str {
        &self.namespace.name
    }

    /// All its replicas read this from now on.
    pub fn reads(&self, percent: f64) {
        self.record.note(format!("its replicas read {percent} %"));
        self.stage.fleet.force(self.name(), Some(percent));
    }

    /// Lets it burst into the cloud.
    pub async fn burst(&self) -> Result<Picture, String> {
        self.reads(BUSY);
        let name = self.name();
        let three = |now: &Picture| now.ready(name, ONPREM) == 1 && now.ready(name, CLOUD) == 2;
        let grown = self.stage.fleet.until("a replica on premises and two in the cloud", three).await;
        grown.map_err(|error| {
            let _ = self.record.write("it does not burst"); // the error below is what counts
            format!("{name}: {error}\n{}\n{}", self.record.timeline(), self.stage.adapter().tail(30))
        })
    }

    /// UIDs of the replicas that exist and are not being deleted.
    pub fn replicas(&self, now: &Picture) -> Vec<String> {
        let mut uids: Vec<String> = now.of(self.name()).map(|pod| pod.uid.clone()).collect();
        uids.sort();
        uids
    }

    /// The numbers of replicas that were asked for since then, seconds of the record.
    pub fn asked_since(&self, seconds: f64) -> Vec<i32> {
        let moments = self.record.timeline().moments();
        let before = moments.iter().rev().find(|moment| moment.at.as_secs_f64() < seconds);
        let after = moments.iter().filter(|moment| moment.at.as_secs_f64() >= seconds);
        let mut asked: Vec<i32> = before.into_iter().chain(after).map(|moment| moment.replicas).collect();
        asked.dedup();
        asked
    }

    /// Waits until one replica is left, and says its pool and UID.
    pub async fn falls_back(&self) -> Result<(Option<String>, String), String> {
        let back = self.stage.fleet.until("one replica", |now| now.of(self.name()).count() == 1).await?;
        let left = back.of(self.name()).next().ok_or("one replica is none")?;
        self.record.note(format!("one replica is left: {}", left.pool.as_deref().unwrap_or("nowhere")));
        Ok((left.pool.clone(), left.uid.clone()))
    }

    /// Writes the record and lets everything go.
    pub async fn finish(self, outcome: &str) -> Result<(), String> {
        let file = self.record.write(outcome)?;
        eprintln!("{SERVICE} in {}: {outcome}; {}", self.name(), file.display());
        self.stage.fleet.force(&self.namespace.name, None);
        self.namespace.finish().await;
        Ok(())
    }
}
