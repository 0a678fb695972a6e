use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

mod reference;

const LIMITS: Limits = Limits { line_bytes: 4096, labels: 16, samples: 1000 };

/// A sample with everything owned.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    name: String,
    labels: Vec<(String, String)>,
    value: Result<f64, BadLine>,
    timestamp: Option<Timestamp>,
}

#[derive(Debug, Default, PartialEq)]
struct Read {
    samples: Vec<Owned>,
    bad: BTreeMap<BadLine, usize>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("names are ASCII")
}

fn read_as(body: &[u8], format: Format, complete: bool, limits: &Limits) -> Result<Read, PageError> {
    let mut parser = Parser::new(body, format, complete, limits);
    let mut read = Read::default();
    while let Some(line) = parser.next_line(Some)? {
        match line {
            Line::Broken(_, reason, _) | Line::Bad(reason) => *read.bad.entry(reason).or_default() += 1,
            Line::Sample(family, sample) => {
                assert_eq!(family, sample.name);
                read.samples.push(Owned {
                    name: text(sample.name),
                    labels: sample.labels.iter().map(|l| (text(l.name), l.value().into_owned())).collect(),
                    value: sample.value,
                    timestamp: sample.timestamp,
                });
            }
        }
    }
    Ok(read)
}

fn read(body: &[u8]) -> Read {
    read_as(body, Format::Text, true, &LIMITS).expect("text pages of few samples are never refused")
}

fn sample(name: &str, labels: &[(&str, &str)], value: f64) -> Owned {
    let labels = labels.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    Owned { name: name.into(), labels, value: Ok(value), timestamp: None }
}

