//! One page of an exporter → samples in canonical form.
//!
//! What can only be said of a whole page is decided after its last line: which of a family's names is heard, whether a
//! ratio is written as a percentage, and whose `pod` label is the scraper's.
//!
//! A line that is skipped (its labels do not parse or are too many, it is too long, or it names no card) must not vanish
//! from a card's sum (R1). Three rules see to that, the narrowest that applies:
//!
//! 1. It names its pod before it breaks: every card of that pod on this page (only the one that it names, if it does) gets
//!    a sample of the family that is unknown. Other pods and families live.
//! 2. It does not, but the process is on the page in another family: [`crate::attribution`] misses it in this one
//!    ([`Unknown::ProcessMissing`]). [`Page::unplaced`] says that no process of this page may be taken for idle because a
//!    line is absent.
//! 3. A card's only line of a family: the card has no value, and the pod fewer cards than it was given.
//!
//! What is *not* seen: a process all of whose lines are skipped, none of which names its pod, beside other processes of
//! the same pod on the same card. It is missing from the card's sum, and only [`Page::bad_lines`] tells of it. ACK's
//! exporter, the one that reports processes, writes labels in the order of their names: the pod's and the process's id
//! stand before the process's own name, the one label that a workload can choose freely.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    CardId, FamilyId, Owner, Sample, Scale, Source, Vocabulary,
    dialects::{Dialect, Told},
    families, range,
};
use crate::{
    exposition::{Format, Label, Limits, Line, Parser},
    reading::{Measured, Unknown},
    scrape::BadLine,
};

pub use crate::exposition::PageError;

/// What was read from one page.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// Recognized lines, in page order; then what stands for skipped lines that name their pod, all of it unknown.
    pub samples: Vec<Sample>,
    /// Timestamps that lines carry, by index into `samples`.
    pub timestamps: BTreeMap<usize, Timestamp>,
    /// Bad lines by reason. All but those whose value or timestamp is bad are skipped.
    pub bad_lines: BTreeMap<BadLine, u64>,
    /// A line of a family that is read was skipped, and it does not say which pod it is about.
    pub unplaced: bool,
}

/// Reads a page. `complete`: the transport vouches that the body is whole (see [`Parser::new`]). `measured`: the time of
/// every reading; the caller replaces it by [`Page::timestamps`] where it trusts those.
pub fn read(
    vocabulary: &Vocabulary,
    body: &[u8],
    format: Format,
    complete: bool,
    measured: Timestamp,
    limits: &Limits,
) -> Result<Page, PageError> {
    let mut parser = Parser::new(body, format, complete, limits);
    let mut draft = Draft::default();
    // Families stand in blocks, so that the last answer is the next one nearly always.
    let mut last: (&[u8], Option<Source>) = (b"", None);
    let mut want = |name| {
        if last.0 != name {
            last = (name, vocabulary.source(name));
        }
        last.1
    };
    while let Some(line) = parser.next_line(&mut want)? {
        match line {
            Line::Bad(reason) => draft.bad(reason),
            Line::Broken(source, reason, labels) => {
                draft.bad(reason);
                draft.skipped(source, &vocabulary.labels.read(labels));
            }
            Line::Sample(source, sample) => {
                let value = sample.value.map_err(|reason| draft.bad(reason)).ok();
                let told = vocabulary.labels.read(sample.labels);
                draft.line(source, &told, value, sample.integer, sample.timestamp);
            }
        }
    }
    let page = draft.finish(vocabulary, measured, limits.samples);
    // What stands for skipped lines counts too.
    if page.samples.len() > limits.samples {
        return Err(PageError::TooManySamples { limit: limits.samples });
    }
    Ok(page)
}

/// A line of the page before its value is scaled.
struct Row {
    source: Source,
    card: CardId,
    node: Option<Arc<str>>,
    owner: Option<Owner>,
    /// The owner is named by plain `pod` and `namespace`.
    plain: bool,
    process: Option<Arc<str>>,
    /// `None`: malformed.
    value: Option<f64>,
    timestamp: Option<Timestamp>,
}

type CardOfFamily = (FamilyId, Option<Arc<str>>, CardId);

impl Row {
    fn card_of_family(&self) -> CardOfFamily {
        (self.source.family, self.node.clone(), self.card.clone())
    }
}

/// What the page tells about a source whose scale is open.
#[derive(Default)]
struct Evidence {
    /// A value above 1.
    above_one: bool,
    /// A value that is not written as a whole number.
    fraction: bool,
}

