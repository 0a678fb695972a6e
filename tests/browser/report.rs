//! The replay's report.

use std::{fs, path::PathBuf, sync::Arc};

use serde_json::json;
use tidegate::replay::{
    Model, Scenario, Slo, Trace,
    arrivals::Workload,
    contest::{Contender, Entry, run_all},
    exporter::Signals,
    outcome::Outcome,
    report::{Candidate, Report},
    summary,
};

use super::chromium::Page;
use crate::cluster::process::target;

/// Two hours with one hill, for three contenders and two seeds.
fn played() -> Vec<Outcome> {
    let csv: String =
        (0..=24).map(|i| format!("{},{}\n", i * 300, if (8..16).contains(&i) { 6.0 } else { 1.5 })).collect();
    let trace = Arc::new(Trace::parse("hill", &format!("time,rate\n{csv}"), None).unwrap());
    let model = Model::default();
    let (from, until) = (0.0, trace.seconds);
    let workload = Workload { trace, scale: 1.0, requests: model.requests.clone(), from, until, warmup: 0.0 };
    let scenario = Scenario {
        workload,
        model,
        slo: Slo::default(),
        on_premises: 2,
        min: 1,
        max: 8,
        signals: Signals::Queue,
        capacity: 0.7,
    };
    let mut entries = Vec::new();
    for seed in [1, 2] {
        for (name, contender) in
            [("tidegate", Contender::Keda(8.0)), ("hpa", Contender::Hpa(50.0)), ("fixed", Contender::Fixed(5))]
        {
            entries.push(Entry { scenario: &scenario, name, contender, seed });
        }
    }
    run_all(&entries, |_, _| ())
}

fn candidate(settings: &str, attainment: f64, cost: f64, front: bool, suggested: bool) -> Candidate {
    Candidate { settings: settings.into(), attainment, cost, front, suggested }
}

