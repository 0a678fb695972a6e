//! What a value is worth: units, ranges, blanks.

use super::*;

fn value(line: &str) -> Result<f64, Unknown> {
    one(line).reading.map(|reading| reading.value)
}

/// The values of a page of one family, a line per text.
fn values(family: &str, texts: &[&str]) -> Vec<Result<f64, Unknown>> {
    let line = |(n, value): (usize, &&str)| format!("{family}{{gpu=\"{n}\"}} {value}\n");
    let lines = texts.iter().enumerate().map(line).collect::<Vec<_>>().concat();
    read(&lines).samples.into_iter().map(|sample| sample.reading.map(|reading| reading.value)).collect()
}

#[test]
fn units_become_percent_and_mebibytes() {
    let cases = [
        ("DCGM_CUSTOM_PROCESS_SM_UTIL", "37", "DCGM_CUSTOM_PROCESS_SM_UTIL", 37.0),
        ("DCGM_CUSTOM_PROCESS_MEM_USED", "41234", "DCGM_CUSTOM_PROCESS_MEM_USED", 41_234.0),
        ("DCGM_FI_DEV_GPU_UTIL", "0", "DCGM_FI_DEV_GPU_UTIL", 0.0),
        ("DCGM_FI_DEV_GPU_UTIL", "0.0004", "DCGM_FI_DEV_GPU_UTIL", 0.0004),
        ("DCGM_FI_DEV_GPU_UTIL", "-0", "DCGM_FI_DEV_GPU_UTIL", 0.0),
        ("DCGM_FI_DEV_GPU_UTIL", "100", "DCGM_FI_DEV_GPU_UTIL", 100.0),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", "0.25", "DCGM_FI_DEV_GPU_UTIL", 25.0),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", "1.000000", "DCGM_FI_DEV_GPU_UTIL", 100.0),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", "0", "DCGM_FI_DEV_GPU_UTIL", 0.0),
        ("DCGM_FI_DEV_FB_USED", "1024", "DCGM_FI_DEV_FB_USED", 1024.0),
        ("DCGM_FI_DEV_FB_USED_BYTES", "1073741824", "DCGM_FI_DEV_FB_USED", 1024.0),
        ("DCGM_FI_DEV_FB_CAPACITY_BYTES", "85899345920", "DCGM_FI_DEV_FB_TOTAL", 81_920.0),
        ("DCGM_FI_PROF_SM_ACTIVE", "0.5", "DCGM_FI_PROF_SM_ACTIVE", 50.0),
        ("DCGM_FI_PROF_PIPE_TENSOR_UTIL_RATIO", "0.5", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", 50.0),
        ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "1", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 100.0),
        ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "1.005", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 100.0),
        ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "37.5", "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 37.5),
    ];
    for (name, text, family, expected) in cases {
        let sample = one(&format!("{name}{{gpu=\"0\"}} {text}\n"));
        assert_eq!(sample.family, id(family), "{name}");
        let value = sample.reading.unwrap_or_else(|reason| panic!("{name} {text}: {reason}")).value;
        assert!((value - expected).abs() < 1e-9 && !value.is_sign_negative(), "{name} {text}: {value}");
    }
}

