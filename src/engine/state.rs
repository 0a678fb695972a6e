//! What the engine remembers of a service.

use serde::{Deserialize, Serialize};

use super::{
    capacity::Capacity, demand::Memory, drift::Drift, filter::Filter, forecast::Forecaster, readiness::Readiness,
    reasons::Direction, rise::Rise, saturation::Saturation, season::Season, utilization::Map,
};
use crate::signal::Maximum;

/// What the engine remembers of a service. Bounded, opaque.
///
/// All of it can be serialized, so that a recording can begin anywhere; what must outlive a restart is [`State::durable`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    pub(super) durable: Durable,
    pub(super) memory: Memory,
    pub(super) filter: Filter,
    pub(super) forecaster: Forecaster,
    pub(super) saturation: Saturation,
    pub(super) rise: Rise,
    /// What was wanted, replica equivalents.
    pub(super) wanted: Maximum,
    /// Moves between pools.
    pub(super) drift: Drift,
    /// Since when demand has been known without interruption, seconds since the epoch.
    pub(super) measured_since: Option<f64>,
    /// The last move that was decided, and the replicas that it moves from, until there are others.
    pub(super) under_way: Option<(Direction, u32)>,
}

/// What must outlive a restart: when it last moved, and what was learned. A few KiB of JSON.
///
/// What was merely measured, such as windows and errors of forecasts, is not here: after a restart it is measured anew, and
/// nothing is removed before it has been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Durable {
    /// [`Durable::VERSION`] of the writer.
    version: u32,
    /// Last addition and removal, seconds since the epoch.
    #[serde(default)]
    pub(super) last_up: Option<f64>,
    #[serde(default)]
    pub(super) last_down: Option<f64>,
    #[serde(default)]
    pub(super) capacity: Capacity,
    #[serde(default)]
    pub(super) utilization: Map,
    /// By index of the policy's pools.
    #[serde(default)]
    pub(super) readiness: Vec<Readiness>,
    #[serde(default)]
    pub(super) season: Season,
}

/// State that this version cannot use. It is set aside, and everything is learned anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON of this shape.
    #[error("the kept state is not readable: {0}; it is learned anew")]
    Malformed(String),
    /// Of another version.
    #[error("the kept state is of version {found}, this is {}; it is learned anew", Durable::VERSION)]
    Version {
        /// What was found.
        found: u32,
    },
}

impl Default for Durable {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            last_up: None,
            last_down: None,
            capacity: Capacity::default(),
            utilization: Map::default(),
            readiness: Vec::new(),
            season: Season::default(),
        }
    }
}

impl Durable {
    /// Changes when old state can no longer be read.
    pub const VERSION: u32 = 1;
}

impl State {
    /// What must outlive a restart.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// [`Self::durable`] as JSON.
    ///
    /// # Errors
    /// Never for what this writes itself; the type is the serializer's.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&self.durable)
    }

    /// Begins anew with what was kept.
    ///
    /// # Errors
    /// [`Unreadable`]: begin with `State::default()` then, and warn.
    pub fn restore(json: &str) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |error: serde_json::Error| Unreadable::Malformed(error.to_string());
        let Version { version } = serde_json::from_str(json).map_err(malformed)?;
        if version != Durable::VERSION {
            return Err(Unreadable::Version { found: version });
        }
        let durable = serde_json::from_str(json).map_err(malformed)?;
        Ok(Self { durable, ..Self::default() })
    }
}
