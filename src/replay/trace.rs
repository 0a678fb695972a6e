//! Load over time, read from text: logs of requests, or series of rates.
//!
//! The format is found by the content, or named. A row that cannot be read is counted and named, never guessed at (R1);
//! with more than [`TOLERATED`] of them the file is refused (R21). Where the traces come from: `docs` of each format.

use std::{fmt, str::FromStr};

use jiff::Timestamp;

use super::serving::Request;

mod azure;
mod mooncake;
mod prometheus;
mod rates;

/// A trace that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Its name in tables: the file's, without folder and extension.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// When it begins, if it says so.
    pub start: Option<Timestamp>,
    /// Its length, seconds.
    pub seconds: f64,
    /// What is offered.
    pub load: Load,
    /// What could not be read.
    pub bad: BadRows,
}

/// Offered load.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Each request, in order of time.
    Requests(Vec<Request>),
    /// Requests per second at the centres of equal windows (or at the points of a range query), in order of time.
    Rates(Vec<(f64, f64)>),
}

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Azure's LLM inference traces of 2023 and 2024 (github.com/Azure/AzurePublicDataset): CSV with `TIMESTAMP`,
    /// `ContextTokens`, `GeneratedTokens`.
    Azure,
    /// Mooncake's traces (github.com/kvcache-ai/Mooncake): JSON lines with `timestamp` (milliseconds), `input_length`,
    /// `output_length`.
    Mooncake,
    /// Rates derived from ServeGen (github.com/alibaba/ServeGen): CSV with `start_s`, `requests_per_s`, equal windows.
    ServeGen,
    /// Plain CSV with the columns `time` (seconds, Unix time or RFC 3339) and `rate` (requests per second).
    Csv,
    /// The answer to a Prometheus range query, `/api/v1/query_range`, for a rate in requests per second; several series are
    /// added up.
    Prometheus,
}

/// Largest share of unreadable rows with which a file is still used.
pub const TOLERATED: f64 = 0.01;
/// Largest trace that is read, bytes.
pub const MAX_BYTES: u64 = 1 << 30;
/// So many bad rows are named.
const NAMED: usize = 5;

/// Rows that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BadRows {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub of: usize,
    /// The first few: line and what is wrong with it.
    pub named: Vec<(usize, String)>,
}

/// Why a trace is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// No format fits.
    #[error(
        "cannot tell its format: expected a CSV header with TIMESTAMP,ContextTokens,GeneratedTokens (azure), start_s,requests_per_s (servegen) or time,rate (csv), JSON lines with timestamp, input_length and output_length (mooncake), or the JSON of a range query (prometheus); it begins with {begins:?}. Name it with --format if it is one of them"
    )]
    Unrecognized {
        /// The file's beginning.
        begins: String,
    },
    /// The named or found format's columns or keys are missing.
    #[error("not in the format {format}: {why}")]
    NotInFormat {
        /// The format.
        format: Format,
        /// What is missing.
        why: String,
    },
    /// Too many rows cannot be read.
    #[error("{0}; at most 1 % is tolerated")]
    TooManyBad(BadRows),
    /// No request, or nothing but zeros.
    #[error("holds no load: {0}")]
    Empty(String),
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows cannot be read", self.count, self.of)?;
        for (i, (line, why)) in self.named.iter().enumerate() {
            write!(f, "{} line {line}: {why}", if i == 0 { ":" } else { ";" })?;
        }
        if self.count > self.named.len() { write!(f, "; …") } else { Ok(()) }
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Azure, Self::Mooncake, Self::ServeGen, Self::Csv, Self::Prometheus];

    /// The name in `--format` and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::Mooncake => "mooncake",
            Self::ServeGen => "servegen",
            Self::Csv => "csv",
            Self::Prometheus => "prometheus",
        }
    }

    /// The format of a text, by its first line.
    #[must_use]
    pub fn detect(text: &str) -> Option<Self> {
        let first = text.lines().find(|line| !line.trim().is_empty())?.trim().trim_start_matches('\u{feff}');
        if first.starts_with('{') {
            let log = first.contains("\"input_length\"") && first.contains("\"output_length\"");
            return Some(if log { Self::Mooncake } else { Self::Prometheus })
                .filter(|_| log || text.contains("\"resultType\""));
        }
        let has = |names: &[&str]| names.iter().all(|name| column(first, &[name]).is_some());
        if has(&["TIMESTAMP", "ContextTokens", "GeneratedTokens"]) {
            Some(Self::Azure)
        } else if has(&["start_s", "requests_per_s"]) {
            Some(Self::ServeGen)
        } else if column(first, rates::TIME).is_some() && column(first, rates::RATE).is_some() {
            Some(Self::Csv)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| format!("expected one of {}, got {text:?}", names()))
    }
}

