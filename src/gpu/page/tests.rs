use proptest::prelude::*;

use super::*;
use crate::{config, gpu::FamilyId};

mod dialects;
mod skipped;
mod values;

const LIMITS: Limits = Limits { line_bytes: 4096, labels: 64, samples: 1000 };

const MEASURED: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn read(page: &str) -> Page {
    read_with(&Vocabulary::default(), page)
}

fn read_with(vocabulary: &Vocabulary, page: &str) -> Page {
    super::read(vocabulary, page.as_bytes(), Format::Text, true, MEASURED, &LIMITS).expect("a small text page")
}

fn id(name: &str) -> FamilyId {
    Vocabulary::default().by_name(name).expect("a built-in family")
}

/// The one sample of a page of one line.
fn one(line: &str) -> Sample {
    let page = read(line);
    assert_eq!(page.bad_lines, BTreeMap::new(), "{line}");
    let [sample] = &page.samples[..] else { panic!("{line}: {:?}", page.samples) };
    sample.clone()
}

#[test]
fn readings_carry_the_time_of_the_page_and_lines_times_stand_beside_them() {
    let page = read(
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 1\nother{gpu=\"1\"} 2 5\nDCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 2 1700000000000\n",
    );
    assert!(page.samples.iter().all(|sample| sample.reading.as_ref().is_ok_and(|reading| reading.at == MEASURED)));
    let at = Timestamp::from_millisecond(1_700_000_000_000).expect("a time");
    assert_eq!(page.timestamps, BTreeMap::from([(1, at)]));
}

#[test]
fn equal_names_are_shared() {
    let line =
        r#"DCGM_CUSTOM_PROCESS_SM_UTIL{NodeName="n",NamespaceName="prod",PodName="p",ProcessId="1",UUID="GPU-1"} 5"#;
    let page = read(&format!("{line}\n{line}\n"));
    let [a, b] = &page.samples[..] else { panic!("{:?}", page.samples) };
    assert!(Arc::ptr_eq(&a.card.uuid, &b.card.uuid));
    let namespace = |sample: &Sample| sample.owner.as_ref().expect("an owner").namespace.clone();
    assert!(Arc::ptr_eq(&namespace(a), &namespace(b)));
}

#[test]
fn a_page_that_is_refused_says_why() {
    let vocabulary = Vocabulary::default();
    let page = b"DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} 1\nDCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 1\n";
    let read = |format, limits| super::read(&vocabulary, page, format, true, MEASURED, &limits);
    assert_eq!(read(Format::OpenMetrics, LIMITS), Err(PageError::NoEof));
    let limits = Limits { samples: 1, ..LIMITS };
    assert_eq!(read(Format::Text, limits), Err(PageError::TooManySamples { limit: 1 }));
}

#[test]
fn bad_lines_are_counted_by_reason_and_each_once() {
    let page = read(concat!(
        "<html>\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0} 1\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\",gpu=\"1\"} 1\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"0\"} many\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"1\"} 1 now\n",
        "DCGM_FI_DEV_GPU_UTIL 1\n",
        "DCGM_FI_DEV_GPU_UTIL{device=\"mlx\"} 1\n",
        "DCGM_FI_DEV_GPU_UTIL many\n",
        "not_ours{gpu=\"0} many\n",
        "DCGM_FI_DEV_GPU_UTIL{gpu=\"2\"} 7\n",
    ));
    let expected = [
        (BadLine::Name, 1),
        (BadLine::Labels, 1),
        (BadLine::DuplicateLabel, 1),
        (BadLine::Value, 2),
        (BadLine::Timestamp, 1),
        (BadLine::NoCard, 2),
    ];
    assert_eq!(page.bad_lines, BTreeMap::from(expected));
    let readings: Vec<_> = page.samples.iter().map(|s| (&*s.card.uuid, s.reading.clone().map(|r| r.value))).collect();
    let malformed = || Err(Unknown::Malformed);
    assert_eq!(readings, [("gpu0", malformed()), ("gpu1", malformed()), ("gpu2", Ok(7.0))]);
}

proptest! {
    #[test]
    fn no_page_makes_it_panic_and_every_value_is_in_range(
        lines in proptest::collection::vec(
            (
                proptest::sample::select(vec![
                    "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL_RATIO", "DCGM_FI_PROF_SM_ACTIVE",
                    "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_USED_BYTES", "DCGM_CUSTOM_PROCESS_SM_UTIL",
                ]),
                "[a-zA-Z0-9\"\\\\,]{0,6}",
                prop_oneof![any::<f64>().prop_map(|v| v.to_string()), (-200.0..200.0).prop_map(|v: f64| v.to_string()), "[0-9]{1,20}"],
            ),
            0..12,
        ),
    ) {
        let page = lines
            .iter()
            .map(|(name, label, value)| format!("{name}{{gpu=\"0\",pod=\"p{label}\",namespace=\"n\"}} {value}\n"))
            .collect::<Vec<_>>()
            .concat();
        let vocabulary = Vocabulary::default();
        let page = read_with(&vocabulary, &page);
        for sample in page.samples {
            if let Ok(Measured { value, .. }) = sample.reading {
                prop_assert!((0.0..=vocabulary.family(sample.family).max).contains(&value));
            }
        }
    }
}
