//! Lists as they go over the wire (`k8s.io/metrics/pkg/apis/{custom_metrics,external_metrics}`).
//!
//! Everything is borrowed and written straight into the answer's bytes: one list of 1,000 items is one buffer. `Serialize`
//! serves YAML and JSON for people; the usual answer is written by [`json`].

pub(crate) mod json;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::{ExternalValue, MetricValue, ObjectName, Quantity, api::Api, selector::LabelSelector, status::Empty};

/// The frame of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct List<I> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: I,
}

/// The items of a custom metric's list.
#[derive(Debug)]
pub(crate) struct CustomItems<'a> {
    api: Api,
    metric: &'a str,
    selector: Option<&'a LabelSelector>,
    values: &'a [MetricValue],
}

/// The items of an external metric's list.
#[derive(Debug)]
pub(crate) struct ExternalItems<'a> {
    metric: &'a str,
    values: &'a [ExternalValue],
}

/// A list of values of a custom metric. `selector` is the metric's selector, echoed in each item; `null` if there is none.
pub(crate) fn custom_list<'a>(
    api: Api,
    metric: &'a str,
    selector: Option<&'a LabelSelector>,
    values: &'a [MetricValue],
) -> List<CustomItems<'a>> {
    List {
        kind: api.list_kind(),
        api_version: api.group_version(),
        metadata: Empty {},
        items: CustomItems { api, metric, selector, values },
    }
}

/// A list of values of an external metric.
pub(crate) fn external_list<'a>(api: Api, metric: &'a str, values: &'a [ExternalValue]) -> List<ExternalItems<'a>> {
    List {
        kind: api.list_kind(),
        api_version: api.group_version(),
        metadata: Empty {},
        items: ExternalItems { metric, values },
    }
}

impl Serialize for CustomItems<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { api, metric, selector, values } = *self;
        if api == Api::CustomV1Beta1 {
            serializer.collect_seq(values.iter().map(|value| CustomItemV1 {
                described_object: DescribedObject::from(&value.object),
                metric_name: metric,
                timestamp: Seconds(value.timestamp),
                window: value.window.map(whole_seconds),
                value: value.value.clamped(),
                selector,
            }))
        } else {
            serializer.collect_seq(values.iter().map(|value| CustomItemV2 {
                described_object: DescribedObject::from(&value.object),
                metric: MetricIdentifier { name: metric, selector },
                timestamp: Seconds(value.timestamp),
                window_seconds: value.window.map(whole_seconds),
                value: value.value.clamped(),
            }))
        }
    }
}

impl Serialize for ExternalItems<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let metric_name = self.metric;
        serializer.collect_seq(self.values.iter().map(|value| ExternalItem {
            metric_name,
            metric_labels: &value.labels,
            timestamp: Seconds(value.timestamp),
            window: value.window.map(whole_seconds),
            value: value.value.clamped(),
        }))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustomItemV1<'a> {
    described_object: DescribedObject<'a>,
    metric_name: &'a str,
    timestamp: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u64>,
    value: Quantity,
    selector: Option<&'a LabelSelector>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CustomItemV2<'a> {
    described_object: DescribedObject<'a>,
    metric: MetricIdentifier<'a>,
    timestamp: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<u64>,
    value: Quantity,
}

#[derive(Serialize)]
struct MetricIdentifier<'a> {
    name: &'a str,
    selector: Option<&'a LabelSelector>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalItem<'a> {
    metric_name: &'a str,
    metric_labels: &'a BTreeMap<String, String>,
    timestamp: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<u64>,
    value: Quantity,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribedObject<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    name: &'a str,
    api_version: &'a str,
}

impl<'a> From<&'a ObjectName> for DescribedObject<'a> {
    fn from(object: &'a ObjectName) -> Self {
        let ObjectName { kind, api_version, namespace, name } = object;
        Self { kind, namespace: namespace.as_deref(), name, api_version }
    }
}

/// A time in whole seconds, as `metav1.Time` is written. Cut off, not rounded: nothing is made younger than it is.
struct Seconds(Timestamp);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = Timestamp::from_second(self.0.as_second()).unwrap_or(self.0);
        serializer.collect_str(&whole)
    }
}

/// A window in whole seconds; a part of one counts as one.
fn whole_seconds(window: Duration) -> u64 {
    window.as_secs() + u64::from(window.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::{custom_list, external_list};
    use crate::{ExternalValue, MetricValue, ObjectName, Quantity, Selector, api::Api};

    fn value() -> MetricValue {
        MetricValue {
            object: ObjectName {
                kind: "Pod".into(),
                api_version: "v1".into(),
                namespace: Some("prod".into()),
                name: "llm-0".into(),
            },
            timestamp: "2026-01-02T03:04:05.678Z".parse().expect("a time"),
            window: Some(Duration::from_secs(30)),
            value: Quantity::from_millis(33_500),
        }
    }

    #[test]
    fn each_version_writes_its_own_item() {
        let selector = "model=qwen".parse::<Selector>().expect("valid").to_label_selector();
        let json = |api, selector| serde_json::to_string(&custom_list(api, "m", selector, &[value()])).expect("json");
        let object = r#""describedObject":{"kind":"Pod","namespace":"prod","name":"llm-0","apiVersion":"v1"}"#;
        assert_eq!(
            json(Api::CustomV1Beta1, None),
            format!(
                r#"{{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta1","metadata":{{}},"items":[{{{object},"metricName":"m","timestamp":"2026-01-02T03:04:05Z","window":30,"value":"33500m","selector":null}}]}}"#
            )
        );
        assert_eq!(
            json(Api::CustomV1Beta2, selector.as_ref()),
            format!(
                r#"{{"kind":"MetricValueList","apiVersion":"custom.metrics.k8s.io/v1beta2","metadata":{{}},"items":[{{{object},"metric":{{"name":"m","selector":{{"matchLabels":{{"model":"qwen"}}}}}},"timestamp":"2026-01-02T03:04:05Z","windowSeconds":30,"value":"33500m"}}]}}"#
            )
        );
    }

    #[test]
    fn an_external_item_carries_its_labels_and_no_window_that_is_not_there() {
        let value = ExternalValue {
            labels: BTreeMap::from([("queue".to_owned(), "a".to_owned())]),
            timestamp: "2026-01-02T03:04:05Z".parse().expect("a time"),
            window: None,
            value: Quantity::from_millis(42_000),
        };
        assert_eq!(
            serde_json::to_string(&external_list(Api::ExternalV1Beta1, "queue_depth", &[value])).expect("json"),
            r#"{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[{"metricName":"queue_depth","metricLabels":{"queue":"a"},"timestamp":"2026-01-02T03:04:05Z","value":"42"}]}"#
        );
    }

    #[test]
    fn nothing_is_an_empty_list_and_never_null() {
        for json in [
            serde_json::to_string(&custom_list(Api::CustomV1Beta2, "m", None, &[])).expect("json"),
            serde_json::to_string(&external_list(Api::ExternalV1Beta1, "m", &[])).expect("json"),
        ] {
            assert!(json.contains(r#""items":[]"#), "{json}");
        }
    }

    #[test]
    fn a_value_beyond_the_hpas_arithmetic_is_clamped() {
        let huge = MetricValue { value: "1E".parse().expect("a quantity"), ..value() };
        let json = serde_json::to_string(&custom_list(Api::CustomV1Beta2, "m", None, &[huge])).expect("json");
        assert!(json.contains(r#""value":"9223372036854775""#), "{json}");
    }
}
