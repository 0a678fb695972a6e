//! The compact JSON of a list, straight into the answer's buffer.
//!
//! It is the text that the same list gives through `Serialize`, which serves the other formats; a property test holds the
//! two together. A list of 1,000 pods has 13,000 keys: a serializer looks at each of their bytes for something to escape,
//! and formats each time and quantity through a formatter of its own. Here keys are constants, what all items share is
//! written once, and strings are looked at in one pass that the processor does many bytes at a time.

use std::io::Write as _;

use jiff::{Timestamp, tz::Offset};
use serde::Serialize;

use super::{CustomItems, ExternalItems, List, whole_seconds};
use crate::{ObjectName, Quantity, api::Api};

/// About what an item takes, in bytes: one growth of the buffer at most for names of usual length.
const ITEM_BYTES: usize = 320;

/// What has a text in compact JSON of its own making.
pub(crate) trait WriteJson: Serialize {
    /// Appends the text that `serde_json::to_vec` would give.
    fn write_json(&self, out: &mut Vec<u8>);
}

impl<I: WriteJson> WriteJson for List<I> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let Self { kind, api_version, metadata: _, items } = self;
        out.extend_from_slice(br#"{"kind":"#);
        text(out, kind);
        out.extend_from_slice(br#","apiVersion":"#);
        text(out, api_version);
        out.extend_from_slice(br#","metadata":{},"items":"#);
        items.write_json(out);
        out.push(b'}');
    }
}

impl WriteJson for CustomItems<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let Self { api, metric, selector, values } = *self;
        // Strings, and lists and maps of them, always encode.
        let selector = serde_json::to_vec(&selector).unwrap_or_else(|_| b"null".to_vec());
        let (mut metric_of_all, mut end) = (Vec::new(), Vec::new());
        let window_key: &[u8] = if api == Api::CustomV1Beta1 {
            metric_of_all.extend_from_slice(br#"},"metricName":"#);
            text(&mut metric_of_all, metric);
            end.extend_from_slice(br#","selector":"#);
            end.extend_from_slice(&selector);
            br#","window":"#
        } else {
            metric_of_all.extend_from_slice(br#"},"metric":{"name":"#);
            text(&mut metric_of_all, metric);
            metric_of_all.extend_from_slice(br#","selector":"#);
            metric_of_all.extend_from_slice(&selector);
            metric_of_all.push(b'}');
            br#","windowSeconds":"#
        };
        end.push(b'}');
        array(out, values, |out, value| {
            let ObjectName { kind, api_version, namespace, name } = &value.object;
            out.extend_from_slice(br#"{"describedObject":{"kind":"#);
            text(out, kind);
            if let Some(namespace) = namespace {
                out.extend_from_slice(br#","namespace":"#);
                text(out, namespace);
            }
            out.extend_from_slice(br#","name":"#);
            text(out, name);
            out.extend_from_slice(br#","apiVersion":"#);
            text(out, api_version);
            out.extend_from_slice(&metric_of_all);
            measured(out, value.timestamp, window_key, value.window.map(whole_seconds), value.value);
            out.extend_from_slice(&end);
        });
    }
}

impl WriteJson for ExternalItems<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let Self { metric, values } = *self;
        array(out, values, |out, value| {
            out.extend_from_slice(br#"{"metricName":"#);
            text(out, metric);
            out.extend_from_slice(br#","metricLabels":"#);
            let mut next = b'{';
            for (key, label) in &value.labels {
                out.push(next);
                text(out, key);
                out.push(b':');
                text(out, label);
                next = b',';
            }
            out.extend_from_slice(if value.labels.is_empty() { b"{}" } else { b"}" });
            measured(out, value.timestamp, br#","window":"#, value.window.map(whole_seconds), value.value);
            out.push(b'}');
        });
    }
}

fn array<T>(out: &mut Vec<u8>, values: &[T], item: impl Fn(&mut Vec<u8>, &T)) {
    out.reserve(values.len() * ITEM_BYTES);
    out.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        item(out, value);
    }
    out.push(b']');
}

/// Time, window and value: what the items of all versions have in this order.
fn measured(out: &mut Vec<u8>, time: Timestamp, window_key: &[u8], window: Option<u64>, value: Quantity) {
    out.extend_from_slice(br#","timestamp":""#);
    seconds(out, time);
    out.push(b'"');
    if let Some(window) = window {
        out.extend_from_slice(window_key);
        write(out, window);
    }
    out.extend_from_slice(br#","value":""#);
    write(out, value.clamped());
    out.push(b'"');
}

/// A string in quotes. Names that Kubernetes allows have nothing to escape; what has goes the long way.
fn text(out: &mut Vec<u8>, text: &str) {
    // Counted to the end instead of stopping at the first, so that it is done many bytes at a time.
    let plain = text.bytes().filter(|byte| matches!(byte, 0..b' ' | b'"' | b'\\')).count() == 0;
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // A string always encodes.
        out.extend_from_slice(&serde_json::to_vec(text).unwrap_or_else(|_| b"\"\"".to_vec()));
    }
}

/// A time in whole seconds, cut off, as [`super::Seconds`] writes it.
fn seconds(out: &mut Vec<u8>, time: Timestamp) {
    let whole = Timestamp::from_second(time.as_second()).unwrap_or(time);
    let utc = Offset::UTC.to_datetime(whole);
    let Ok(year) = u16::try_from(utc.year()) else {
        return write(out, whole);
    };
    let two = |number: i8| [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
    let ([y1, y2], [y3, y4]) = (two((year / 100) as i8), two((year % 100) as i8));
    let ([m1, m2], [d1, d2]) = (two(utc.month()), two(utc.day()));
    let ([h1, h2], [n1, n2], [s1, s2]) = (two(utc.hour()), two(utc.minute()), two(utc.second()));
    out.extend_from_slice(&[
        y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2, b'Z',
    ]);
}

fn write(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    // Memory takes everything.
    write!(out, "{value}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::WriteJson;
    use crate::{
        ExternalValue, MetricValue, ObjectName, Quantity, Selector,
        api::Api,
        wire::{custom_list, external_list},
    };

    fn written(list: &impl WriteJson) -> (String, String) {
        let mut out = Vec::new();
        list.write_json(&mut out);
        (String::from_utf8(out).expect("UTF-8"), serde_json::to_string(list).expect("JSON"))
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        let (first, last) = (Timestamp::MIN.as_nanosecond(), Timestamp::MAX.as_nanosecond());
        let now = 1_800_000_000_i128 * 1_000_000_000;
        prop_oneof![first..=last, now - 4_000_000_000_000_000..now]
            .prop_map(|nanos| Timestamp::from_nanosecond(nanos).expect("within the range"))
    }

    /// Names as they are, and everything else that a string can hold.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9.:_-]{0,40}", any::<String>(), r#"[a"\\\n\x00-\x20é]{0,6}"#]
    }

    proptest! {
        #[test]
        fn custom_lists_are_what_the_serializer_makes_of_them(
            (metric, kind, namespace) in (name(), name(), prop::option::of(name())),
            names in prop::collection::vec(name(), 0..4),
            (timestamp, nanos) in (time(), any::<i128>()),
            window in prop::option::of((0..u64::from(u32::MAX), 0..1_000_000_000_u32)),
            selector in prop::option::of("[a-z]{1,9}=[a-z]{0,9}"),
        ) {
            let values: Vec<MetricValue> = names.into_iter().map(|name| MetricValue {
                object: ObjectName {
                    kind: kind.clone().into(),
                    api_version: "apps/v1".into(),
                    namespace: namespace.as_deref().map(Into::into),
                    name: name.into(),
                },
                timestamp,
                window: window.map(|(seconds, nanos)| Duration::new(seconds, nanos)),
                value: Quantity::from_nanos(nanos >> (nanos & 63)),
            }).collect();
            let selector = selector.and_then(|text| text.parse::<Selector>().expect("valid").to_label_selector());
            for api in [Api::CustomV1Beta1, Api::CustomV1Beta2] {
                let (ours, reference) = written(&custom_list(api, &metric, selector.as_ref(), &values));
                prop_assert_eq!(ours, reference);
            }
        }

        #[test]
        fn external_lists_are_what_the_serializer_makes_of_them(
            metric in name(),
            labels in prop::collection::vec(prop::collection::btree_map(name(), name(), 0..4), 0..4),
            (timestamp, nanos) in (time(), any::<i128>()),
            window in prop::option::of(0..u64::MAX),
        ) {
            let values: Vec<ExternalValue> = labels.into_iter().map(|labels| ExternalValue {
                labels,
                timestamp,
                window: window.map(Duration::from_secs),
                value: Quantity::from_nanos(nanos >> (nanos & 63)),
            }).collect();
            let (ours, reference) = written(&external_list(Api::ExternalV1Beta1, &metric, &values));
            prop_assert_eq!(ours, reference);
        }
    }
}
