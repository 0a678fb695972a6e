//! Results as text.

use std::fmt::Write;

use crate::{
    policy::manifest::{PLACEHOLDER, manifest},
    replay::{
        Outcome, Scenario,
        exporter::Curve,
        outcome::Figures,
        suite::{Criterion, Row, Suite},
        summary::{Spread, Summary, summarize},
        sweep::Sweep,
    },
};

/// What was played, in two lines.
pub(super) fn head(scenario: &Scenario, seeds: u64) -> String {
    let Scenario { workload, model, slo, on_premises, max, capacity, .. } = scenario;
    format!(
        "{} ({}), {:.1} h at {:.3} times its load; one replica bears {:.2} s of work a second; {on_premises} on premises, at \
         most {max}\nbounds: first token within {} s and {} s per token; curve {}; {seeds} seeds, medians [least..most]\n\n",
        workload.trace.name,
        workload.trace.format,
        workload.seconds() / 3_600.0,
        workload.scale,
        capacity,
        slo.ttft_seconds,
        slo.tpot_seconds,
        model.exporter.curve.name(),
    )
}

/// One line for each contender.
pub(super) fn contest(outcomes: &[Outcome]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(summarize(outcomes).iter().map(row));
    aligned(&rows)
}

const HEAD: [&str; 11] = [
    "policy",
    "settings",
    "in time %",
    "[least..most]",
    "calm %",
    "GPU h",
    "cloud GPU h",
    "cost",
    "moves",
    "reversed, undone",
    "queue",
];

fn row(summary: &Summary<'_>) -> Vec<String> {
    let of = |figure: fn(&Figures) -> f64| summary.spread(figure);
    let Spread { median, min, max } = of(|figures| figures.slo_attainment * 100.0);
    vec![
        summary.name.to_owned(),
        summary.settings.to_owned(),
        format!("{median:.2}"),
        format!("[{min:.2}..{max:.2}]"),
        format!("{:.1}", of(|figures| figures.time_without_violation * 100.0).median),
        format!("{:.1}", of(|figures| figures.gpu_hours).median),
        format!("{:.1}", of(|figures| figures.cloud_gpu_hours).median),
        format!("{:.1}", of(|figures| figures.cost).median),
        format!("{:.0}", of(|figures| figures.scale_events as f64).median),
        format!(
            "{:.0}, {:.0}",
            of(|figures| figures.direction_reversals as f64).median,
            of(|figures| figures.undone_scale_downs as f64).median
        ),
        format!("{:.0}", of(|figures| figures.worst_queue as f64).median),
    ]
}

/// A sweep's front, and the suggestion as a ScalingPolicy.
pub(super) fn sweep(sweep: &Sweep) -> anyhow::Result<String> {
    let head = ["", "settings", "in time %", "worst %", "cost", "GPU h", "cloud GPU h", "reversed"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (i, point) in sweep.points.iter().enumerate().filter(|(_, point)| point.on_front) {
        rows.push(vec![
            if i == sweep.suggested { "→" } else { "" }.to_owned(),
            point.settings.clone(),
            format!("{:.2}", point.slo_attainment * 100.0),
            format!("{:.2}", point.slo_attainment_min * 100.0),
            format!("{:.1}", point.cost),
            format!("{:.1}", point.gpu_hours),
            format!("{:.1}", point.cloud_gpu_hours),
            format!("{:.0}", point.direction_reversals),
        ]);
    }
    let mut text = format!("{} policies; no other costs less and attains as much as these:\n", sweep.points.len());
    text += &aligned(&rows);
    if let Some(point) = sweep.points.get(sweep.suggested) {
        let verdict = if sweep.keeps {
            "the cheapest that keeps the bounds with every seed"
        } else {
            "none keeps the bounds; this one comes nearest"
        };
        let policy = serde_saphyr::to_string(&manifest(&point.policy))?;
        write!(
            text,
            "\nsuggested: {}, {verdict}\n\n# Yours to write: the names {PLACEHOLDER}, and the labels of each pool's nodes. Then: \
             kubectl apply -f FILE\n{policy}",
            point.settings
        )?;
    }
    Ok(text)
}

/// Every case of a suite, then the criteria.
pub(super) fn suite(suite: &Suite, criteria: &[Criterion]) -> String {
    let head = [
        "trace",
        "curve",
        "policy",
        "settings",
        "in time %",
        "worst %",
        "GPU h",
        "cloud GPU h",
        "cost",
        "reversed/h",
        "undone",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(suite.rows().iter().map(|row| suite_row(&suite.traces[row.trace].0, row)));
    let verdicts: Vec<Vec<String>> =
        criteria.iter().map(|one| vec![one.verdict().to_owned(), one.asked.clone(), one.measured.clone()]).collect();
    let mut text = aligned(&rows) + "\n";
    for (line, Criterion { remark, .. }) in aligned(&verdicts).lines().zip(criteria) {
        text += line;
        text.push('\n');
        if let Some(remark) = remark {
            text += &format!("{INDENT}{remark}\n");
        }
    }
    text
}

/// Before what belongs to the line above.
const INDENT: &str = "              ";

fn suite_row(trace: &str, row: &Row<'_>) -> Vec<String> {
    let line = row.line;
    let attained = line.spread(|figures| figures.slo_attainment * 100.0);
    vec![
        trace.to_owned(),
        row.curve.map_or("any", Curve::name).to_owned(),
        row.name.to_owned(),
        line.settings.clone(),
        format!("{:.2}", attained.median),
        format!("{:.2}", attained.min),
        format!("{:.1}", line.median(|figures| figures.gpu_hours)),
        format!("{:.1}", line.median(|figures| figures.cloud_gpu_hours)),
        format!("{:.1}", line.median(|figures| figures.cost)),
        format!("{:.2}", line.median(|figures| figures.direction_reversals as f64 / figures.hours)),
        format!("{:.0}", line.median(|figures| figures.undone_scale_downs as f64)),
    ]
}

/// Columns of equal width; numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
    let width = |i: usize| rows.iter().map(|row| cell(row, i).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let right: Vec<bool> = (0..columns).map(|i| rows.iter().skip(1).all(|row| number(&cell(row, i)))).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (i, width) in widths.iter().enumerate() {
            let cell = cell(row, i);
            let padding = " ".repeat(width - cell.chars().count());
            line += &if right[i] { format!("{padding}{cell}  ") } else { format!("{cell}{padding}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}
