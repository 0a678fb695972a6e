//! The control loop.

pub mod lease;
pub mod scale;
