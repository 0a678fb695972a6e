//! The picture of a record: four lanes over one axis of time, numbered marks, and what the numbers mean below. Light and dark,
//! by what the reader's system prefers.

use std::{collections::BTreeSet, fmt::Write as _};

use super::record::{Event, Kind, Sample};

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 30.0;
const LANE: f64 = 86.0;
const GAP: f64 = 30.0;
const LANES: usize = 4;
/// Space above the first lane: title, key and the rows of marks.
const HEAD: f64 = 144.0;
/// Marks that are closer than this share no row.
const MARK: f64 = 19.0;
/// Rows of marks.
const ROWS: usize = 3;
const LINE: f64 = 17.0;
/// Characters of a line below the lanes: more would leave the picture.
const CHARACTERS: usize = 150;

/// Colors by class, for light and for dark.
const STYLE: &str = "<style>\
svg{--paper:#fff;--ink:#1f2933;--faint:#6b7785;--rule:#d5dbe1;--onprem:#2a78d6;--cloud:#e8710a;--starting:#f6b26b;--pending:#b9bfc6;--decision:#8e3bbd}\
@media(prefers-color-scheme:dark){svg{--paper:#14181d;--ink:#e6eaee;--faint:#98a3ae;--rule:#333b44;--onprem:#5b9ff0;--cloud:#ff9240;--starting:#b5762f;--pending:#5d6671;--decision:#c58af0}}\
.paper{fill:var(--paper)}text{fill:var(--ink)}.faint{fill:var(--faint)}.rule{stroke:var(--rule);fill:none}\
.line{stroke:var(--ink);fill:none;stroke-width:1.5}.target{stroke:var(--cloud);fill:none;stroke-dasharray:5 4}\
.asked{stroke:var(--ink);fill:none;stroke-width:1.5;stroke-dasharray:3 2}\
.onprem{fill:var(--onprem)}.cloud{fill:var(--cloud)}.starting{fill:var(--starting)}.pending{fill:var(--pending)}\
.fact{fill:var(--faint)}.decision{fill:var(--decision)}.number{fill:var(--paper);font-size:10px;font-weight:bold}\
.mark{stroke:var(--faint);stroke-width:.6;stroke-dasharray:2 3}</style>";

/// Stacked numbers of a lane, by class.
type Stack = [(&'static str, fn(&Sample) -> usize); 4];
const REPLICAS: Stack =
    [("onprem", |s| s.onprem), ("cloud", |s| s.cloud), ("starting", |s| s.starting), ("pending", |s| s.pending)];
const NODES: Stack =
    [("onprem", |s| s.onprem_nodes), ("cloud", |s| s.cloud_nodes), ("starting", |_| 0), ("pending", |_| 0)];
const KEY: [(&str, &str); 4] =
    [("onprem", "on premises"), ("cloud", "cloud"), ("starting", "starting"), ("pending", "pending: no node")];

/// Where things are.
struct Axis {
    end: f64,
}

impl Axis {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.end * (WIDTH - LEFT - RIGHT)
    }
}

fn top(lane: usize) -> f64 {
    HEAD + lane as f64 * (LANE + GAP)
}

/// The whole picture, under a title and a line below it.
pub fn svg([title, outcome]: [&str; 2], samples: &[Sample], events: &[Event]) -> String {
    let axis = Axis { end: samples.last().map_or(1.0, |sample| sample.seconds.max(1.0)) };
    let shown = shown(events);
    let mut out = String::new();
    let most = |value: fn(&Sample) -> usize| samples.iter().map(value).max().unwrap_or(0).max(1) as f64;
    lane(&mut out, 0, "requests", most(|s| s.requests), &axis);
    line(&mut out, 0, most(|s| s.requests), samples, &axis, &|s| Some(s.requests as f64));
    lane(&mut out, 1, "utilization, %", 100.0, &axis);
    let middle = top(1) + LANE / 2.0;
    let _ = write!(
        out,
        r#"<path class="target" d="M{LEFT} {middle}H{:.0}"/><text class="faint" x="{:.0}" y="{:.0}" text-anchor="end">target 50</text>"#,
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        middle - 4.0
    );
    line(&mut out, 1, 100.0, samples, &axis, &|s| s.utilization);
    let total = |s: &Sample| s.asked.max(REPLICAS.iter().map(|(_, part)| part(s)).sum());
    lane(&mut out, 2, "replicas", most(total), &axis);
    stack(&mut out, 2, most(total), samples, &axis, &REPLICAS);
    asked(&mut out, most(total), samples, &axis);
    let total = |s: &Sample| NODES.iter().map(|(_, part)| part(s)).sum();
    lane(&mut out, 3, "nodes", most(total), &axis);
    stack(&mut out, 3, most(total), samples, &axis, &NODES);
    ticks(&mut out, &axis);
    marks(&mut out, &shown, &axis);
    let height = legend(&mut out, &shown);
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" font-family="sans-serif" font-size="12">{STYLE}<rect class="paper" width="100%" height="100%"/><text x="20" y="28" font-size="17" font-weight="bold">{}</text><text class="faint" x="20" y="48">{}</text>{}{out}</svg>
"#,
        escaped(title),
        escaped(outcome),
        key()
    )
}

