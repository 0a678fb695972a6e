//! The pods of a scenario, as they stand at the API server and in the controllers' cache.

use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod as Object};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::wait::{PATIENCE, eventually},
    scenario::{Pod, pod_name},
};

/// How often it is looked whether the controllers have seen the pods.
const LOOK: Duration = Duration::from_millis(20);

/// The pods of one scenario.
#[derive(Debug)]
pub struct Cast {
    name: &'static str,
    api: Api<Object>,
    sets: Api<ReplicaSet>,
    present: Vec<Pod>,
    /// The pod of [`settle`](Self::settle), once there is one, and whether it is ready.
    witness: (String, bool),
}

impl Cast {
    /// Of the scenario of that name. There are none at first.
    pub fn new(client: &Client, namespace: &str, name: &'static str) -> Self {
        let (api, sets) = (Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace));
        Self { name, api, sets, present: Vec::new(), witness: Default::default() }
    }

    /// Makes the witness: a pod that is not the scenario's, and its ReplicaSet.
    pub async fn set_up(&mut self) {
        let label = json!({"witness": self.name});
        let set = json!({
            "metadata": {"name": self.name},
            "spec": {"replicas": 1, "selector": {"matchLabels": label}, "template": {
                "metadata": {"labels": label},
                "spec": {"schedulerName": "nobody", "containers": [{"name": "none", "image": "none"}]},
            }},
        });
        self.sets.create(&PostParams::default(), &serde_json::from_value(set).unwrap()).await.unwrap();
        let label = ListParams::default().labels(&format!("witness={}", self.name));
        self.witness.0 = eventually("the witness", async || {
            let list = self.api.list(&label).await.map_err(|error| error.to_string())?;
            list.iter().map(Object::name_any).next().ok_or_else(|| "it is not there".to_owned())
        })
        .await;
    }

    /// Turns the pods in their slots into these, and waits until the controllers know them.
    pub async fn turn(&mut self, pods: &[Pod]) -> Result<(), String> {
        let changes = (0..self.present.len().max(pods.len())).filter_map(|slot| {
            let letter = |pods: &[Pod]| pods.get(slot).map(|pod| pod.letter).filter(|letter| *letter != 'x');
            let (from, to) = (letter(&self.present), letter(pods));
            (from != to).then(|| self.turn_one(slot, from, to))
        });
        let changed = try_join_all(changes).await.map_err(|error| error.to_string())?;
        self.present = pods.to_vec();
        if changed.is_empty() { Ok(()) } else { self.settle().await }
    }

    async fn turn_one(&self, slot: usize, from: Option<char>, to: Option<char>) -> Result<(), kube::Error> {
        let (api, pod) = (&self.api, pod_name(self.name, slot));
        let stays = from.zip(to).is_some_and(|(from, to)| !matches!((from, to), ('d' | 'f', _) | (_, 'd')));
        if from.is_some() && !stays {
            let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            api.patch(&pod, &PatchParams::default(), &free).await?;
            if from != Some('d') {
                api.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
            }
        }
        let Some(to) = to else { return Ok(()) };
        if !stays {
            // Nobody schedules it, and a finalizer keeps it while it is being deleted.
            let object = json!({
                "metadata": {"name": pod, "labels": {"app": self.name}, "finalizers": ["tidegate.test/stay"]},
                "spec": {"schedulerName": "nobody", "containers": [{"name": "model", "image": "none"}]},
            });
            let object: Object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &object).await?;
        }
        let phase = match to {
            'p' => "Pending",
            'f' => "Failed",
            _ => "Running",
        };
        let ready = if matches!(to, 'r' | 'd') { "True" } else { "False" };
        let status = json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        api.patch_status(&pod, &PatchParams::default(), &Patch::Merge(status)).await?;
        if to == 'd' {
            api.delete(&pod, &DeleteParams::default().grace_period(0)).await?;
        }
        Ok(())
    }

    /// Waits until the HPA controller's cache has every pod as it was written.
    ///
    /// How long that takes a busy machine, nobody knows beforehand. But the ReplicaSet controller reads the same cache, which
    /// one watch fills in the order of the writes: once it tells of the witness, which is changed after all the others, they
    /// are there, too.
    async fn settle(&mut self) -> Result<(), String> {
        let words = |error: kube::Error| error.to_string();
        let (witness, ready) = &mut self.witness;
        *ready = !*ready;
        let status = if *ready { "True" } else { "False" };
        let status = Patch::Merge(json!({"status": {"conditions": [{"type": "Ready", "status": status}]}}));
        self.api.patch_status(witness, &PatchParams::default(), &status).await.map_err(words)?;
        let written = Instant::now();
        loop {
            let seen = self.sets.get(self.name).await.map_err(words)?.status.and_then(|status| status.ready_replicas);
            if (seen.unwrap_or(0) > 0) == *ready {
                return Ok(());
            }
            if written.elapsed() > PATIENCE {
                return Err(format!("the controllers have not seen the pods within {PATIENCE:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
