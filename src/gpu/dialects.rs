//! What labels mean: exporters name card, node, process and pod in several ways (R3).
//!
//! The pod is named by the first of these that the line speaks:
//!
//! 1. ACK: `NamespaceName PodName ContainerName`, recognized by `PodName`, `NamespaceName` or `ProcessId`, also where they
//!    are empty: ACK writes them empty for a process of no pod, and a `pod` beside them is then the exporter's own.
//! 2. Old spellings: `pod_name`, with `pod_namespace` (dcgm-exporter) or `namespace_name` (ACK's first exporter).
//! 3. `exported_pod`, `exported_namespace`, `exported_container`: Prometheus scraped without `honor_labels`, so that `pod`
//!    and `namespace` are the exporter's.
//! 4. `pod`, `namespace`, `container`: dcgm-exporter and ACS.
//!
//! Configured names come last and fill what the line's dialect leaves out. An empty value counts as absent.

use std::collections::BTreeMap;

use crate::exposition::Label;

/// What a label tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A part of the pod's name, in one dialect.
    Owner(OwnerPart, Dialect),
    /// One of [`Fact`].
    Fact(Fact),
}

/// The parts of [`super::Owner`] whose names belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnerPart {
    Namespace,
    Pod,
    Container,
}

/// Ways to name a pod, the first that a line speaks is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dialect {
    Ack,
    Old,
    Exported,
    Plain,
    Configured,
}

/// What lines tell beside the pod's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    Node,
    Process,
    Uuid,
    Instance,
    PodUid,
    /// The card's index on its node: names the card where no UUID does.
    Index,
}

const DIALECTS: usize = Dialect::Configured as usize + 1;
const FACTS: usize = Fact::Index as usize + 1;

/// Built-in names, by falling rank within each role.
const BUILT_IN: &[(&str, Role)] = {
    use Dialect::{Ack, Exported, Old, Plain};
    use OwnerPart::{Container, Namespace, Pod};
    &[
        ("NamespaceName", Role::Owner(Namespace, Ack)),
        ("PodName", Role::Owner(Pod, Ack)),
        ("ContainerName", Role::Owner(Container, Ack)),
        ("pod_namespace", Role::Owner(Namespace, Old)),
        ("namespace_name", Role::Owner(Namespace, Old)),
        ("pod_name", Role::Owner(Pod, Old)),
        ("container_name", Role::Owner(Container, Old)),
        ("exported_namespace", Role::Owner(Namespace, Exported)),
        ("exported_pod", Role::Owner(Pod, Exported)),
        ("exported_container", Role::Owner(Container, Exported)),
        ("namespace", Role::Owner(Namespace, Plain)),
        ("pod", Role::Owner(Pod, Plain)),
        ("container", Role::Owner(Container, Plain)),
        ("NodeName", Role::Fact(Fact::Node)),
        ("node_name", Role::Fact(Fact::Node)),
        ("hostname", Role::Fact(Fact::Node)),
        ("Hostname", Role::Fact(Fact::Node)),
        ("node", Role::Fact(Fact::Node)),
        ("ProcessId", Role::Fact(Fact::Process)),
        ("pid", Role::Fact(Fact::Process)),
        ("UUID", Role::Fact(Fact::Uuid)),
        ("uuid", Role::Fact(Fact::Uuid)),
        ("gpu_uuid", Role::Fact(Fact::Uuid)),
        ("GPU_I_ID", Role::Fact(Fact::Instance)),
        ("pod_uid", Role::Fact(Fact::PodUid)),
        ("gpu", Role::Fact(Fact::Index)),
        ("minor_number", Role::Fact(Fact::Index)),
        ("device", Role::Fact(Fact::Index)),
    ]
};

/// The keys of `vocabulary.labels` and what they stand for.
const KEYS: &[(&str, Role)] = &[
    ("namespace", Role::Owner(OwnerPart::Namespace, Dialect::Configured)),
    ("pod", Role::Owner(OwnerPart::Pod, Dialect::Configured)),
    ("container", Role::Owner(OwnerPart::Container, Dialect::Configured)),
    ("node", Role::Fact(Fact::Node)),
    ("process", Role::Fact(Fact::Process)),
    ("uuid", Role::Fact(Fact::Uuid)),
    ("instance", Role::Fact(Fact::Instance)),
    ("podUid", Role::Fact(Fact::PodUid)),
];

/// Why configured label names are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Not a key of `vocabulary.labels`.
    #[error(
        "vocabulary.labels: unknown key {key:?}; known are namespace, pod, container, node, process, uuid, instance, podUid"
    )]
    Key {
        /// As configured.
        key: String,
    },
    /// Not a label name.
    #[error("vocabulary.labels.{key}: {name:?} is not a label name; expected letters, digits and `_`, no digit first")]
    Name {
        /// As configured.
        key: String,
        /// As configured.
        name: String,
    },
    /// The label has a meaning already.
    #[error("vocabulary.labels.{key}: {name:?} already has a meaning, built in or under another key; remove it here")]
    Taken {
        /// As configured.
        key: String,
        /// As configured.
        name: String,
    },
}

