//! One page of an exporter → samples in canonical form.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{gpu::Sample, scrape::BadLine};

/// What was read from one page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Recognized lines, in page order.
    pub samples: Vec<Sample>,
    /// Timestamps that lines carry, by index into `samples`.
    pub timestamps: BTreeMap<usize, Timestamp>,
    /// Skipped lines by reason.
    pub bad_lines: BTreeMap<BadLine, u64>,
}
