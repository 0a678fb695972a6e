//! One task per target: wait for the tick, wait for a place, fetch, read, write down.
//!
//! The scraper follows the set of targets: it starts and ends their tasks, and joins all of them before it returns. It
//! does not decide who is a target, and it does not judge values.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::Instant,
};

use super::{
    Batch, OwnReadings, ScrapeError, Store, Subject, TargetId,
    access::{Client, Clients},
    fetch::{FetchLimits, Fetched, fetch},
    serving::offers_nothing,
    store::{Span, Success, Ticket},
    targets::{Target, TargetSet},
    ticks::Ticks,
};
use crate::{
    clock::Clock,
    config, exposition,
    gpu::{FamilyId, Vocabulary, page},
    reading::{Reading, Unknown},
    serving::{self, Counters},
};

/// How far a trusted clock may be ahead of ours. Beyond that a page that is never renewed would look fresh for as long as
/// the clock is ahead.
const CLOCK_SKEW: Duration = Duration::from_secs(5);
/// A larger page is read on a thread for blocking work: it would hold up every other task of this thread for longer than
/// a hand-over costs (a quarter of a megabyte takes about a millisecond).
const READ_INLINE_BYTES: usize = 256 << 10;
/// A buffer that has grown beyond this is not kept for the next page.
const KEEP_BUFFER_BYTES: usize = 1 << 20;

/// Scrapes all targets until it is told to stop.
#[derive(Debug)]
pub struct Scraper {
    shared: Arc<Shared>,
    clients: Clients,
    tasks: JoinSet<()>,
    following: HashMap<TargetId, Following>,
    names: HashMap<Id, TargetId>,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    interval: Duration,
    limits: FetchLimits,
    page_limits: exposition::Limits,
    places: Semaphore,
    /// Model servers have places of their own: a hundred that do not answer must not hold up the exporters.
    server_places: Semaphore,
    server_fetch_limits: FetchLimits,
    server_limits: exposition::Limits,
    /// How long a server that offers no page is left alone.
    retry: Duration,
    /// Two pages that are further apart have no rate.
    max_age: Duration,
    buffers: Mutex<Vec<Vec<u8>>>,
    vocabulary: Arc<Vocabulary>,
    clock: Clock,
    store: Arc<Store>,
    /// All targets' ticks are counted from here.
    anchor: Instant,
}

/// A target's task.
#[derive(Debug)]
struct Following {
    target: Arc<Target>,
    task: AbortHandle,
}

/// The scraper ended because of a mistake in it.
#[derive(Debug, thiserror::Error)]
pub enum ScraperError {
    /// A task panicked.
    #[error("the task of target {target} died: {cause}")]
    Died {
        /// Its target.
        target: TargetId,
        /// What it died of.
        cause: JoinError,
    },
}

impl Scraper {
    /// A scraper that writes to `store`. `clock` stamps the batches.
    #[must_use]
    pub fn new(config: &config::Scrape, vocabulary: Arc<Vocabulary>, clock: Clock, store: Arc<Store>) -> Self {
        let config::Scrape {
            interval,
            timeout,
            max_age: _, // the readers' business; rates need it too
            concurrency,
            page_bytes,
            line_bytes: _, // see `exposition::Limits`, as for the next two
            labels: _,
            samples: _,
            targets: _, // see `super::targets`, as for the next two
            urls: _,
            discover: _,
            serving,
        } = config;
        let places = || Semaphore::new((*concurrency).clamp(1, Semaphore::MAX_PERMITS));
        let shared = Shared {
            interval: interval.0,
            limits: FetchLimits { timeout: timeout.0, page: *page_bytes, page_setting: "scrape.pageBytes" },
            server_fetch_limits: FetchLimits {
                timeout: timeout.0,
                page: serving.page_bytes,
                page_setting: "scrape.serving.pageBytes",
            },
            page_limits: exposition::Limits::from(config),
            places: places(),
            server_places: places(),
            server_limits: exposition::Limits { samples: serving.samples, ..exposition::Limits::from(config) },
            retry: serving.retry.0,
            max_age: config.max_age(),
            buffers: Mutex::default(),
            vocabulary,
            clock,
            store,
            anchor: Instant::now(),
        };
        Self {
            clients: Clients::new(shared.interval),
            shared: Arc::new(shared),
            tasks: JoinSet::new(),
            following: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Follows `targets` until `shutdown` completes; then every task has ended.
    pub async fn run(
        mut self,
        mut targets: watch::Receiver<Arc<TargetSet>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ScraperError> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut following_set = true;
        let set = Arc::clone(&targets.borrow_and_update());
        self.follow(&set);
        let result = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(()),
                changed = targets.changed(), if following_set => match changed {
                    Ok(()) => {
                        let set = Arc::clone(&targets.borrow_and_update());
                        self.follow(&set);
                    }
                    // Nobody will change the set any more: it stays as it is.
                    Err(_) => following_set = false,
                },
                Some(ended) = self.tasks.join_next_with_id() => match ended {
                    Ok((id, ())) => { self.names.remove(&id); }
                    Err(cause) => {
                        let target = self.names.remove(&cause.id());
                        if let (false, Some(target)) = (cause.is_cancelled(), target) {
                            break Err(ScraperError::Died { target, cause });
                        }
                    }
                },
            }
        };
        self.tasks.shutdown().await;
        result
    }