#[derive(Default)]
struct Draft<'a> {
    rows: Vec<Row>,
    bad_lines: BTreeMap<BadLine, u64>,
    names: HashMap<&'a [u8], Arc<str>>,
    evidence: BTreeMap<u16, Evidence>,
    /// The lowest and the highest rank of the names under which each family is on the page.
    ranks: BTreeMap<FamilyId, (u16, u16)>,
    /// `pod` and `namespace` of lines whose workload is named otherwise: the exporter's own pods.
    scrapers: BTreeSet<(Arc<str>, Arc<str>)>,
    skipped: BTreeSet<Skipped>,
    unplaced: bool,
}

/// A line that was skipped, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Skipped {
    family: FamilyId,
    pod: PodName,
    uuid: Option<Arc<str>>,
    process: Option<Arc<str>>,
}

/// Namespace and name.
type PodName = (Arc<str>, Arc<str>);

impl<'a> Draft<'a> {
    fn bad(&mut self, reason: BadLine) {
        *self.bad_lines.entry(reason).or_default() += 1;
    }

    /// The label's value, shared among all lines of the page that have it.
    fn name(&mut self, label: Label<'a>) -> Arc<str> {
        self.names.entry(label.raw).or_insert_with(|| label.value().into()).clone()
    }

    fn line(
        &mut self,
        source: Source,
        told: &Told<'a>,
        value: Option<f64>,
        integer: bool,
        timestamp: Option<Timestamp>,
    ) {
        let Some(uuid) = told.uuid.map(|label| self.name(label)).or_else(|| card_by_index(told.index?)) else {
            // A line that is counted already is not counted again.
            if value.is_some() {
                self.bad(BadLine::NoCard);
            }
            self.skipped(source, told);
            return;
        };
        let (lowest, highest) = self.ranks.entry(source.family).or_insert((source.rank, source.rank));
        (*lowest, *highest) = (source.rank.min(*lowest), source.rank.max(*highest));
        if let Some(value) = value.filter(|value| credible_percent(*value)) {
            let evidence = self.evidence.entry(source.rank).or_default();
            evidence.above_one |= value > range::LEEWAY;
            evidence.fraction |= !integer;
        }
        if let (true, Some((namespace, pod))) = (told.dialect < Dialect::Plain, told.plain) {
            let own = (self.name(namespace), self.name(pod));
            self.scrapers.insert(own);
        }
        let owner = match (told.namespace, told.pod) {
            (Some(namespace), Some(pod)) => Some(Owner {
                namespace: self.name(namespace),
                pod: self.name(pod),
                container: told.container.map(|label| self.name(label)),
                uid: told.pod_uid.map(|label| self.name(label)),
            }),
            _ => None,
        };
        // In serverless GPU pods the host's name is the pod's: that is no node.
        let node = told.node.filter(|node| told.pod.is_none_or(|pod| pod.raw != node.raw));
        let row = Row {
            source,
            card: CardId { uuid, instance: told.instance.map(|label| self.name(label)) },
            node: node.map(|label| self.name(label)),
            owner,
            plain: told.dialect == Dialect::Plain,
            process: told.process.map(|label| self.name(label)),
            value,
            timestamp,
        };
        self.rows.push(row);
    }

    /// A line of which there is no row.
    fn skipped(&mut self, source: Source, told: &Told<'a>) {
        let (Some(namespace), Some(pod)) = (told.namespace, told.pod) else {
            self.unplaced = true;
            return;
        };
        let skipped = Skipped {
            family: source.family,
            pod: (self.name(namespace), self.name(pod)),
            uuid: told.uuid.map(|label| self.name(label)),
            process: told.process.map(|label| self.name(label)),
        };
        self.skipped.insert(skipped);
    }

    /// For each card of a family that is on the page under several names: the rank of the one that is heard. By card,
    /// because one page can bring the lines of an older and a newer exporter together.
    fn heard(&self) -> BTreeMap<CardOfFamily, u16> {
        let several =
            |row: &&Row| self.ranks.get(&row.source.family).is_some_and(|(lowest, highest)| lowest != highest);
        let mut heard = BTreeMap::new();
        for row in self.rows.iter().filter(several) {
            let rank = heard.entry(row.card_of_family()).or_insert(row.source.rank);
            *rank = row.source.rank.min(*rank);
        }
        heard
    }