#[test]
fn what_is_no_measurement_stays_as_unknown_with_its_reason() {
    let blank = |value| Unknown::Blank { value };
    let percent = |value| Unknown::OutOfRange { value, max: 100.0 };
    let memory = |value| Unknown::OutOfRange { value, max: MAX_MEBIBYTES };
    let (util, used) = ("DCGM_CUSTOM_PROCESS_SM_UTIL", "DCGM_FI_DEV_FB_USED");
    let two_to_63 = 9_223_372_036_854_775_808.0;
    let cases = [
        (util, "-50", percent(-50.0)),
        (util, "-0.001", percent(-0.001)),
        (util, "+Inf", percent(f64::INFINITY)),
        (util, "-Inf", percent(f64::NEG_INFINITY)),
        (util, "9.4e15", percent(9.4e15)),
        (util, "102", percent(102.0)),
        (util, "2147483631", percent(2_147_483_631.0)),
        (util, "2147483632", blank(2_147_483_632.0)),
        (util, "2147483634", blank(2_147_483_634.0)),
        (util, "2147483647", blank(2_147_483_647.0)),
        (util, "2147483648", percent(2_147_483_648.0)),
        (util, "140737488355327", percent(140_737_488_355_327.0)),
        (util, "140737488355328", blank(140_737_488_355_328.0)),
        (util, "140737488355330", blank(140_737_488_355_330.0)),
        (util, "140737488355343", blank(140_737_488_355_343.0)),
        (util, "140737488355344", percent(140_737_488_355_344.0)),
        (util, "9223372036854775792", blank(two_to_63)),
        (util, "9223372036854775794", blank(two_to_63)),
        (util, "9223372036854775807", blank(two_to_63)),
        (util, "1e300", blank(1e300)),
        (used, "-1", memory(-1.0)),
        (used, "16777217", memory(16_777_217.0)),
        (used, "2147483634", blank(2_147_483_634.0)),
        (used, "140737488355330", blank(140_737_488_355_330.0)),
        ("DCGM_FI_PROF_SM_ACTIVE", "140737488355328", blank(140_737_488_355_328.0)),
        ("DCGM_FI_PROF_SM_ACTIVE", "500", percent(500.0)),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", "55.5", percent(55.5)),
    ];
    for (name, text, reason) in cases {
        assert_eq!(value(&format!("{name}{{gpu=\"0\"}} {text}\n")), Err(reason), "{name} {text}");
    }
    let nan = value(&format!("{util}{{gpu=\"0\"}} NaN\n"));
    assert!(matches!(nan, Err(Unknown::OutOfRange { value, .. }) if value.is_nan()), "{nan:?}");
}