#[test]
fn good_lines_come_out_with_their_content() {
    let a = |value| sample("a", &[], value);
    let l = |value: &str| sample("a", &[("l", value)], 1.0);
    let cases: &[(&[u8], Owned)] = &[
        (br#"a{l="x\"y"} 1"#, l("x\"y")),
        (br#"a{l="x\\y"} 1"#, l("x\\y")),
        (br#"a{l="x\ny"} 1"#, l("x\ny")),
        (br#"a{l="\\n"} 1"#, l("\\n")),
        (br#"a{l="C:\dir"} 1"#, l("C:\\dir")),
        (br#"a{l="x,y"} 1"#, l("x,y")),
        (br#"a{l="x,pod=evil"} 1"#, l("x,pod=evil")),
        (br#"a{l="x=y"} 1"#, l("x=y")),
        (br#"a{l="x}y"} 1"#, l("x}y")),
        (br#"a{l="x{y"} 1"#, l("x{y")),
        (br#"a{l="x # {y"} 1"#, l("x # {y")),
        (
            br#"a{err_msg="Preemptive cleanup, due to previous errors -- Most likely to occur",n="m"} 45"#,
            sample(
                "a",
                &[("err_msg", "Preemptive cleanup, due to previous errors -- Most likely to occur"), ("n", "m")],
                45.0,
            ),
        ),
        (br#"a{l="x", m="y"} 1"#, sample("a", &[("l", "x"), ("m", "y")], 1.0)),
        (br#"a{ l = "x" , m	=	"y" } 1"#, sample("a", &[("l", "x"), ("m", "y")], 1.0)),
        (br#"a{l="x",} 1"#, l("x")),
        (br#"a{l=""} 1"#, l("")),
        (br"a{} 1", a(1.0)),
        (br"a{ } 1", a(1.0)),
        (br#"a {l="x"} 1"#, l("x")),
        (br#"a{l="x"}1"#, l("x")),
        (br#"a{l="x"}	1"#, l("x")),
        (b"  a   1  ", a(1.0)),
        (b"a\t1", a(1.0)),
        (b"job:a:rate5m 1", sample("job:a:rate5m", &[], 1.0)),
        (b":a 1", sample(":a", &[], 1.0)),
        (b"_a9 1", sample("_a9", &[], 1.0)),
        (b"a +Inf", a(f64::INFINITY)),
        (b"a -Inf", a(f64::NEG_INFINITY)),
        (b"a inf", a(f64::INFINITY)),
        (b"a 1e3", a(1000.0)),
        (b"a -1.5E-2", a(-0.015)),
        (b"a +5", a(5.0)),
        (b"a 9223372036854775794", a(9_223_372_036_854_775_808.0)),
        (b"a 1 1700000000123", Owned { timestamp: Timestamp::from_millisecond(1_700_000_000_123).ok(), ..a(1.0) }),
        (b"a 1 -5", Owned { timestamp: Timestamp::from_millisecond(-5).ok(), ..a(1.0) }),
        (b"a 1\t 0 ", Owned { timestamp: Some(Timestamp::UNIX_EPOCH), ..a(1.0) }),
        (br#"a 1 # {trace_id="x"} 0.5"#, a(1.0)),
        (br#"a 1 7 # {trace_id="x"} 0.5 8"#, Owned { timestamp: Timestamp::from_millisecond(7).ok(), ..a(1.0) }),
        (b"a 1\r", a(1.0)),
        (b"a{l=\"x\"} 1\r", l("x")),
        (b"a{l=\"x\xffy\"} 1", l("x\u{fffd}y")),
        (b"a{l=\"\xe4\xbd\xa0\"} 1", l("\u{4f60}")),
    ];
    for (line, expected) in cases {
        let shown = String::from_utf8_lossy(line);
        let body = [b"before 1\n", *line, b"\nafter 2\n"].concat();
        let read = read(&body);
        assert_eq!(read.bad, BTreeMap::new(), "{shown}");
        let [before, got, after] = &read.samples[..] else { panic!("{shown}: {:?}", read.samples) };
        assert_eq!(got, expected, "{shown}");
        assert_eq!((before, after), (&sample("before", &[], 1.0), &sample("after", &[], 2.0)), "{shown}");
    }
}

#[test]
fn not_a_number_is_a_number_to_the_format() {
    let read = read(b"a NaN\na nan\n");
    assert!(read.samples.iter().all(|sample| sample.value.is_ok_and(f64::is_nan)));
    assert_eq!((read.samples.len(), read.bad.len()), (2, 0));
}

#[test]
fn a_line_that_does_not_say_what_it_is_about_is_counted_and_skipped() {
    use BadLine::{DuplicateLabel, Labels, Name, TooLong};
    let long = format!("a{{l=\"{}\"}} 1", "x".repeat(5000));
    let many = format!("a{{{}}} 1", (0..17).map(|n| format!("l{n}=\"\",")).collect::<Vec<_>>().concat());
    let cases: &[(&[u8], BadLine)] = &[
        (b"9a 1", Name),
        (b"a-b 1", Name),
        (b"<html>", Name),
        (b"= 1", Name),
        (b"\xff 1", Name),
        (b"\0", Name),
        (br#"{"a.b"} 1"#, Name),
        (br#"{"a.b",l="x"} 1"#, Name),
        (br#"{l="x"} 1"#, Name),
        (br#"a"b" 1"#, Name),
        (br#"a{"l.m"="x"} 1"#, Labels),
        (br#"a{l="say "hi" now"} 1"#, Labels),
        (br#"a{l="x} 1"#, Labels),
        (br#"a{l="x\"} 1"#, Labels),
        (br#"a{l="x"m="y"} 1"#, Labels),
        (br#"a{l="x" 1"#, Labels),
        (br#"a{l="x";m="y"} 1"#, Labels),
        (br"a{l=x} 1", Labels),
        (br"a{l='x'} 1", Labels),
        (br#"a{l:m="x"} 1"#, Labels),
        (br#"a{9l="x"} 1"#, Labels),
        (br#"a{="x"} 1"#, Labels),
        (br#"a{,l="x"} 1"#, Labels),
        (br#"a{l="x",,m="y"} 1"#, Labels),
        (br"a{l} 1", Labels),
        (br"a{", Labels),
        (br#"a{l="x",l="x"} 1"#, DuplicateLabel),
        (br#"a{pod="x",m="",pod="evil"} 1"#, DuplicateLabel),
        (long.as_bytes(), TooLong),
        (many.as_bytes(), TooLong),
    ];
    for (line, reason) in cases {
        let shown = String::from_utf8_lossy(line);
        let read = read(&[b"before 1\n", *line, b"\nafter 2\n"].concat());
        assert_eq!(read.bad, BTreeMap::from([(*reason, 1)]), "{shown}");
        let expected = [sample("before", &[], 1.0), sample("after", &[], 2.0)];
        assert_eq!(read.samples, expected, "{shown}");
    }
}

#[test]
fn a_line_with_a_bad_value_or_time_still_says_what_it_is_about() {
    use BadLine::{Timestamp, Value};
    let cases: &[(&str, BadLine)] = &[
        (r#"a{l="x"}"#, Value),
        (r#"a{l="x"} "#, Value),
        (r#"a{l="x"} abc"#, Value),
        (r#"a{l="x"} 1,5"#, Value),
        (r#"a{l="x"} 0x1p3"#, Value),
        (r#"a{l="x"} 1_000"#, Value),
        (r#"a{l="x"} 12abc"#, Value),
        (r#"a{l="x"}} 1"#, Value),
        (r#"a{l="x"} # {t="y"} 1"#, Value),
        (r#"a{l="x"} 1 soon"#, Timestamp),
        (r#"a{l="x"} 1 1.5"#, Timestamp),
        (r#"a{l="x"} 1 5 6"#, Timestamp),
        (r#"a{l="x"} 1 5 # 6"#, Timestamp),
        (r#"a{l="x"} 1 99999999999999999999"#, Timestamp),
        (r#"a{l="x"} 1 9223372036854775807"#, Timestamp),
    ];
    for (line, reason) in cases {
        let read = read(format!("before 1\n{line}\nafter 2\n").as_bytes());
        let odd = Owned { value: Err(*reason), ..sample("a", &[("l", "x")], 0.0) };
        assert_eq!(read.samples, [sample("before", &[], 1.0), odd, sample("after", &[], 2.0)], "{line}");
        assert_eq!(read.bad, BTreeMap::new(), "{line}");
    }
}

#[test]
fn comments_types_and_empty_lines_are_no_samples() {
    let page = b"# plain\n#\n# HELP a b\n# TYPE a odd_kind\n\n \t\n\r\n# EOF\na 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_sum 2\nh_count 3\n";
    let expected = [
        sample("a", &[], 1.0),
        sample("h_bucket", &[("le", "+Inf")], 3.0),
        sample("h_sum", &[], 2.0),
        sample("h_count", &[], 3.0),
    ];
    assert_eq!(read(page), Read { samples: expected.into(), bad: BTreeMap::new() });
}

#[test]
fn repeated_samples_and_samples_with_other_labels_all_come() {
    let read = read(b"a{pid=\"1\"} 1\na{pid=\"1\"} 2\na{gpu=\"0\"} 3\na 4\n");
    assert_eq!(read.samples.iter().map(|s| s.value).collect::<Vec<_>>(), [Ok(1.0), Ok(2.0), Ok(3.0), Ok(4.0)]);
}

#[test]
fn a_last_line_without_newline_is_believed_only_if_the_body_is_whole() {
    let page = b"a 1\nb{l=\"x\"} 12";
    let whole = read(page);
    assert_eq!(whole.samples, [sample("a", &[], 1.0), sample("b", &[("l", "x")], 12.0)]);
    let cut = read_as(page, Format::Text, false, &LIMITS).expect("a text page has no end of its own");
    let odd = Owned { value: Err(BadLine::Value), ..sample("b", &[("l", "x")], 0.0) };
    assert_eq!(cut.samples, [sample("a", &[], 1.0), odd]);
    let ended = read_as(b"a 1\n", Format::Text, false, &LIMITS).expect("a text page has no end of its own");
    assert_eq!(ended.samples, [sample("a", &[], 1.0)]);
}

#[test]
fn openmetrics_has_seconds_exemplars_and_an_end() {
    let page = b"# TYPE a gauge\n# UNIT a seconds\na 1 1700000000.125\nb_total 2 # {trace_id=\"x\"} 0.5 1700000000\nc 3 -1.5\nd 4 5 # {} 1\n# EOF\n";
    let read = read_as(page, Format::OpenMetrics, true, &LIMITS).expect("the page has its end");
    let at = |millis| Timestamp::from_millisecond(millis).ok();
    let expected = [
        Owned { timestamp: at(1_700_000_000_125), ..sample("a", &[], 1.0) },
        sample("b_total", &[], 2.0),
        Owned { timestamp: at(-1500), ..sample("c", &[], 3.0) },
        Owned { timestamp: at(5000), ..sample("d", &[], 4.0) },
    ];
    assert_eq!(read, Read { samples: expected.into(), bad: BTreeMap::new() });
    for odd in ["NaN", "+Inf", "1e300", "soon"] {
        let page = format!("a 1 {odd}\n# EOF");
        let read = read_as(page.as_bytes(), Format::OpenMetrics, true, &LIMITS).expect("the page has its end");
        assert_eq!(read.samples, [Owned { value: Err(BadLine::Timestamp), ..sample("a", &[], 0.0) }], "{odd}");
    }
}

#[test]
fn an_openmetrics_page_is_refused_whole_unless_it_ends_with_its_end() {
    let cases: &[(&str, Result<usize, PageError>)] = &[
        ("a 1\n# EOF\n", Ok(1)),
        ("a 1\n# EOF", Ok(1)),
        ("a 1\r\n# EOF\r\n", Ok(1)),
        ("# EOF\n", Ok(0)),
        ("a 1\n", Err(PageError::NoEof)),
        ("", Err(PageError::NoEof)),
        ("a 1\n# EO", Err(PageError::NoEof)),
        ("a 1\n#EOF\n", Err(PageError::NoEof)),
        ("a 1\n# EOF\n\n", Err(PageError::AfterEof)),
        ("a 1\n# EOF\nb 2\n", Err(PageError::AfterEof)),
        ("a 1\n# EOF\na 1\n# EOF\n", Err(PageError::AfterEof)),
    ];
    for (page, expected) in cases {
        let read = read_as(page.as_bytes(), Format::OpenMetrics, true, &LIMITS).map(|read| read.samples.len());
        assert_eq!(read, *expected, "{page:?}");
    }
}

#[test]
fn a_page_with_more_wanted_samples_than_the_limit_is_refused() {
    let limits = Limits { samples: 2, ..LIMITS };
    let page = b"a 1\nb 1\na 1\nb 1\nb 1\n";
    let count = |name: &'static [u8]| {
        let mut parser = Parser::new(page, Format::Text, true, &limits);
        let mut samples = 0;
        while parser.next_line(|n| (n == name).then_some(()))?.is_some() {
            samples += 1;
        }
        Ok(samples)
    };
    assert_eq!(count(b"a"), Ok(2));
    assert_eq!(count(b"b"), Err(PageError::TooManySamples { limit: 2 }));
}

#[test]
fn lines_of_families_that_nobody_wants_are_not_read() {
    let mut parser = Parser::new(b"a{broken 1\nb 2\na{l=\"x\",l=\"x\"} 3\n", Format::Text, true, &LIMITS);
    let first = parser.next_line(|name| (name == b"b").then_some(7)).expect("a small page");
    assert!(matches!(first, Some(Line::Sample(7, Sample { name: b"b", value: Ok(_), .. }))));
    assert_eq!(parser.next_line(|name| (name == b"b").then_some(7)), Ok(None));
}

#[test]
fn the_content_type_names_the_format() {
    let cases = [
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
        ("Application/OpenMetrics-Text", Format::OpenMetrics),
        (" application/openmetrics-text ;version=0.0.1", Format::OpenMetrics),
        ("text/plain; version=0.0.4", Format::Text),
        ("text/plain", Format::Text),
        ("", Format::Text),
        ("application/octet-stream", Format::Text),
        ("text/plain; note=application/openmetrics-text", Format::Text),
    ];
    for (content_type, format) in cases {
        assert_eq!(Format::from_content_type(content_type), format, "{content_type}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..400), complete: bool, om: bool) {
        let format = if om { Format::OpenMetrics } else { Format::Text };
        let _ = read_as(&body, format, complete, &LIMITS);
    }

    #[test]
    fn no_text_of_the_formats_own_signs_makes_the_parser_panic(body in "[a{}=\"\\\\,# \t\r\n0-9.EOFx]{0,200}", complete: bool, om: bool) {
        let format = if om { Format::OpenMetrics } else { Format::Text };
        let _ = read_as(body.as_bytes(), format, complete, &LIMITS);
    }

    #[test]
    fn what_happens_to_one_line_never_changes_another(
        at in 0usize..8,
        odd in proptest::collection::vec(any::<u8>().prop_filter("one line", |b| *b != b'\n'), 0..120),
    ) {
        let line = |n: usize| format!("a{{l=\"{n}\"}} {n}").into_bytes();
        let mut lines: Vec<Vec<u8>> = (0..8).map(line).collect();
        lines[at] = odd;
        let read = read(&[lines.join(&b'\n'), b"\n".to_vec()].concat());
        for n in (0..8).filter(|n| *n != at) {
            let expected = sample("a", &[("l", &n.to_string())], n as f64);
            prop_assert_eq!(read.samples.iter().filter(|s| **s == expected).count(), 1);
        }
        prop_assert!(read.samples.len() <= 8);
    }
}
