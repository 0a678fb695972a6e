//! Requests per second over time, as CSV.

use jiff::Timestamp;

use super::{BadRows, Load, Rows, azure::instant, column, plain};

/// Names of the time column.
pub(super) const TIME: &[&str] = &["time", "timestamp", "start_s", "seconds"];
/// Names of the rate column.
pub(super) const RATE: &[&str] = &["rate", "requests_per_s", "requests_per_second", "rps"];

/// Seconds from here on are Unix time: 1973 and later.
const UNIX: f64 = 1e8;

pub(super) fn read(text: &str) -> Result<Rows, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines.next().ok_or("it is empty")?;
    let time = column(header, TIME).ok_or_else(|| format!("no time column; one of {}", TIME.join(", ")))?;
    let rate = column(header, RATE).ok_or_else(|| format!("no rate column; one of {}", RATE.join(", ")))?;
    let mut bad = BadRows::default();
    let mut points = Vec::new();
    for (i, line) in lines {
        bad.of += 1;
        let field = |at: usize| line.split(',').nth(at).ok_or_else(|| "a column is missing".to_owned());
        let row = || Ok((seconds(field(time)?)?, requests(field(rate)?)?));
        match row() {
            Ok(row) => points.push((row, i + 1)),
            Err(why) => bad.add(i + 1, why),
        }
    }
    points.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
    let mut distinct: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for (point, line) in points {
        if distinct.last().is_some_and(|(at, _)| *at >= point.0) {
            bad.add(line, format!("a second row for the time {}", point.0));
        } else {
            distinct.push(point);
        }
    }
    Ok(series(distinct, bad, true))
}

/// A series from points in order of time. If they are starts of windows, a rate holds at the centre of its window. Fewer than
/// two points last for no time at all.
pub(super) fn series(points: Vec<(f64, f64)>, bad: BadRows, windows: bool) -> Rows {
    let mut gaps: Vec<f64> = points.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    gaps.sort_by(f64::total_cmp);
    let step = gaps.get(gaps.len() / 2).copied().unwrap_or(0.0);
    let first = points.first().map_or(0.0, |point| point.0);
    let last = points.last().map_or(0.0, |point| point.0);
    let start = (first >= UNIX).then(|| Timestamp::from_millisecond((first * 1e3) as i64).ok()).flatten();
    let (shift, extent) = if windows { (step / 2.0, step) } else { (0.0, 0.0) };
    let rates = points.into_iter().map(|(at, rate)| (at - first + shift, rate)).collect();
    Rows { start, seconds: last - first + extent, load: Load::Rates(rates), bad }
}

fn seconds(field: &str) -> Result<f64, String> {
    match plain(field).parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => Ok(seconds),
        Ok(_) => Err(format!("expected a finite time, got {field:?}")),
        Err(_) => instant(field).map(|at| at.as_millisecond() as f64 / 1e3),
    }
}

pub(super) fn requests(field: &str) -> Result<f64, String> {
    match plain(field).parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err(format!("expected requests per second, at least 0, got {field:?}")),
    }
}
