//! Which pods belong to which service (R6), by state (R8).

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use apiservice::{Selector, selector::Condition};

use super::view::{Deployment, ObjectKey, Pod, PodState, View};

/// One service, a Deployment, with its pods. Nodes and times are the pods'.
#[derive(Debug, Clone)]
pub struct Service<'v> {
    /// The Deployment. For KServe it names the InferenceService.
    pub deployment: &'v Arc<Deployment>,
    /// Kubernetes `Ready`: the only ones that a value is made of.
    pub ready: Vec<&'v Arc<Pod>>,
    /// Scheduled but not Ready.
    pub starting: Vec<&'v Arc<Pod>>,
    /// Not scheduled.
    pub pending: Vec<&'v Arc<Pod>>,
    /// Ready when their nodes were last heard of.
    pub cut_off: Vec<&'v Arc<Pod>>,
}

impl View {
    /// The namespace's pods that `selector` selects, by name, in any state.
    pub fn pods_selected<'v>(
        &'v self,
        namespace: &'v str,
        selector: &'v Selector,
    ) -> impl Iterator<Item = &'v Arc<Pod>> + 'v {
        let first = ObjectKey { namespace: namespace.into(), name: "".into() };
        self.pods
            .range(first..)
            .take_while(move |(key, _)| *key.namespace == *namespace)
            .map(|(_, pod)| pod)
            .filter(move |pod| pod.selected_by(selector))
    }

    /// The namespace's Deployments, by name.
    pub fn deployments_in<'v>(&'v self, namespace: &str) -> impl Iterator<Item = &'v Arc<Deployment>> + use<'v> {
        let first = ObjectKey { namespace: namespace.into(), name: "".into() };
        let namespace = Arc::clone(&first.namespace);
        self.deployments.range(first..).map(|(_, d)| d).take_while(move |d| d.key.namespace == namespace)
    }

    /// Every Deployment with its pods by state; leaving pods belong to nobody. In the order of the
    /// Deployments' keys, pods in the order of theirs.
    #[must_use]
    pub fn services(&self) -> Vec<Service<'_>> {
        // A namespace may hold hundreds of Deployments and thousands of pods. Nearly every selector demands one exact
        // label value, so pods are looked up by that and not compared each with each.
        let keys: BTreeSet<&str> =
            self.deployments.values().filter_map(|d| exact(&d.selector)).map(|(k, _)| k).collect();
        let mut by_label: HashMap<(&str, &str, &str), Vec<&Arc<Pod>>> = HashMap::new();
        for pod in self.pods.values() {
            for key in &keys {
                if let Some(value) = pod.labels.get(*key) {
                    by_label.entry((&*pod.key.namespace, *key, &**value)).or_default().push(pod);
                }
            }
        }
        self.deployments
            .values()
            .map(|deployment| {
                let mut service = Service {
                    deployment,
                    ready: Vec::new(),
                    starting: Vec::new(),
                    pending: Vec::new(),
                    cut_off: Vec::new(),
                };
                let namespace = &*deployment.key.namespace;
                match exact(&deployment.selector) {
                    Some((key, value)) => by_label
                        .get(&(namespace, key, value))
                        .into_iter()
                        .flatten()
                        .filter(|pod| pod.selected_by(&deployment.selector))
                        .for_each(|pod| service.add(pod)),
                    None => self.pods_selected(namespace, &deployment.selector).for_each(|pod| service.add(pod)),
                }
                service
            })
            .collect()
    }
}

impl Pod {
    /// Whether the selector selects its labels.
    #[must_use]
    pub fn selected_by(&self, selector: &Selector) -> bool {
        selector.matches(|key| self.labels.get(key).map(|value| &**value))
    }
}

impl<'v> Service<'v> {
    fn add(&mut self, pod: &'v Arc<Pod>) {
        match pod.state {
            PodState::Ready => self.ready.push(pod),
            PodState::Starting => self.starting.push(pod),
            PodState::Pending => self.pending.push(pod),
            PodState::CutOff => self.cut_off.push(pod),
            PodState::Leaving => {}
        }
    }
}

/// The first label that has to have one exact value.
pub(crate) fn exact(selector: &Selector) -> Option<(&str, &str)> {
    selector.requirements().iter().find_map(|requirement| match requirement.condition() {
        Condition::Equals(value) => Some((requirement.key(), value.as_str())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::cluster::{Index, Kind, Service, index::tests::pod};

    fn deployment(index: &Index, namespace: &str, name: &str, selector: &serde_json::Value) {
        index.apply(
            Kind::Deployments,
            &json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"selector": selector, "template": {}}}).to_string(),
        );
    }

    fn names(service: &Service<'_>) -> [Vec<String>; 3] {
        [&service.ready, &service.starting, &service.pending]
            .map(|pods| pods.iter().map(|pod| pod.key.name.to_string()).collect())
    }

    #[test]
    fn a_service_is_a_deployment_with_its_pods_by_state_and_leaving_pods_belong_to_nobody() {
        let index = Index::default();
        deployment(&index, "prod", "llm", &json!({"matchLabels": {"app": "isvc.llm"}}));
        deployment(
            &index,
            "prod",
            "by-set",
            &json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["isvc.llm"]}]}),
        );
        deployment(&index, "prod", "other", &json!({"matchLabels": {"app": "isvc.llm", "track": "canary"}}));
        for (namespace, name, change) in [
            ("prod", "b", json!({})),
            ("prod", "a", json!({})),
            ("prod", "c", json!({"status": {"phase": "Running"}})),
            ("prod", "d", json!({"spec": {}, "status": {"phase": "Pending"}})),
            ("prod", "e", json!({"status": {"phase": "Failed"}})),
            ("test", "f", json!({})),
        ] {
            let mut object = pod(namespace, name, "u", &json!({"app": "isvc.llm"}));
            for (field, value) in change.as_object().unwrap() {
                object[field] = value.clone();
            }
            index.apply(Kind::Pods, &object.to_string());
        }
        let view = index.view();
        let services = view.services();
        let found: Vec<_> = services.iter().map(|s| (&*s.deployment.key.name, names(s))).collect();
        let llm = [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()], vec!["d".to_owned()]];
        assert_eq!(found, [("by-set", llm.clone()), ("llm", llm), ("other", Default::default())]);
    }

    #[test]
    fn a_selector_selects_in_its_own_namespace_only() {
        let index = Index::default();
        for namespace in ["a", "ab", "b"] {
            index.apply(Kind::Pods, &pod(namespace, "p", "u", &json!({"app": "x"})).to_string());
            index.apply(Kind::Pods, &pod(namespace, "q", "u", &json!({"app": "y"})).to_string());
        }
        let (view, selector) = (index.view(), "app=x".parse().unwrap());
        let keys: Vec<_> =
            view.pods_selected("a", &selector).map(|pod| (&*pod.key.namespace, &*pod.key.name)).collect();
        assert_eq!(keys, [("a", "p")]);
        assert_eq!(view.pods_selected("ab", &apiservice::Selector::everything()).count(), 2);
        assert_eq!(view.pods_selected("c", &apiservice::Selector::everything()).count(), 0);
    }
}
