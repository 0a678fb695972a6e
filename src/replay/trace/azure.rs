//! Azure's LLM inference traces: one request a row.

use jiff::{Timestamp, civil, tz::TimeZone};

use super::{BadRows, Rows, column, log, plain, tokens};

pub(super) fn read(text: &str) -> Result<Rows, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, header) = lines.next().ok_or("it is empty")?;
    let [time, prompt, output] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
        .map(|name| column(header, &[name]).ok_or_else(|| format!("no column {name}")));
    let (time, prompt, output) = (time?, prompt?, output?);
    let mut bad = BadRows::default();
    let mut rows: Vec<(Timestamp, u32, u32)> = Vec::new();
    for (i, line) in lines {
        bad.of += 1;
        let field = |at: usize| line.split(',').nth(at).ok_or_else(|| "a column is missing".to_owned());
        let row = || {
            Ok((
                instant(field(time)?)?,
                tokens(field(prompt)?, "ContextTokens")?,
                tokens(field(output)?, "GeneratedTokens")?,
            ))
        };
        match row() {
            Ok(row) => rows.push(row),
            Err(why) => bad.add(i + 1, why),
        }
    }
    let start = rows.iter().map(|row| row.0).min();
    let since = |at: Timestamp| start.map_or(0.0, |start| at.duration_since(start).as_secs_f64());
    Ok(log(rows.into_iter().map(|(at, prompt, output)| (since(at), prompt, output)).collect(), start, bad))
}

/// A time with a zone, or without one, as the trace of 2023 has it: then in UTC.
pub(super) fn instant(field: &str) -> Result<Timestamp, String> {
    let text = plain(field);
    text.parse::<Timestamp>()
        .or_else(|_| text.parse::<civil::DateTime>()?.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()))
        .map_err(|_| format!("expected a time such as 2023-11-16 18:17:03.97, got {text:?}"))
}