#[test]
fn the_report_says_what_the_json_says_shows_reasons_and_loads_nothing() {
    let outcomes = played();
    let candidates =
        [candidate("target 40 %", 0.9999, 60.0, true, false), candidate("target 60 %", 0.995, 45.0, true, true)];
    let facts = [("Replicas on premises".to_owned(), "2".to_owned())];
    let bounds = "first token within 5 s, 0.2 s per further token";
    let report =
        Report { trace: "hill", outcomes: &outcomes, bounds, attainment: 0.99, facts: &facts, candidates: &candidates };
    let folder = target().join("browser");
    fs::create_dir_all(&folder).unwrap();
    let file: PathBuf = folder.join("report.html");
    fs::write(&file, report.html()).unwrap();
    let url = format!("file://{}", file.display());
    let mut page = Page::open("report", &url).unwrap();
    page.until("document.querySelectorAll('#multiples svg').length === 3 && !!document.querySelector('#stage svg')")
        .unwrap();

    // The table's figures are those of `--json`.
    let json = summary::json("hill", 2, &outcomes);
    let cells = page
        .value(
            "[...document.querySelectorAll('#figures td')].map((cell) => [cell.closest('tr').dataset.policy, \
             cell.dataset.figure, Number(cell.dataset.value), cell.firstChild.textContent])",
        )
        .unwrap();
    let cells = cells.as_array().unwrap();
    assert_eq!(cells.len(), 3 * 9);
    for cell in cells {
        let policy = json["policies"].as_array().unwrap().iter().find(|policy| policy["name"] == cell[0]).unwrap();
        let figure = policy[cell[1].as_str().unwrap()].as_f64().unwrap();
        assert!((cell[2].as_f64().unwrap() - figure).abs() < 1e-12, "{cell}");
        let written = cell[3].as_str().unwrap().replace(',', "");
        let (written, of) = match written.strip_suffix(" %") {
            Some(percent) => (percent.to_owned(), figure * 100.0),
            None => (written, figure),
        };
        let decimals = written.split_once('.').map_or(0, |(_, decimals)| decimals.len() as i32);
        // What is not all is not rounded up to all.
        let step = 10_f64.powi(-decimals);
        assert!((written.parse::<f64>().unwrap() - of).abs() <= step * 0.501 || (of > 99.99 && of < 100.0), "{cell}");
    }

    // Pointing at a decision shows its sentence.
    page.value("document.querySelector('#multiples input[value=hpa]').click()").unwrap();
    page.until("document.getElementById('full-title').textContent.startsWith('In full: hpa')").unwrap();
    page.point_at("#stage [data-decision='1']").unwrap();
    page.until("!document.getElementById('tip').hidden").unwrap();
    let tip = page.value("document.getElementById('tip').textContent").unwrap();
    let shown = page.value("JSON.parse(document.getElementById('data').textContent).runs[1]").unwrap();
    let seed = shown["seed"].as_u64().unwrap();
    let run = outcomes.iter().find(|outcome| outcome.name == "hpa" && outcome.seed == seed).unwrap();
    assert!(tip.as_str().unwrap().contains(&run.moves[1].why), "{tip} lacks {:?}", run.moves[1].why);
    page.picture(&folder.join("report-light.png"), false).unwrap();

    // So does the keyboard: from the end of the run back to the last decision.
    page.value("document.getElementById('stage').focus()").unwrap();
    page.press("End", false).unwrap();
    page.press("ArrowLeft", true).unwrap();
    page.press("ArrowRight", true).unwrap();
    let said = page.value("document.getElementById('readout').textContent").unwrap();
    assert!(said.as_str().unwrap().contains(&run.moves.last().unwrap().why), "{said}");

    // On a phone nothing but the table scrolls sideways.
    page.size(390, 800).unwrap();
    page.until("document.querySelector('#stage svg').viewBox.baseVal.width < 390").unwrap();
    let overflow = page.value("document.documentElement.scrollWidth - innerWidth").unwrap();
    assert!(overflow.as_f64().unwrap() <= 0.0, "{overflow} pixels wider than the screen");
    page.picture(&folder.join("report-phone.png"), true).unwrap();
    page.size(1240, 1000).unwrap();
    page.until("document.querySelector('#stage svg').viewBox.baseVal.width > 900").unwrap();
    page.picture(&folder.join("report-dark.png"), true).unwrap();

    // Text can be read on what is behind it, in both schemes.
    for scheme in ["light", "dark"] {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        page.call("Emulation.setEmulatedMedia", feature).unwrap();
        let contrast = page.value(CONTRAST).unwrap();
        for (words, contrast) in contrast.as_object().unwrap() {
            assert!(contrast.as_f64().unwrap() >= 4.5, "{words} in {scheme}: {contrast}");
        }
    }
    assert_eq!(page.complaints(&url).unwrap(), "");
}

/// WCAG 2's contrast ratio of each kind of text against the card that it stands on.
const CONTRAST: &str = "(() => {
  const parts = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  const light = (color) => parts(color).reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const card = getComputedStyle(document.querySelector('section')).backgroundColor;
  const found = {};
  for (const selector of ['h2', '.note', 'td', 'td small', '.best', 'tr.short td:nth-of-type(1)', 'tr[data-policy=tidegate] b', 'button', 'dd']) {
    const element = document.querySelector(selector);
    if (element) found[selector] = ratio(getComputedStyle(element).color, card);
  }
  return found;
})()";

/// A page that is not what it should be is found out: the test's own eyes are open.
#[test]
fn complaints_are_heard() {
    let folder = target().join("browser");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("bad.html");
    fs::write(
        &file,
        "<script>console.error('no'); new Image().src = 'http://127.0.0.1:9/x.png'; nothing.at.all</script>",
    )
    .unwrap();
    let url = format!("file://{}", file.display());
    let mut page = Page::open("bad", &url).unwrap();
    page.until("performance.now() > 300").unwrap();
    let complaints = page.complaints(&url).unwrap();
    for part in ["consoleAPICalled", "exceptionThrown", "127.0.0.1:9/x.png"] {
        assert!(complaints.contains(part), "{part} is not in {complaints}");
    }
}
