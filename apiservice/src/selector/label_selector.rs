//! `metav1.LabelSelector`: how a selector stands in objects, and how a metric's selector is echoed in answers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde::Serialize;

use super::{Condition, InvalidLabel, Requirement, Selector};

/// The wire form, owned once per answer and written once per item.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that have to have these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// All other requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement of the wire form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelSelectorRequirement {
    /// The label's name.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: &'static str,
    /// Values, for the first two.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Selector {
    /// The same selector as a `LabelSelector`. `None` if it compares with `>` or `<`, for which there is no wire form.
    #[must_use]
    pub fn to_label_selector(&self) -> Option<LabelSelector> {
        let mut wire = LabelSelector::default();
        for Requirement { key, condition } in &self.requirements {
            let (operator, values) = match condition {
                Condition::Equals(value) if !wire.match_labels.contains_key(key) => {
                    wire.match_labels.insert(key.clone(), value.clone());
                    continue;
                }
                // A second equality on one key would replace the first in the map and widen the selector.
                Condition::Equals(value) => ("In", vec![value.clone()]),
                Condition::NotEquals(value) => ("NotIn", vec![value.clone()]),
                Condition::In(values) => ("In", values.clone()),
                Condition::NotIn(values) => ("NotIn", values.clone()),
                Condition::Exists => ("Exists", Vec::new()),
                Condition::DoesNotExist => ("DoesNotExist", Vec::new()),
                Condition::GreaterThan(_) | Condition::LessThan(_) => return None,
            };
            wire.match_expressions.push(LabelSelectorRequirement { key: key.clone(), operator, values });
        }
        Some(wire)
    }
}

impl TryFrom<&meta::LabelSelector> for Selector {
    type Error = InvalidLabel;

    /// The selector of a Deployment, an HPA or a budget. An empty one selects everything; an absent one is the caller's
    /// business, because its meaning differs by object.
    fn try_from(wire: &meta::LabelSelector) -> Result<Self, Self::Error> {
        let labels = wire.match_labels.iter().flatten();
        let mut requirements = labels
            .map(|(key, value)| Requirement::new(key, Condition::Equals(value.clone())))
            .collect::<Result<Vec<_>, _>>()?;
        for expression in wire.match_expressions.iter().flatten() {
            let values = expression.values.clone().unwrap_or_default();
            let condition = match (expression.operator.as_str(), values.is_empty()) {
                ("In", _) => Condition::In(values),
                ("NotIn", _) => Condition::NotIn(values),
                ("Exists", true) => Condition::Exists,
                ("DoesNotExist", true) => Condition::DoesNotExist,
                (operator, _) => {
                    return Err(InvalidLabel::Operator { key: expression.key.clone(), operator: operator.to_owned() });
                }
            };
            requirements.push(Requirement::new(&expression.key, condition)?);
        }
        Ok(Self::from(requirements))
    }
}
