//! The vocabulary of GPU exporters: metric families, units and label dialects.

use std::sync::Arc;

use crate::reading::Reading;

pub mod page;

/// Index into [`Vocabulary::families`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FamilyId(pub u16);

/// How a family's values are scaled and combined. Values inside Tidegate are always in this unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 0..100. Processes on a card add up, clamped to 100; cards of a pod are averaged (R7).
    Percent,
    /// Mebibytes. Processes on a card and cards of a pod add up.
    Mebibytes,
}

/// One metric family as it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    /// The name in our APIs, e.g. `DCGM_CUSTOM_PROCESS_SM_UTIL`.
    pub name: Arc<str>,
    /// Unit and manner of combination.
    pub unit: Unit,
    /// Largest credible value of one sample, in `unit`.
    pub max: f64,
    /// One sentence for `--help`-like listings and `/metrics`.
    pub help: Arc<str>,
}

/// One physical GPU, or one MIG instance of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId {
    /// The exporter's `UUID`.
    pub uuid: Arc<str>,
    /// `GPU_I_ID` on MIG.
    pub instance: Option<Arc<str>>,
}

/// The pod that an exporter names. Whether such a pod exists is the cluster's to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// Container, where the exporter says.
    pub container: Option<Arc<str>>,
    /// `pod_uid`, where the exporter says.
    pub uid: Option<Arc<str>>,
}

/// One line of a page in canonical form: family, card, owner, process, and a reading in the family's unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which family.
    pub family: FamilyId,
    /// Which card.
    pub card: CardId,
    /// The node that the line names; `None`: that of the batch's target.
    pub node: Option<Arc<str>>,
    /// The pod that the line names; `None`: a device series or an unattributed process.
    pub owner: Option<Owner>,
    /// Process id, where the line has one. A line without owner and process is a device series.
    pub process: Option<Arc<str>>,
    /// The value, or why there is none.
    pub reading: Reading,
}

/// All families and label names that are known, built in and configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Families as served, by [`FamilyId`].
    pub families: Vec<Family>,
}

impl Vocabulary {
    /// The family with that id. Ids come from this vocabulary only.
    #[must_use]
    pub fn family(&self, id: FamilyId) -> &Family {
        &self.families[usize::from(id.0)]
    }

    /// The family that is served under that name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<FamilyId> {
        self.families.iter().position(|family| &*family.name == name).map(|i| FamilyId(i as u16))
    }
}
