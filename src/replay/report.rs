//! The report: one HTML file that needs nothing else, to be shown to others.
//!
//! The table and the sentence on top are written here; the plots are drawn by a script in the page from data in the page.
//! A content security policy in the page forbids it to load anything. Its size is bounded: so many samples, so many
//! decisions and so many words of each.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::{
    outcome::{MAX_SAMPLES, Outcome, Sample},
    summary::{Spread, Summary, summarize},
};

mod data;
pub(super) mod table;

use data::Data;

/// Most decisions shown of one contender; of more, the largest in each stretch of time.
pub const MAX_DECISIONS: usize = 600;
/// Most letters of a decision's sentence.
pub const MAX_SENTENCE: usize = 600;
/// Most candidates of a sweep that are plotted.
pub const MAX_CANDIDATES: usize = 2_000;

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Name of the trace.
    pub trace: &'a str,
    /// The runs. The table has the figures that `--json` prints; of each contender the run is plotted whose cost is in the
    /// middle.
    pub outcomes: &'a [Outcome],
    /// The bounds in words, such as `first token within 5 s, tokens 0.2 s apart`.
    pub bounds: &'a str,
    /// Share of the requests that should be within them.
    pub attainment: f64,
    /// What was assumed, name and value: the page's last table.
    pub facts: &'a [(String, String)],
    /// What a sweep tried; empty without one.
    pub candidates: &'a [Candidate],
}

/// Settings that a sweep tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The settings in words.
    pub settings: String,
    /// Share of the requests within the bounds.
    pub attainment: f64,
    /// Cost, as in [`Figures`](super::outcome::Figures).
    pub cost: f64,
    /// No other costs less and attains as much.
    pub front: bool,
    /// It is the one that is suggested.
    pub suggested: bool,
}

impl Report<'_> {
    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let title = format!("Replay of {}", self.trace);
        let mut facts = String::new();
        for (name, value) in self.facts {
            let _ = write!(facts, "<div><dt>{}</dt><dd>{}</dd></div>", Text(name), Text(value));
        }
        let parts = [
            ("{{title}}", Text(&title).to_string()),
            ("{{lead}}", Text(&self.lead()).to_string()),
            ("{{bounds}}", Text(self.bounds).to_string()),
            ("{{note}}", self.note()),
            ("{{table}}", table::html(self)),
            ("{{facts}}", facts),
        ];
        let main = fill(include_str!("report/report.html"), &parts);
        page(&title, main, &Data::of(self), include_str!("report/report.js"))
    }

    /// How the table is to be read.
    fn note(&self) -> String {
        let seeds = summarize(self.outcomes).iter().map(|summary| summary.outcomes.len()).max().unwrap_or(0);
        let spread = match seeds {
            0 | 1 => "One seed".to_owned(),
            seeds => format!("Medians of {seeds} seeds, least and greatest below"),
        };
        format!("{spread}. Greyed: fewer than {} of the requests within the bounds.", table::percent(self.attainment))
    }

    /// The sentence on top: what the engine came to, beside who matters.
    #[must_use]
    pub fn lead(&self) -> String {
        let summaries = summarize(self.outcomes);
        let find = |name: &str| summaries.iter().find(|summary| summary.name == name);
        let hours = |summary: &Summary<'_>| summary.spread(|figures| figures.gpu_hours).median;
        let kept = |summary: &Summary<'_>| table::percent(summary.spread(|figures| figures.slo_attainment).median);
        let Some(ours) = find("tidegate") else { return format!("{} contenders.", summaries.len()) };
        let requests = ours.spread(|figures| figures.requests as f64).median;
        let mut lead = format!(
            "Tidegate kept {} of {} requests within the bounds with {} GPU hours",
            kept(ours),
            table::grouped(requests, 0),
            table::grouped(hours(ours), 0),
        );
        if ours.spread(|figures| figures.slo_attainment).median < self.attainment {
            let asked = table::percent(self.attainment);
            return lead + &format!(": fewer than the {asked} asked for, and so no matter how cheap.");
        }
        let others = [
            ("hpa_tuned", "the HPA tuned for this trace"),
            ("hpa", "the HPA as set up by the recipe"),
            ("oracle", "an oracle"),
        ];
        let compared = others.iter().filter_map(|(name, words)| {
            let other = find(name)?;
            let share = hours(ours) / hours(other) - 1.0;
            let more = if share < 0.0 { "fewer" } else { "more" };
            let percent = share.abs() * 100.0;
            share.is_finite().then(|| format!("{percent:.0} % {more} than {words} (which kept {})", kept(other)))
        });
        let compared: Vec<String> = compared.collect();
        if !compared.is_empty() {
            lead += ": ";
            lead += &compared.join(", ");
        }
        lead + "."
    }
}

/// A page of its own around its main element: the look, the security policy, the data that its script draws, and what all
/// scripts use.
pub(super) fn page(title: &str, main: String, data: &impl Serialize, script: &str) -> String {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "{}".into());
    let parts = [
        ("{{title}}", Text(title).to_string()),
        ("{{main}}", main),
        ("{{style}}", include_str!("report/report.css").to_owned()),
        ("{{script}}", format!("{}{script}", include_str!("report/scatter.js"))),
        // Within a script element only the end tag and comments mean anything.
        ("{{data}}", data.replace('<', "\\u003c")),
    ];
    fill(include_str!("report/frame.html"), &parts)
}

/// Text for HTML, in elements and in quoted attributes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            other => f.write_char(other),
        })
    }
}

/// Puts the parts in their places, in one pass: a part that looks like a place is left alone.
pub(super) fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        page += &rest[..at];
        rest = &rest[at..];
        let part = parts.iter().find(|(place, _)| rest.starts_with(place));
        let (place, text) = part.map_or(("{{", "{{"), |(place, text)| (*place, text));
        page += text;
        rest = &rest[place.len()..];
    }
    page + rest
}

#[cfg(test)]
mod tests;
