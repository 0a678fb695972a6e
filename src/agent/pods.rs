//! The pods of this node by UID and container id, from a watch of the API server.
//!
//! What is known here never goes wrong with age: a UID is one pod's for good. A watch that has broken off therefore costs
//! new pods their names until it is back, and gives nobody another's.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use parking_lot::RwLock;

use super::cgroup::Place;

/// The kubelet's annotation of a mirror pod: the hash by which the static pod's cgroup is called.
const CONFIG_HASH: &str = "kubernetes.io/config.hash";

/// Whom a process belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Name of the container; `None`: not known yet.
    pub container: Option<Arc<str>>,
}

#[derive(Debug)]
struct Pod {
    namespace: Arc<str>,
    name: Arc<str>,
    /// Names by the runtime's ids.
    containers: HashMap<String, Arc<str>>,
    running: bool,
}

#[derive(Debug, Default)]
struct State {
    by_uid: HashMap<String, Arc<Pod>>,
    running: BTreeMap<(Arc<str>, Arc<str>), u32>,
    listed: bool,
    problem: Option<String>,
}

/// The node's pods as last heard of.
#[derive(Debug, Default)]
pub struct Pods(RwLock<State>);

impl Pods {
    /// The pod of this node that one of the places is in. Nobody if it is none of them, or if more than one is.
    pub fn owner(&self, places: &[Place]) -> Option<Owner> {
        let state = self.0.read();
        let mut known = places.iter().filter_map(|place| Some((place, state.by_uid.get(&place.pod_uid)?)));
        let (place, pod) = known.next()?;
        if known.next().is_some() {
            return None;
        }
        let container = place.container.as_ref().and_then(|id| pod.containers.get(id));
        Some(Owner { namespace: Arc::clone(&pod.namespace), pod: Arc::clone(&pod.name), container: container.cloned() })
    }

    /// Whether a pod of that name runs on this node.
    pub fn is_running(&self, namespace: &Arc<str>, name: &Arc<str>) -> bool {
        self.0.read().running.contains_key(&(Arc::clone(namespace), Arc::clone(name)))
    }

    /// `Err` with the reason while the API server cannot be followed.
    pub fn health(&self) -> Result<(), String> {
        let state = self.0.read();
        match &state.problem {
            Some(problem) => Err(problem.clone()),
            None if state.listed => Ok(()),
            None => Err("the node's pods have not been listed yet".into()),
        }
    }

    fn apply(&self, object: &ApiPod) {
        let mut state = self.0.write();
        remove(&mut state, object);
        insert(&mut state, object);
    }

    pub(super) fn replace(&self, objects: &[ApiPod]) {
        let mut state = State { listed: true, ..State::default() };
        for object in objects {
            insert(&mut state, object);
        }
        *self.0.write() = state;
    }

    fn delete(&self, object: &ApiPod) {
        remove(&mut self.0.write(), object);
    }

    /// Says `true` if the problem is a new one.
    fn fail(&self, problem: String) -> bool {
        self.0.write().problem.replace(problem.clone()) != Some(problem)
    }

    fn recover(&self) {
        if self.0.write().problem.take().is_some() {
            tracing::info!("the watch of the node's pods has recovered");
        }
    }
}

/// The UIDs that a pod goes by.
fn uids(object: &ApiPod) -> impl Iterator<Item = String> {
    let hash = object.metadata.annotations.as_ref().and_then(|all| all.get(CONFIG_HASH));
    object.metadata.uid.iter().chain(hash).cloned().collect::<Vec<_>>().into_iter()
}

fn insert(state: &mut State, object: &ApiPod) {
    let (Some(namespace), Some(name)) = (&object.metadata.namespace, &object.metadata.name) else { return };
    let status = object.status.as_ref();
    let statuses = status.into_iter().flat_map(|status| {
        [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses]
    });
    let named = |status: &ContainerStatus| {
        // containerd://ID, cri-o://ID, docker://ID
        let (_, id) = status.container_id.as_deref()?.split_once("://")?;
        Some((id.to_owned(), Arc::from(&*status.name)))
    };
    let pod = Arc::new(Pod {
        namespace: namespace.as_str().into(),
        name: name.as_str().into(),
        containers: statuses.flatten().flatten().filter_map(named).collect(),
        running: status.and_then(|status| status.phase.as_deref()) == Some("Running"),
    });
    if pod.running {
        *state.running.entry((Arc::clone(&pod.namespace), Arc::clone(&pod.name))).or_default() += 1;
    }
    state.by_uid.extend(uids(object).map(|uid| (uid, Arc::clone(&pod))));
}

