//! What should be, and why.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{placement::Unplaced, reasons::Reason};

/// What should be, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Replicas that were asked for at that time.
    pub current: u32,
    /// Replicas that should be asked for; `current` while nothing may move.
    pub desired: u32,
    /// Filtered demand in replica equivalents: so many full replicas' work comes in now, backlog included. `None` while it
    /// is unknown.
    pub demand: Option<f64>,
    /// What demand is made of.
    pub source: Option<Source>,
    /// By index of the policy's pools (one, if it names none): what is expected when a replica that is asked for now could
    /// serve there. Empty while demand is unknown.
    pub forecasts: Vec<Forecast>,
    /// What stands for or against more replicas.
    pub up: Verdict,
    /// What stands for or against fewer.
    pub down: Verdict,
    /// Where the next replica would land; `None` where no pool has room, or none is known.
    pub landing: Option<Landing>,
    /// UID of the pod that should go first if one is to go (R19): not ready before ready, then the dearest pool, within it
    /// the least work under way, then the youngest.
    pub release: Option<Arc<str>>,
    /// What a status should tell people.
    pub flags: Flags,
    /// What bound this decision, in the order of the steps.
    pub reasons: Vec<Reason>,
}

/// What demand is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The model server's own figures: requests running and waiting, tokens, KV cache.
    Queue,
    /// Utilization and ready replicas, by the learned map.
    Utilization,
}

/// What is expected when a replica that is asked for now could serve in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// So many seconds from now: the pool's learned time to ready.
    pub horizon_seconds: f64,
    /// Demand then, replica equivalents.
    pub value: f64,
    /// Added for the error of such forecasts, and for the backlog.
    pub margin: f64,
}

/// Where one direction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Nothing asks for it.
    #[default]
    NotNeeded,
    /// Asked for and done.
    Done,
    /// Asked for and held back; the reasons say by what.
    Held,
    /// Cannot be judged: something it depends on is unknown. The reasons say what.
    Unknown,
}

/// Where the next replica would land.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Landing {
    /// Index of the policy's pools; 0 if it names none.
    pub pool: usize,
    /// Cost of a replica-hour there.
    pub cost: f64,
    /// Seconds until it could serve (p50, p90).
    pub ready_seconds: (f64, f64),
    /// What is expected needs it for longer than that (R20): asking for it makes sense.
    pub in_time: bool,
}

/// What a status should tell people; each with its words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Flags {
    /// Something that decisions depend on is unknown.
    pub unknown: Option<Arc<str>>,
    /// The service has more work than it can do (R16).
    pub saturated: Option<Arc<str>>,
    /// A limit binds: min, max, or the pools' room.
    pub limited: Option<Arc<str>>,
    /// Replicas that find no place.
    pub unplaced: Option<Box<Unplaced>>,
    /// A replica is on its way from a later pool to an earlier one.
    pub moving: Option<Arc<str>>,
    /// Replicas are in, or on their way to, a pool beyond the first.
    pub bursting: Option<Arc<str>>,
    /// Utilization is all there is, and it does not tell how much load there is (R16).
    pub cannot_tell: Option<Arc<str>>,
}

impl Decision {
    /// One sentence: what is done and what bound it.
    #[must_use]
    pub fn sentence(&self) -> String {
        super::reasons::sentence(self)
    }
}