/// The events that are marked: of decisions each number once for each number that is asked for. All are in the JSON.
fn shown(events: &[Event]) -> Vec<&Event> {
    let mut told = BTreeSet::new();
    let mut shown = Vec::new();
    for event in events {
        let new = match event.kind {
            Kind::Fact => true,
            Kind::Move => {
                told.clear();
                true
            }
            Kind::Decision => told.insert(event.replicas),
            Kind::Reason => false,
        };
        shown.extend(new.then_some(event));
    }
    shown
}

/// What the colors mean.
fn key() -> String {
    let mut out = String::new();
    let mut x = LEFT;
    for (class, label) in KEY {
        let _ = write!(
            out,
            r#"<rect class="{class}" x="{x}" y="62" width="11" height="11" rx="2"/><text x="{}" y="72">{label}</text>"#,
            x + 16.0
        );
        x += 128.0;
    }
    let _ = write!(
        out,
        r#"<path class="asked" d="M{x} 68h22"/><text x="{}" y="72">asked for</text><circle class="fact" cx="{}" cy="68" r="6"/><text x="{}" y="72">fact</text><circle class="decision" cx="{}" cy="68" r="6"/><text x="{}" y="72">decision, and why</text>"#,
        x + 28.0,
        x + 110.0,
        x + 121.0,
        x + 170.0,
        x + 181.0
    );
    out
}

fn lane(out: &mut String, at: usize, label: &str, most: f64, axis: &Axis) {
    let (top, right) = (top(at), axis.x(axis.end));
    let bottom = top + LANE;
    let _ = write!(
        out,
        r#"<path class="rule" d="M{LEFT} {top}V{bottom}H{right:.0}M{LEFT} {top}H{right:.0}"/><text x="20" y="{:.0}">{label}</text><text class="faint" x="{}" y="{:.0}" text-anchor="end">{most:.0}</text><text class="faint" x="{}" y="{bottom:.0}" text-anchor="end">0</text>"#,
        top + LANE / 2.0 + 4.0,
        LEFT - 6.0,
        top + 10.0,
        LEFT - 6.0
    );
}