fn remove(state: &mut State, object: &ApiPod) {
    let removed: Vec<Arc<Pod>> = uids(object).filter_map(|uid| state.by_uid.remove(&uid)).collect();
    let Some(pod) = removed.first().filter(|pod| pod.running) else { return };
    let key = (Arc::clone(&pod.namespace), Arc::clone(&pod.name));
    // A pod that is replaced by its namesake (a StatefulSet's) may be there twice for a moment.
    if let Some(count) = state.running.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            state.running.remove(&key);
        }
    }
}

/// Follows the pods of that node for ever.
pub async fn follow(client: Client, node: &str, pods: &Pods) -> Infallible {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let mut events = watcher(Api::<ApiPod>::all(client), config).default_backoff().boxed();
    let mut list = Vec::new();
    loop {
        match events.next().await {
            Some(Ok(event)) => {
                match event {
                    Event::Apply(pod) => pods.apply(&pod),
                    Event::Delete(pod) => pods.delete(&pod),
                    Event::Init => list.clear(),
                    Event::InitApply(pod) => list.push(pod),
                    Event::InitDone => pods.replace(&std::mem::take(&mut list)),
                }
                pods.recover();
            }
            Some(Err(error)) => {
                let problem = error.to_string();
                if pods.fail(problem.clone()) {
                    tracing::warn!(%problem, "the node's pods cannot be watched: new ones stay without a name");
                }
            }
            // A watcher does not end.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "e275d1a37782ab30008aa3ae6666cccefe53b3a14a2ab5a8dc459939107c8c0d";

    fn pod(name: &str, uid: &str, more: &Value) -> ApiPod {
        let mut object = json!({
            "metadata": {"namespace": "prod", "name": name, "uid": uid},
            "status": {
                "phase": "Running",
                "containerStatuses": [{
                    "name": "kserve-container", "containerID": format!("containerd://{ID}"),
                    "image": "", "imageID": "", "ready": true, "restartCount": 0,
                }],
            },
        });
        for (pointer, value) in more.as_object().unwrap() {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn place(uid: &str, container: Option<&str>) -> Place {
        Place { pod_uid: uid.into(), container: container.map(Into::into) }
    }

    fn names(owner: Option<Owner>) -> Option<(String, Option<String>)> {
        owner.map(|owner| (owner.pod.to_string(), owner.container.map(|name| name.to_string())))
    }

    #[test]
    fn a_process_belongs_to_the_pod_of_its_uid_and_to_the_container_of_its_id() {
        let pods = Pods::default();
        pods.replace(&[pod("llm-0", "u-1", &json!({}))]);
        let find = |uid, id| names(pods.owner(&[place(uid, id)]));
        assert_eq!(find("u-1", Some(ID)), Some(("llm-0".into(), Some("kserve-container".into()))));
        assert_eq!(find("u-1", Some("another")), Some(("llm-0".into(), None)), "a container that is not reported yet");
        assert_eq!(find("u-1", None), Some(("llm-0".into(), None)));
        assert_eq!(find("u-2", Some(ID)), None, "a container's id does not make up for an unknown pod");
        assert_eq!(names(pods.owner(&[])), None);
    }

    #[test]
    fn of_several_places_only_the_one_pod_that_this_cluster_knows_counts() {
        let pods = Pods::default();
        pods.replace(&[pod("outer", "u-1", &json!({}))]);
        let nested = [place("u-1", None), place("u-9", None)];
        assert_eq!(names(pods.owner(&nested)), Some(("outer".into(), None)));
        pods.apply(&pod("inner", "u-9", &json!({})));
        assert_eq!(names(pods.owner(&nested)), None, "both are known: it could be either's");
    }

    #[test]
    fn a_static_pod_is_found_by_the_hash_of_its_manifest() {
        let pods = Pods::default();
        pods.apply(&pod("static-n1", "u-1", &json!({"/metadata/annotations": {CONFIG_HASH: "h-1"}})));
        assert_eq!(names(pods.owner(&[place("h-1", None)])), Some(("static-n1".into(), None)));
    }

    #[test]
    fn changes_and_deletions_are_followed_and_namesakes_told_apart() {
        let pods = Pods::default();
        let (namespace, name) = (Arc::from("prod"), Arc::from("llm-0"));
        let (old, new) = (pod("llm-0", "u-1", &json!({})), pod("llm-0", "u-2", &json!({})));
        pods.replace(std::slice::from_ref(&old));
        pods.apply(&new);
        pods.apply(&new);
        pods.delete(&old);
        assert_eq!(names(pods.owner(&[place("u-1", None)])), None);
        assert_eq!(names(pods.owner(&[place("u-2", None)])), Some(("llm-0".into(), None)));
        assert!(pods.is_running(&namespace, &name));
        pods.apply(&pod("llm-0", "u-2", &json!({"/status/phase": "Succeeded"})));
        assert!(!pods.is_running(&namespace, &name));
        assert_eq!(names(pods.owner(&[place("u-2", None)])), Some(("llm-0".into(), None)), "it is still its UID");
    }
}
