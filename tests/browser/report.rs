//! The replay's report.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};
use tidegate::replay::report::{Candidate, Report};

use super::chromium::Page;
use crate::cluster::process::target;

/// Where pages and pictures are left for people to look at.
pub fn folder() -> PathBuf {
    let folder = target().join("browser");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Two hours with one hill, played by the command line: what it printed with `--json`, and the page in `file`.
fn played(file: &Path) -> Value {
    let rate = |i| if (8..16).contains(&i) { 6.0 } else { 1.5 };
    let lines: Vec<String> = (0..=24).map(|i| format!("{},{}", i * 300, rate(i))).collect();
    let trace = file.with_extension("csv");
    fs::write(&trace, format!("time,rate\n{}\n", lines.join("\n"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("replay").arg(&trace).args(["--only", "tidegate,hpa,fixed", "--seeds", "2", "--peak-replicas", "4"]);
    let output = command.args(["--on-prem", "2", "--json", "--html"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_report_says_what_the_json_says_shows_reasons_and_loads_nothing() {
    let folder = folder();
    let file = folder.join("report.html");
    let json = played(&file);
    let url = format!("file://{}", file.display());
    let mut page = Page::open("report", &url).unwrap();
    page.until("document.querySelectorAll('#multiples svg').length === 3 && !!document.querySelector('#stage svg')")
        .unwrap();

    // The table's figures are those of `--json`.
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
        // What is not all is not rounded up to all.
        let step =
            written.split_once('.').map_or(1.0, |(_, decimals)| decimals.chars().fold(1.0, |step, _| step / 10.0));
        assert!((written.parse::<f64>().unwrap() - of).abs() <= step * 0.501 || (of > 99.99 && of < 100.0), "{cell}");
    }

    // Pointing at a decision shows its sentence.
    page.value("document.querySelector('#multiples input[value=hpa]').click()").unwrap();
    page.until("document.getElementById('full-title').textContent.startsWith('In full: hpa')").unwrap();
    page.point_at("#stage [data-decision='1']").unwrap();
    page.until("!document.getElementById('tip').hidden").unwrap();
    let tip = page.value("document.getElementById('tip').textContent").unwrap();
    let shown = page.value("runs.find((run) => run.name === 'hpa').decisions").unwrap();
    let decisions = shown.as_array().unwrap();
    let why = |i: usize| decisions[i][3].as_str().unwrap();
    assert!(why(1).contains("utilization"), "{shown}");
    assert!(tip.as_str().unwrap().contains(why(1)), "{tip} lacks {:?}", why(1));
    page.picture(&folder.join("report-light.png"), false).unwrap();

    // So does the keyboard: from the end of the run back to the last decision.
    page.value("document.getElementById('stage').focus()").unwrap();
    page.press("End", false).unwrap();
    page.press("ArrowLeft", true).unwrap();
    page.press("ArrowRight", true).unwrap();
    let said = page.value("document.getElementById('readout').textContent").unwrap();
    assert!(said.as_str().unwrap().contains(why(decisions.len() - 1)), "{said}");

    // On a phone nothing but the table scrolls sideways.
    page.size(390, 800).unwrap();
    page.until("document.querySelector('#stage svg').viewBox.baseVal.width < 390").unwrap();
    let overflow = page.value("document.documentElement.scrollWidth - innerWidth").unwrap();
    assert!(overflow.as_f64().unwrap() <= 0.0, "{overflow} pixels wider than the screen");
    page.picture(&folder.join("report-phone.png"), true).unwrap();
    page.size(1240, 1000).unwrap();
    page.until("document.querySelector('#stage svg').viewBox.baseVal.width > 900").unwrap();
    page.picture(&folder.join("report-dark.png"), true).unwrap();

    can_be_read(&mut page);
    assert_eq!(page.complaints(&url).unwrap(), "");
}

/// Text can be read on what is behind it, in both schemes.
pub fn can_be_read(page: &mut Page) {
    for scheme in ["light", "dark"] {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        page.call("Emulation.setEmulatedMedia", &feature).unwrap();
        let contrast = page.value(CONTRAST).unwrap();
        for (words, contrast) in contrast.as_object().unwrap() {
            assert!(contrast.as_f64().unwrap() >= 4.5, "{words} in {scheme}: {contrast}");
        }
    }
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
  for (const selector of ['h2', '.note', 'td', 'td small', '.best', 'tr.short td:nth-of-type(1)', 'tr[data-policy=tidegate] b', 'button', 'dd', 'figcaption', 'td.change', 'tr.met th', 'tr.missed th', 'tr.open th']) {
    const element = document.querySelector(selector);
    if (element) found[selector] = ratio(getComputedStyle(element).color, card);
  }
  return found;
})()";

#[test]
fn a_sweep_is_plotted_with_its_front_and_what_is_suggested() {
    let candidate = |attainment: f64, cost: f64, front, suggested| Candidate {
        settings: format!("at {cost}"),
        attainment,
        cost,
        front,
        suggested,
    };
    let candidates =
        [candidate(0.97, 40.0, true, false), candidate(0.995, 45.0, true, true), candidate(0.99, 60.0, false, false)];
    let report =
        Report { trace: "sweep", outcomes: &[], bounds: "", attainment: 0.99, facts: &[], candidates: &candidates };
    let file = folder().join("sweep.html");
    fs::write(&file, report.html()).unwrap();
    let url = format!("file://{}", file.display());
    let mut page = Page::open("sweep", &url).unwrap();
    page.until("document.querySelectorAll('#pareto circle').length === 3").unwrap();
    page.point_at("#pareto .suggested").unwrap();
    page.until("document.getElementById('tip').textContent.includes('at 45')").unwrap();
    let front = page.value("document.querySelectorAll('#pareto .try.on').length").unwrap();
    assert_eq!(front, 2);
    assert_eq!(page.complaints(&url).unwrap(), "");
}

/// A page that is not what it should be is found out: the test's own eyes are open.
#[test]
fn complaints_are_heard() {
    let file = folder().join("bad.html");
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
