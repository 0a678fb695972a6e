//! The text formats of Prometheus, read as a stream of borrowed samples.
//!
//! One pass over the bytes of a page, no allocation per sample: names and label values are slices of the page, and one
//! label buffer is used again for every line. The caller says by family name which lines it wants, and only those have
//! their labels read. A bad line is told with its reason and skipped; its neighbours live, because exporters print
//! label values without escaping them.
//!
//! Formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> (text 0.0.4) and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/> (OpenMetrics 1.0). Types, help texts, units and exemplars
//! are skipped; histograms and summaries come as their flat samples. Names in quotes (UTF-8 names) count as bad lines.
//!
//! This module knows neither families nor units: that is [`crate::gpu`].

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memchr;

use crate::{config, scrape::BadLine};

mod line;

/// Which text format a page is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4: timestamps in milliseconds, the page ends where the body ends.
    #[default]
    Text,
    /// OpenMetrics: timestamps in seconds with a fraction, the page ends with `# EOF`.
    OpenMetrics,
}

impl Format {
    /// The format that a `Content-Type` names. Anything but OpenMetrics is read as text, because plain file servers
    /// and older exporters send all sorts of types; what is not text then shows as bad lines.
    #[must_use]
    pub fn from_content_type(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if media_type.eq_ignore_ascii_case("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }
}

/// What one page may hold (R22).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line in bytes; a longer one is [`BadLine::TooLong`].
    pub line_bytes: usize,
    /// Most labels of one line; one with more is [`BadLine::TooLong`].
    pub labels: usize,
    /// Most samples of wanted families; a page with more is [`PageError::TooManySamples`].
    pub samples: usize,
}

impl From<&config::Scrape> for Limits {
    fn from(scrape: &config::Scrape) -> Self {
        Self {
            line_bytes: usize::try_from(scrape.line_bytes.0).unwrap_or(usize::MAX),
            labels: scrape.labels,
            samples: scrape.samples,
        }
    }
}

/// Why a whole page is refused. Its samples then count as unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// OpenMetrics without its last line.
    #[error("the OpenMetrics page does not end with `# EOF`, so it was cut off; look at the exporter's log")]
    NoEof,
    /// OpenMetrics that goes on after its last line.
    #[error(
        "the OpenMetrics page goes on after `# EOF`: two pages in one body? Fix the exporter or the proxy before it"
    )]
    AfterEof,
    /// More samples than the limit.
    #[error(
        "the page has more than {limit} samples of families that are read; raise scrape.samples (of a model server: scrape.serving.samples) if that is right"
    )]
    TooManySamples {
        /// [`Limits::samples`].
        limit: usize,
    },
}

/// One label of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// The name: ASCII letters, digits and `_`.
    pub name: &'a [u8],
    /// The value as the page has it, between the quotes, escapes unresolved.
    pub raw: &'a [u8],
}

impl<'a> Label<'a> {
    /// The value as text: `\\`, `\"` and `\n` resolved, other backslashes kept, invalid UTF-8 replaced by U+FFFD.
    #[must_use]
    pub fn value(&self) -> Cow<'a, str> {
        if memchr(b'\\', self.raw).is_none() {
            return String::from_utf8_lossy(self.raw);
        }
        let mut bytes = Vec::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some(at) = memchr(b'\\', rest) {
            bytes.extend_from_slice(&rest[..at]);
            let (plain, used) = match rest.get(at + 1) {
                Some(b'n') => (&b"\n"[..], 2),
                Some(b'\\') => (&b"\\"[..], 2),
                Some(b'"') => (&b"\""[..], 2),
                _ => (&b"\\"[..], 1),
            };
            bytes.extend_from_slice(plain);
            rest = &rest[at + used..];
        }
        bytes.extend_from_slice(rest);
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// One line of a wanted family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'p, 'a> {
    /// The family's name: ASCII letters, digits, `_` and `:`.
    pub name: &'a [u8],
    /// The labels in the line's order, no name twice.
    pub labels: &'p [Label<'a>],
    /// The value. `Err`: the line is bad, but it names what it is about, so the caller can mark that as unknown instead
    /// of missing it (R1). The reason is [`BadLine::Value`] or [`BadLine::Timestamp`].
    pub value: Result<f64, BadLine>,
    /// The value is written as a whole number: digits only.
    pub integer: bool,
    /// The line's own time.
    pub timestamp: Option<Timestamp>,
}

