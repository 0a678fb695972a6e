//! The page of a suite.

use std::{fs, process::Command};

use serde_json::{Value, json};

use super::{
    chromium::Page,
    report::{can_be_read, folder},
};

/// Two hours with one hill as a folder of one trace, measured by the command line.
fn measured(name: &str) -> (Value, String) {
    let (traces, file) = (folder().join(name), folder().join(format!("{name}.html")));
    fs::create_dir_all(&traces).unwrap();
    let rate = |i| if (8..16).contains(&i) { 6.0 } else { 1.5 };
    let lines: Vec<String> = (0..=24).map(|i| format!("{},{}", i * 300, rate(i))).collect();
    fs::write(traces.join("hill.csv"), format!("time,rate\n{}\n", lines.join("\n"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["replay", "--seeds", "1", "--peak-replicas", "4", "--on-prem", "2", "--json", "--suite"]);
    let output = command.arg(&traces).arg("--html").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), format!("file://{}", file.display()))
}

#[test]
fn a_suite_is_a_page_of_verdicts_and_plots_that_says_what_its_json_says_and_loads_nothing() {
    let (json, url) = measured("suite");
    let mut page = Page::open("suite", &url).unwrap();
    page.until("document.querySelectorAll('figure[data-trace=\"0\"] svg').length === 4").unwrap();

    // Every criterion, with its verdict and what stands beside it.
    let rows = page
        .value(
            "[...document.querySelectorAll('#criteria tbody tr')].map((row) => [row.className, \
             ...[...row.querySelectorAll('td')].map((cell) => cell.textContent)])",
        )
        .unwrap();
    let criteria = json["criteria"].as_array().unwrap();
    let expected: Vec<Value> = criteria
        .iter()
        .map(|one| {
            let class = one["met"].as_bool().map_or("open", |met| if met { "met" } else { "missed" });
            json!([class, one["asked"], one["measured"], one["remark"].as_str().unwrap_or_default()])
        })
        .collect();
    assert_eq!(rows, Value::from(expected));
    let count = |met: Value| criteria.iter().filter(|one| one["met"] == met).count();
    let lead = page.value("document.querySelector('.lead').textContent").unwrap();
    let said = format!("{} are met and {} missed", count(json!(true)), count(json!(false)));
    assert!(lead.as_str().unwrap().contains(&said), "{lead}");

    // Each plot has those who look at utilization on its curve, and those who never do.
    for curve in ["mono", "lin", "flat", "fall"] {
        let dots =
            page.value(&format!("document.querySelectorAll('figure[data-curve={curve}] circle').length")).unwrap();
        assert_eq!(dots, 6 + 4, "{curve}");
    }

    // Pointing at the engine says how it compares.
    let lines = json["traces"][0]["lines"].as_array().unwrap();
    let ours = lines.iter().find(|line| line["curve"] == "lin" && line["name"] == "tidegate, queue").unwrap();
    page.point_at("figure[data-curve=lin] .contender.ours:not(.hollow)").unwrap();
    page.until("!document.getElementById('tip').hidden").unwrap();
    let tip = page.value("document.getElementById('tip').textContent").unwrap();
    for (against, who) in [("against_oracle", "the oracle"), ("against_hpa", "the HPA at equal attainment")] {
        for figure in ["gpu_hours", "cloud_gpu_hours", "cost"] {
            let percent = ours[against][figure].as_f64().unwrap() * 100.0;
            let words = format!("{percent:+.1} % to {who}").replace('-', "−");
            assert!(tip.as_str().unwrap().contains(&words), "{tip} lacks {words}");
        }
    }
    page.picture(&folder().join("suite-light.png"), false).unwrap();

    // On a phone nothing but the tables scrolls sideways.
    page.size(390, 800).unwrap();
    page.until("document.querySelector('figure svg').viewBox.baseVal.width < 390").unwrap();
    let overflow = page.value("document.documentElement.scrollWidth - innerWidth").unwrap();
    assert!(overflow.as_f64().unwrap() <= 0.0, "{overflow} pixels wider than the screen");
    page.picture(&folder().join("suite-phone.png"), true).unwrap();
    page.size(1240, 1000).unwrap();
    page.until("document.querySelector('figure svg').viewBox.baseVal.width > 400").unwrap();
    page.picture(&folder().join("suite-dark.png"), true).unwrap();
    can_be_read(&mut page);
    assert_eq!(page.complaints(&url).unwrap(), "");
}
