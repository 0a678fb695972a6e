//! A fleet that never changes.

use jiff::Timestamp;

use super::super::policy::{Autoscaler, Release, Seen, Wanted};

/// Always so many replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fixed(pub u32);

impl Autoscaler for Fixed {
    fn period(&self) -> f64 {
        60.0
    }

    fn decide(&mut self, _: &Seen<'_>, _: Timestamp) -> Wanted {
        Wanted { desired: self.0, release: Release::Chance }
    }

    fn sentence(&self) -> String {
        format!("always {}", self.0)
    }
}
