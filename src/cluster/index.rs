//! The one owner of what is known about the cluster: synchronous apply, delete and reset, immutable views.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::warn;

use super::{
    Kind, Scope,
    decode::{self, Object, Undecodable},
    view::{ObjectKey, View},
};
use crate::config;

/// Objects by kind, kept current by [`watch`](super::watch), or by a test.
#[derive(Debug)]
pub struct Index {
    gpu_resources: Vec<String>,
    namespaces: BTreeSet<Arc<str>>,
    /// What is watched.
    kinds: Vec<Kind>,
    state: Mutex<State>,
    /// Counts changes; the value says nothing but "look again".
    version: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    /// Cloned on the first change after somebody took it and not before: once per burst of changes.
    view: Arc<View>,
    /// Watches without a complete and current list.
    unsynced: BTreeSet<(Kind, Scope)>,
    /// The last error of each watch that fails at present.
    problems: BTreeMap<(Kind, Scope), String>,
}

impl Default for Index {
    /// All namespaces, the default GPU resource names, and what readings are made of.
    fn default() -> Self {
        Self::new(&config::Aggregate::default(), &Kind::MEASURED)
    }
}

impl Index {
    /// An empty index in which nothing is known yet.
    #[must_use]
    pub fn new(aggregate: &config::Aggregate, kinds: &[Kind]) -> Self {
        let config::Aggregate { gpu_resources, namespaces, coverage: _, busy_percent: _ } = aggregate;
        let namespaces: BTreeSet<Arc<str>> = namespaces.iter().map(|name| Arc::from(name.as_str())).collect();
        let mut index = Self {
            gpu_resources: gpu_resources.clone(),
            namespaces,
            kinds: kinds.into(),
            state: Mutex::new(State { view: Arc::default(), unsynced: BTreeSet::new(), problems: BTreeMap::new() }),
            version: watch::Sender::new(0),
        };
        let unsynced: BTreeSet<_> = index.watches().into_iter().collect();
        let ordered = index.kinds.contains(&Kind::ResourcePolicies);
        let mut view = View { namespaces: index.namespaces.clone(), ordered, ..View::default() };
        tell(&unsynced, &mut view);
        *index.state.get_mut() = State { view: Arc::new(view), unsynced, problems: BTreeMap::new() };
        index
    }

    /// What has to be watched: each kind once, or once per configured namespace if its objects live in namespaces.
    #[must_use]
    pub fn watches(&self) -> Vec<(Kind, Scope)> {
        let mut watches = Vec::new();
        for &kind in &self.kinds {
            if kind.namespaced() && !self.namespaces.is_empty() {
                watches.extend(self.namespaces.iter().map(|name| (kind, Scope::Namespace(Arc::clone(name)))));
            } else {
                watches.push((kind, Scope::Cluster));
            }
        }
        watches
    }

