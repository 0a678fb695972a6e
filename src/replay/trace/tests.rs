use super::*;

const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
    2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n";
const AZURE_2024: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
    2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01.017335+00:00,2399,6\n";
const MOONCAKE: &str = "{\"timestamp\": 0, \"input_length\": 6755, \"output_length\": 500, \"hash_ids\": [0, 1]}\n\
    {\"timestamp\": 1500, \"input_length\": 7319, \"output_length\": 490, \"hash_ids\": [0]}\n";
const SERVEGEN: &str = "start_s,requests_per_s\n0,809.7\n600,789.8\n1200,788.4\n";
const CSV: &str = "time,rate\n2025-01-06T00:00:00Z,2\n2025-01-06T00:01:00Z,4.5\n";
const PROMETHEUS: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[
    {"metric":{"pod":"a"},"values":[[1700000000,"1.5"],[1700000060,"2"]]},
    {"metric":{"pod":"b"},"values":[[1700000000,"0.5"],[1700000060,"1"]]}]}}"#;

fn parse(text: &str) -> Result<Trace, TraceError> {
    Trace::parse("t", text, None)
}

#[test]
fn each_format_is_known_by_its_content_and_read() {
    let request = |at, prompt, output| Request { at, prompt, output };
    let requests = |trace: &Trace| match &trace.load {
        Load::Requests(requests) => requests.clone(),
        Load::Rates(_) => Vec::new(),
    };
    for (text, format, expected) in [
        (AZURE, Format::Azure, vec![request(0.0, 4808, 10), request(0.052, 3180, 8)]),
        (AZURE_2024, Format::Azure, vec![request(0.0, 2162, 5), request(1.007_405, 2399, 6)]),
        (MOONCAKE, Format::Mooncake, vec![request(0.0, 6755, 500), request(1.5, 7319, 490)]),
    ] {
        let trace = parse(text).unwrap();
        assert_eq!((trace.format, requests(&trace)), (format, expected));
    }
    for (text, format, seconds, expected) in [
        (SERVEGEN, Format::ServeGen, 1800.0, vec![(300.0, 809.7), (900.0, 789.8), (1500.0, 788.4)]),
        (CSV, Format::Csv, 120.0, vec![(30.0, 2.0), (90.0, 4.5)]),
        (PROMETHEUS, Format::Prometheus, 60.0, vec![(0.0, 2.0), (60.0, 3.0)]),
    ] {
        let trace = parse(text).unwrap();
        assert_eq!((trace.format, trace.seconds, trace.load), (format, seconds, Load::Rates(expected)));
    }
    assert_eq!(parse(AZURE).unwrap().start.unwrap().to_string(), "2023-11-16T18:17:03.97996Z");
    assert_eq!(parse(CSV).unwrap().start.unwrap().to_string(), "2025-01-06T00:00:00Z");
    assert_eq!(parse(SERVEGEN).unwrap().start, None);
}

#[test]
fn a_text_in_no_format_says_what_is_read() {
    for text in ["", "a,b\n1,2\n", "{\"x\": 1}", "<html>"] {
        let error = parse(text).unwrap_err();
        assert!(matches!(error, TraceError::Unrecognized { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains("time,rate"), "{error}");
    }
}

#[test]
fn a_named_format_that_does_not_fit_says_what_is_missing() {
    for (format, text, expected) in [
        (Format::Azure, CSV, "not in the format azure: no column TIMESTAMP"),
        (Format::Csv, AZURE, "no rate column; one of rate"),
        (Format::Prometheus, MOONCAKE, "not in the format prometheus"),
        (Format::Mooncake, CSV, "no line with timestamp, input_length and output_length"),
        (
            Format::Prometheus,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            "resultType is \"vector\"",
        ),
        (Format::Prometheus, r#"{"status":"error","error":"bad query"}"#, "bad query"),
    ] {
        let error = Trace::parse("t", text, Some(format)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn bad_rows_are_counted_and_named_and_more_than_one_in_a_hundred_refuses_the_file() {
    let row = |i: usize| format!("2023-11-16 18:17:{:02}.5,100,10\n", i % 60);
    let good: String = (0..200).map(row).collect();
    let with = |bad: &str| format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{good}{bad}");
    let two = with("2023-11-16 18:18:00,many,10\nyesterday,1,1\n");
    let trace = parse(&two).unwrap();
    assert_eq!((trace.bad.count, trace.bad.of), (2, 202));
    let named = trace.bad.to_string();
    assert!(named.contains("line 202: ContextTokens: expected a whole number, got \"many\""), "{named}");
    assert!(named.contains("line 203: expected a time"), "{named}");
    let error = parse(&with("x\ny\nz\n")).unwrap_err();
    assert!(matches!(&error, TraceError::TooManyBad(bad) if bad.count == 3), "{error}");
    assert!(error.to_string().starts_with("3 of 203 rows cannot be read: line 202"), "{error}");
}

#[test]
fn a_rate_that_is_no_number_is_a_bad_row_and_never_zero() {
    let rows = (0..300).map(|i| format!("{},5", i * 60)).collect::<Vec<_>>().join("\n");
    for bad in ["NaN", "-1", "inf", ""] {
        let text = format!("time,rate\n{rows}\n18000,{bad}\n18060,5\n");
        let trace = parse(&text).unwrap();
        assert_eq!(trace.bad.count, 1, "{bad}");
        let Load::Rates(rates) = trace.load else { panic!("rates") };
        assert!(rates.iter().all(|(_, rate)| (*rate - 5.0).abs() < 1e-9), "{bad}");
    }
}

#[test]
fn a_trace_without_load_is_refused() {
    for text in
        ["time,rate\n0,0\n60,0\n", "time,rate\n0,5\n", "time,rate\n", "TIMESTAMP,ContextTokens,GeneratedTokens\n"]
    {
        assert!(matches!(parse(text), Err(TraceError::Empty(_))), "{text}");
    }
}

#[test]
fn rows_out_of_order_are_sorted_and_a_second_rate_for_one_time_is_bad() {
    let rows = (0..200).rev().map(|i| format!("{},{i}", i * 60)).collect::<Vec<_>>().join("\n");
    let trace = parse(&format!("time,rate\n{rows}\n0,7\n")).unwrap();
    assert_eq!(trace.bad.count, 1);
    let Load::Rates(rates) = trace.load else { panic!("rates") };
    assert!(rates.is_sorted_by(|a, b| a.0 < b.0) && rates.len() == 200);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_readers_panic(text in "\\PC*|(TIMESTAMP,ContextTokens,GeneratedTokens|time,rate)\n([0-9:,.-]{0,30}\n){0,5}") {
        for format in Format::ALL {
            let _ = Trace::parse("t", &text, Some(format));
        }
        let _ = parse(&text);
    }
}
