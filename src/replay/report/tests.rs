use super::*;
use crate::replay::outcome::{Figures, Move, Timeline};

fn outcome(name: &str, gpu_hours: f64, attainment: f64) -> Outcome {
    let samples =
        (0..40).map(|i| Sample { load: f64::from(i % 7), requests: 10, violations: i % 3, ..Sample::default() });
    let figures = Figures {
        gpu_hours,
        cost: gpu_hours,
        slo_attainment: attainment,
        requests: 1_234_567,
        scale_events: 2,
        ..Figures::default()
    };
    Outcome {
        name: name.into(),
        settings: "as <is>".into(),
        seed: 1,
        figures,
        timeline: Timeline { seconds: 15.0, samples: samples.collect() },
        moves: vec![Move { at: 30.0, from: 1, to: 3, why: "</script><b>load & \"queue\"".into() }],
    }
}

fn page(outcomes: &[Outcome]) -> String {
    let facts = [("On premises".to_owned(), "3 & more".to_owned())];
    let report =
        Report { trace: "a<b>{{data}}", outcomes, bounds: "5 s", attainment: 0.99, facts: &facts, candidates: &[] };
    report.html()
}

#[test]
fn nothing_from_a_trace_or_a_contender_becomes_markup() {
    let page = page(&[outcome("tidegate", 10.0, 0.995)]);
    assert_eq!(page.matches("</script").count(), 2, "the page's own two");
    assert!(page.contains("<h1>Replay of a&lt;b&gt;{{data}}</h1>"));
    assert!(page.contains("as &lt;is&gt;") && page.contains("3 &amp; more") && !page.contains("as <is>"));
    let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["runs"][0]["decisions"][0][3], "</script><b>load & \"queue\"");
}

#[test]
fn the_page_names_no_place_to_load_from() {
    let page = page(&[outcome("tidegate", 10.0, 0.995)]).replace("http://www.w3.org/2000/svg", "");
    for word in ["http:", "https:", "url(", "@import", "src=", "fetch(", "XMLHttpRequest", "import("] {
        let own = ["url(#clip)"].iter().map(|own| page.matches(own).count()).sum::<usize>();
        let expected = if word == "url(" { own } else { 0 };
        assert_eq!(page.matches(word).count(), expected, "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn the_lead_says_how_it_compares() {
    let outcomes =
        [outcome("tidegate", 80.0, 0.9931), outcome("hpa_tuned", 100.0, 0.991), outcome("oracle", 70.0, 0.99)];
    let report =
        Report { trace: "week", outcomes: &outcomes, bounds: "", attainment: 0.99, facts: &[], candidates: &[] };
    assert_eq!(
        report.lead(),
        "Tidegate kept 99.31 % of 1,234,567 requests within the bounds with 80 GPU hours: 20 % fewer than the HPA tuned \
         for this trace (which kept 99.10 %), 14 % more than an oracle (which kept 99.00 %)."
    );
}

#[test]
fn the_lead_boasts_of_no_saving_that_misses_the_bound() {
    let outcomes = [outcome("tidegate", 10.0, 0.9), outcome("hpa", 100.0, 0.999)];
    let report =
        Report { trace: "week", outcomes: &outcomes, bounds: "", attainment: 0.99, facts: &[], candidates: &[] };
    assert_eq!(
        report.lead(),
        "Tidegate kept 90.00 % of 1,234,567 requests within the bounds with 10 GPU hours: fewer than the 99.00 % asked for, \
         and so no matter how cheap."
    );
}

#[test]
fn figures_are_rounded_but_never_up_to_all() {
    for (share, expected) in
        [(1.0, "100.00 %"), (0.999_999, "99.99 %"), (0.5, "50.00 %"), (0.0, "0.00 %"), (f64::NAN, "unknown")]
    {
        assert_eq!(table::percent(share), expected);
    }
    for (value, decimals, expected) in [
        (0.0, 0, "0"),
        (999.6, 0, "1,000"),
        (1_234_567.0, 0, "1,234,567"),
        (12.34, 1, "12.3"),
        (-1_234.5, 1, "-1,234.5"),
        (f64::NAN, 0, "unknown"),
    ] {
        assert_eq!(table::grouped(value, decimals), expected);
    }
}

#[test]
fn the_table_marks_who_misses_the_bound_and_who_is_cheapest_within_it() {
    let outcomes = [
        outcome("tidegate", 80.0, 0.995),
        outcome("hpa", 60.0, 0.9),
        outcome("oracle", 50.0, 0.99),
        outcome("fixed", 90.0, 1.0),
    ];
    let page = page(&outcomes);
    let row = |name: &str| {
        let page = page.split("<tbody>").nth(1).expect("a table");
        let start = page.find(&format!("data-policy=\"{name}\"")).expect("a row");
        let begin = page[..start].rfind("<tr").expect("a row");
        page[begin..].split("</tr>").next().unwrap_or_default().to_owned()
    };
    assert!(row("hpa").starts_with("<tr class=\"short\"") && row("tidegate").contains("cheapest within the bounds"));
    for other in ["hpa", "oracle", "fixed"] {
        assert!(!row(other).contains("cheapest"), "{other}");
    }
}

#[test]
fn a_long_run_gives_a_page_of_bounded_size() {
    let mut long = outcome("tidegate", 80.0, 0.995);
    long.timeline.samples = vec![Sample { load: 123.456, utilization: 99.0, desired: 100, ..Sample::default() }; 5_000];
    let why = "because ".repeat(500);
    long.moves =
        (0..20_000).map(|i| Move { at: f64::from(i) * 3.0, from: 1, to: 2 + i as u32 % 5, why: why.clone() }).collect();
    let outcomes: Vec<Outcome> = (0..8).map(|i| Outcome { name: format!("contender-{i}"), ..long.clone() }).collect();
    let page = page(&outcomes);
    assert!(page.len() < 8 << 20, "{} bytes", page.len());
}
