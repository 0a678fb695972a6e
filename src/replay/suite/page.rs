//! A suite as one HTML file to be shown to others: what was asked and what came of it, a plot for each trace and curve, and
//! every line in a table. Its look, its security policy and its plots are those of the [report](crate::replay::report).

use std::fmt::Write as _;

use super::{
    Criterion, Row, Suite,
    criteria::{asked, attainment, cloud, cost, gpu_hours, percent_change, reversals_an_hour, undone},
    rows::json,
};
use crate::replay::{
    exporter::Curve,
    outcome::Figures,
    report::{
        Text, fill, page,
        table::{Style, cell, grouped, percent},
    },
    summary::Spread,
};

const TITLE: &str = "The engine against what has to be reached";

/// The page. `bounds` are the bounds on a request in words.
#[must_use]
pub fn html(suite: &Suite, criteria: &[Criterion], bounds: &str) -> String {
    let rows = suite.rows();
    let seeds = rows.first().map_or(0, |row| row.line.figures.len());
    let seeds =
        if seeds > 1 { format!("Medians of {seeds} seeds, least and greatest below.") } else { "One seed.".into() };
    let traces = (0..suite.traces.len()).map(|trace| section(suite, trace, &rows));
    let parts = [
        ("{{title}}", TITLE.to_owned()),
        ("{{lead}}", lead(criteria)),
        ("{{bounds}}", Text(bounds).to_string()),
        ("{{seeds}}", seeds),
        ("{{criteria}}", criteria.iter().map(verdict).collect()),
        ("{{traces}}", traces.collect()),
    ];
    page(TITLE, fill(include_str!("page/page.html"), &parts), &json(suite, criteria), include_str!("page/page.js"))
}

/// The sentence on top.
fn lead(criteria: &[Criterion]) -> String {
    let count = |met| criteria.iter().filter(|criterion| criterion.met == met).count();
    let mut lead =
        format!("Of {} criteria {} are met and {} missed", criteria.len(), count(Some(true)), count(Some(false)));
    if count(None) > 0 {
        lead += &format!("; {} could not be measured on these traces", count(None));
    }
    lead + "."
}

fn verdict(criterion: &Criterion) -> String {
    let class = match criterion.met {
        Some(true) => "met",
        Some(false) => "missed",
        None => "open",
    };
    format!(
        "<tr class=\"{class}\"><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
        criterion.verdict(),
        Text(&criterion.asked),
        Text(&criterion.measured),
        Text(criterion.remark.as_deref().unwrap_or_default()),
    )
}

/// A trace: its plots, then its lines.
fn section(suite: &Suite, trace: usize, rows: &[Row<'_>]) -> String {
    let (name, smooth, hours) = &suite.traces[trace];
    let asked = asked(suite, trace);
    let kind = if *smooth { "a smooth series of rates" } else { "a log of requests" };
    let mut text = format!(
        "<section aria-labelledby=\"trace-{trace}\"><h2 id=\"trace-{trace}\">{}</h2><p class=\"note\">{} h of {kind}. Asked \
         for: {} of the requests within the bounds, with every seed; greyed are those who keep fewer.</p><div \
         class=\"scatters plots\">",
        Text(name),
        grouped(*hours, 1),
        percent(asked),
    );
    let mut curves: Vec<Curve> = rows.iter().filter(|row| row.trace == trace).filter_map(|row| row.curve).collect();
    curves.dedup();
    for curve in curves {
        let curve = curve.name();
        let _ = write!(
            text,
            "<figure data-trace=\"{trace}\" data-curve=\"{curve}\"><figcaption>Utilization curve \
             {curve}</figcaption><div></div></figure>"
        );
    }
    text += "</div><div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"Lines, scrolls sideways\"><table><thead><tr>";
    for (heading, meaning) in HEADINGS {
        let _ = write!(text, "<th scope=\"col\" title=\"{}\">{heading}</th>", Text(meaning));
    }
    text += "</tr></thead>";
    for rows in rows.chunk_by(|a, b| (a.trace, a.curve) == (b.trace, b.curve)) {
        let [Row { trace: of, curve, .. }, ..] = rows else { continue };
        if *of != trace {
            continue;
        }
        let curve = curve.map_or("whatever the curve".to_owned(), |curve| format!("curve {}", curve.name()));
        let _ = write!(
            text,
            "<tbody><tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\">{curve}</th></tr>",
            HEADINGS.len()
        );
        for row in rows {
            line(&mut text, row, asked);
        }
        text += "</tbody>";
    }
    text + "</table></div></section>"
}

/// Headings of a trace's table, each with what it means.
const HEADINGS: [(&str, &str); 13] = [
    ("Contender", "Who, and with which settings"),
    ("Within bounds", "Share of the requests that met both bounds"),
    ("GPU hours", "All GPU hours, booting and empty cloud nodes included"),
    ("to oracle", "GPU hours relative to the oracle's"),
    ("to HPA", "GPU hours relative to those of the HPA that attains as much"),
    ("Cloud GPU hours", "Those of cloud nodes"),
    ("to HPA", "Cloud GPU hours relative to those of the HPA that attains as much"),
    ("Cost", "GPU hours times each pool's price, in on-premises GPU hours"),
    ("to oracle", "Cost relative to the oracle's"),
    ("to HPA", "Cost relative to that of the HPA that attains as much"),
    ("Changes", "Changes of the number of replicas"),
    ("Reversals an hour", "Changes in the other direction than the one before, an hour"),
    ("Undone removals", "Removals taken back before a new replica could have become ready"),
];

fn line(text: &mut String, row: &Row<'_>, asked: f64) {
    let short = if row.line.spread(attainment).min < asked { " class=\"short\"" } else { "" };
    let policy = if row.name.starts_with("tidegate") { "tidegate" } else { row.name };
    let _ = write!(
        text,
        "<tr{short} data-policy=\"{policy}\"><th scope=\"row\"><b>{}</b> <small>{}</small></th>",
        Text(row.name),
        Text(&row.line.settings)
    );
    let mut figure = |name: &str, style: Style, figure: fn(&Figures) -> f64, compared: &[Option<f64>]| {
        let spread: Spread = row.line.spread(figure);
        cell(text, name, spread, style, row.line.figures.len());
        for change in compared {
            let _ = write!(text, "<td class=\"change\">{}</td>", change.map_or_else(String::new, percent_change));
        }
    };
    let compared = |figure: fn(&Figures) -> f64| {
        [row.against_oracle(figure).filter(|_| row.name != "oracle"), row.against_hpa(figure)]
    };
    figure("slo_attainment", Style::Percent, attainment, &[]);
    figure("gpu_hours", Style::Hours, gpu_hours, &compared(gpu_hours));
    figure("cloud_gpu_hours", Style::Hours, cloud, &compared(cloud)[1..]);
    figure("cost", Style::Hours, cost, &compared(cost));
    figure("scale_events", Style::Count, |figures| figures.scale_events as f64, &[]);
    figure("reversals_an_hour", Style::Rate, reversals_an_hour, &[]);
    figure("undone_scale_downs", Style::Count, undone, &[]);
    text.push_str("</tr>");
}

#[cfg(test)]
mod tests;
