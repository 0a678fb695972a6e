//! The lines of one page → claims: what the page says of a family on a card of a pod, or of a node.
//!
//! A line is looked at twice only: once to find out which *series* it belongs to (the same owner, card, process and node
//! recur in every family of a page, mostly in the same order, so that the next series is guessed before it is looked up),
//! and once to be added up. Everything that costs more is done once for each series.

mod line;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use self::line::{Line, Page};
use super::{Families, heard::Claim, pods::Roster};
use crate::{
    cluster::{Node, Pod},
    gpu::{CardId, FamilyId, Sample, Unit},
    reading::{Measured, Unknown, fresh},
    scrape::{Batch, TargetId},
};

/// What lines are judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub families: &'a Families<'a>,
    pub roster: &'a Roster<'a>,
    pub nodes: &'a BTreeMap<Arc<str>, Arc<Node>>,
    pub busy_percent: f64,
    pub now: Timestamp,
    pub max_age: Duration,
}

/// What all pages say.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    /// About pods, by their number in the roster.
    pub pods: Vec<Claim<'a, u32>>,
    /// About nodes, by their number in `node_names`.
    pub nodes: Vec<Claim<'a, u32>>,
    /// The nodes that are named, in the order in which they were met: that of the pages, so that the claims are sorted
    /// already where each page is about a node of its own.
    pub node_names: Vec<&'a Arc<str>>,
    pub seen: BTreeSet<FamilyId>,
    pub unattributed: u64,
    pub failures: BTreeMap<(TargetId, CardId), f64>,
}

/// What the lines of one series have in common. The container is left out: a process or a pod's total is the same
/// whichever container it is repeated for (R4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Series<'a> {
    owner: Option<(&'a str, &'a str, Option<&'a str>)>,
    card: &'a CardId,
    process: Option<&'a str>,
    node: Option<&'a str>,
}

impl Series<'_> {
    /// Equality that looks at addresses first: the names on a page are shared among its lines.
    fn is(&self, other: &Self) -> bool {
        let same = |a: &str, b: &str| std::ptr::eq(a, b) || a == b;
        let both = |a: Option<&str>, b: Option<&str>| match (a, b) {
            (Some(a), Some(b)) => same(a, b),
            (None, None) => true,
            _ => false,
        };
        both(self.process, other.process)
            && both(self.node, other.node)
            && same(&self.card.uuid, &other.card.uuid)
            && both(self.card.instance.as_deref(), other.card.instance.as_deref())
            && match (self.owner, other.owner) {
                (Some(a), Some(b)) => same(a.1, b.1) && same(a.0, b.0) && both(a.2, b.2),
                (None, None) => true,
                _ => false,
            }
    }
}

/// A series with everything about it looked up.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    series: Series<'a>,
    /// The series that followed this one the last time: the guess for the next line.
    next: u32,
    /// Number of the card on this page.
    card: u32,
    /// Number of the owner on this page; 0: the line names none.
    owner: u32,
    /// Number of the process on this page; 0: the line names none.
    process: u32,
    /// The existing pod of that name.
    pod: Option<(u32, &'a Pod)>,
    /// The line's UID is that of another pod of the same name.
    namesake: bool,
    node: Option<&'a Arc<str>>,
}

