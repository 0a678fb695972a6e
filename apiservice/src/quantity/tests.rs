use proptest::prelude::*;

use super::{MAX_NANOS, NANOS, Quantity};

fn canonical(text: &str) -> String {
    text.parse::<Quantity>().expect(text).to_string()
}

#[test]
fn canonical_form_is_an_integer_with_the_largest_suffix_that_keeps_it_one() {
    for (written, expected) in [
        ("0", "0"),
        ("-0", "0"),
        ("0.000", "0"),
        ("00007", "7"),
        ("+5", "5"),
        ("33.5", "33500m"),
        ("1.5", "1500m"),
        ("1000m", "1"),
        ("1500", "1500"),
        ("1000", "1k"),
        ("10000", "10k"),
        ("100000", "100k"),
        ("1500k", "1500k"),
        ("1000000000", "1G"),
        ("123456.789", "123456789m"),
        ("-33.5", "-33500m"),
        ("0.001", "1m"),
        ("1234567", "1234567"),
        ("120000000", "120M"),
        ("12.001", "12001m"),
        ("0.0001", "100u"),
        ("0.12345", "123450u"),
        ("3.14159265358979", "3141592654n"),
        ("1.", "1"),
        (".5", "500m"),
        ("1.G", "1G"),
        ("1e3", "1k"),
        ("1E3", "1k"),
        ("1E+3", "1k"),
        ("1e-3", "1m"),
        ("1E", "1E"),
        ("5n", "5n"),
        ("5u", "5u"),
        ("1Ki", "1024"),
        ("1.5Gi", "1610612736"),
        ("1Ei", "1152921504606846976"),
        ("0.1Ki", "102400m"),
        ("9223372036854775807", "9223372036854775807"),
    ] {
        assert_eq!(canonical(written), expected, "{written}");
    }
}

#[test]
fn less_than_a_billionth_rounds_away_from_zero() {
    for (written, expected) in [
        ("0.1n", "1n"),
        ("-0.1n", "-1n"),
        ("1e-20", "1n"),
        ("-1e-400", "-1n"),
        ("1.0000000001", "1000000001n"),
        ("0.00000000000000000001Ki", "1n"),
    ] {
        assert_eq!(canonical(written), expected, "{written}");
    }
}

#[test]
fn more_than_64_bits_is_capped_as_apimachinery_documents_it() {
    let most = i64::MAX.to_string();
    for text in ["9223372036854775808", "1e20", "100E", "8Ei", "1e9223372036854775807", "99999999999999999999999999Ei"]
    {
        assert_eq!(canonical(text), most, "{text}");
        assert_eq!(canonical(&format!("-{text}")), format!("-{most}"), "-{text}");
    }
    assert_eq!(canonical("0e9223372036854775807"), "0");
}

#[test]
fn what_is_no_quantity_is_refused() {
    for text in [
        "",
        "-",
        "+",
        ".",
        "-.",
        " 1",
        "1 ",
        "1,5",
        "0x10",
        "NaN",
        "Inf",
        "+Inf",
        "1K",
        "1x",
        "1i",
        ".5i",
        "1mi",
        "1.1.1",
        "1.1.M",
        "1+1.0M",
        "1e",
        "1e-",
        "1ee5",
        "1e5k",
        "1e5.5",
        "--1",
        "1_000",
        "٣",
        "1µ",
        "1e99999999999999999999",
    ] {
        let error = text.parse::<Quantity>().expect_err(text).to_string();
        assert!(error.contains(&format!("{text:?}")) && error.contains("expected"), "{error}");
    }
}

#[test]
fn a_float_becomes_the_nearest_thousandth_within_what_the_hpa_can_hold() {
    for (value, expected) in [
        (33.5, "33500m"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.0004, "0"),
        (0.0009, "1m"),
        (1.005, "1005m"),
        (4.35, "4350m"),
        (-2.5, "-2500m"),
        (9_223_372_036_854_776.0, "9223372036854775"),
        (1e20, "9223372036854775"),
        (f64::MAX, "9223372036854775"),
        (f64::MIN, "-9223372036854775"),
        (f64::MIN_POSITIVE, "0"),
    ] {
        assert_eq!(Quantity::from_f64(value).expect("finite").to_string(), expected, "{value}");
    }
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(Quantity::from_f64(value), None, "{value} is unknown, not a number");
    }
}

#[test]
fn thousandths_round_away_from_zero_and_saturate() {
    for (text, expected) in
        [("0.0001", 1), ("-0.0001", -1), ("1.5", 1500), ("9223372036854776", i64::MAX), ("-1E", i64::MIN)]
    {
        assert_eq!(text.parse::<Quantity>().expect(text).millis(), expected, "{text}");
    }
    assert_eq!(Quantity::MAX_HPA.millis(), 9_223_372_036_854_775_000);
}

#[test]
fn json_is_written_as_a_string_and_read_from_a_string_or_a_number() {
    assert_eq!(serde_json::to_string(&Quantity::from_millis(33_500)).expect("json"), r#""33500m""#);
    for (json, expected) in [
        (r#""33500m""#, "33500m"),
        (r#""  5  ""#, "5"),
        ("5", "5"),
        ("-5", "-5"),
        ("33.5", "33500m"),
        ("1e3", "1k"),
        ("0.1", "100m"),
        ("18446744073709551615", "9223372036854775807"),
    ] {
        assert_eq!(serde_json::from_str::<Quantity>(json).expect(json).to_string(), expected, "{json}");
    }
    for json in ["null", r#""""#, r#""NaN""#, r#""1x""#, "true", "[]", "{}"] {
        assert!(serde_json::from_str::<Quantity>(json).is_err(), "{json}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_exactly(nanos in -MAX_NANOS..=MAX_NANOS) {
        let quantity = Quantity::from_nanos(nanos);
        prop_assert_eq!(quantity.to_string().parse::<Quantity>().expect("canonical text"), quantity);
    }

    #[test]
    fn small_numbers_are_read_back_exactly_too(nanos in -5_000 * NANOS..5_000 * NANOS) {
        let quantity = Quantity::from_nanos(nanos);
        prop_assert_eq!(quantity.to_string().parse::<Quantity>().expect("canonical text"), quantity);
        prop_assert!(quantity.as_f64().is_finite());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[-+]?[0-9.]{0,40}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,25}|.{0,20}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            prop_assert!(quantity.nanos().abs() <= MAX_NANOS);
        }
    }

    #[test]
    fn a_float_is_never_further_away_than_half_a_thousandth(value in -1e12..1e12) {
        let quantity = Quantity::from_f64(value).expect("finite");
        prop_assert!((quantity.as_f64() - value).abs() <= 0.000_5 + value.abs() * 1e-15);
        prop_assert_eq!(quantity.nanos() % 1_000_000, 0);
    }
}
