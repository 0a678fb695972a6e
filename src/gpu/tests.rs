use super::*;
use crate::config::FamilyConfig;

fn family(name: &str, served_as: Option<&str>, unit: SourceUnit) -> FamilyConfig {
    FamilyConfig { name: name.into(), served_as: served_as.map(Into::into), unit }
}

fn with_families(families: &[FamilyConfig]) -> Result<Vocabulary, VocabularyError> {
    Vocabulary::new(&config::Vocabulary { families: families.to_vec(), ..config::Vocabulary::default() })
}

fn with_label(key: &str, names: &[&str]) -> Result<Vocabulary, VocabularyError> {
    let labels = [(key.to_owned(), names.iter().map(|name| (*name).to_owned()).collect())].into();
    Vocabulary::new(&config::Vocabulary { labels, ..config::Vocabulary::default() })
}

#[test]
fn the_families_that_are_promised_are_read_and_served_in_their_units() {
    let vocabulary = Vocabulary::default();
    for (name, unit) in [
        ("DCGM_CUSTOM_PROCESS_SM_UTIL", Unit::Percent),
        ("DCGM_CUSTOM_PROCESS_MEM_COPY_UTIL", Unit::Percent),
        ("DCGM_CUSTOM_PROCESS_ENCODE_UTIL", Unit::Percent),
        ("DCGM_CUSTOM_PROCESS_DECODE_UTIL", Unit::Percent),
        ("DCGM_CUSTOM_PROCESS_MEM_USED", Unit::Mebibytes),
        ("DCGM_FI_DEV_GPU_UTIL", Unit::Percent),
        ("DCGM_FI_DEV_FB_USED", Unit::Mebibytes),
        ("DCGM_FI_PROF_GR_ENGINE_ACTIVE", Unit::Percent),
        ("DCGM_FI_PROF_SM_ACTIVE", Unit::Percent),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", Unit::Percent),
    ] {
        let id = vocabulary.by_name(name).unwrap_or_else(|| panic!("{name} is served"));
        assert_eq!(vocabulary.family(id).unit, unit, "{name}");
        assert_eq!(vocabulary.source(name.as_bytes()).map(|source| source.family), Some(id), "{name} is read");
    }
}

#[test]
fn names_of_families_are_unique_and_lead_to_their_unit() {
    let vocabulary = Vocabulary::default();
    let names: BTreeSet<_> = vocabulary.families.iter().map(|family| &family.name).collect();
    assert_eq!(names.len(), vocabulary.families.len());
    let sources: usize = families::BUILT_IN.iter().map(|family| family.sources.len()).sum();
    assert_eq!(vocabulary.sources.len(), sources, "no name on a page leads to two families");
    for source in vocabulary.sources.values() {
        assert_eq!(vocabulary.family(source.family).unit, source.scale.unit());
    }
}

#[test]
fn processes_that_asked_for_no_gpu_are_not_read() {
    let vocabulary = Vocabulary::default();
    assert_eq!(vocabulary.source(b"DCGM_CUSTOM_ILLEGAL_PROCESS_SM_UTIL"), None);
}

#[test]
fn a_configured_family_is_served_under_its_own_name_or_another() {
    let vocabulary = with_families(&[
        family("cce_gpu_utilization_process", None, SourceUnit::Percent),
        family("my_memory", Some("DCGM_FI_DEV_FB_USED"), SourceUnit::Bytes),
        family("my_share", Some("npu_share"), SourceUnit::Ratio),
    ])
    .expect("a right configuration");
    let of = |name: &str| vocabulary.source(name.as_bytes()).map(|source| (source.family, source.scale));
    let id = |name| vocabulary.by_name(name).expect("served");
    assert_eq!(of("cce_gpu_utilization_process"), Some((id("cce_gpu_utilization_process"), Scale::Percent)));
    assert_eq!(of("my_memory"), Some((id("DCGM_FI_DEV_FB_USED"), Scale::Bytes)));
    assert_eq!(of("my_share"), Some((id("npu_share"), Scale::Ratio)));
    assert_eq!(vocabulary.by_name("my_share"), None);
}

#[test]
fn a_built_in_name_can_be_given_another_unit() {
    let name = "DCGM_FI_DEV_GPU_UTIL_RATIO";
    let vocabulary = with_families(&[family(name, None, SourceUnit::Percent)]).expect("a right configuration");
    let (before, after) = (Vocabulary::default().source(name.as_bytes()), vocabulary.source(name.as_bytes()));
    assert_eq!(after.map(|source| source.scale), Some(Scale::Percent));
    assert_eq!(after.map(|source| (source.family, source.rank)), before.map(|source| (source.family, source.rank)));
    assert_eq!(vocabulary.families, Vocabulary::default().families);
}

#[test]
fn a_wrong_family_is_refused_with_its_name_and_the_rule() {
    let percent = SourceUnit::Percent;
    let cases: &[(&[FamilyConfig], &str)] = &[
        (&[family("9a", None, percent)], "\"9a\" is not a metric name"),
        (&[family("", None, percent)], "\"\" is not a metric name"),
        (&[family("a", Some("b c"), percent)], "\"b c\" is not a metric name"),
        (&[family("a", None, percent), family("a", Some("b"), percent)], "\"a\" is there twice"),
        (
            &[family("a", Some("DCGM_FI_DEV_GPU_UTIL"), SourceUnit::Bytes)],
            "\"a\" is in Mebibytes, but \"DCGM_FI_DEV_GPU_UTIL\" is in Percent",
        ),
        (&[family("DCGM_FI_DEV_GPU_UTIL", None, SourceUnit::Mebibytes)], "is in Mebibytes"),
    ];
    for (families, message) in cases {
        let error = with_families(families).expect_err(message).to_string();
        assert!(error.contains(message) && error.starts_with("vocabulary.families"), "{error}");
    }
    let many: Vec<_> = (0..=MAX_FAMILIES).map(|n| family(&format!("f{n}"), None, percent)).collect();
    assert_eq!(with_families(&many), Err(VocabularyError::TooMany));
}

#[test]
fn a_wrong_label_is_refused_with_its_key_and_the_rule() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("pods", &["x"], "unknown key \"pods\""),
        ("pod", &[""], "vocabulary.labels.pod: \"\" is not a label name"),
        ("pod", &["a-b"], "\"a-b\" is not a label name"),
        ("pod", &["9a"], "\"9a\" is not a label name"),
        ("pod", &["UUID"], "vocabulary.labels.pod: \"UUID\" already has a meaning"),
        ("node", &["x", "x"], "vocabulary.labels.node: \"x\" already has a meaning"),
    ];
    for (key, names, message) in cases {
        let error = with_label(key, names).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
    for key in ["namespace", "pod", "container", "node", "process", "uuid", "instance", "podUid"] {
        assert!(with_label(key, &["further_name"]).is_ok(), "{key}");
    }
}
