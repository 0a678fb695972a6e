//! Everything that an HPA and its Deployment went through, by watching them: no state is missed between two looks.

use std::{fmt, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::wait::PATIENCE;

/// State after one change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moment {
    /// Since the timeline began.
    pub at: Duration,
    /// `spec.replicas` of the Deployment: what the HPA wants.
    pub replicas: i32,
    /// Ready replicas.
    pub ready: i32,
    /// The HPA's condition `ScalingActive`.
    pub active: bool,
    /// That condition's message.
    pub message: String,
    /// The value that the HPA has read last, as it writes it.
    pub value: Option<String>,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, replicas, ready, active, message, value } = self;
        let value = value.as_deref().unwrap_or("-");
        write!(
            f,
            "{:6.1} s  replicas {replicas} (ready {ready})  value {value}  active {active}: {message}",
            at.as_secs_f64()
        )
    }
}

/// A running record.
#[derive(Debug)]
pub struct Timeline {
    moments: watch::Receiver<Arc<Vec<Moment>>>,
    task: JoinHandle<()>,
}

enum Change {
    Deployment(Box<Deployment>),
    Autoscaler(Box<HorizontalPodAutoscaler>),
}

impl Timeline {
    /// Watches the Deployment and the HPA of these names.
    pub fn watch(client: &Client, namespace: &str, deployment: &str, autoscaler: &str) -> Self {
        let one = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let deployments = watcher(Api::<Deployment>::namespaced(client.clone(), namespace), one(deployment))
            .default_backoff()
            .applied_objects()
            .map_ok(|object| Change::Deployment(Box::new(object)));
        let autoscalers =
            watcher(Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace), one(autoscaler))
                .default_backoff()
                .applied_objects()
                .map_ok(|object| Change::Autoscaler(Box::new(object)));
        let (sender, moments) = watch::channel(Arc::new(Vec::new()));
        let task = tokio::spawn(async move {
            let start = Instant::now();
            let mut now = Moment::default();
            let mut deployed = false;
            let mut changes = stream::select(deployments.boxed(), autoscalers.boxed());
            while let Some(change) = changes.next().await {
                match change {
                    Ok(Change::Deployment(object)) => {
                        now.apply_deployment(&object);
                        deployed = true;
                    }
                    Ok(Change::Autoscaler(object)) => now.apply_autoscaler(&object),
                    Err(_) => continue, // the watcher itself starts again
                }
                if !deployed {
                    continue; // the HPA was seen first: replicas are not known yet
                }
                now.at = start.elapsed();
                sender.send_modify(|moments| Arc::make_mut(moments).push(now.clone()));
            }
        });
        Self { moments, task }
    }

    /// All moments so far.
    pub fn moments(&self) -> Arc<Vec<Moment>> {
        Arc::clone(&self.moments.borrow())
    }

    /// Waits for the first moment, from the present one on, for which `reached` holds.
    pub async fn until(&self, what: &str, reached: impl Fn(&Moment) -> bool) -> Result<Moment, String> {
        let mut moments = self.moments.clone();
        let present = self.moments().len().saturating_sub(1);
        let first = |moments: &Arc<Vec<Moment>>| moments.iter().skip(present).find(|moment| reached(moment)).cloned();
        let found = moments.wait_for(|moments| first(moments).is_some());
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(Ok(moments)) => Ok(first(&moments).unwrap_or_default()),
            Ok(Err(_)) => Err(format!("the watch ended while waiting for: {what}\n{self}")),
            Err(_) => Err(format!("waited {PATIENCE:?} for: {what}\n{self}")),
        }
    }

    /// Watches for `duration` that every moment `holds`. Longer than the HPA's stabilization, it shows that something that
    /// must not happen does not happen later either.
    pub async fn holds(&self, what: &str, duration: Duration, holds: impl Fn(&Moment) -> bool) -> Result<(), String> {
        let mut moments = self.moments.clone();
        let present = self.moments().len().saturating_sub(1);
        let broken = moments.wait_for(|moments| !moments.iter().skip(present).all(&holds));
        match tokio::time::timeout(duration, broken).await {
            Err(_) => Ok(()),
            Ok(_) => Err(format!("does not hold: {what}\n{self}")),
        }
    }

    /// `Err` with the whole record unless every moment `holds`.
    pub fn all(&self, what: &str, holds: impl Fn(&Moment) -> bool) -> Result<(), String> {
        if self.moments().iter().all(holds) { Ok(()) } else { Err(format!("does not hold: {what}\n{self}")) }
    }

    /// The numbers of replicas that were asked for, one after the other.
    pub fn steps(&self) -> Vec<i32> {
        let mut steps: Vec<i32> = self.moments().iter().map(|moment| moment.replicas).collect();
        steps.dedup();
        steps
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.moments().iter().try_for_each(|moment| writeln!(f, "{moment}"))
    }
}

impl Moment {
    fn apply_deployment(&mut self, object: &Deployment) {
        self.replicas = object.spec.replicas.unwrap_or(0);
        self.ready = object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    }

    fn apply_autoscaler(&mut self, object: &HorizontalPodAutoscaler) {
        let Some(status) = &object.status else { return };
        let conditions = status.conditions.iter().flatten();
        let active = conditions.into_iter().find(|condition| condition.type_ == "ScalingActive");
        self.active = active.is_some_and(|condition| condition.status == "True");
        self.message = active.and_then(|condition| condition.message.clone()).unwrap_or_default();
        self.value = status.current_metrics.iter().flatten().find_map(|metric| {
            let current = &metric.pods.as_ref()?.current;
            current.average_value.as_ref().map(|value| value.0.clone())
        });
    }
}