/// A line that is broken where there is no value.
fn line(
    out: &mut String,
    at: usize,
    most: f64,
    samples: &[Sample],
    axis: &Axis,
    value: &dyn Fn(&Sample) -> Option<f64>,
) {
    let mut path = String::new();
    let mut pen = 'M';
    for sample in samples {
        match value(sample) {
            Some(value) => {
                let y = top(at) + LANE * (1.0 - value / most);
                let _ = write!(path, "{pen}{:.1} {y:.1}", axis.x(sample.seconds));
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    let _ = write!(out, r#"<path class="line" d="{path}"/>"#);
}

/// Stacked rectangles, one for each stretch in which nothing changes.
fn stack(out: &mut String, at: usize, most: f64, samples: &[Sample], axis: &Axis, parts: &Stack) {
    let sizes = |sample: &Sample| parts.map(|(_, part)| part(sample));
    for stretch in samples.chunk_by(|a, b| sizes(a) == sizes(b)) {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { continue };
        let next = samples.iter().find(|sample| sample.seconds > last.seconds).unwrap_or(last);
        let (left, right) = (axis.x(first.seconds), axis.x(next.seconds));
        let mut base = 0.0;
        for ((class, _), size) in parts.iter().zip(sizes(first)) {
            let height = LANE * size as f64 / most;
            base += height;
            if size > 0 {
                let _ = write!(
                    out,
                    r#"<rect class="{class}" x="{left:.1}" y="{:.1}" width="{:.1}" height="{height:.1}"/>"#,
                    top(at) + LANE - base,
                    right - left + 0.3
                );
            }
        }
    }
}

/// The number that is asked for, over the replicas.
fn asked(out: &mut String, most: f64, samples: &[Sample], axis: &Axis) {
    let mut path = String::new();
    for (i, sample) in samples.iter().enumerate() {
        let y = top(2) + LANE * (1.0 - sample.asked as f64 / most);
        let x = axis.x(sample.seconds);
        let _ = if i == 0 { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "H{x:.1}V{y:.1}") };
    }
    let _ = write!(out, r#"<path class="asked" d="{path}"/>"#);
}

/// Seconds, below the last lane.
fn ticks(out: &mut String, axis: &Axis) {
    let step = [5.0, 10.0, 20.0, 30.0, 60.0].into_iter().find(|step| axis.end / step <= 12.0).unwrap_or(120.0);
    let bottom = top(LANES - 1) + LANE;
    let mut at = 0.0;
    while at <= axis.end {
        let x = axis.x(at);
        let _ = write!(
            out,
            r#"<path class="rule" d="M{x:.1} {bottom}v5"/><text class="faint" x="{x:.1}" y="{:.0}" text-anchor="middle">{at:.0} s</text>"#,
            bottom + 18.0
        );
        at += step;
    }
}

fn class(event: &Event) -> &'static str {
    if event.kind == Kind::Decision { "decision" } else { "fact" }
}

/// A dashed line through all lanes for each event, with its number at the top.
fn marks(out: &mut String, events: &[&Event], axis: &Axis) {
    let mut last = [f64::MIN; ROWS];
    for (i, event) in events.iter().enumerate() {
        let x = axis.x(event.seconds);
        // The row with the most room; where all are full, marks overlap there least.
        let row = (0..ROWS).find(|row| x - last[*row] >= MARK);
        let row = row.unwrap_or_else(|| (0..ROWS).min_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap_or(0));
        last[row] = x;
        let y = 90.0 + row as f64 * MARK;
        let _ = write!(
            out,
            r#"<path class="mark" d="M{x:.1} {y:.0}V{:.0}"/>{}"#,
            top(LANES - 1) + LANE,
            badge(x, y, i + 1, class(event))
        );
    }
}

fn badge(x: f64, y: f64, number: usize, class: &str) -> String {
    format!(
        r#"<circle class="{class}" cx="{x:.1}" cy="{y:.0}" r="8.5"/><text class="number" x="{x:.1}" y="{:.1}" text-anchor="middle">{number}</text>"#,
        y + 3.6
    )
}

/// What the numbers mean. The height of the picture.
fn legend(out: &mut String, events: &[&Event]) -> f64 {
    let mut y = top(LANES - 1) + LANE + 50.0;
    for (i, event) in events.iter().enumerate() {
        let _ = write!(
            out,
            r#"{}<text class="faint" x="92" y="{y:.0}" text-anchor="end">{:.1} s</text>"#,
            badge(30.0, y - 4.0, i + 1, class(event)),
            event.seconds
        );
        for text in wrapped(&event.what) {
            let _ = write!(out, r#"<text x="102" y="{y:.0}">{}</text>"#, escaped(&text));
            y += LINE;
        }
        y += 4.0;
    }
    y + 6.0
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if lines.last().is_some_and(|line| line.chars().count() + word.chars().count() > CHARACTERS) {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