/// What the next line of interest is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Line<'p, 'a, F> {
    /// A sample of a wanted family, with what `want` has answered.
    Sample(F, Sample<'p, 'a>),
    /// A bad line of a wanted family, with what `want` has answered and the labels before the place where it breaks.
    Broken(F, BadLine, &'p [Label<'a>]),
    /// A bad line that does not say which family it is of.
    Bad(BadLine),
}

/// Reads one page.
#[derive(Debug)]
pub struct Parser<'a> {
    rest: &'a [u8],
    format: Format,
    complete: bool,
    limits: Limits,
    samples: usize,
    labels: Vec<Label<'a>>,
    ended: bool,
}

impl<'a> Parser<'a> {
    /// A reader of `body`. `complete`: the transport vouches that the body was not cut off, so a last line without
    /// newline is whole. Otherwise such a line's value is not believed: `12` may be the first half of `12345`.
    #[must_use]
    pub fn new(body: &'a [u8], format: Format, complete: bool, limits: &Limits) -> Self {
        /// Room for the labels of usual lines, so that the buffer is allocated once a page.
        const USUAL_LABELS: usize = 32;
        let labels = Vec::with_capacity(limits.labels.min(USUAL_LABELS));
        Self { rest: body, format, complete, limits: *limits, samples: 0, labels, ended: false }
    }

    /// The next sample of a family for which `want` answers `Some`, or the next bad line; `None` after the last.
    /// Families that are not wanted are skipped unread, and what is wrong in their labels is nobody's business.
    pub fn next_line<F>(
        &mut self,
        mut want: impl FnMut(&'a [u8]) -> Option<F>,
    ) -> Result<Option<Line<'_, 'a, F>>, PageError> {
        while !self.rest.is_empty() {
            let (line, ended) = self.take_line();
            let text = line.trim_ascii_start();
            match text.first() {
                None => continue,
                Some(b'#') => {
                    if self.format == Format::OpenMetrics && text.trim_ascii_end() == b"# EOF" {
                        if !self.rest.is_empty() {
                            return Err(PageError::AfterEof);
                        }
                        self.ended = true;
                    }
                    continue;
                }
                Some(_) if line.len() > self.limits.line_bytes => {
                    let family = line::name(text).and_then(|(name, _)| want(name));
                    return Ok(Some(match family {
                        Some(family) => Line::Broken(family, BadLine::TooLong, &[]),
                        None => Line::Bad(BadLine::TooLong),
                    }));
                }
                Some(_) => {}
            }
            let Some((name, rest)) = line::name(text) else { return Ok(Some(Line::Bad(BadLine::Name))) };
            let Some(family) = want(name) else { continue };
            let rest = match line::labels(rest, self.limits.labels, &mut self.labels) {
                Ok(rest) => rest,
                Err(reason) => return Ok(Some(Line::Broken(family, reason, &self.labels))),
            };
            self.samples += 1;
            if self.samples > self.limits.samples {
                return Err(PageError::TooManySamples { limit: self.limits.samples });
            }
            let (mut value, timestamp, integer) = line::value(rest, self.format);
            if !ended && !self.complete {
                value = Err(BadLine::Value);
            }
            return Ok(Some(Line::Sample(family, Sample { name, labels: &self.labels, value, integer, timestamp })));
        }
        if self.format == Format::OpenMetrics && !self.ended { Err(PageError::NoEof) } else { Ok(None) }
    }

    /// The next line without its end, and whether it had one.
    fn take_line(&mut self) -> (&'a [u8], bool) {
        if let Some(at) = memchr(b'\n', self.rest) {
            let line = &self.rest[..at];
            self.rest = &self.rest[at + 1..];
            (line.strip_suffix(b"\r").unwrap_or(line), true)
        } else {
            (std::mem::take(&mut self.rest), false)
        }
    }
}

#[cfg(test)]
mod tests;
