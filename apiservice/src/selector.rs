//! Label selectors with the complete grammar of Kubernetes' apimachinery (`k8s.io/apimachinery/pkg/labels`).
//!
//! `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, `a>1`, `a<1`, joined by commas. There is no quoting
//! in this language: keys and values are checked by the rules of labels. A value may be empty (`a=`, `a in (,b)`).

mod label;
mod label_selector;
mod parse;

use std::fmt::{self, Write as _};

pub use label::InvalidLabel;
pub use label_selector::{LabelSelector, LabelSelectorRequirement};
pub use parse::{MAX_BYTES, MAX_REQUIREMENTS, ParseSelectorError};

/// A parsed label selector: all its requirements have to hold. The default one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Selector {
    /// Ordered by key, so that two selectors that differ in the order of their parts are equal.
    requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    key: String,
    condition: Condition,
}

/// What a label has to be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Condition {
    /// There, with this value.
    Equals(String),
    /// Absent, or with another value.
    NotEquals(String),
    /// There, with one of these values (sorted, not empty).
    In(Vec<String>),
    /// Absent, or with none of these values (sorted, not empty).
    NotIn(Vec<String>),
    /// There.
    Exists,
    /// Absent.
    DoesNotExist,
    /// There, an integer, and larger.
    GreaterThan(i64),
    /// There, an integer, and smaller.
    LessThan(i64),
}

impl Selector {
    /// Selects everything.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects what carries all these labels, as a Service's or an old controller's plain selector does.
    pub fn from_match_labels<K, V>(labels: impl IntoIterator<Item = (K, V)>) -> Result<Self, InvalidLabel>
    where
        K: Into<String>,
        V: Into<String>,
    {
        labels
            .into_iter()
            .map(|(key, value)| Requirement::new(key, Condition::Equals(value.into())))
            .collect::<Result<Vec<_>, _>>()
            .map(Self::from)
    }

    /// Whether it selects everything: it has no requirement.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements, ordered by key.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object whose labels `label` looks up is selected.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }
}

impl From<Vec<Requirement>> for Selector {
    fn from(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Self { requirements }
    }
}

impl Requirement {
    /// A condition on the label `key`; key and values are checked, sets of values are sorted and have to hold one.
    pub fn new(key: impl Into<String>, condition: Condition) -> Result<Self, InvalidLabel> {
        let key = key.into();
        label::check_key(&key)?;
        let condition = match condition {
            Condition::In(values) => Condition::In(sorted(&key, values)?),
            Condition::NotIn(values) => Condition::NotIn(sorted(&key, values)?),
            other => other,
        };
        for value in condition.values() {
            label::check_value(&key, value)?;
        }
        Ok(Self { key, condition })
    }

    /// The label's name.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What it has to be.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether a label with this value, or an absent one, fulfils the condition.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        match &self.condition {
            Condition::Equals(wanted) => value == Some(wanted),
            Condition::NotEquals(unwanted) => value != Some(unwanted),
            Condition::In(wanted) => value.is_some_and(|value| holds(wanted, value)),
            Condition::NotIn(unwanted) => !value.is_some_and(|value| holds(unwanted, value)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
            Condition::GreaterThan(bound) => integer(value).is_some_and(|number| number > *bound),
            Condition::LessThan(bound) => integer(value).is_some_and(|number| number < *bound),
        }
    }
}

impl Condition {
    /// The label values that it names.
    fn values(&self) -> &[String] {
        match self {
            Self::Equals(value) | Self::NotEquals(value) => std::slice::from_ref(value),
            Self::In(values) | Self::NotIn(values) => values,
            Self::Exists | Self::DoesNotExist | Self::GreaterThan(_) | Self::LessThan(_) => &[],
        }
    }
}

/// Whether a sorted set has this value. A text may name thousands.
fn holds(values: &[String], value: &str) -> bool {
    values.binary_search_by(|one| one.as_str().cmp(value)).is_ok()
}

fn integer(value: Option<&str>) -> Option<i64> {
    value.and_then(|value| value.parse().ok())
}

/// Sorted and without repetitions, or an error if there is nothing.
fn sorted(key: &str, mut values: Vec<String>) -> Result<Vec<String>, InvalidLabel> {
    if values.is_empty() {
        return Err(InvalidLabel::NoValues { key: key.to_owned() });
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

impl fmt::Display for Selector {
    /// Canonical: ordered by key, sets ordered by value. Reads back as an equal selector.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.condition {
            Condition::Equals(value) => write!(f, "{key}={value}"),
            Condition::NotEquals(value) => write!(f, "{key}!={value}"),
            Condition::In(values) => set(f, key, "in", values),
            Condition::NotIn(values) => set(f, key, "notin", values),
            Condition::Exists => f.write_str(key),
            Condition::DoesNotExist => write!(f, "!{key}"),
            Condition::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Condition::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

fn set(f: &mut fmt::Formatter<'_>, key: &str, operator: &str, values: &[String]) -> fmt::Result {
    // The empty value alone would be written `()`, which reads as an empty set: `(,)` is how the grammar spells it.
    if values.len() == 1 && values[0].is_empty() {
        return write!(f, "{key} {operator} (,)");
    }
    write!(f, "{key} {operator} (")?;
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            f.write_char(',')?;
        }
        f.write_str(value)?;
    }
    f.write_char(')')
}

#[cfg(test)]
mod tests;
