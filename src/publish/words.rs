//! What is said instead of a number (R12). An HPA shows these messages in its conditions.

use apiservice::{Selector, Status};

use crate::reading::Unknown;

/// Objects that a message names before it says how many more there are.
const NAMED: usize = 3;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Miss {
    /// There is no such object.
    NoObject(String),
    /// There is, and its reading is unknown.
    Unknown(Unknown),
}

impl From<Unknown> for Miss {
    fn from(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl std::fmt::Display for Miss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoObject(message) => f.write_str(message),
            Self::Unknown(unknown) => unknown.fmt(f),
        }
    }
}

/// 404 in the words of the Kubernetes metrics servers, and the reason.
pub(super) fn no_value(metric: &str, of: &str, why: impl std::fmt::Display) -> Status {
    Status::not_found(format!("the server could not find the metric {metric} for {of}: {why}"))
}

/// The first few of a list, and how many more there are.
pub(super) fn some_of<T: std::fmt::Display>(items: impl IntoIterator<Item = T>, separator: &str) -> String {
    let mut items = items.into_iter();
    let mut text = String::new();
    for item in items.by_ref().take(NAMED) {
        if !text.is_empty() {
            text.push_str(separator);
        }
        text.push_str(&item.to_string());
    }
    match items.count() {
        0 => text,
        more => format!("{text}{separator}and {more} more"),
    }
}

/// ` matching app=llm`; nothing for a selector that selects everything.
pub(super) fn matching(selector: &Selector) -> String {
    if selector.is_everything() { String::new() } else { format!(" matching {selector}") }
}
