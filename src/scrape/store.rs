//! What is known of each target: its latest batch and how it is doing.
//!
//! Written by the schedule, read by everyone else as an immutable [`Snapshot`]. A failed scrape keeps the batch before
//! it, which ages out by `maxAge` (R2). A target that leaves takes its batch and its status along.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    BadLine, Batch, ScrapeError, TargetId, TargetStatus,
    targets::{Refusal, Target, TargetSet},
};

/// What is known of one target.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// The target.
    pub target: Arc<Target>,
    /// How it is doing.
    pub status: TargetStatus,
    /// Its latest page, however old.
    pub batch: Option<Arc<Batch>>,
}

/// Everything about all targets since the process started, those that have left included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Successful scrapes.
    pub successes: u64,
    /// Failed scrapes by [`ScrapeError::reason`].
    pub failures: BTreeMap<&'static str, u64>,
    /// Ticks at which a target's scrape could not start because the one before was still under way.
    pub missed: u64,
    /// Bytes of pages, after decompression.
    pub bytes: u64,
    /// Bad lines by reason.
    pub bad_lines: BTreeMap<BadLine, u64>,
}

/// All targets at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with each change.
    pub version: u64,
    /// Targets by name.
    pub targets: BTreeMap<TargetId, Arc<Tracked>>,
    /// What was asked for but is not scraped.
    pub refusals: Arc<[Refusal]>,
    /// Since the process started.
    pub totals: Totals,
}

impl Snapshot {
    /// The latest batch of each target that has one, by the target's name.
    pub fn batches(&self) -> impl Iterator<Item = &Arc<Batch>> {
        self.targets.values().filter_map(|tracked| tracked.batch.as_ref())
    }
}

/// A successful scrape.
#[derive(Debug)]
pub(super) struct Success {
    pub(super) batch: Batch,
    pub(super) bytes: u64,
    pub(super) samples: u64,
    pub(super) bad_lines: BTreeMap<BadLine, u64>,
}

/// When a scrape took place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: Timestamp,
    pub(super) duration: Duration,
}

/// The right to write about one target. It ends when the target leaves or is tracked anew, so that a scrape which was
/// under way then cannot bring the target back.
#[derive(Debug, Clone)]
pub(super) struct Ticket {
    id: TargetId,
    serial: u64,
}

