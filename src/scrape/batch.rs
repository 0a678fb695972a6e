//! What one scrape of one target has brought.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::Subject;
use crate::{
    gpu::{FamilyId, Sample},
    reading::Reading,
};

/// Names a target for as long as it exists: the URL of a configured one, `namespace/pod/uid` of a discovered one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub Arc<str>);

impl std::fmt::Display for TargetId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a line of a page was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BadLine {
    /// No metric name, or an invalid one.
    Name,
    /// Labels that do not parse: quoting, braces, separators.
    Labels,
    /// One label name twice.
    DuplicateLabel,
    /// The value is not a number.
    Value,
    /// The timestamp is not one, or something follows it.
    Timestamp,
    /// Longer than the line limit, or more labels than the label limit (R22).
    TooLong,
    /// Parsed, but a sample of this family must name its card and does not.
    NoCard,
}

impl BadLine {
    /// All reasons.
    pub const ALL: [Self; 7] =
        [Self::Name, Self::Labels, Self::DuplicateLabel, Self::Value, Self::Timestamp, Self::TooLong, Self::NoCard];
}

/// What a model server says of the pod that it runs in.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnReadings {
    /// The pod: the one that was asked, not one that the page names (R6).
    pub subject: Subject,
    /// Its readings by family; or, in words, why it offers none: no page, or none with a known family.
    pub readings: Result<BTreeMap<FamilyId, Reading>, Arc<str>>,
}

/// One page, read. Never changed after it was made.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which target.
    pub target: TargetId,
    /// Rank of the target's source: where two exporters report the same pod, card and family, the lower rank is heard.
    pub rank: u32,
    /// Node of the target, for lines that name none.
    pub node: Option<Arc<str>>,
    /// When the body began to arrive; the time of every sample without a trusted timestamp of its own.
    pub measured: Timestamp,
    /// Recognized lines, in page order.
    pub samples: Vec<Sample>,
    /// Sample times that differ from `measured`, by index into `samples`; only where the target's clock is trusted.
    pub sample_times: BTreeMap<usize, Timestamp>,
    /// A process that the page lists in another family but not in a utilization family is idle there (a true 0), by the
    /// target's configuration. Otherwise it is unknown. Never on a page on which a line was skipped that may be the
    /// process's.
    pub absent_means_idle: bool,
    /// For the page of a model server, which has no samples.
    pub own: Option<OwnReadings>,
}

/// How a target is doing, for `/metrics`, logs and the status page.
#[derive(Debug, Clone, Default)]
pub struct TargetStatus {
    /// End of the last successful scrape.
    pub last_success: Option<Timestamp>,
    /// Start of the last scrape, successful or not.
    pub last_attempt: Option<Timestamp>,
    /// How long the last scrape took.
    pub duration: Duration,
    /// Bytes of the last page, after decompression.
    pub bytes: u64,
    /// Recognized samples of the last page.
    pub samples: u64,
    /// Bad lines since the target is known, by reason.
    pub bad_lines: BTreeMap<BadLine, u64>,
    /// Scrapes that failed since the target is known.
    pub failures: u64,
    /// Ticks that went by without a scrape, because the one before was still under way, since the target is known.
    pub missed: u64,
    /// The last scrape's error in words; `None` after a success.
    pub last_error: Option<String>,
    /// Why the target, a model server, is taken for one without a page. That is no failure.
    pub offers_nothing: Option<String>,
}
