//! Scraping: targets → pages → one immutable [`Batch`] per target and tick.
//!
//! ```text
//! configuration, cluster view ──▶ targets() ──▶ TargetSet ──▶ Scraper ──▶ Store ──▶ Snapshot
//!                                                             (tasks)              (readers)
//! ```
//!
//! Every target has its own offset within the interval and its own task; a bounded number of them scrapes at once. What a
//! page means is [`crate::gpu`]'s business, and how old a batch may be is its readers'.

mod access;
pub mod batch;
pub mod error;
mod fetch;
pub mod schedule;
pub mod serving;
pub mod store;
pub mod targets;
mod ticks;

pub use batch::{BadLine, Batch, OwnReadings, TargetId, TargetStatus};
pub use error::ScrapeError;
pub use schedule::{Scraper, ScraperError};
pub use serving::{Subject, serving_url};
pub use store::{Snapshot, Store, Totals, Tracked};
pub use targets::{Refusal, Target, TargetSet, targets};

#[cfg(test)]
mod tests;
