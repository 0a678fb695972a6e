//! The live table: a line for each sync of the autoscaler, and indented lines for what happens.

use std::fmt::Write as _;

use super::paint::{Paint, Tone, tone_of};
use crate::sim::scene::{PodTick, Tick, script};

/// Cells of the utilization bar: 5 % each.
const BAR: usize = 20;

/// The column heads.
pub(super) fn head(paint: Paint) -> String {
    let mut head = format!("{:>6} {:>5}  {:<BAR$} {:>5} ", "time", "load", "utilization", "");
    for node in script::NODES {
        let _ = write!(head, " {node:>8}");
    }
    let _ = write!(head, "  ready/wanted");
    paint.tone(Tone::Faint, head)
}

/// The lines for one sync: what happened before it, and what it saw.
pub(super) fn lines(tick: &Tick, before: Option<&Tick>, paint: Paint) -> String {
    let mut lines = String::new();
    for event in &tick.events {
        let _ = writeln!(lines, "{:15}{} {event}", "", paint.tone(Tone::Faint, "›"));
    }
    let _ = write!(lines, "{:>6} {:>5.2}  {} ", clock(tick.time), tick.offered, bar(tick.utilization, paint));
    let percent = tick.utilization.map_or_else(|| "?".into(), |percent| format!("{percent:.0} %"));
    let _ = write!(lines, "{percent:>5} ");
    for node in script::NODES {
        let pod = tick.pods.iter().find(|pod| pod.node == Some(node));
        let _ = write!(lines, " {}", cell(pod, paint));
    }
    let replicas: String = (0..tick.desired.max(tick.ready)).map(|i| if i < tick.ready { '●' } else { '○' }).collect();
    let width = script::MAX_REPLICAS as usize;
    let _ = writeln!(lines, "  {replicas:<width$} {}/{}", tick.ready, tick.desired);
    // Each reason once, when it is new.
    for pod in tick.pods.iter().filter(|pod| pod.ready) {
        let was = before.and_then(|before| before.pods.iter().find(|was| was.name == pod.name));
        let kind = |reason: &str| {
            reason.split([',', ':']).next().map(|reason| reason.replace(|c: char| c.is_ascii_digit(), ""))
        };
        let old = was.and_then(|was| was.unknown.as_deref()).and_then(kind);
        if let Some(reason) = pod.unknown.as_deref().filter(|reason| kind(reason) != old) {
            let story = format!("{} is unknown: {reason}", pod.node.unwrap_or("a pod"));
            let _ = writeln!(lines, "{:15}{} {}", "", paint.tone(Tone::Faint, "›"), paint.tone(Tone::Unknown, story));
        }
    }
    let waits = tick.invalid.as_deref().filter(|_| before.is_none_or(|before| before.invalid.is_none()));
    if let Some(message) = waits {
        // The server's own words; what stands before them is the controller's frame.
        let (_, message) = message.rsplit_once("metrics API: ").unwrap_or(("", message));
        let _ = writeln!(lines, "{:15}{} the autoscaler waits: {message}", "", paint.tone(Tone::Faint, "›"));
    }
    lines
}

fn bar(percent: Option<f64>, paint: Paint) -> String {
    let target = f64::from(script::TARGET);
    let mark = (target / 100.0 * BAR as f64) as usize;
    let Some(percent) = percent else {
        return paint.tone(Tone::Unknown, "?".repeat(BAR));
    };
    let full = (percent / 100.0 * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
    let rest: String = (full..BAR).map(|cell| if cell == mark { '│' } else { '·' }).collect();
    format!("{}{}", paint.tone(tone_of(percent, target), "█".repeat(full)), paint.tone(Tone::Faint, rest))
}

fn cell(pod: Option<&PodTick>, paint: Paint) -> String {
    match pod {
        None => paint.tone(Tone::Faint, format!("{:>8}", "·")),
        Some(pod) if !pod.ready => paint.tone(Tone::Faint, format!("{:>8}", "starting")),
        Some(PodTick { value: None, .. }) => paint.tone(Tone::Unknown, format!("{:>8}", "unknown")),
        Some(PodTick { value: Some(percent), .. }) => {
            paint.tone(tone_of(*percent, f64::from(script::TARGET)), format!("{:>8}", format!("{percent:.0} %")))
        }
    }
}

/// Scene time as minutes and seconds.
pub(super) fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn tick(time: f64, cloud: Option<f64>, reason: &str) -> Tick {
        let pod = |node, ready, value: Option<f64>| PodTick {
            name: format!("pod-{node}"),
            node: Some(node),
            ready,
            value,
            unknown: value.is_none().then(|| reason.to_owned()),
        };
        Tick {
            time,
            offered: 1.4,
            warranted: 3,
            utilization: Some(72.0),
            unknown: None,
            pods: vec![pod("onprem-1", true, Some(72.0)), pod("cloud-1", true, cloud), pod("cloud-2", false, None)],
            ready: 2,
            desired: 3,
            answered: 1,
            limit: None,
            invalid: None,
            desired_if_unknown_were_zero: 2,
            events: vec!["something happens".into()],
        }
    }

    #[test]
    fn a_line_shows_bar_pods_and_replicas_in_columns() {
        let lines = lines(&tick(330.0, Some(71.6), ""), None, Paint::new(false));
        assert_eq!(
            lines,
            "               › something happens\n\
             \x20 5:30  1.40  ██████████████······  72 %      72 %     72 % starting  ●●○ 2/3\n"
        );
    }

    #[test]
    fn a_reason_is_told_when_it_is_new_and_not_while_only_its_numbers_change() {
        let plain = Paint::new(false);
        let first = tick(330.0, None, "last measured 31s ago, more than maxAge 30s");
        let second = tick(345.0, None, "last measured 46s ago, more than maxAge 30s");
        let third = tick(360.0, None, "attribution failed: card GPU-1");
        assert!(lines(&first, None, plain).contains("cloud-1 is unknown: last measured 31s ago"));
        assert!(!lines(&second, Some(&first), plain).contains("is unknown"));
        assert!(lines(&third, Some(&second), plain).contains("cloud-1 is unknown: attribution failed"));
    }

    #[test]
    fn the_bar_marks_the_target_and_unknown_is_not_empty() {
        let plain = Paint::new(false);
        assert_eq!(bar(Some(25.0), plain), "█████·····│·········");
        assert_eq!(bar(Some(100.0), plain), "█".repeat(BAR));
        assert_eq!(bar(Some(0.0), plain), "··········│·········");
        assert_eq!(bar(None, plain), "?".repeat(BAR));
    }
}