    /// Ends the tasks of targets that have left or changed, and starts those of new ones.
    fn follow(&mut self, set: &TargetSet) {
        let store = &self.shared.store;
        store.refuse(set);
        self.following.retain(|id, Following { task, .. }| {
            let stays = set.targets.contains_key(id);
            if !stays {
                task.abort();
                store.forget(id);
            }
            stays
        });
        for (id, target) in &set.targets {
            if self.following.get(id).is_some_and(|following| following.target == *target) {
                continue;
            }
            // The same target under another address, on another node: its batch is still its own.
            let ticket = store.track(target);
            let client = self.clients.of(target);
            let task = self.tasks.spawn(follow(Arc::clone(&self.shared), Arc::clone(target), client, ticket));
            self.names.insert(task.id(), id.clone());
            if let Some(before) = self.following.insert(id.clone(), Following { target: Arc::clone(target), task }) {
                before.task.abort();
            }
        }
    }
}

/// The life of one target.
async fn follow(shared: Arc<Shared>, target: Arc<Target>, client: Arc<Client>, ticket: Ticket) {
    let ticks = Ticks::new(shared.anchor, shared.interval, &target.id);
    let mut tick = ticks.next(Instant::now());
    let mut server = target.subject.clone().map(Server::new);
    let places = if server.is_some() { &shared.server_places } else { &shared.places };
    loop {
        tokio::time::sleep_until(ticks.at(tick)).await;
        // Never closed: the semaphore lives as long as the tasks.
        let Ok(place) = places.acquire().await else { return };
        let pause = shared.scrape(&target, &client, &ticket, server.as_mut()).await;
        drop(place);
        let next = ticks.next(Instant::now() + pause).max(tick + 1);
        if next > tick + 1 && pause.is_zero() {
            shared.store.missed(&ticket, next - tick - 1);
        }
        tick = next;
    }
}

/// What is known of a model server from one scrape to the next. It goes with the target.
#[derive(Debug)]
struct Server {
    subject: Subject,
    /// It has had a page: from now on a scrape without one is a failure.
    offers: bool,
    /// Scrapes without a page since the target is known.
    attempts: u32,
    /// The counters of the page before.
    before: Option<Counters>,
}

impl Server {
    fn new(subject: Subject) -> Self {
        Self { subject, offers: false, attempts: 0, before: None }
    }

    /// Whether it is taken for a server without a page now.
    fn failed(&mut self, error: &ScrapeError) -> bool {
        self.attempts = self.attempts.saturating_add(1);
        !self.offers && offers_nothing(error, self.attempts)
    }

    fn batch(
        &self,
        target: &Target,
        measured: Timestamp,
        readings: Result<BTreeMap<FamilyId, Reading>, Arc<str>>,
    ) -> Batch {
        Batch {
            target: target.id.clone(),
            rank: target.rank,
            node: target.node.clone(),
            measured,
            samples: Vec::new(),
            sample_times: BTreeMap::new(),
            absent_means_idle: false,
            own: Some(OwnReadings { subject: self.subject.clone(), readings }),
        }
    }
}