/// Reads pages one after the other; its tables are emptied, not freed, between them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rules: Rules<'a>,
    claims: Claims<'a>,
    seen: Vec<bool>,
    found: Vec<Found<'a>>,
    by_series: HashMap<Series<'a>, u32>,
    cards: HashMap<&'a CardId, u32>,
    owners: HashMap<(&'a str, &'a str), u32>,
    processes: HashMap<&'a str, u32>,
    /// Numbers of nodes, over all pages.
    nodes: HashMap<&'a str, u32>,
    lines: Vec<Line>,
    card_lines: Vec<Line>,
    values: Vec<f64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rules: Rules<'a>) -> Self {
        Self {
            seen: vec![false; rules.families.all.len()],
            rules,
            claims: Claims {
                pods: Vec::new(),
                nodes: Vec::new(),
                node_names: Vec::new(),
                seen: BTreeSet::new(),
                unattributed: 0,
                failures: BTreeMap::new(),
            },
            found: Vec::new(),
            by_series: HashMap::new(),
            cards: HashMap::new(),
            owners: HashMap::new(),
            processes: HashMap::new(),
            nodes: HashMap::new(),
            lines: Vec::new(),
            card_lines: Vec::new(),
            values: Vec::new(),
        }
    }

    pub(super) fn finish(mut self) -> Claims<'a> {
        self.claims.seen =
            self.seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(index, _)| FamilyId(index as u16)).collect();
        self.claims
    }

    /// Adds the claims of one page. `index` is the number under which `batch` is known to the caller.
    pub(super) fn read(&mut self, index: usize, batch: &'a Batch) {
        self.found.clear();
        self.by_series.clear();
        self.cards.clear();
        self.owners.clear();
        self.processes.clear();
        self.lines.clear();
        let page = Page::new(batch, index as u32, self.rules);
        let (pods, nodes) = (self.claims.pods.len(), self.claims.nodes.len());
        let mut with_processes = BTreeSet::new();
        let mut last = None;
        for (number, sample) in batch.samples.iter().enumerate() {
            if self.rules.families.get(sample.family).is_none() {
                continue;
            }
            let series = self.series(batch, sample, last);
            last = Some(series);
            let Found { card, owner, process, pod, .. } = self.found[series as usize];
            if (owner > 0 || process > 0) && pod.is_none() {
                self.claims.unattributed += 1;
            }
            if process > 0 {
                with_processes.insert(sample.family);
            }
            self.seen[usize::from(sample.family.0)] |= page.fresh(number).is_ok();
            self.lines.push(Line { card, owner, family: sample.family, process, series, sample: number as u32 });
        }
        let mut lines = std::mem::take(&mut self.lines);
        lines.sort_unstable();
        for lines in lines.chunk_by(|a, b| a.card == b.card) {
            self.card(page, lines, &with_processes);
        }
        self.lines = lines;
        // Short runs that are sorted make the sort of all claims a merge.
        self.claims.pods[pods..].sort_unstable_by(Claim::by_place);
        self.claims.nodes[nodes..].sort_unstable_by(Claim::by_place);
    }

    /// The number of the sample's series: guessed from the one before, or looked up, or new.
    fn series(&mut self, batch: &'a Batch, sample: &'a Sample, last: Option<u32>) -> u32 {
        let series = Series {
            owner: sample.owner.as_ref().map(|owner| (&*owner.namespace, &*owner.pod, owner.uid.as_deref())),
            card: &sample.card,
            process: sample.process.as_deref(),
            node: sample.node.as_deref(),
        };
        let guess = last.map_or(0, |last| self.found[last as usize].next);
        if self.found.get(guess as usize).is_some_and(|found| found.series.is(&series)) {
            return guess;
        }
        let fresh = self.found.len() as u32;
        let number = *self.by_series.entry(series).or_insert(fresh);
        if number == fresh {
            let found = self.look_up(batch, sample, series);
            self.found.push(found);
        }
        if let Some(last) = last {
            self.found[last as usize].next = number;
        }
        number
    }

    fn look_up(&mut self, batch: &'a Batch, sample: &'a Sample, series: Series<'a>) -> Found<'a> {
        // Neighbours share most of what they name: what the series before has is not looked up again.
        let before = self.found.last();
        let of_owner = before.filter(|before| before.series.owner == series.owner);
        let of_card = before.filter(|before| before.series.card == series.card);
        let of_node = before.filter(|before| before.series.node == series.node);
        let cards = self.cards.len() as u32;
        let owners = self.owners.len() as u32 + 1;
        let processes = self.processes.len() as u32 + 1;
        let (owner, pod) = match (of_owner, series.owner) {
            (Some(before), _) => (before.owner, before.pod),
            (None, None) => (0, None),
            (None, Some((namespace, name, _))) => {
                (*self.owners.entry((namespace, name)).or_insert(owners), self.rules.roster.find(namespace, name))
            }
        };
        let node = match (of_node, &sample.node) {
            (Some(before), _) => before.node,
            (None, Some(named)) => {
                let known = self.rules.nodes.get_key_value(named).map(|(name, _)| name);
                known.or(batch.node.as_ref()).or(Some(named))
            }
            (None, None) => batch.node.as_ref(),
        };
        let card = match of_card {
            Some(before) => before.card,
            None => *self.cards.entry(&sample.card).or_insert(cards),
        };
        Found {
            series,
            next: self.found.len() as u32 + 1,
            card,
            owner,
            process: series.process.map_or(0, |process| *self.processes.entry(process).or_insert(processes)),
            namesake: matches!((series.owner, pod), (Some((_, _, Some(uid))), Some((_, pod))) if uid != &*pod.uid),
            pod,
            node,
        }
    }

    /// All lines of one card, sorted.
    fn card(&mut self, page: Page<'a>, lines: &[Line], with_processes: &BTreeSet<FamilyId>) {
        let Some(first) = lines.first() else { return };
        let card = self.found[first.series as usize].series.card;
        let start = self.claims.pods.len();
        for lines in lines.chunk_by(|a, b| a.owner == b.owner) {
            if let Some((number, pod)) = self.found[lines[0].series as usize].pod {
                self.pod(page, card, number, pod, lines, with_processes);
            }
        }
        let failed = page.attribution_failed(lines, &self.claims.pods[start..]);
        if let Some(device) = failed {
            for claim in &mut self.claims.pods[start..] {
                if claim.reading.is_ok() && self.rules.families.unit(claim.family) == Unit::Percent {
                    claim.reading = Err(Unknown::AttributionFailed { card: card.uuid.to_string(), device });
                }
            }
            self.claims.failures.insert((page.batch.target.clone(), card.clone()), device);
        }
        self.node(page, card, lines, failed);
    }

    /// What the page says of one pod on one card.
    fn pod(
        &mut self,
        page: Page<'a>,
        card: &'a CardId,
        place: u32,
        pod: &Pod,
        lines: &[Line],
        with_processes: &BTreeSet<FamilyId>,
    ) {
        let found = &self.found;
        let is_own =
            |line: &Line| !found[line.series as usize].namesake && page.is_after_start(pod, line.sample as usize);
        let mut processes: Vec<u32> =
            lines.iter().filter(|line| line.process > 0 && is_own(line)).map(|line| line.process).collect();
        processes.sort_unstable();
        processes.dedup();

        let start = self.claims.pods.len();
        for lines in lines.chunk_by(|a, b| a.family == b.family) {
            let family = lines[0].family;
            let mut own = lines.iter().copied().filter(is_own).peekable();
            let reading = if own.peek().is_none() {
                Err(Unknown::BeforeStart)
            } else {
                let listed = |process: &u32| lines.iter().any(|line| line.process == *process && is_own(line));
                let whole = lines.iter().any(|line| line.process == 0 && is_own(line)) || processes.iter().all(listed);
                let reading = page.total(own, self.rules.families.unit(family), &mut self.values);
                if whole || page.idle_if_absent(family) {
                    reading
                } else {
                    let missing = processes.iter().copied().filter(|process| !listed(process));
                    reading.and_then(|_| Err(process_missing(found, missing, card)))
                }
            };
            self.claims.pods.push(Claim { place, family, card, batch: page.index, reading });
        }
        if processes.is_empty() {
            return;
        }
        // Families in which the page lists none of the pod's processes on this card.
        let idle = self.rules.families.process_utilization.iter().filter(|_| page.batch.absent_means_idle);
        let absent: BTreeSet<FamilyId> = with_processes.iter().chain(idle).copied().collect();
        for family in absent {
            if self.claims.pods[start..].iter().any(|claim| claim.family == family) {
                continue;
            }
            let reading = if page.idle_if_absent(family) {
                fresh(Measured { value: 0.0, at: page.batch.measured }, page.rules.now, page.rules.max_age)
            } else {
                Err(process_missing(&self.found, processes.iter().copied(), card))
            };
            self.claims.pods.push(Claim { place, family, card, batch: page.index, reading });
        }
    }

    /// What the page says of a card as a part of its node: the device's own line, else the sum of all processes, else the
    /// largest of its pods' totals.
    fn node(&mut self, page: Page<'a>, card: &'a CardId, lines: &[Line], failed: Option<f64>) {
        let Some(name) = lines.iter().filter_map(|line| self.found[line.series as usize].node).min() else { return };
        let place = *self.nodes.entry(name).or_insert_with(|| {
            self.claims.node_names.push(name);
            self.claims.node_names.len() as u32 - 1
        });
        let mut by_family = std::mem::take(&mut self.card_lines);
        by_family.clear();
        by_family.extend_from_slice(lines);
        by_family.sort_unstable_by_key(|line| (line.family, line.process, line.owner, line.sample));
        for lines in by_family.chunk_by(|a, b| a.family == b.family) {
            let family = lines[0].family;
            let unit = self.rules.families.unit(family);
            let is_device = |line: &Line| line.process == 0 && line.owner == 0;
            let device = lines.iter().any(is_device);
            let processes = lines.iter().any(|line| line.process > 0);
            let counted = lines.iter().copied().filter(|line| match (device, processes) {
                (true, _) => is_device(line),
                (false, true) => line.process > 0,
                (false, false) => true,
            });
            let mut reading = page.total(counted, unit, &mut self.values);
            if let (Some(device), false, Unit::Percent, Ok(_)) = (failed, device, unit, &reading) {
                reading = Err(Unknown::AttributionFailed { card: card.uuid.to_string(), device });
            }
            self.claims.nodes.push(Claim { place, family, card, batch: page.index, reading });
        }
        self.card_lines = by_family;
    }
}

/// Names a process that the family's lines lack: of several, the one whose id sorts first.
fn process_missing(found: &[Found<'_>], missing: impl Iterator<Item = u32>, card: &CardId) -> Unknown {
    let missing: BTreeSet<u32> = missing.collect();
    let named = found.iter().filter(|found| missing.contains(&found.process));
    let process = named.filter_map(|found| found.series.process).min().unwrap_or_default();
    Unknown::ProcessMissing { process: process.to_owned(), card: card.uuid.to_string() }
}
