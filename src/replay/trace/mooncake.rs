//! Mooncake's traces: one request a line, as JSON.

use serde::Deserialize;

use super::{BadRows, MAX_TOKENS, Rows, log};

#[derive(Deserialize)]
struct Line {
    /// Milliseconds since the trace began.
    timestamp: f64,
    input_length: u32,
    output_length: u32,
}

pub(super) fn read(text: &str) -> Result<Rows, String> {
    let mut bad = BadRows::default();
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        bad.of += 1;
        match serde_json::from_str::<Line>(line) {
            Ok(Line { timestamp, input_length, output_length })
                if timestamp.is_finite() && input_length.max(output_length) <= MAX_TOKENS =>
            {
                rows.push((timestamp / 1e3, input_length.max(1), output_length.max(1)));
            }
            Ok(_) => bad.add(i + 1, format!("more than {MAX_TOKENS} tokens, or no finite time")),
            Err(error) => bad.add(i + 1, error.to_string()),
        }
    }
    if rows.is_empty() {
        return Err(format!("no line with timestamp, input_length and output_length; {bad}"));
    }
    Ok(log(rows, None, bad))
}
