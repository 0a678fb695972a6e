//! ResourcePolicy: the order of node pools for the pods that it selects.
//!
//! Two API groups define one: `scheduling.alibabacloud.com/v1alpha1` (Alibaba's scheduler; types in
//! `AliyunContainerService/ai-models-on-ack`) and `scheduling.sigs.x-k8s.io/v1alpha1` (scheduler-plugins, KEP-594, not
//! merged there). Of both, Tidegate honours the selector, the order of the units, their node selectors and their limits.
//! Every other field that says something else than its default is listed, so that the status can name it: a policy that
//! is honoured in part must not look as if it were honoured whole.

use std::{collections::BTreeMap, sync::Arc};

use apiservice::Selector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::Deserialize;
use serde_json::Value;

use super::view::{Labels, ObjectKey};

/// Most units of one policy that are read (R22); a policy with more is refused.
pub const MAX_UNITS: usize = 32;

/// One set of nodes of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its position and resource type in words, for people: `1 (ecs)`.
    pub name: Arc<str>,
    /// Labels of its nodes; empty: any node.
    pub node_selector: Labels,
    /// Most pods of the policy in it.
    pub max: Option<u32>,
}

impl Unit {
    /// Whether a node with these labels is one of its nodes.
    #[must_use]
    pub fn has(&self, node: &Labels) -> bool {
        carries(node, &self.node_selector)
    }
}

/// Whether a node with these labels is selected; without a selector each is.
#[must_use]
pub fn carries(node: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| node.get(key) == Some(value))
}

/// A ResourcePolicy, reduced to what is honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcePolicy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID, by which events are shown beside it.
    pub uid: Arc<str>,
    /// The pods that it is about. An empty selector selects every pod of the namespace.
    pub selector: Selector,
    /// Its units, the one that is filled first at the front.
    pub units: Vec<Unit>,
    /// Fields that are set and not honoured, each with what it says: `units[1].spotInstance: true`.
    pub not_honoured: Vec<String>,
}

/// Why a ResourcePolicy cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ResourcePolicy: {field}: {reason}")]
pub struct InvalidResourcePolicy {
    /// The field, as a path within the object.
    pub field: String,
    /// What was expected.
    pub reason: String,
}

fn invalid(field: &str, reason: impl std::fmt::Display) -> InvalidResourcePolicy {
    InvalidResourcePolicy { field: field.to_owned(), reason: reason.to_string() }
}

type Others = BTreeMap<String, Value>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WireSpec,
}

#[derive(Deserialize)]
struct WireMetadata {
    name: Arc<str>,
    #[serde(default)]
    namespace: Option<Arc<str>>,
    #[serde(default)]
    uid: Option<Arc<str>>,
}

/// Both groups' fields: Alibaba's `selector` and `matchExpressions`, scheduler-plugins' `podSelector`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    #[serde(default)]
    selector: BTreeMap<String, String>,
    #[serde(default)]
    match_expressions: Vec<LabelSelectorRequirement>,
    #[serde(default)]
    pod_selector: BTreeMap<String, String>,
    #[serde(default)]
    units: Vec<WireUnit>,
    #[serde(flatten)]
    others: Others,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUnit {
    #[serde(default)]
    resource: Option<String>,
    #[serde(default)]
    max: Option<i64>,
    #[serde(default)]
    max_count: Option<i64>,
    #[serde(default)]
    priority: Option<i64>,
    #[serde(default)]
    node_selector: Option<WireNodeSelector>,
    #[serde(flatten)]
    others: Others,
}

/// A plain map (Alibaba), or a `nodeSelector` of terms (scheduler-plugins takes a core/v1 NodeSelector).
#[derive(Deserialize)]
#[serde(untagged)]
enum WireNodeSelector {
    Labels(Labels),
    Terms(Value),
}