/// The latest of each target. One writer at a time, for moments.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    version: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    serial: u64,
    entries: BTreeMap<TargetId, Entry>,
    refusals: Arc<[Refusal]>,
    totals: Totals,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    tracked: Arc<Tracked>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Without targets.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Mutex::default(), version: watch::Sender::new(0) }
    }

    /// All targets as they are now. Costs one reference count per target: readers that want to be spared bursts of
    /// changes take a snapshot at their own pace.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let version = *self.version.borrow();
        let state = self.state.lock();
        Snapshot {
            version,
            targets: state.entries.iter().map(|(id, entry)| (id.clone(), Arc::clone(&entry.tracked))).collect(),
            refusals: Arc::clone(&state.refusals),
            totals: state.totals.clone(),
        }
    }

    /// Tells of changes: a batch, a status, a target that came or left.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// From now on that target is written about. One that is tracked already keeps its batch and status.
    pub(super) fn track(&self, target: &Arc<Target>) -> Ticket {
        let ticket = {
            let mut state = self.state.lock();
            state.serial += 1;
            let serial = state.serial;
            let (status, batch) = match state.entries.remove(&target.id) {
                Some(Entry { tracked, .. }) => (tracked.status.clone(), tracked.batch.clone()),
                None => Default::default(),
            };
            let tracked = Arc::new(Tracked { target: Arc::clone(target), status, batch });
            state.entries.insert(target.id.clone(), Entry { serial, tracked });
            Ticket { id: target.id.clone(), serial }
        };
        self.changed();
        ticket
    }

    /// The target has left: batch and status go with it.
    pub(super) fn forget(&self, id: &TargetId) {
        self.state.lock().entries.remove(id);
        self.changed();
    }

    /// Takes over what is not scraped. Said once for each change of it.
    pub(super) fn refuse(&self, set: &TargetSet) {
        {
            let mut state = self.state.lock();
            if *state.refusals == *set.refusals {
                return;
            }
            state.refusals = set.refusals.as_slice().into();
        }
        match set.refusals.as_slice() {
            [] => tracing::info!("everything that the configuration asks for is scraped now"),
            [first, rest @ ..] => tracing::warn!(refused = rest.len() + 1, first = %first, "not everything is scraped"),
        }
        self.changed();
    }

    /// Ticks of that target have gone by without a scrape.
    pub(super) fn missed(&self, ticket: &Ticket, ticks: u64) {
        self.write(ticket, |tracked, totals| {
            tracked.status.missed += ticks;
            totals.missed += ticks;
        });
    }

    /// A page has been read.
    pub(super) fn succeeded(&self, ticket: &Ticket, span: Span, success: Success) {
        let Success { batch, bytes, samples, bad_lines } = success;
        let recovered = self.write(ticket, |tracked, totals| {
            let status = &mut tracked.status;
            status.last_attempt = Some(span.start);
            status.last_success = Some(span.start + span.duration);
            status.duration = span.duration;
            status.bytes = bytes;
            status.samples = samples;
            status.offers_nothing = None;
            totals.successes += 1;
            totals.bytes += bytes;
            count(&bad_lines, status, totals);
            tracked.batch = Some(Arc::new(batch));
            status.last_error.take()
        });
        if let Some(Some(error)) = recovered {
            tracing::info!(exporter = %ticket.id, last_error = %error, "scrape works again");
        }
    }

    /// A model server was asked and has no page; `batch` says so.
    pub(super) fn offers_nothing(&self, ticket: &Ticket, span: Span, batch: Batch, error: &ScrapeError) {
        let before = self.write(ticket, |tracked, _| {
            let status = &mut tracked.status;
            status.last_attempt = Some(span.start);
            status.duration = span.duration;
            status.last_error = None;
            tracked.batch = Some(Arc::new(batch));
            status.offers_nothing.replace(error.to_string())
        });
        if let Some(None) = before {
            tracing::debug!(server = %ticket.id, %error, "the model server offers no page of metrics");
        }
    }

    /// There is no page this time. The batch before stays.
    pub(super) fn failed(&self, ticket: &Ticket, span: Span, error: &ScrapeError) {
        let before = self.write(ticket, |tracked, totals| {
            let status = &mut tracked.status;
            status.last_attempt = Some(span.start);
            status.duration = span.duration;
            status.failures += 1;
            *totals.failures.entry(error.reason()).or_default() += 1;
            if let ScrapeError::Garbage { bad_lines } = error {
                count(bad_lines, status, totals);
            }
            // A model server that has had no page yet may well have none: that is not the operator's business.
            let is_news = tracked.target.subject.is_none() || status.last_success.is_some();
            (status.last_error.replace(error.to_string()), is_news)
        });
        // Once per outage, not once per tick; the counters tell the rest.
        if let Some((None, true)) = before {
            tracing::warn!(exporter = %ticket.id, %error, "scrape fails");
        }
    }

    /// Changes what is known of the ticket's target, if the ticket still counts.
    fn write<T>(&self, ticket: &Ticket, change: impl FnOnce(&mut Tracked, &mut Totals) -> T) -> Option<T> {
        let result = {
            let mut state = self.state.lock();
            let State { entries, totals, .. } = &mut *state;
            let entry = entries.get_mut(&ticket.id).filter(|entry| entry.serial == ticket.serial)?;
            change(Arc::make_mut(&mut entry.tracked), totals)
        };
        self.changed();
        Some(result)
    }

    fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }
}

fn count(bad_lines: &BTreeMap<BadLine, u64>, status: &mut TargetStatus, totals: &mut Totals) {
    for (reason, lines) in bad_lines {
        *status.bad_lines.entry(*reason).or_default() += lines;
        *totals.bad_lines.entry(*reason).or_default() += lines;
    }
}