/// All label names that mean something, sorted by length and name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Labels {
    names: Vec<(Box<[u8]>, Role, usize)>,
}

impl Labels {
    pub(super) fn built_in() -> Self {
        let names = BUILT_IN.iter().enumerate();
        Self::sorted(names.map(|(rank, (name, role))| (name.as_bytes().into(), *role, rank)).collect())
    }

    pub(super) fn new(configured: &BTreeMap<String, Vec<String>>) -> Result<Self, LabelError> {
        let mut names = Self::built_in().names;
        for (key, labels) in configured {
            let (_, role) =
                *KEYS.iter().find(|(known, _)| known == key).ok_or_else(|| LabelError::Key { key: key.clone() })?;
            for name in labels {
                let valid = !name.is_empty()
                    && !name.as_bytes()[0].is_ascii_digit()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !valid {
                    return Err(LabelError::Name { key: key.clone(), name: name.clone() });
                }
                if names.iter().any(|(known, ..)| **known == *name.as_bytes()) {
                    return Err(LabelError::Taken { key: key.clone(), name: name.clone() });
                }
                let rank = names.len();
                names.push((name.as_bytes().into(), role, rank));
            }
        }
        Ok(Self::sorted(names))
    }

    fn sorted(mut names: Vec<(Box<[u8]>, Role, usize)>) -> Self {
        names.sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        Self { names }
    }

    fn role(&self, name: &[u8]) -> Option<(Role, usize)> {
        let at = self.names.binary_search_by(|(known, ..)| (known.len(), &**known).cmp(&(name.len(), name))).ok()?;
        Some((self.names[at].1, self.names[at].2))
    }

    /// What the line's labels tell.
    pub(super) fn read<'a>(&self, labels: &[Label<'a>]) -> Told<'a> {
        let mut facts = [None; FACTS];
        let mut owners = [[None; 3]; DIALECTS];
        let mut ack = false;
        for label in labels {
            let Some((role, rank)) = self.role(label.name) else { continue };
            let place = match role {
                Role::Owner(part, dialect) => {
                    ack |= dialect == Dialect::Ack && part != OwnerPart::Container;
                    &mut owners[dialect as usize][part as usize]
                }
                Role::Fact(fact) => {
                    ack |= label.name == b"ProcessId";
                    &mut facts[fact as usize]
                }
            };
            if !label.raw.is_empty() && place.is_none_or(|(held, _): (usize, _)| rank < held) {
                *place = Some((rank, *label));
            }
        }
        let pod = OwnerPart::Pod as usize;
        let speaks = |dialect: Dialect| owners[dialect as usize][pod].is_some();
        let dialect = if ack {
            Dialect::Ack
        } else {
            [Dialect::Old, Dialect::Exported, Dialect::Plain]
                .into_iter()
                .find(|dialect| speaks(*dialect))
                .unwrap_or(Dialect::Configured)
        };
        let part = |dialect: Dialect, part: OwnerPart| owners[dialect as usize][part as usize].map(|(_, label)| label);
        let of = |wanted| part(dialect, wanted).or(part(Dialect::Configured, wanted));
        let fact = |fact: Fact| facts[fact as usize].map(|(_, label)| label);
        Told {
            dialect,
            namespace: of(OwnerPart::Namespace).or_else(|| {
                // An old or configured pod label beside the usual namespace label, unless that is the exporter's own.
                let own = dialect != Dialect::Ack && !speaks(Dialect::Plain);
                own.then(|| part(Dialect::Plain, OwnerPart::Namespace)).flatten()
            }),
            pod: of(OwnerPart::Pod),
            container: of(OwnerPart::Container),
            plain: part(Dialect::Plain, OwnerPart::Namespace).zip(part(Dialect::Plain, OwnerPart::Pod)),
            node: fact(Fact::Node),
            process: fact(Fact::Process),
            uuid: fact(Fact::Uuid),
            instance: fact(Fact::Instance),
            pod_uid: fact(Fact::PodUid),
            index: fact(Fact::Index),
        }
    }
}

/// What one line's labels tell; nothing in it is empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    /// In which dialect the pod is named.
    pub(super) dialect: Dialect,
    pub(super) namespace: Option<Label<'a>>,
    pub(super) pod: Option<Label<'a>>,
    pub(super) container: Option<Label<'a>>,
    /// Plain `namespace` and `pod`, whatever the dialect.
    pub(super) plain: Option<(Label<'a>, Label<'a>)>,
    pub(super) node: Option<Label<'a>>,
    pub(super) process: Option<Label<'a>>,
    pub(super) uuid: Option<Label<'a>>,
    pub(super) instance: Option<Label<'a>>,
    pub(super) pod_uid: Option<Label<'a>>,
    pub(super) index: Option<Label<'a>>,
}