impl Trace {
    /// Reads a text in the given or found format.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn parse(name: &str, text: &str, format: Option<Format>) -> Result<Self, TraceError> {
        let begins = || text.chars().take(80).collect::<String>();
        let format =
            format.or_else(|| Format::detect(text)).ok_or_else(|| TraceError::Unrecognized { begins: begins() })?;
        let rows = match format {
            Format::Azure => azure::read(text),
            Format::Mooncake => mooncake::read(text),
            Format::ServeGen | Format::Csv => rates::read(text),
            Format::Prometheus => prometheus::read(text),
        };
        let Rows { start, seconds, load, bad } = rows.map_err(|why| TraceError::NotInFormat { format, why })?;
        if bad.count as f64 > TOLERATED * bad.of as f64 {
            return Err(TraceError::TooManyBad(bad));
        }
        let none = match &load {
            Load::Requests(requests) => requests.is_empty(),
            Load::Rates(rates) => rates.iter().all(|(_, rate)| *rate <= 0.0),
        };
        if none || seconds <= 0.0 {
            return Err(TraceError::Empty(format!("{} rows over {seconds} s", bad.of)));
        }
        Ok(Self { name: name.to_owned(), format, start, seconds, load, bad })
    }
}

/// What a format's reader gives back.
struct Rows {
    start: Option<Timestamp>,
    seconds: f64,
    load: Load,
    bad: BadRows,
}

impl BadRows {
    fn add(&mut self, line: usize, why: String) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push((line, why));
        }
    }
}

/// Requests in order, counted from the first one's time; the trace lasts a mean gap longer than until the last one.
fn log(mut timed: Vec<(f64, u32, u32)>, start: Option<Timestamp>, bad: BadRows) -> Rows {
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first = timed.first().map_or(0.0, |row| row.0);
    let requests: Vec<Request> =
        timed.into_iter().map(|(at, prompt, output)| Request { at: at - first, prompt, output }).collect();
    let last = requests.last().map_or(0.0, |last| last.at);
    let seconds = last + last / requests.len().saturating_sub(1).max(1) as f64;
    Rows { start, seconds, load: Load::Requests(requests), bad }
}

/// Index of the first column that has one of these names, in whatever case.
fn column(header: &str, names: &[&str]) -> Option<usize> {
    let header = header.trim_start_matches('\u{feff}');
    header.split(',').position(|field| names.iter().any(|name| plain(field).eq_ignore_ascii_case(name)))
}

/// A field without blanks and quotes.
fn plain(field: &str) -> &str {
    field.trim().trim_matches('"')
}

/// Tokens of a request: a whole number; 0 is counted as 1, since even an empty answer ends with a token.
fn tokens(field: &str, what: &str) -> Result<u32, String> {
    let text = plain(field);
    let count: u32 = text.parse().map_err(|_| format!("{what}: expected a whole number, got {text:?}"))?;
    if count > MAX_TOKENS { Err(format!("{what}: {count} is more than {MAX_TOKENS}")) } else { Ok(count.max(1)) }
}

/// More tokens than any model takes.
const MAX_TOKENS: u32 = 10_000_000;

#[cfg(test)]
mod tests;
