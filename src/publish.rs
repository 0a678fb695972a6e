//! To be filled.

pub mod passthrough;
