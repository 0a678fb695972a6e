//! How the HPA's clients read an answer: what is an error, and what passes.
//!
//! After `k8s.io/metrics/pkg/client` and apimachinery's `resource.Quantity`, written independently of our own writer so that
//! the two can disagree. The wrapping of huge quantities is modelled on purpose: it is how an adapter's mistake becomes a
//! wrong move.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Why the metric has no value for the HPA. The text is what its condition shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The server's `Status`, or a text for its status code.
    #[error("{0}")]
    Status(String),
    /// The answer cannot be decoded.
    #[error("unable to decode the answer: {0}")]
    Undecodable(String),
    /// No item.
    #[error("no metrics returned from {0} metrics API")]
    Empty(&'static str),
    /// An object was asked for, and several or none came.
    #[error("the custom metrics API returned {0} results when we asked for exactly one")]
    NotOne(usize),
    /// No answer.
    #[error("{0}")]
    Connection(String),
    /// The custom metrics API is not registered in a version that is known.
    #[error("{0}")]
    Discovery(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    described_object: Described,
    #[serde(default)]
    value: Value,
    /// Decoded to be checked; the HPA does not look at how old a value is.
    #[serde(default, rename = "timestamp")]
    _timestamp: Option<jiff::Timestamp>,
    /// Decoded to be checked.
    #[serde(default, rename = "windowSeconds", alias = "window")]
    _window: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Described {
    #[serde(default)]
    name: String,
}

/// Values by pod name in thousandths from a custom metrics answer. Of two items with one name the last one counts.
///
/// # Errors
/// One item that does not decode spoils the list; so does an empty one.
pub fn custom(code: u16, content_type: Option<&str>, body: &[u8]) -> Result<BTreeMap<String, i64>, QueryError> {
    let list = list(code, content_type, body)?;
    let known = ["custom.metrics.k8s.io/v1beta1", "custom.metrics.k8s.io/v1beta2"].contains(&&*list.api_version);
    if list.kind != "MetricValueList" || !known {
        return Err(QueryError::Undecodable(format!("kind {:?} of {:?}", list.kind, list.api_version)));
    }
    let items = list.items.unwrap_or_default();
    let values = items.into_iter().map(|item| Ok((item.described_object.name.clone(), item.milli()?)));
    let values = values.collect::<Result<BTreeMap<_, _>, QueryError>>()?;
    if values.is_empty() { Err(QueryError::Empty("custom")) } else { Ok(values) }
}

/// The one value of an object.
///
/// # Errors
/// As [`custom`], and any number of items but one.
pub fn object(code: u16, content_type: Option<&str>, body: &[u8]) -> Result<i64, QueryError> {
    let items = match custom(code, content_type, body) {
        Err(QueryError::Empty(_)) => BTreeMap::new(),
        other => other?,
    };
    // Counted again: items of one name have fallen together.
    let count = list(code, content_type, body)?.items.map_or(0, |items| items.len());
    match (count, items.into_values().next()) {
        (1, Some(value)) => Ok(value),
        (count, _) => Err(QueryError::NotOne(count)),
    }
}

/// The values of an external metric in thousandths; the HPA adds them up. `kind` is not looked at, and a JSON content type is
/// required.
///
/// # Errors
/// As [`custom`].
pub fn external(code: u16, content_type: Option<&str>, body: &[u8]) -> Result<Vec<i64>, QueryError> {
    let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if (200..300).contains(&code) && media != "application/json" {
        return Err(QueryError::Undecodable(format!("no serializer for content type {media:?}")));
    }
    let items = list(code, content_type, body)?.items.unwrap_or_default();
    let values = items.iter().map(Item::milli).collect::<Result<Vec<_>, _>>()?;
    if values.is_empty() { Err(QueryError::Empty("external")) } else { Ok(values) }
}

impl Item {
    fn milli(&self) -> Result<i64, QueryError> {
        match &self.value {
            // A missing value is read as 0.
            Value::Null => Some(0),
            Value::String(text) => milli(text),
            Value::Number(number) => milli(&number.to_string()),
            _ => None,
        }
        .ok_or_else(|| {
            QueryError::Undecodable(format!("quantities must match the regular expression, got {}", self.value))
        })
    }
}

fn list(code: u16, content_type: Option<&str>, body: &[u8]) -> Result<List, QueryError> {
    if !(200..=206).contains(&code) {
        let message =
            serde_json::from_slice::<Value>(body).ok().and_then(|status| Some(status["message"].as_str()?.to_owned()));
        return Err(QueryError::Status(message.unwrap_or_else(|| generic(code).to_owned())));
    }
    if content_type.is_some_and(|media| media.split(';').next().is_some_and(|media| media.trim() == "application/yaml"))
    {
        return Err(QueryError::Undecodable("this model of the client reads JSON only".into()));
    }
    serde_json::from_slice(body).map_err(|error| QueryError::Undecodable(error.to_string()))
}

fn generic(code: u16) -> &'static str {
    match code {
        401 => "the server has asked for the client to provide credentials",
        403 => "the server does not allow access to the requested resource",
        404 => "the server could not find the requested resource",
        429 => "the server has received too many requests and has asked us to try again later",
        503 => "the server is currently unable to handle the request",
        504 => "the server was unable to return a response in the time allotted",
        _ => "an error on the server has prevented the request from succeeding",
    }
}

/// `Quantity.MilliValue()`: thousandths, rounded up, wrapped beyond 64 bits. `None` if the text is no quantity.
#[must_use]
pub fn milli(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || whole.len() + fraction.len() == 0 || number.len() > 30 {
        return None;
    }
    let (base, exponent): (u32, i32) = match suffix {
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "" => (10, 0),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (2, 10),
        "Mi" => (2, 20),
        "Gi" => (2, 30),
        "Ti" => (2, 40),
        "Pi" => (2, 50),
        "Ei" => (2, 60),
        _ => (10, suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() <= 18)?),
    };
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    // thousandths = mantissa × base^exponent × 10^(3 - digits of the fraction), rounded away from zero.
    let decimal = 3 - i32::try_from(fraction.len()).ok()? + if base == 10 { exponent } else { 0 };
    let mut value = mantissa;
    if base == 2 {
        value = value.checked_mul(1 << exponent)?;
    }
    value = if decimal >= 0 {
        value.checked_mul(10_u128.checked_pow(decimal.unsigned_abs())?)?
    } else {
        value.div_ceil(10_u128.checked_pow(decimal.unsigned_abs())?)
    };
    let magnitude = value as i64;
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(values: &[(&str, &str)]) -> Vec<u8> {
        let items: Vec<String> = values
            .iter()
            .map(|(name, value)| {
                format!(
                    "{{\"describedObject\":{{\"kind\":\"Pod\",\"name\":\"{name}\"}},\"metricName\":\"m\",\
                     \"timestamp\":\"2026-01-02T03:04:05Z\",\"value\":{value},\"selector\":null}}"
                )
            })
            .collect();
        format!(
            "{{\"kind\":\"MetricValueList\",\"apiVersion\":\"custom.metrics.k8s.io/v1beta2\",\"metadata\":{{}},\"items\":[{}]}}\n",
            items.join(",")
        )
        .into_bytes()
    }

    const JSON: Option<&str> = Some("application/json");

    #[test]
    fn quantities_read_as_apimachinery_reads_them() {
        for (text, expected) in [
            ("50", Some(50_000)),
            ("33500m", Some(33_500)),
            ("0", Some(0)),
            ("-50", Some(-50_000)),
            ("1k", Some(1_000_000)),
            ("1.5", Some(1_500)),
            (".5", Some(500)),
            ("1e3", Some(1_000_000)),
            ("1Ki", Some(1_024_000)),
            ("100u", Some(1)),
            ("3141592654n", Some(3_142)),
            ("9223372036854775807", Some(-1000)),
            ("-9223372036854775808m", Some(i64::MIN)),
            ("NaN", None),
            ("+Inf", None),
            ("", None),
            ("1x", None),
            ("1K", None),
            ("1 m", None),
            ("1.2.3", None),
        ] {
            assert_eq!(milli(text), expected, "{text:?}");
        }
    }

    #[test]
    fn items_become_thousandths_by_pod_and_the_last_of_a_name_wins() {
        let body = pods(&[("a", "\"33500m\""), ("b", "80"), ("a", "\"1\"")]);
        assert_eq!(custom(200, JSON, &body), Ok([("a".to_owned(), 1_000), ("b".to_owned(), 80_000)].into()));
        assert_eq!(custom(200, JSON, &pods(&[("a", "null")])), Ok([("a".to_owned(), 0)].into()), "missing reads as 0");
    }

    #[test]
    fn one_bad_item_spoils_the_list() {
        for bad in ["\"NaN\"", "\"+Inf\"", "\"\"", "\"1x\"", "{}"] {
            let answer = custom(200, JSON, &pods(&[("a", "\"1\""), ("b", bad)]));
            assert!(matches!(answer, Err(QueryError::Undecodable(_))), "{bad}: {answer:?}");
        }
        let bad_time = String::from_utf8(pods(&[("a", "\"1\"")])).expect("text").replace("2026-01-02T03:04:05Z", "");
        assert!(matches!(custom(200, JSON, bad_time.as_bytes()), Err(QueryError::Undecodable(_))));
    }

    #[test]
    fn no_items_is_an_error_and_so_is_a_status_of_any_code() {
        let empty = QueryError::Empty("custom");
        assert_eq!(custom(200, JSON, &pods(&[])), Err(empty.clone()));
        let null = b"{\"kind\":\"MetricValueList\",\"apiVersion\":\"custom.metrics.k8s.io/v1beta1\",\"items\":null}";
        assert_eq!(custom(200, JSON, null), Err(empty));
        let status =
            b"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"too old\",\"code\":404}";
        assert_eq!(custom(404, JSON, status), Err(QueryError::Status("too old".into())));
        assert_eq!(external(404, JSON, status), Err(QueryError::Status("too old".into())));
        assert!(matches!(custom(200, JSON, status), Err(QueryError::Undecodable(_))));
        assert_eq!(external(200, JSON, status), Err(QueryError::Empty("external")), "a 200 with a Status has no items");
        assert_eq!(custom(503, None, b"busy"), Err(QueryError::Status(generic(503).into())));
        assert!(custom(207, JSON, &pods(&[("a", "1")])).is_err());
    }

    #[test]
    fn an_object_has_exactly_one_value() {
        assert_eq!(object(200, JSON, &pods(&[("a", "\"1500m\"")])), Ok(1_500));
        assert_eq!(object(200, JSON, &pods(&[])), Err(QueryError::NotOne(0)));
        assert_eq!(object(200, JSON, &pods(&[("a", "1"), ("a", "2")])), Err(QueryError::NotOne(2)));
    }

    #[test]
    fn external_answers_need_a_json_content_type() {
        let body = b"{\"items\":[{\"metricName\":\"q\",\"value\":\"40\"},{\"metricName\":\"q\",\"value\":\"2\"}]}";
        assert_eq!(external(200, JSON, body), Ok(vec![40_000, 2_000]));
        for wrong in [None, Some("text/plain")] {
            assert!(matches!(external(200, wrong, body), Err(QueryError::Undecodable(_))), "{wrong:?}");
        }
    }
}
