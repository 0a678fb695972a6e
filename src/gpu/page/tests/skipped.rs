//! Lines that are skipped, and what keeps them from vanishing from a card's sum.

use super::*;

/// A line of ACK's exporter; `name` is that of the process, between the labels that say whose it is and the card's.
fn line(family: &str, pod: &str, process: u32, name: &str, card: &str, value: f64) -> String {
    format!(
        "{family}{{ContainerName=\"c\",NamespaceName=\"prod\",NodeName=\"n1\",PodName=\"{pod}\",ProcessId=\"{process}\",\
         ProcessName=\"{name}\",UUID=\"{card}\",gpu=\"0\"}} {value}\n"
    )
}

const SM: &str = "DCGM_CUSTOM_PROCESS_SM_UTIL";
const MEM: &str = "DCGM_CUSTOM_PROCESS_MEM_USED";
/// Ends the label too early.
const QUOTE: &str = "python -c \"import\"";

fn unknown(page: &Page) -> Vec<(&str, &str, &str, FamilyId)> {
    let unknown = page.samples.iter().filter(|sample| sample.reading == Err(Unknown::Malformed));
    unknown
        .map(|sample| {
            let owner = sample.owner.as_ref().expect("a pod");
            (&*owner.pod, sample.process.as_deref().unwrap_or("-"), &*sample.card.uuid, sample.family)
        })
        .collect()
}

#[test]
fn a_line_that_names_its_pod_before_it_breaks_makes_the_pods_cards_unknown_in_its_family() {
    let page = read(
        &[
            line(SM, "llm-0", 1, "python", "a", 50.0),
            line(SM, "llm-0", 2, QUOTE, "a", 40.0),
            line(MEM, "llm-0", 1, "python", "a", 100.0),
            line(MEM, "llm-0", 3, "python", "b", 100.0),
            line(SM, "llm-1", 4, "python", "a", 10.0),
        ]
        .concat(),
    );
    assert_eq!(page.bad_lines, BTreeMap::from([(BadLine::Labels, 1)]));
    assert_eq!(unknown(&page), [("llm-0", "2", "a", id(SM)), ("llm-0", "2", "b", id(SM))]);
    assert_eq!((page.samples.len(), page.unplaced), (6, false), "the neighbours live");
}

#[test]
fn a_line_that_names_its_card_too_makes_only_that_card_unknown() {
    let broken = "{UUID=\"a\",namespace=\"prod\",pod=\"llm-0\",modelName=\"40\" wide\"} 1\n";
    let good = |card: &str| format!("{MEM}{{UUID=\"{card}\",namespace=\"prod\",pod=\"llm-0\"}} 1\n");
    let page = read(&format!("{}{}{SM}{broken}", good("a"), good("b")));
    assert_eq!(unknown(&page), [("llm-0", "-", "a", id(SM))]);
}

#[test]
fn a_line_without_a_card_makes_the_pods_cards_unknown_too() {
    let without = format!("{SM}{{NamespaceName=\"prod\",PodName=\"llm-0\",ProcessId=\"2\"}}");
    for (value, reason) in [("5", BadLine::NoCard), ("x", BadLine::Value)] {
        let page = read(&format!("{}{without} {value}\n", line(SM, "llm-0", 1, "python", "a", 50.0)));
        assert_eq!(page.bad_lines, BTreeMap::from([(reason, 1)]));
        assert_eq!(unknown(&page), [("llm-0", "2", "a", id(SM))]);
    }
}

#[test]
fn a_line_that_does_not_name_its_pod_is_said_to_be_unplaced() {
    let long = line(SM, "llm-0", 2, &"x".repeat(LIMITS.line_bytes), "a", 1.0);
    let cases = [
        (format!("{SM}{{NamespaceName=\"prod\",PodName=\"llm\"0\"}} 1\n"), true),
        (long, true),
        (format!("{SM} 1\n"), true),
        ("<html>\n".to_owned(), false),
        ("not_ours{pod=\"a} 1\n".to_owned(), false),
        (format!("{SM}{{gpu=\"0\"}} x\n"), false),
    ];
    for (bad, unplaced) in cases {
        let page = read(&format!("{}{bad}", line(SM, "llm-0", 1, "python", "a", 50.0)));
        let skipped: Vec<_> = page.samples.iter().filter(|sample| sample.owner.is_some()).collect();
        assert_eq!((page.unplaced, skipped.len()), (unplaced, 1), "{bad}");
    }
}

#[test]
fn what_stands_for_skipped_lines_counts_against_the_limit_of_samples() {
    let cards = (0..40).map(|card| line(SM, "llm-0", 1, "python", &format!("card-{card}"), 1.0));
    let broken = (0..40).map(|process| line(SM, "llm-0", 100 + process, QUOTE, "a", 1.0));
    let page = cards.chain(broken).collect::<Vec<_>>().concat();
    let read = super::super::read(&Vocabulary::default(), page.as_bytes(), Format::Text, true, MEASURED, &LIMITS);
    assert_eq!(read, Err(PageError::TooManySamples { limit: LIMITS.samples }));
}