/// Fields that say nothing new at this value.
const DEFAULTS: [(&str, &str); 6] = [
    ("strategy", r#""prefer""#),
    ("preemptPolicy", r#""AfterAllUnits""#),
    ("whenTryNextUnits", r#"{"policy":"LackResourceOrExceedMax"}"#),
    ("ignorePreviousPod", "false"),
    ("ignoreTerminatingPod", "true"),
    ("matchLabelKeys", "[]"),
];

/// The resource types whose pods run on nodes that can be selected by label. `eci` and `acs` are serverless.
const NODE_RESOURCES: [&str; 2] = ["ecs", "elastic"];

fn not_honoured(prefix: &str, others: Others, into: &mut Vec<String>) {
    for (field, value) in others {
        let text = value.to_string();
        let empty = value.is_null() || text == "{}" || text == "[]" || text == "\"\"";
        if !empty && !DEFAULTS.contains(&(field.as_str(), text.as_str())) {
            into.push(format!("{prefix}{field}: {text}"));
        }
    }
}

fn count(field: &str, value: Option<i64>) -> Result<Option<u32>, InvalidResourcePolicy> {
    value
        .map(|value| {
            u32::try_from(value).map_err(|_| invalid(field, format_args!("expected 0 or more pods, got {value}")))
        })
        .transpose()
}

impl ResourcePolicy {
    /// Reads a policy of either group.
    ///
    /// # Errors
    /// [`InvalidResourcePolicy`] names the field.
    pub fn from_json(json: &str) -> Result<Self, InvalidResourcePolicy> {
        let Wire { metadata, spec } = serde_json::from_str(json).map_err(|error| invalid("spec", error))?;
        let WireSpec { selector, match_expressions, pod_selector, units, others } = spec;
        if units.len() > MAX_UNITS {
            return Err(invalid("spec.units", format_args!("at most {MAX_UNITS} are read, there are {}", units.len())));
        }
        let labels: BTreeMap<_, _> = selector.into_iter().chain(pod_selector).collect();
        let wire = LabelSelector { match_labels: Some(labels), match_expressions: Some(match_expressions) };
        let selector = Selector::try_from(&wire).map_err(|error| invalid("spec.selector", error))?;
        let mut unread = Vec::new();
        not_honoured("", others, &mut unread);
        let mut ordered = Vec::with_capacity(units.len());
        for (index, unit) in units.into_iter().enumerate() {
            let WireUnit { resource, max, max_count, priority, node_selector, others } = unit;
            let path = format!("units[{index}].");
            let resource = resource.unwrap_or_else(|| "ecs".to_owned());
            if !NODE_RESOURCES.contains(&resource.as_str()) {
                unread.push(format!("{path}resource: {resource:?} (serverless: its pods run on no node of a pool)"));
            }
            let node_selector = match node_selector {
                None => Labels::default(),
                Some(WireNodeSelector::Labels(labels)) => labels,
                Some(WireNodeSelector::Terms(terms)) => {
                    unread.push(format!("{path}nodeSelector: {terms} (only a map of labels is read)"));
                    Labels::default()
                }
            };
            not_honoured(&path, others, &mut unread);
            let max = count(&format!("spec.{path}max"), max.or(max_count))?;
            let name = format!("{} ({resource})", index + 1).into();
            ordered.push((priority.unwrap_or_default(), Unit { name, node_selector, max }));
        }
        // scheduler-plugins orders by priority, highest first; Alibaba by position. The sort is stable: both come right.
        ordered.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
        let key = ObjectKey { namespace: metadata.namespace.unwrap_or_else(|| "".into()), name: metadata.name };
        let units = ordered.into_iter().map(|(_, unit)| unit).collect();
        Ok(Self { key, uid: metadata.uid.unwrap_or_default(), selector, units, not_honoured: unread })
    }

    /// Whether it is about a pod with these labels in this namespace.
    #[must_use]
    pub fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        *self.key.namespace == *namespace && self.selector.matches(|key| labels.get(key).map(|value| &**value))
    }
}

/// A policy that selects none of the pod templates of its namespace, and the one that comes nearest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// The Deployment whose template comes nearest.
    pub nearest: ObjectKey,
    /// In words, with the labels that are wanted and those that are there.
    pub sentence: String,
}

/// What to tell of a policy that selects none of the pod templates of its namespace. `None` if it selects one, or if there
/// is no template to compare with.
///
/// A policy like that is the most common mistake with KServe: the label `app` of a predictor's pods is
/// `isvc.<InferenceService>-predictor`, and KServe overwrites what the user gives.
#[must_use]
pub fn selects_nothing<'a>(
    policy: &ResourcePolicy,
    templates: impl IntoIterator<Item = (&'a ObjectKey, &'a Labels)>,
) -> Option<Miss> {
    let wanted: Vec<_> = policy.selector.requirements().iter().map(|wanted| (wanted, wanted.to_string())).collect();
    let mut nearest: Option<(f64, &ObjectKey, String)> = None;
    for (deployment, labels) in templates {
        if *deployment.namespace != *policy.key.namespace {
            continue;
        }
        if policy.selects(&deployment.namespace, labels) {
            return None;
        }
        for (requirement, wanted) in &wanted {
            let there = labels.get(requirement.key()).map_or_else(
                || format!("no label {}", requirement.key()),
                |value| format!("{}={value}", requirement.key()),
            );
            let likeness = strsim::jaro_winkler(wanted, &there);
            if !requirement.matches(labels.get(requirement.key()).map(|value| &**value))
                && nearest.as_ref().is_none_or(|(best, ..)| likeness > *best)
            {
                nearest = Some((likeness, deployment, there));
            }
        }
    }
    let (_, nearest, there) = nearest?;
    let ObjectKey { namespace, name } = &policy.key;
    let sentence = format!(
        "ResourcePolicy {namespace}/{name} selects {} and therefore no pod; the pods of Deployment {} have {there}",
        policy.selector, nearest.name
    );
    Some(Miss { nearest: nearest.clone(), sentence })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The seed's policy, with the given selector.
    fn seed(selector: &Value) -> Value {
        json!({
            "apiVersion": "scheduling.alibabacloud.com/v1alpha1", "kind": "ResourcePolicy",
            "metadata": {"name": "qwen-chat", "namespace": "default"},
            "spec": {"selector": selector, "strategy": "prefer", "units": [
                {"resource": "ecs", "nodeSelector": {"alibabacloud.com/nodepool-id": "np-edge"}},
                {"resource": "elastic", "nodeSelector": {"alibabacloud.com/nodepool-id": "np-cloud"}},
            ]},
        })
    }

    fn read(policy: &Value) -> ResourcePolicy {
        ResourcePolicy::from_json(&policy.to_string()).unwrap_or_else(|error| panic!("{error}: {policy}"))
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey { namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn r19_the_order_of_the_units_is_the_order_of_the_pools() {
        let policy = read(&seed(&json!({"app": "isvc.qwen-chat-predictor"})));
        let pools: Vec<_> =
            policy.units.iter().map(|unit| &*unit.node_selector["alibabacloud.com/nodepool-id"]).collect();
        assert_eq!(pools, ["np-edge", "np-cloud"]);
        assert_eq!(policy.not_honoured, [""; 0], "the seed's policy is honoured whole");
    }

    #[test]
    fn scheduler_plugins_order_by_priority_and_count_by_max_count() {
        let policy = read(&json!({
            "apiVersion": "scheduling.sigs.x-k8s.io/v1alpha1", "kind": "ResourcePolicy",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {"podSelector": {"app": "x"}, "units": [
                {"priority": 1, "nodeSelector": {"pool": "cloud"}},
                {"priority": 5, "maxCount": 2, "nodeSelector": {"pool": "onprem"}},
            ]},
        }));
        let units: Vec<_> = policy.units.iter().map(|unit| (&*unit.node_selector["pool"], unit.max)).collect();
        assert_eq!(units, [("onprem", Some(2)), ("cloud", None)]);
        assert!(policy.selects("default", &labels(&[("app", "x")])));
    }

    #[test]
    fn what_is_not_honoured_is_listed_and_defaults_are_not() {
        let mut policy = seed(&json!({}));
        policy["spec"]["preemptPolicy"] = json!("BeforeNextUnit");
        policy["spec"]["ignoreTerminatingPod"] = json!(true);
        policy["spec"]["whenTryNextUnits"] = json!({"policy": "LackResourceOrExceedMax"});
        policy["spec"]["units"][0]["max"] = json!(4);
        policy["spec"]["units"][1]["spotInstance"] = json!(true);
        policy["spec"]["units"][1]["resource"] = json!("eci");
        let policy = read(&policy);
        assert_eq!(policy.units[0].max, Some(4));
        assert_eq!(
            policy.not_honoured,
            [
                r#"preemptPolicy: "BeforeNextUnit""#,
                r#"units[1].resource: "eci" (serverless: its pods run on no node of a pool)"#,
                "units[1].spotInstance: true",
            ]
        );
    }

    #[test]
    fn an_empty_selector_selects_every_pod_of_its_namespace_and_of_no_other() {
        let policy = read(&seed(&json!({})));
        assert!(policy.selects("default", &labels(&[])));
        assert!(!policy.selects("other", &labels(&[])));
    }

    #[test]
    fn a_wrong_policy_is_refused_with_the_field() {
        for (field, value, expected) in [
            ("units", json!([{"max": -1}]), "spec.units[0].max: expected 0 or more pods, got -1"),
            ("units", json!(vec![json!({}); MAX_UNITS + 1]), "spec.units: at most 32 are read, there are 33"),
            ("selector", json!({"not a label!": "x"}), "spec.selector: label key"),
            ("units", json!("ecs"), "spec: invalid type"),
        ] {
            let mut policy = seed(&json!({}));
            policy["spec"][field] = value;
            let error = ResourcePolicy::from_json(&policy.to_string()).expect_err("it is refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_seeds_selector_selects_nothing_and_the_message_names_the_label_that_is_there() {
        let policy = read(&seed(&json!({"app": "isvc.qwen-predictor"})));
        let (qwen, other) = (key("qwen-chat-predictor"), key("frontend"));
        let (qwen_labels, other_labels) =
            (labels(&[("app", "isvc.qwen-chat-predictor")]), labels(&[("app", "frontend")]));
        let templates = [(&qwen, &qwen_labels), (&other, &other_labels)];
        let miss = selects_nothing(&policy, templates).unwrap();
        assert_eq!(miss.nearest, qwen);
        assert_eq!(
            miss.sentence,
            "ResourcePolicy default/qwen-chat selects app=isvc.qwen-predictor and therefore no pod; \
             the pods of Deployment qwen-chat-predictor have app=isvc.qwen-chat-predictor"
        );
        let right = read(&seed(&json!({"app": "isvc.qwen-chat-predictor"})));
        assert_eq!(selects_nothing(&right, templates), None);
        assert_eq!(selects_nothing(&policy, []), None, "nothing to compare with");
    }
}
