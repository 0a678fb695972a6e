//! When an answer may be given, so that HPA and model agree on which of the answers before it are a window or a period ago.
//!
//! The controller reads its clock a little later than we do: at once when it has the answer, and once more when it has written
//! another number of replicas. It is not known by how much.

use std::time::Duration;

use jiff::Timestamp;
use tidegate::sim::hpa::Spec;

use super::stage::Look;

/// No answer is given so shortly before an edge …
const BEFORE: Duration = Duration::from_millis(200);
/// … or after it. Longer: where the window is a multiple of the sync period, every answer would come at an edge. One that waits
/// for this is itself so late that the one a window after it comes well before the edge, and does not have to.
const AFTER: Duration = Duration::from_millis(400);
/// How finely moments are looked at.
const STEP: Duration = Duration::from_millis(50);

/// How long the controller looks back.
#[derive(Debug)]
pub struct Edges {
    /// At what was proposed.
    windows: Vec<Duration>,
    /// At what was changed.
    periods: Vec<Duration>,
}

impl Edges {
    pub fn of(spec: &Spec) -> Self {
        let Some(behavior) = &spec.behavior else {
            return Self { windows: vec![spec.down_window], periods: Vec::new() };
        };
        let rules = [&behavior.up, &behavior.down];
        // One that is over before the next sync ends at no sync.
        let lasting = |span: &Duration| *span > Duration::from_secs(1);
        let periods = rules.iter().flat_map(|rules| rules.policies.iter().map(|policy| policy.period));
        Self {
            windows: rules.iter().map(|rules| rules.window).filter(lasting).collect(),
            periods: periods.filter(lasting).collect(),
        }
    }

    /// The first moment from `now` on that is at no edge of these looks; if there is none until `latest`, the one that is
    /// farthest from all.
    pub fn moment(&self, looks: &[Look], now: Timestamp, latest: Timestamp) -> Timestamp {
        let edges: Vec<Timestamp> = looks
            .iter()
            .flat_map(|look| {
                let changed = look.outcome.as_ref().is_some_and(|outcome| outcome.replicas != look.scale.wanted);
                let periods = self.periods.iter().filter(move |_| changed);
                self.windows.iter().chain(periods).map(|span| look.now + *span)
            })
            .collect();
        // Between 0 at the edge and 1 where it may be answered.
        let room = |at: &Timestamp| {
            let of = |edge: &Timestamp| {
                let limit = if at < edge { BEFORE } else { AFTER };
                (at.duration_since(*edge).unsigned_abs().as_secs_f64() / limit.as_secs_f64()).min(1.0)
            };
            edges.iter().map(of).fold(1.0, f64::min)
        };
        let mut best = now;
        let mut at = now;
        while room(&best) < 1.0 {
            at += STEP;
            if at > latest {
                break;
            }
            if room(&at) > room(&best) {
                best = at;
            }
        }
        best
    }
}