    /// `most`: with more samples than this the page is refused, and so no more than one beyond are made of it.
    fn finish(self, vocabulary: &Vocabulary, measured: Timestamp, most: usize) -> Page {
        let heard = self.heard();
        let Self { rows, bad_lines, evidence, scrapers, skipped, unplaced, .. } = self;
        let samples = Vec::with_capacity(rows.len());
        let mut page = Page { samples, timestamps: BTreeMap::new(), bad_lines, unplaced };
        for row in rows {
            if !heard.is_empty() && heard.get(&row.card_of_family()).is_some_and(|rank| *rank != row.source.rank) {
                continue; // the page has the card's family under a better name too
            }
            let Row { source, card, node, mut owner, plain, process, value, timestamp } = row;
            if plain && owner.as_ref().is_some_and(|o| scrapers.contains(&(o.namespace.clone(), o.pod.clone()))) {
                owner = None;
            }
            let family = vocabulary.family(source.family);
            let pod_sum = owner.is_some() && process.is_none() && *family.name == *families::POD_SUMS;
            let leeway = if pod_sum { range::POD_SUM_LEEWAY } else { range::LEEWAY };
            let reading = value.ok_or(Unknown::Malformed).and_then(|value| {
                let name = || vocabulary.name_of(source);
                let factor = factor(source, value, evidence.get(&source.rank), name)?;
                range::check(value, factor, family.unit, family.max, leeway)
            });
            if let Some(at) = timestamp {
                page.timestamps.insert(page.samples.len(), at);
            }
            page.samples.push(Sample {
                family: source.family,
                card,
                node,
                owner,
                process,
                reading: reading.map(|value| Measured { value, at: measured }),
            });
        }
        let room = (most + 1).saturating_sub(page.samples.len());
        page.samples.extend(unknown_for(&skipped, &page.samples, room));
        page
    }
}

/// What stands for the lines that were skipped: an unknown sample for each card of the pod that such a line names. At most
/// `most` of them: there may be as many as lines times cards.
fn unknown_for(skipped: &BTreeSet<Skipped>, samples: &[Sample], most: usize) -> Vec<Sample> {
    if skipped.is_empty() {
        return Vec::new();
    }
    // One sample of each card of each pod.
    let mut cards: BTreeMap<PodName, BTreeMap<_, (&Sample, &Owner)>> = BTreeMap::new();
    for sample in samples {
        let Some(owner) = &sample.owner else { continue };
        let pod = (owner.namespace.clone(), owner.pod.clone());
        cards.entry(pod).or_default().insert((&sample.card, &sample.node), (sample, owner));
    }
    let unknown = skipped.iter().flat_map(|line| {
        let here = cards.get(&line.pod).into_iter().flat_map(BTreeMap::values);
        let here = here.filter(|(known, _)| line.uuid.as_ref().is_none_or(|uuid| *uuid == known.card.uuid));
        here.map(|(known, owner)| Sample {
            family: line.family,
            card: known.card.clone(),
            node: known.node.clone(),
            owner: Some((*owner).clone()),
            process: line.process.clone(),
            reading: Err(Unknown::Malformed),
        })
    });
    unknown.take(most).collect()
}

/// Whether a value may tell how its family is written: blanks and garbage may not.
fn credible_percent(value: f64) -> bool {
    (0.0..=super::MAX_PERCENT * range::LEEWAY).contains(&value)
}

/// The factor from the page's unit to ours, where the page or the vocabulary tells it. A value that is right in either unit
/// is unknown where the page gives reason to doubt: 0.95 beside 37 may be an idle card of a percentage, or a busy one beside
/// an odd value, and taking one for the other could shrink a service. 0 is 0 in both.
fn factor(
    source: Source,
    value: f64,
    evidence: Option<&Evidence>,
    name: impl Fn() -> Arc<str>,
) -> Result<f64, Unknown> {
    let (above_one, fraction) = evidence.map_or((false, false), |e| (e.above_one, e.fraction));
    let ambiguous = |doubt: &str| {
        let name = name();
        Err(Unknown::Ambiguous(format!(
            "the exporter reports {name} as {value}, and {doubt}; \
             give {name} its unit, ratio or percent, in vocabulary.families"
        )))
    };
    match source.scale {
        Scale::RatioOrPercent if above_one && value > 0.0 && value <= range::LEEWAY => {
            ambiguous("other values on its page are above 1, so that this may be a ratio or a percentage")
        }
        Scale::RatioOrPercent if above_one => Ok(1.0),
        Scale::RatioOrInteger if !fraction && above_one => Ok(1.0),
        Scale::RatioOrInteger if !fraction && credible_percent(value) && value > 0.0 => {
            ambiguous("nothing on its page tells a ratio from a percentage")
        }
        scale => Ok(scale.factor()),
    }
}

/// `gpu="3"` or `device="nvidia3"` → `gpu3`. Cards of different nodes are told apart by their nodes.
fn card_by_index(label: Label<'_>) -> Option<Arc<str>> {
    let digits = label.raw.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let index = std::str::from_utf8(&label.raw[label.raw.len() - digits..]).ok()?;
    (!index.is_empty()).then(|| format!("gpu{index}").into())
}

#[cfg(test)]
mod tests;
