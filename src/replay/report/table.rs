//! The table of figures, and how figures are written.

use std::fmt::Write as _;

use super::{Report, Spread, Standing, Text};

/// A column: name of the figure, heading, what it means, how it is written.
const COLUMNS: [(&str, &str, &str, Style); 9] = [
    ("slo_attainment", "Within bounds", "Share of the requests that met both bounds", Style::Percent),
    (
        "time_without_violation",
        "Calm minutes",
        "Share of the minutes in which no request missed a bound",
        Style::Percent,
    ),
    ("gpu_hours", "GPU hours", "All GPU hours, booting and empty cloud nodes included", Style::Hours),
    ("cloud_gpu_hours", "Cloud GPU hours", "Those of cloud nodes", Style::Hours),
    ("cost", "Cost", "GPU hours times each pool's price, in on-premises GPU hours", Style::Hours),
    ("scale_events", "Changes", "Changes of the number of replicas", Style::Count),
    ("direction_reversals", "Reversals", "Changes in the other direction than the one before", Style::Count),
    (
        "undone_scale_downs",
        "Undone removals",
        "Removals taken back before a new replica could have become ready",
        Style::Count,
    ),
    ("worst_queue", "Worst queue", "Most requests waiting at one moment", Style::Count),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Style {
    Percent,
    Hours,
    Count,
}

/// The table element.
pub(super) fn html(report: &Report<'_>) -> String {
    let summary = report.summary;
    let mut text = String::from("<table id=\"figures\"><caption>");
    let _ = write!(text, "Medians of {} seeds", summary.seeds);
    if summary.seeds > 1 {
        text += ", least and greatest below";
    }
    text += ". Greyed: fewer requests within the bounds than asked for.</caption><thead><tr><th scope=\"col\">Contender</th>";
    for (_, heading, meaning, _) in COLUMNS {
        let _ = write!(text, "<th scope=\"col\" title=\"{}\">{}</th>", Text(meaning), Text(heading));
    }
    text += "</tr></thead><tbody>";
    let keeps = |policy: &Standing| policy.median("slo_attainment") >= report.attainment;
    let cheapest = summary.policies.iter().filter(|policy| keeps(policy) && policy.name != "oracle");
    let cheapest = cheapest.min_by(|a, b| a.median("cost").total_cmp(&b.median("cost"))).map(|policy| &policy.name);
    for policy in &summary.policies {
        let class = if keeps(policy) { "" } else { " class=\"short\"" };
        let _ = write!(
            text,
            "<tr{class} data-policy=\"{0}\"><th scope=\"row\"><b>{0}</b> <small>{1}</small>",
            Text(&policy.name),
            Text(&policy.settings)
        );
        if cheapest == Some(&policy.name) {
            text += "<small class=\"best\">cheapest within the bounds</small>";
        }
        text += "</th>";
        for (name, _, _, style) in COLUMNS {
            cell(&mut text, name, policy.figure(name), style, summary.seeds);
        }
        text += "</tr>";
    }
    text + "</tbody></table>"
}

fn cell(text: &mut String, name: &str, spread: Option<Spread>, style: Style, seeds: usize) {
    let Some(Spread { median, min, max }) = spread else {
        text.push_str("<td>unknown</td>");
        return;
    };
    let written = |value| match style {
        Style::Percent => percent(value),
        Style::Hours => grouped(value, usize::from(max < 100.0)),
        Style::Count => grouped(value, usize::from(value.fract() != 0.0)),
    };
    let _ = write!(text, "<td data-figure=\"{name}\" data-value=\"{median}\">{}", written(median));
    if seeds > 1 {
        let (min, max) = (written(min), written(max));
        let _ = write!(text, "<small>{}–{}</small>", min.trim_end_matches(" %"), max.trim_end_matches(" %"));
    }
    text.push_str("</td>");
}

/// `99.31 %`. Never rounded up to a whole: what reads 100 % is.
pub(super) fn percent(share: f64) -> String {
    let hundredths = (share * 1e4).clamp(0.0, 1e4);
    let hundredths = if share < 1.0 { hundredths.round().min(9_999.0) } else { 1e4 };
    if share.is_nan() { "unknown".into() } else { format!("{:.2} %", hundredths / 100.0) }
}

/// `12,345.6`.
pub(super) fn grouped(value: f64, decimals: usize) -> String {
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