    /// The cluster as it is known now. Cheap: a view that nobody changed since is the same one.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.state.lock().view)
    }

    /// Tells of changes. Several changes may be told as one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Reads one object of a list, for [`Index::reset`].
    pub fn decode(&self, kind: Kind, json: &str) -> Result<Object, Undecodable> {
        decode::object(kind, json, &self.gpu_resources)
    }

    /// Adds or replaces an object. One that cannot be read counts as deleted: what it said before is no longer true, and
    /// what it says now is not known.
    pub fn apply(&self, kind: Kind, json: &str) {
        match self.decode(kind, json) {
            Ok(object) => self.change(|view| put(view, object)),
            Err(error) => {
                warn!(%kind, %error, "an object cannot be read and counts as deleted");
                if let Some(key) = error.key {
                    self.change(|view| remove(view, kind, &key));
                }
            }
        }
    }

    /// Removes an object. Absent ones are none of our business.
    pub fn delete(&self, kind: Kind, key: &ObjectKey) {
        self.change(|view| remove(view, kind, key));
    }

    /// Replaces all objects of a kind within a scope by a complete list; with that the watch is in sync.
    pub fn reset(&self, kind: Kind, scope: &Scope, objects: Vec<Object>) {
        let listed: BTreeSet<ObjectKey> = objects.iter().map(Object::key).collect();
        self.change(|view| {
            let gone: Vec<ObjectKey> = keys(view, kind)
                .into_iter()
                .filter(|key| scope.covers(&key.namespace) && !listed.contains(key))
                .collect();
            let mut changed = false;
            for key in gone {
                changed |= remove(view, kind, &key);
            }
            for object in objects {
                changed |= put(view, object);
            }
            changed
        });
        self.sync(|unsynced| unsynced.remove(&(kind, scope.clone())));
    }

    /// Says that a watch is out of sync: its objects may be wrong by now and nothing may be made of them. They stay,
    /// because the next complete list will change little.
    pub fn lose(&self, kind: Kind, scope: &Scope) {
        self.sync(|unsynced| unsynced.insert((kind, scope.clone())));
    }

    /// Notes what is wrong with a watch at present, `None` once it is well.
    pub fn note(&self, kind: Kind, scope: &Scope, problem: Option<String>) {
        let mut state = self.state.lock();
        match problem {
            Some(problem) => drop(state.problems.insert((kind, scope.clone()), problem)),
            None => drop(state.problems.remove(&(kind, scope.clone()))),
        }
    }

    /// One sentence for each watch that fails at present: for readiness and the status page.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let state = self.state.lock();
        state.problems.iter().map(|((kind, scope), problem)| format!("watch of {kind} in {scope}: {problem}")).collect()
    }

    /// How many objects of a kind there are.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        let view = self.view();
        match kind {
            Kind::Pods => view.pods.len(),
            Kind::Deployments => view.deployments.len(),
            Kind::InferenceServices => view.inference_services.len(),
            Kind::CoreServices => view.core_services.len(),
            Kind::Nodes => view.nodes.len(),
            Kind::Autoscalers => view.autoscalers.len(),
            Kind::ScalingPolicies => view.policies.len(),
            Kind::ScaledObjects => view.scaled_objects.len(),
            Kind::ResourcePolicies => view.resource_policies.len(),
            Kind::PluginResourcePolicies => view.plugin_resource_policies.len(),
        }
    }

    /// How many of them lie outside of a scope.
    #[must_use]
    pub fn count_outside(&self, kind: Kind, scope: &Scope) -> usize {
        keys(&self.view(), kind).iter().filter(|key| !scope.covers(&key.namespace)).count()
    }

    fn sync(&self, change: impl FnOnce(&mut BTreeSet<(Kind, Scope)>) -> bool) {
        let mut guard = self.state.lock();
        let State { view, unsynced, problems: _ } = &mut *guard;
        if change(unsynced) {
            tell(unsynced, Arc::make_mut(view));
            drop(guard);
            self.version.send_modify(|version| *version += 1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Arc<View>) -> bool) {
        let changed = change(&mut self.state.lock().view);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
    }
}

/// Says in the view which watches are out of sync.
fn tell(unsynced: &BTreeSet<(Kind, Scope)>, view: &mut View) {
    view.unsynced.clear();
    view.unsynced_in.clear();
    let mut scopes: BTreeMap<Kind, Vec<&Scope>> = BTreeMap::new();
    for (kind, scope) in unsynced {
        scopes.entry(*kind).or_default().push(scope);
    }
    for (kind, scopes) in scopes {
        if !kind.namespaced() || scopes.len() >= view.namespaces.len() {
            view.unsynced.insert(kind.name());
            continue;
        }
        for scope in scopes {
            if let Scope::Namespace(namespace) = scope {
                view.unsynced_in.entry(Arc::clone(namespace)).or_default().insert(kind.name());
            }
        }
    }
}

fn keys(view: &View, kind: Kind) -> Vec<ObjectKey> {
    match kind {
        Kind::Pods => view.pods.keys().cloned().collect(),
        Kind::Deployments => view.deployments.keys().cloned().collect(),
        Kind::InferenceServices => view.inference_services.keys().cloned().collect(),
        Kind::CoreServices => view.core_services.keys().cloned().collect(),
        Kind::Nodes => {
            view.nodes.keys().map(|name| ObjectKey { namespace: "".into(), name: Arc::clone(name) }).collect()
        }
        Kind::Autoscalers => view.autoscalers.keys().cloned().collect(),
        Kind::ScalingPolicies => view.policies.keys().cloned().collect(),
        Kind::ScaledObjects => view.scaled_objects.keys().cloned().collect(),
        Kind::ResourcePolicies => view.resource_policies.keys().cloned().collect(),
        Kind::PluginResourcePolicies => view.plugin_resource_policies.keys().cloned().collect(),
    }
}

