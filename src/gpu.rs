//! The vocabulary of GPU exporters: metric families, units and label dialects, built in and configured (R3).
//!
//! [`page::read`] brings a page of any exporter into one form: [`Sample`]s whose values are percent 0..100 or mebibytes,
//! and whose cards, nodes, processes and pods are named alike. It neither adds samples up nor asks whether a pod exists:
//! that is [`crate::attribution`].

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    config::{self, SourceUnit},
    reading::Reading,
    serving::{self, Role},
};

mod dialects;
mod families;
pub mod page;
mod range;

pub use dialects::LabelError;
pub use families::Scale;

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
    /// A count of something. This and the following are said by model servers, about their pod as a whole.
    Count,
    /// 0..1.
    Share,
    /// Gained per second.
    PerSecond,
    /// Seconds.
    Seconds,
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
    /// It is read from pages of model servers, and not from those of exporters.
    pub by_server: bool,
    /// What the engine takes it for.
    pub role: Option<Role>,
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

/// Where a name on a page leads.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Source {
    family: FamilyId,
    scale: Scale,
    /// Order among the names of one family: where a page has several, the lowest is heard.
    rank: u16,
}

/// All families and label names that are known, built in and configured.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// Families as served, by [`FamilyId`].
    pub families: Vec<Family>,
    sources: HashMap<Box<[u8]>, Source>,
    labels: dialects::Labels,
    servers: serving::Sources,
}

/// Why a configured vocabulary is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// Not a metric name.
    #[error(
        "vocabulary.families: {name:?} is not a metric name; expected letters, digits, `_` and `:`, no digit first"
    )]
    Name {
        /// As configured, `name` or `servedAs`.
        name: String,
    },
    /// Twice in the configuration.
    #[error("vocabulary.families: {name:?} is there twice; remove one")]
    Duplicate {
        /// As configured.
        name: String,
    },
    /// The family it is served as adds up in another unit.
    #[error(
        "vocabulary.families: {name:?} is in {unit:?}, but {served_as:?} is in {expected:?}; choose another servedAs"
    )]
    Unit {
        /// As configured.
        name: String,
        /// The configured unit, as it is inside.
        unit: Unit,
        /// The family it is served as.
        served_as: String,
        /// That family's unit.
        expected: Unit,
    },
    /// Not a metric name.
    #[error("vocabulary.servers: {name:?} is not a metric name; expected letters, digits, `_` and `:`, no digit first")]
    ServerName {
        /// As configured, `name` or `servedAs`.
        name: String,
    },
    /// The name has a meaning already.
    #[error("vocabulary.servers: lines of {name:?} are read already, built in or by another entry; remove it here")]
    ServerDuplicate {
        /// As configured.
        name: String,
    },
    /// It is served under the name of another kind of family.
    #[error(
        "vocabulary.servers: {name:?} cannot be served as {served_as:?}, which is of another kind; choose another servedAs"
    )]
    ServerUnit {
        /// As configured.
        name: String,
        /// The name in our APIs.
        served_as: String,
    },
    /// The role needs another kind.
    #[error("vocabulary.servers: {name:?} is a {kind:?}, but the role {role:?} needs a {expected:?}")]
    Role {
        /// As configured.
        name: String,
        /// As configured.
        kind: serving::Kind,
        /// As configured.
        role: Role,
        /// What the role needs.
        expected: serving::Kind,
    },
    /// More than [`MAX_FAMILIES`].
    #[error("vocabulary: more than {MAX_FAMILIES} names of families with the built-in ones; remove some")]
    TooMany,
    /// A label name.
    #[error(transparent)]
    Label(#[from] LabelError),
}

/// Most names of families on pages, built in and configured (R22).
pub const MAX_FAMILIES: usize = 1000;

/// Largest credible utilization, percent.
pub const MAX_PERCENT: f64 = 100.0;

/// Largest credible memory of one sample, MiB: 16 TiB, far above any card and below DCGM's blanks.
pub const MAX_MEBIBYTES: f64 = 16_777_216.0;

/// Largest credible number of requests in one model server.
const MAX_COUNT: f64 = 1e6;
/// Largest credible gain per second: tokens of a whole node are far below.
const MAX_PER_SECOND: f64 = 1e9;
/// Largest credible mean duration: one day.
const MAX_SECONDS: f64 = 86_400.0;

impl Unit {
    const fn max(self) -> f64 {
        match self {
            Self::Percent => MAX_PERCENT,
            Self::Mebibytes => MAX_MEBIBYTES,
            Self::Count => MAX_COUNT,
            Self::Share => 1.0,
            Self::PerSecond => MAX_PER_SECOND,
            Self::Seconds => MAX_SECONDS,
        }
    }
}

impl From<SourceUnit> for Scale {
    fn from(unit: SourceUnit) -> Self {
        match unit {
            SourceUnit::Percent => Self::Percent,
            SourceUnit::Ratio => Self::Ratio,
            SourceUnit::Mebibytes => Self::Mebibytes,
            SourceUnit::Bytes => Self::Bytes,
        }
    }
}