#[test]
fn values_up_to_one_of_a_profiling_family_are_unknown_where_another_value_says_percent() {
    let family = "DCGM_FI_PROF_SM_ACTIVE";
    let beside = |value: &str| values(family, &["37.5", value])[1].clone();
    for value in ["0.95", "0.0001", "1", "1.01"] {
        let Err(Unknown::Ambiguous(text)) = beside(value) else { panic!("{value}: {:?}", beside(value)) };
        for part in [family, value, "ratio or percent, in vocabulary.families"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert_eq!([beside("0"), beside("-0"), beside("1.02"), beside("100")], [Ok(0.0), Ok(0.0), Ok(1.02), Ok(100.0)]);
    assert_eq!(beside("-0.5"), Err(Unknown::OutOfRange { value: -0.5, max: 100.0 }));
    assert_eq!(values(family, &["37.5"]), [Ok(37.5)]);
    assert_eq!(values(family, &["0.5", "1", "0", "1.01"]), [Ok(50.0), Ok(100.0), Ok(0.0), Ok(100.0)]);
    let other = read("DCGM_FI_PROF_SM_ACTIVE{gpu=\"0\"} 37\nDCGM_FI_PROF_DRAM_ACTIVE{gpu=\"0\"} 0.5\n");
    let values: Vec<_> = other.samples.into_iter().map(|s| s.reading.map(|r| r.value)).collect();
    assert_eq!(values, [Ok(37.0), Ok(50.0)], "families are decided one by one");
}

#[test]
fn an_alias_is_named_as_it_stands_on_the_page() {
    let Err(Unknown::Ambiguous(text)) = &values("DCGM_FI_PROF_SM_UTIL_RATIO", &["0.95", "37"])[0] else {
        panic!("0.95 beside 37 is ambiguous");
    };
    assert!(text.contains("DCGM_FI_PROF_SM_UTIL_RATIO"), "{text}");
}

#[test]
fn a_blank_or_garbage_does_not_make_a_ratio_a_percentage() {
    for garbage in ["140737488355328", "2147483632", "9.4e15", "+Inf", "NaN", "-5", "x"] {
        assert_eq!(values("DCGM_FI_PROF_SM_ACTIVE", &["0.95", garbage])[0], Ok(95.0), "{garbage}");
    }
}

#[test]
fn a_renamed_family_of_whole_numbers_is_the_older_percentage() {
    let family = "DCGM_FI_DEV_GPU_UTIL_RATIO";
    assert_eq!(values(family, &["37", "1", "0"]), [Ok(37.0), Ok(1.0), Ok(0.0)]);
    assert_eq!(values(family, &["0.37", "1", "0"]), [Ok(37.0), Ok(100.0), Ok(0.0)]);
    assert_eq!(values(family, &["0.950000", "1.200000"])[0], Ok(95.0), "an odd ratio changes no other");
    let unclear = values(family, &["1", "0"]);
    assert!(
        matches!(&unclear[0], Err(Unknown::Ambiguous(text)) if text.contains("vocabulary.families")),
        "{unclear:?}"
    );
    assert_eq!(unclear[1], Ok(0.0));
}

#[test]
fn a_configured_unit_is_believed() {
    use config::SourceUnit::{Percent, Ratio};
    let out_of_range = || Err(Unknown::OutOfRange { value: 37.0, max: 100.0 });
    let cases = [
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", Ratio, "1", Ok(100.0), out_of_range()),
        ("DCGM_FI_DEV_GPU_UTIL_RATIO", Percent, "1", Ok(1.0), Ok(37.0)),
        ("DCGM_FI_PROF_SM_ACTIVE", Ratio, "0.5", Ok(50.0), out_of_range()),
        ("DCGM_FI_PROF_SM_ACTIVE", Percent, "0.5", Ok(0.5), Ok(37.0)),
    ];
    for (name, unit, text, expected, odd) in cases {
        let families = vec![config::FamilyConfig { name: name.to_owned(), served_as: None, unit }];
        let vocabulary =
            Vocabulary::new(&config::Vocabulary { families, ..config::Vocabulary::default() }).expect("right");
        let page = read_with(&vocabulary, &format!("{name}{{gpu=\"0\"}} {text}\n{name}{{gpu=\"1\"}} 37\n"));
        let values: Vec<_> = page.samples.into_iter().map(|s| s.reading.map(|r| r.value)).collect();
        assert_eq!(values, [expected, odd], "{name} in {unit:?}");
    }
}

#[test]
fn a_pods_sum_over_its_processes_may_pass_one_hundred_and_counts_as_that() {
    let line = |labels: &str, text: &str| value(&format!("DCGM_FI_DEV_GPU_UTIL{{UUID=\"GPU-1\"{labels}}} {text}\n"));
    let pod = r#",namespace="prod",pod="llm-0",pod_uid="u""#;
    assert_eq!(line(pod, "143"), Ok(100.0));
    assert_eq!(line(pod, "1001"), Err(Unknown::OutOfRange { value: 1001.0, max: 100.0 }));
    assert_eq!(line("", "143"), Err(Unknown::OutOfRange { value: 143.0, max: 100.0 }));
}

#[test]
fn a_cards_family_under_two_names_is_heard_under_its_first() {
    let page = read(concat!(
        "DCGM_FI_DEV_GPU_UTIL_RATIO{gpu=\"0\"} 0.5 1000\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 51 2000\n",
        "DCGM_FI_DEV_FB_USED_BYTES{gpu=\"0\"} 1048576\n",
        "DCGM_FI_DEV_GPU_UTIL_RATIO{gpu=\"1\"} 0.7\n",
    ));
    let values: Vec<_> = page.samples.iter().map(|s| (s.family, s.reading.clone().map(|r| r.value))).collect();
    let (util, used) = (id("DCGM_FI_DEV_GPU_UTIL"), id("DCGM_FI_DEV_FB_USED"));
    assert_eq!(values, [(util, Ok(51.0)), (used, Ok(1.0)), (util, Ok(70.0))]);
    assert_eq!(page.timestamps.into_iter().collect::<Vec<_>>(), [(0, Timestamp::constant(2, 0))]);
}

const MAX_MEBIBYTES: f64 = crate::gpu::MAX_MEBIBYTES;