fn put(view: &mut Arc<View>, object: Object) -> bool {
    match object {
        Object::Pod(pod) => put_in(view, |v| &mut v.pods, |v| &v.pods, pod.key.clone(), pod),
        Object::Deployment(deployment) => {
            put_in(view, |v| &mut v.deployments, |v| &v.deployments, deployment.key.clone(), deployment)
        }
        Object::InferenceService(service) => {
            put_in(view, |v| &mut v.inference_services, |v| &v.inference_services, service.key.clone(), service)
        }
        Object::CoreService(service) => {
            put_in(view, |v| &mut v.core_services, |v| &v.core_services, service.key.clone(), service)
        }
        Object::Node(node) => put_in(view, |v| &mut v.nodes, |v| &v.nodes, Arc::clone(&node.name), node),
        Object::Autoscaler(autoscaler) => {
            put_in(view, |v| &mut v.autoscalers, |v| &v.autoscalers, autoscaler.key.clone(), autoscaler)
        }
        Object::ScalingPolicy(policy) => {
            put_in(view, |v| &mut v.policies, |v| &v.policies, policy.key.clone(), *policy)
        }
        Object::ScaledObject(object) => {
            put_in(view, |v| &mut v.scaled_objects, |v| &v.scaled_objects, object.key.clone(), object)
        }
        Object::ResourcePolicy(policy) => {
            put_in(view, |v| &mut v.resource_policies, |v| &v.resource_policies, policy.key.clone(), policy)
        }
        Object::PluginResourcePolicy(policy) => {
            let key = policy.key.clone();
            put_in(view, |v| &mut v.plugin_resource_policies, |v| &v.plugin_resource_policies, key, policy)
        }
    }
}

fn remove(view: &mut Arc<View>, kind: Kind, key: &ObjectKey) -> bool {
    match kind {
        Kind::Pods => remove_from(view, |v| &mut v.pods, |v| &v.pods, key),
        Kind::Deployments => remove_from(view, |v| &mut v.deployments, |v| &v.deployments, key),
        Kind::InferenceServices => remove_from(view, |v| &mut v.inference_services, |v| &v.inference_services, key),
        Kind::CoreServices => remove_from(view, |v| &mut v.core_services, |v| &v.core_services, key),
        Kind::Nodes => remove_from(view, |v| &mut v.nodes, |v| &v.nodes, &key.name),
        Kind::Autoscalers => remove_from(view, |v| &mut v.autoscalers, |v| &v.autoscalers, key),
        Kind::ScalingPolicies => remove_from(view, |v| &mut v.policies, |v| &v.policies, key),
        Kind::ScaledObjects => remove_from(view, |v| &mut v.scaled_objects, |v| &v.scaled_objects, key),
        Kind::ResourcePolicies => remove_from(view, |v| &mut v.resource_policies, |v| &v.resource_policies, key),
        Kind::PluginResourcePolicies => {
            remove_from(view, |v| &mut v.plugin_resource_policies, |v| &v.plugin_resource_policies, key)
        }
    }
}

/// Most updates touch no field that is used here (a node's heartbeat, a pod's annotations): those change nothing, copy
/// nothing and wake nobody.
fn put_in<K: Ord, V: PartialEq>(
    view: &mut Arc<View>,
    write: fn(&mut View) -> &mut BTreeMap<K, Arc<V>>,
    read: fn(&View) -> &BTreeMap<K, Arc<V>>,
    key: K,
    value: V,
) -> bool {
    if read(view).get(&key).is_some_and(|known| **known == value) {
        return false;
    }
    write(Arc::make_mut(view)).insert(key, Arc::new(value));
    true
}

fn remove_from<K: Ord, V>(
    view: &mut Arc<View>,
    write: fn(&mut View) -> &mut BTreeMap<K, Arc<V>>,
    read: fn(&View) -> &BTreeMap<K, Arc<V>>,
    key: &K,
) -> bool {
    read(view).contains_key(key) && write(Arc::make_mut(view)).remove(key).is_some()
}

#[cfg(test)]
pub(crate) mod tests;
