//! The control loop.

pub mod lease;
pub mod recorder;
pub mod roster;
pub mod round;
pub mod scale;
