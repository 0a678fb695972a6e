//! Scraping: targets → pages → one immutable [`Batch`] per target and tick.

pub mod batch;

pub use batch::{BadLine, Batch, TargetId, TargetStatus};
