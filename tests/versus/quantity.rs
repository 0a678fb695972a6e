//! Numbers as the metrics API writes them.

use serde_json::Value;

/// One pod's value in an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The pod.
    pub pod: String,
    /// Percent.
    pub value: f64,
    /// Time that the answer claims for it.
    pub timestamp: String,
}

/// The items of a `MetricValueList`.
pub fn items(body: &[u8]) -> Result<Vec<Item>, String> {
    let list: Value = serde_json::from_slice(body).map_err(|error| format!("not JSON: {error}"))?;
    let items = list["items"].as_array().ok_or_else(|| format!("not a list: {list}"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let item = |item: &Value| {
        let value = text(&item["value"]);
        Ok(Item {
            pod: text(&item["describedObject"]["name"]),
            value: number(&value).ok_or_else(|| format!("not a number of percents: {value:?}"))?,
            timestamp: text(&item["timestamp"]),
        })
    };
    items.iter().map(item).collect()
}

/// Percents are written in ones or thousandths.
fn number(text: &str) -> Option<f64> {
    match text.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok().map(|n| n / 1000.0),
        None => text.parse().ok(),
    }
}
