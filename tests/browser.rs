//! The pages that people look at, in a real browser: what they say, what they load, what happens when they are pointed at.

mod chromium;
mod report;
mod suite;
