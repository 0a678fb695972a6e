//! The table of figures, and how figures are written.

use std::fmt::Write as _;

use super::{super::summary::FIGURES, Report, Spread, Summary, Text, summarize};

/// How a figure is shown, in the order of [`FIGURES`]: heading, what it means, how it is written.
const COLUMNS: [(&str, &str, Style); FIGURES.len()] = [
    ("Within bounds", "Share of the requests that met both bounds", Style::Percent),
    ("Calm minutes", "Share of the minutes in which no request missed a bound", Style::Percent),
    ("GPU hours", "All GPU hours, booting and empty cloud nodes included", Style::Hours),
    ("Cloud GPU hours", "Those of cloud nodes", Style::Hours),
    ("Cost", "GPU hours times each pool's price, in on-premises GPU hours", Style::Hours),
    ("Changes", "Changes of the number of replicas", Style::Count),
    ("Reversals", "Changes in the other direction than the one before", Style::Count),
    ("Undone removals", "Removals taken back before a new replica could have become ready", Style::Count),
    ("Worst queue", "Most requests waiting at one moment", Style::Count),
];

#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::replay) enum Style {
    Percent,
    Hours,
    Count,
    /// So many in an hour.
    Rate,
}

/// The table element.
pub(super) fn html(report: &Report<'_>) -> String {
    let mut text = String::from(
        "<table id=\"figures\" aria-describedby=\"figures-note\"><thead><tr><th scope=\"col\">Contender</th>",
    );
    for (heading, meaning, _) in COLUMNS {
        let _ = write!(text, "<th scope=\"col\" title=\"{}\">{}</th>", Text(meaning), Text(heading));
    }
    text += "</tr></thead><tbody>";
    let summaries = summarize(report.outcomes);
    let keeps = |summary: &Summary<'_>| summary.spread(|figures| figures.slo_attainment).median >= report.attainment;
    let cost = |summary: &Summary<'_>| summary.spread(|figures| figures.cost).median;
    let cheapest = summaries.iter().filter(|summary| keeps(summary) && summary.name != "oracle");
    let cheapest = cheapest.min_by(|a, b| cost(a).total_cmp(&cost(b))).map(|summary| summary.name);
    for summary in &summaries {
        let class = if keeps(summary) { "" } else { " class=\"short\"" };
        let _ = write!(
            text,
            "<tr{class} data-policy=\"{0}\"><th scope=\"row\"><b>{0}</b> <small>{1}</small>",
            Text(summary.name),
            Text(summary.settings)
        );
        if cheapest == Some(summary.name) {
            text += "<small class=\"best\">cheapest within the bounds</small>";
        }
        text += "</th>";
        for ((name, figure), (_, _, style)) in FIGURES.iter().zip(COLUMNS) {
            cell(&mut text, name, summary.spread(*figure), style, summary.outcomes.len());
        }
        text += "</tr>";
    }
    text + "</tbody></table>"
}

pub(in crate::replay) fn cell(text: &mut String, name: &str, spread: Spread, style: Style, seeds: usize) {
    let Spread { median, min, max } = spread;
    let written = |value| match style {
        Style::Percent => percent(value),
        Style::Hours => grouped(value, usize::from(max < 100.0)),
        Style::Count => grouped(value, usize::from(value.fract() != 0.0)),
        Style::Rate => grouped(value, 2),
    };
    let _ = write!(text, "<td data-figure=\"{name}\" data-value=\"{median}\">{}", written(median));
    if seeds > 1 {
        let (min, max) = (written(min), written(max));
        let _ = write!(text, "<small>{}–{}</small>", min.trim_end_matches(" %"), max.trim_end_matches(" %"));
    }
    text.push_str("</td>");
}

/// `99.31 %`. Never rounded up to a whole: what reads 100 % is.
pub(in crate::replay) fn percent(share: f64) -> String {
    let hundredths = (share * 1e4).clamp(0.0, 1e4);
    let hundredths = if share < 1.0 { hundredths.round().min(9_999.0) } else { 1e4 };
    if share.is_nan() { "unknown".into() } else { format!("{:.2} %", hundredths / 100.0) }
}

/// `12,345.6`.
pub(in crate::replay) fn grouped(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "unknown".into();
    }
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if let Some(fraction) = fraction {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}