impl Shared {
    /// Scrapes once. The time for which the target is to be left alone, beyond the next tick.
    async fn scrape(
        &self,
        target: &Target,
        client: &Arc<Client>,
        ticket: &Ticket,
        mut server: Option<&mut Server>,
    ) -> Duration {
        let start = Instant::now();
        let mut body = self.buffers.lock().pop().unwrap_or_default();
        let limits = if server.is_some() { self.server_fetch_limits } else { self.limits };
        let outcome = match fetch(client, &target.url, limits, &mut body).await {
            Ok(fetched) => match &mut server {
                Some(server) => self.read_server(target, server, fetched, &body),
                None => self.read(target, fetched, &mut body).await,
            },
            Err(error) => Err(error),
        };
        let span = Span { start: self.clock.at(start), duration: start.elapsed() };
        let mut pause = Duration::ZERO;
        match outcome {
            Ok(success) => self.store.succeeded(ticket, span, success),
            Err(error) => match server.and_then(|server| server.failed(&error).then_some(server)) {
                Some(server) => {
                    let why = format!("{}: {error}", target.url).into();
                    let batch = server.batch(target, span.start, Err(why));
                    self.store.offers_nothing(ticket, span, batch, &error);
                    pause = self.retry;
                }
                None => self.store.failed(ticket, span, &error),
            },
        }
        // Not more of them than places.
        if body.capacity() <= KEEP_BUFFER_BYTES {
            self.buffers.lock().push(body);
        }
        pause
    }

    /// Page of a model server → batch. Such a page is small: `scrape.serving.samples` bounds what is kept of it.
    fn read_server(
        &self,
        target: &Target,
        server: &mut Server,
        fetched: Fetched,
        body: &[u8],
    ) -> Result<Success, ScrapeError> {
        let Fetched { arrived, format, complete } = fetched;
        let (vocabulary, measured) = (&*self.vocabulary, self.clock.at(arrived));
        let page = serving::page::read(vocabulary, body, format, complete, measured, &self.server_limits)?;
        if page.samples == 0 {
            let bad_lines = page.bad_lines;
            return Err(if bad_lines.is_empty() { ScrapeError::NoFamily } else { ScrapeError::Garbage { bad_lines } });
        }
        let readings = page.readings(vocabulary, server.before.as_ref(), self.max_age);
        let batch = server.batch(target, measured, Ok(readings));
        server.offers = true;
        server.before = Some(page.counters);
        Ok(Success { batch, bytes: body.len() as u64, samples: page.samples, bad_lines: page.bad_lines })
    }

    /// Page → batch.
    async fn read(&self, target: &Target, fetched: Fetched, body: &mut Vec<u8>) -> Result<Success, ScrapeError> {
        let bytes = body.len() as u64;
        let Fetched { arrived, format, complete } = fetched;
        let measured = self.clock.at(arrived);
        let limits = self.page_limits;
        let page = if body.len() <= READ_INLINE_BYTES {
            page::read(&self.vocabulary, body, format, complete, measured, &limits)
        } else {
            let vocabulary = Arc::clone(&self.vocabulary);
            let bytes = std::mem::take(body);
            let reading = tokio::task::spawn_blocking(move || {
                let page = page::read(&vocabulary, &bytes, format, complete, measured, &limits);
                (page, bytes)
            });
            match reading.await.map_err(JoinError::try_into_panic) {
                Ok((page, bytes)) => {
                    *body = bytes;
                    page
                }
                Err(Ok(panic)) => std::panic::resume_unwind(panic),
                // Not run at all: the runtime is going down, and this task with it.
                Err(Err(_)) => std::future::pending().await,
            }
        };
        let page::Page { mut samples, timestamps, bad_lines, unplaced } = page?;
        if samples.is_empty() && !bad_lines.is_empty() {
            return Err(ScrapeError::Garbage { bad_lines });
        }
        let mut sample_times = if target.access.honor_timestamps { timestamps } else { BTreeMap::new() };
        for (index, time) in &mut sample_times {
            let ahead = Duration::try_from(time.duration_since(measured)).unwrap_or_default();
            // Trusted as a target's clock may be, a sample cannot have been measured after it arrived.
            *time = (*time).min(measured);
            let Some(sample) = samples.get_mut(*index) else { continue };
            match &mut sample.reading {
                Ok(_) if ahead > CLOCK_SKEW => sample.reading = Err(Unknown::ClockAhead { ahead }),
                Ok(reading) => reading.at = *time,
                Err(_) => {}
            }
        }
        let batch = Batch {
            target: target.id.clone(),
            rank: target.rank,
            node: target.node.clone(),
            measured,
            samples,
            sample_times,
            // A process whose line was skipped is not idle (R1).
            absent_means_idle: target.access.absent_means_idle && !unplaced,
            own: None,
        };
        let samples = batch.samples.len() as u64;
        Ok(Success { batch, bytes, samples, bad_lines })
    }
}
