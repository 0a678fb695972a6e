//! The parts of one line: name, labels, value, timestamp.

use jiff::Timestamp;
use memchr::memchr2;

use super::{Format, Label};
use crate::scrape::BadLine;

/// Bits of [`CLASS`].
const NAME: u8 = 1;
const LABEL: u8 = 2;
const START: u8 = 4;

/// What each byte may be part of.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        class[byte] = if b.is_ascii_alphabetic() || b == b'_' {
            NAME | LABEL | START
        } else if b.is_ascii_digit() {
            NAME | LABEL
        } else if b == b':' {
            NAME
        } else {
            0
        };
        byte += 1;
    }
    class
};

fn is(byte: u8, class: u8) -> bool {
    CLASS[usize::from(byte)] & class != 0
}

/// How many bytes at the start of `text` are of that class.
fn run(text: &[u8], class: u8) -> usize {
    text.iter().position(|&byte| !is(byte, class)).unwrap_or(text.len())
}

fn skip_space(text: &[u8]) -> &[u8] {
    match text.first() {
        Some(b' ' | b'\t') => text.trim_ascii_start(),
        _ => text,
    }
}

/// Splits the metric name off: `[a-zA-Z_:][a-zA-Z0-9_:]*`, followed by space, `{` or nothing.
pub(super) fn name(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let (name, rest) = text.split_at(run(text, NAME));
    let follows = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'{'));
    (!name.is_empty() && follows).then_some((name, rest))
}

/// Reads the labels, if any, into `labels` and returns what follows them. After an error `labels` holds those before it.
pub(super) fn labels<'a>(text: &'a [u8], most: usize, labels: &mut Vec<Label<'a>>) -> Result<&'a [u8], BadLine> {
    labels.clear();
    let text = skip_space(text);
    let Some(mut rest) = text.strip_prefix(b"{") else { return Ok(text) };
    // A bit for each (length, last byte) that was seen: names are compared only where it is set already, which keeps
    // the search for duplicates out of the usual line's way.
    let mut seen = 0u64;
    loop {
        rest = skip_space(rest);
        if let Some(after) = rest.strip_prefix(b"}") {
            return Ok(after);
        }
        let (name, after) = rest.split_at(run(rest, LABEL));
        if !name.first().is_some_and(|&byte| is(byte, START)) {
            return Err(BadLine::Labels);
        }
        let after = skip_space(after).strip_prefix(b"=").ok_or(BadLine::Labels)?;
        let quoted = skip_space(after).strip_prefix(b"\"").ok_or(BadLine::Labels)?;
        let end = closing_quote(quoted).ok_or(BadLine::Labels)?;
        let bit = 1u64 << ((name.len() * 7 + usize::from(name[name.len() - 1])) % 64);
        if seen & bit != 0 && labels.iter().any(|label| label.name == name) {
            return Err(BadLine::DuplicateLabel);
        }
        seen |= bit;
        if labels.len() == most {
            return Err(BadLine::TooLong);
        }
        labels.push(Label { name, raw: &quoted[..end] });
        rest = skip_space(&quoted[end + 1..]);
        match rest.first() {
            Some(b',') => rest = &rest[1..],
            Some(b'}') => {}
            _ => {
                labels.pop(); // an unescaped quote inside the value, most likely: what was read is not all of it
                return Err(BadLine::Labels);
            }
        }
    }
}

/// Where the value of a label ends.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Reads value, timestamp and (to skip it) exemplar. The last part says whether the value is digits only.
pub(super) fn value(text: &[u8], format: Format) -> (Result<f64, BadLine>, Option<Timestamp>, bool) {
    let (token, rest) = word(text);
    let integer = !token.is_empty() && token.iter().all(u8::is_ascii_digit);
    let Some(value) = number(token) else { return (Err(BadLine::Value), None, integer) };
    let (token, rest) = word(rest);
    if token.is_empty() || is_exemplar(token, rest) {
        return (Ok(value), None, integer);
    }
    let timestamp = match format {
        Format::Text => milliseconds(token),
        Format::OpenMetrics => seconds(token),
    };
    let (after, rest) = word(rest);
    match timestamp {
        Some(at) if after.is_empty() || is_exemplar(after, rest) => (Ok(value), Some(at), integer),
        _ => (Err(BadLine::Timestamp), None, integer),
    }
}

/// The next word and what follows it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    text.split_at(text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len()))
}

/// ` # {trace_id="…"} 1 1.5`, as OpenMetrics has it; some exporters write it in the older format too.
fn is_exemplar(token: &[u8], rest: &[u8]) -> bool {
    token == b"#" && rest.trim_ascii_start().first() == Some(&b'{')
}

/// A number in Go's and Rust's common spelling: decimal, exponent, `Inf`, `NaN`, in any case.
fn number(token: &[u8]) -> Option<f64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

fn milliseconds(token: &[u8]) -> Option<Timestamp> {
    Timestamp::from_millisecond(std::str::from_utf8(token).ok()?.parse().ok()?).ok()
}

/// Seconds with a fraction, to the millisecond, which is all that Prometheus keeps of them.
fn seconds(token: &[u8]) -> Option<Timestamp> {
    let millis = number(token)? * 1000.0;
    millis.is_finite().then(|| Timestamp::from_millisecond(millis.round() as i64).ok()).flatten()
}
