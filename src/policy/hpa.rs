//! The HorizontalPodAutoscaler that follows the engine's advice and leaves the thinking to it: it transports a number.
//!
//! Everything by which the HPA would change that number is switched off: stabilization, rates, and its tolerance. The HPA
//! does nothing while what it is told is within 10 % of what is there (`--horizontal-pod-autoscaler-tolerance`), which from
//! ten replicas up is every single step; `behavior.*.tolerance` overrides that (KEP-4951: on by default from Kubernetes
//! 1.35).

use serde::Serialize;
use serde_json::{Value, json};

use super::DESIRED_METRIC;

/// First minor version of Kubernetes 1 with `behavior.*.tolerance` by default.
pub const TOLERANCE_SINCE: u32 = 35;
/// From so many replicas on the HPA's own tolerance of 10 % swallows single steps: 11/10 and 9/10 are within it.
pub const SWALLOWS_FROM: u32 = 10;
/// Longest name of an object.
const NAME: usize = 253;
/// The HPA's longest period for its rates is 30 minutes; the shortest limits least.
const PERIOD_SECONDS: u32 = 1;
/// As many as a policy may allow: no limit. Not more: the controller adds it to the replicas in 32 bits, and an overflow would
/// hold the HPA for good (seen with Kubernetes 1.36).
const ANY: u32 = 10_000;

/// What the HPA is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Name of the policy.
    pub policy: String,
    /// Their namespace.
    pub namespace: String,
    /// The Deployment.
    pub deployment: String,
    /// Least replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Whether the cluster has `behavior.*.tolerance`.
    pub tolerance: bool,
}

impl Follower {
    /// Its name: the policy's with a suffix, and never the Deployment's. KServe takes an HPA of its Deployment's name for its
    /// own and deletes it within the second.
    #[must_use]
    pub fn name(&self) -> String {
        let with = |suffix: &str| {
            let room = NAME - suffix.len();
            let head: String = self.policy.chars().take(room).collect();
            format!("{}{suffix}", head.trim_end_matches(['-', '.']))
        };
        let name = with("-tidegate");
        if name == self.deployment { with("-tidegate-hpa") } else { name }
    }

    /// The object.
    #[must_use]
    pub fn object(&self) -> Value {
        let Self { policy: _, namespace, deployment, min, max, tolerance } = self;
        let mut rules = json!({
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": ANY, "periodSeconds": PERIOD_SECONDS}],
        });
        if *tolerance {
            rules["tolerance"] = json!("0");
        }
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": self.name(), "namespace": namespace},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment},
                // Zero is behind a feature gate, and an HPA at zero replicas never looks again.
                "minReplicas": (*min).max(1),
                "maxReplicas": max,
                "metrics": [{
                    "type": "External",
                    "external": {
                        "metric": {"name": DESIRED_METRIC, "selector": {"matchLabels": {"deployment": deployment}}},
                        "target": {"type": "AverageValue", "averageValue": "1"},
                    },
                }],
                "behavior": {"scaleUp": rules, "scaleDown": rules},
            },
        })
    }

    /// As YAML, with a word for people.
    pub fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        #[derive(Serialize)]
        #[serde(transparent)]
        struct Object(Value);
        let body = serde_saphyr::to_string(&Object(self.object()))?;
        let head = if self.tolerance {
            String::new()
        } else {
            format!(
                "# This cluster's HPA has no behavior.*.tolerance (Kubernetes 1.{TOLERANCE_SINCE}): from {SWALLOWS_FROM} replicas up it\n\
                 # does not follow single steps. Use mode Act there.\n"
            )
        };
        Ok(head + &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower(policy: &str, deployment: &str) -> Follower {
        let [policy, deployment] = [policy, deployment].map(String::from);
        Follower { policy, namespace: "prod".into(), deployment, min: 1, max: 12, tolerance: true }
    }

    #[test]
    fn its_name_is_never_the_deployments() {
        for (policy, deployment, name) in [
            ("llm", "llm-predictor", "llm-tidegate"),
            ("llm", "llm-tidegate", "llm-tidegate-hpa"),
            ("llm-predictor", "llm-predictor", "llm-predictor-tidegate"),
        ] {
            assert_eq!(follower(policy, deployment).name(), name);
        }
        let long = follower(&"a".repeat(253), "d").name();
        assert!(long.len() == 253 && long.ends_with("a-tidegate"), "{long}");
    }

    #[test]
    fn it_adds_nothing_to_the_advice_and_takes_nothing_from_it() {
        let object = follower("llm", "llm-predictor").object();
        for direction in ["scaleUp", "scaleDown"] {
            let rules = &object["spec"]["behavior"][direction];
            assert_eq!(rules["stabilizationWindowSeconds"], 0);
            assert_eq!((&rules["selectPolicy"], &rules["tolerance"]), (&json!("Max"), &json!("0")));
        }
        let metric = &object["spec"]["metrics"][0]["external"];
        assert_eq!(metric["target"], json!({"type": "AverageValue", "averageValue": "1"}));
        assert_eq!(metric["metric"]["selector"]["matchLabels"], json!({"deployment": "llm-predictor"}));
        let yaml = follower("llm", "llm-predictor").yaml().unwrap();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, object, "{yaml}");
    }

    #[test]
    fn an_older_cluster_gets_no_tolerance_and_a_word_about_it() {
        let older = Follower { tolerance: false, ..follower("llm", "llm-predictor") };
        assert!(!older.object().to_string().contains("tolerance"));
        let yaml = older.yaml().unwrap();
        assert!(yaml.starts_with("# This cluster's HPA has no behavior.*.tolerance") && yaml.contains("mode Act"));
    }
}