impl Default for Vocabulary {
    /// The built-in one.
    fn default() -> Self {
        let mut vocabulary = Self {
            families: Vec::new(),
            sources: HashMap::new(),
            labels: dialects::Labels::built_in(),
            servers: serving::Sources::default(),
        };
        for family in families::BUILT_IN {
            let id = vocabulary.add_family(family.name, family.help, family.sources[0].1.unit());
            for (name, scale) in family.sources {
                vocabulary.add_source(name, id, *scale);
            }
        }
        for serving::BuiltIn { help, kind, role, names } in serving::BUILT_IN {
            let id = vocabulary.add_family(&kind.served_as(names[0]), help, kind.unit());
            vocabulary.families[usize::from(id.0)].role = *role;
            for name in *names {
                vocabulary.servers.add(name, *kind, id);
            }
        }
        vocabulary
    }
}

impl Vocabulary {
    /// The built-in vocabulary and what is configured beyond it. A configured family with a built-in name on pages
    /// replaces that name's unit, and what it is served as if that is said too.
    pub fn new(config: &config::Vocabulary) -> Result<Self, VocabularyError> {
        let config::Vocabulary { families, labels, servers } = config;
        let mut vocabulary = Self { labels: dialects::Labels::new(labels)?, ..Self::default() };
        let mut seen = BTreeSet::new();
        for config::FamilyConfig { name, served_as, unit } in families {
            for name in [Some(name), served_as.as_ref()].into_iter().flatten() {
                if !is_metric_name(name) {
                    return Err(VocabularyError::Name { name: name.clone() });
                }
            }
            if !seen.insert(name) {
                return Err(VocabularyError::Duplicate { name: name.clone() });
            }
            if vocabulary.sources.len() >= MAX_FAMILIES {
                return Err(VocabularyError::TooMany);
            }
            let scale = Scale::from(*unit);
            let id = match (served_as, vocabulary.sources.get(name.as_bytes())) {
                (None, Some(known)) => known.family,
                (served_as, _) => {
                    let served_as = served_as.as_ref().unwrap_or(name);
                    let help = "Configured in vocabulary.families";
                    match vocabulary.by_name(served_as) {
                        Some(id) => id,
                        None => vocabulary.add_family(served_as, help, scale.unit()),
                    }
                }
            };
            let family = vocabulary.family(id);
            if family.unit != scale.unit() {
                return Err(VocabularyError::Unit {
                    name: name.clone(),
                    unit: scale.unit(),
                    served_as: family.name.to_string(),
                    expected: family.unit,
                });
            }
            vocabulary.add_source(name, id, scale);
        }
        for family in servers {
            vocabulary.add_server_family(family)?;
        }
        Ok(vocabulary)
    }

    fn add_server_family(&mut self, family: &config::ServerFamily) -> Result<(), VocabularyError> {
        let config::ServerFamily { name, served_as, kind, role } = family;
        let served_as = served_as.clone().unwrap_or_else(|| kind.served_as(name));
        if let Some(name) = [name, &served_as].into_iter().find(|name| !is_metric_name(name)) {
            return Err(VocabularyError::ServerName { name: name.clone() });
        }
        if self.sources.len() + self.servers.len() >= MAX_FAMILIES {
            return Err(VocabularyError::TooMany);
        }
        if let Some(role) = role.filter(|role| role.kind() != *kind) {
            return Err(VocabularyError::Role { name: name.clone(), kind: *kind, role, expected: role.kind() });
        }
        let help = "Configured in vocabulary.servers";
        let known = self.by_name(&served_as);
        let id = known.unwrap_or_else(|| self.add_family(&served_as, help, kind.unit()));
        let family = &mut self.families[usize::from(id.0)];
        if family.unit != kind.unit() {
            return Err(VocabularyError::ServerUnit { name: name.clone(), served_as });
        }
        family.role = role.or(family.role);
        if !self.servers.add(name, *kind, id) {
            return Err(VocabularyError::ServerDuplicate { name: name.clone() });
        }
        Ok(())
    }

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

    /// The families with that role, the built-in ones first.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = FamilyId> + '_ {
        let families = self.families.iter().zip(0..);
        families.filter(move |(family, _)| family.role == Some(role)).map(|(_, index)| FamilyId(index))
    }

    /// Where a name on a model server's page leads.
    pub(crate) fn server_source(&self, name: &[u8]) -> Option<serving::Source> {
        self.servers.get(name)
    }

    fn source(&self, name: &[u8]) -> Option<Source> {
        self.sources.get(name).copied()
    }

    /// The name on pages of that source. Looked for: only messages need it.
    fn name_of(&self, source: Source) -> Arc<str> {
        let name =
            self.sources.iter().find(|(_, known)| **known == source).map(|(name, _)| String::from_utf8_lossy(name));
        name.map_or_else(|| Arc::clone(&self.family(source.family).name), Into::into)
    }

    fn add_family(&mut self, name: &str, help: &str, unit: Unit) -> FamilyId {
        let id = FamilyId(self.families.len() as u16);
        let by_server = !matches!(unit, Unit::Percent | Unit::Mebibytes);
        self.families.push(Family {
            name: name.into(),
            unit,
            max: unit.max(),
            help: help.into(),
            by_server,
            role: None,
        });
        id
    }

    fn add_source(&mut self, name: &str, family: FamilyId, scale: Scale) {
        let known = self.sources.get(name.as_bytes()).filter(|known| known.family == family);
        let rank = known.map_or(self.sources.len() as u16, |known| known.rank);
        self.sources.insert(name.as_bytes().into(), Source { family, scale, rank });
    }
}

fn is_metric_name(name: &str) -> bool {
    name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests;
