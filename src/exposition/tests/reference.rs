//! Ours against `prometheus_parse`, on pages that it can read: it forges, drops or truncates labels whose values have
//! commas, `=`, braces or escapes, and loses lines with colons, empty braces or odd spaces.

use std::fmt::Write as _;

use super::*;

fn label_value() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_./: -]{1,12}".prop_filter("it trims values", |value| value.trim() == value)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<i32>().prop_map(f64::from),
        any::<f64>().prop_filter("NaN is not equal to itself", |value| !value.is_nan()),
    ]
}

fn line() -> impl Strategy<Value = Owned> {
    let labels = proptest::collection::btree_map("[a-z_][a-zA-Z0-9_]{0,6}", label_value(), 0..6);
    let time = proptest::option::of(0i64..4_000_000_000_000);
    ("[a-zA-Z_][a-zA-Z0-9_]{0,10}", labels, number(), time).prop_map(|(name, labels, value, time)| Owned {
        name,
        labels: labels.into_iter().collect(),
        value: Ok(value),
        timestamp: time.map(|time| Timestamp::from_millisecond(time).expect("within the years of a timestamp")),
    })
}

fn page(lines: &[Owned]) -> String {
    let mut page = String::new();
    for Owned { name, labels, value, timestamp } in lines {
        page.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            write!(page, "{{{}}}", labels.join(",")).expect("strings take everything");
        }
        write!(page, " {}", value.expect("generated lines are good")).expect("strings take everything");
        if let Some(at) = timestamp {
            write!(page, " {}", at.as_millisecond()).expect("strings take everything");
        }
        page.push('\n');
    }
    page
}

fn reference(page: &str) -> Vec<Owned> {
    let lines = page.lines().map(|line| Ok(line.to_owned()));
    // A time for lines that have none; generated times are later. Only the reference itself can make one.
    let before = prometheus_parse::Scrape::parse(std::iter::once(Ok("a 1 -1".to_owned()))).expect("a line in memory");
    let none = before.samples[0].timestamp;
    let scrape = prometheus_parse::Scrape::parse_at(lines, none).expect("lines in memory");
    scrape
        .samples
        .into_iter()
        .map(|sample| {
            let value = match sample.value {
                prometheus_parse::Value::Untyped(value) => Ok(value),
                other => panic!("the page has no types, but {other:?}"),
            };
            let mut labels: Vec<_> = sample.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            labels.sort();
            let timestamp = (sample.timestamp != none)
                .then(|| Timestamp::from_millisecond(sample.timestamp.timestamp_millis()).expect("generated"));
            Owned { name: sample.metric, labels, value, timestamp }
        })
        .collect()
}

proptest! {
    #[test]
    fn ours_reads_what_the_reference_reads(lines in proptest::collection::vec(line(), 0..12)) {
        let page = page(&lines);
        let ours = read(page.as_bytes());
        prop_assert_eq!(&ours.bad, &BTreeMap::new());
        prop_assert_eq!(&ours.samples, &lines);
        prop_assert_eq!(ours.samples, reference(&page));
    }
}

#[test]
fn the_reference_forges_labels_where_ours_does_not() {
    let page = "a{l=\"x,pod=evil\"} 1\n";
    assert_eq!(read(page.as_bytes()).samples, [sample("a", &[("l", "x,pod=evil")], 1.0)]);
    assert_ne!(reference(page), [sample("a", &[("l", "x,pod=evil")], 1.0)]);
}
