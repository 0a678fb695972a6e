//! A bounded cache for questions that only the Kubernetes API server can answer: who is this token, may this user.
//!
//! Each answer lives for a fixed time. Callers that ask the same question while it is being asked share one lookup. A
//! lookup runs in its own task with a deadline, so that a client that hangs up neither cancels it for the others nor
//! leaves it undone. Failures are shared with those who wait and never kept.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    future::Future,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long an answer is believed: the reference server's default for TokenReview and for both verdicts of
/// SubjectAccessReview.
pub(crate) const TTL: Duration = Duration::from_secs(10);
/// How long the API server may take to answer.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers kept at most; beyond, the oldest goes first.
const CAPACITY: usize = 4096;
/// Questions under way at most; beyond, a new one is refused with [`LookupError::Busy`].
const PENDING: usize = 512;
/// Questions under way at most on account of one asker, of [`DecisionCache::get_for`]; beyond, a new one of that asker is
/// refused. Whoever asks for path after path must not keep the answers from all others.
const PENDING_OF_ONE: usize = PENDING / 8;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// The API server could not be reached, refused us, or answered something unreadable.
    #[error("the Kubernetes API server gave no answer: {0}")]
    Failed(Arc<str>),
    /// No answer in time.
    #[error("the Kubernetes API server gave no answer in time")]
    TimedOut,
    /// Too many questions under way.
    #[error("too many questions to the Kubernetes API server are under way already")]
    Busy,
}

impl LookupError {
    /// From any error of the client.
    pub(crate) fn failed(error: &impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string().into())
    }
}

/// A question, as a digest: neither tokens nor long user records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// SHA-256 of the question.
    pub(crate) fn of(question: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, question);
        let mut key = [0; 32];
        key.copy_from_slice(digest.as_ref());
        Self(key)
    }
}

type Lookup<V> = Shared<BoxFuture<'static, Result<V, LookupError>>>;

enum Slot<V> {
    Ready { value: V, until: Instant },
    Pending(Lookup<V>),
}

struct Slots<V> {
    by_key: HashMap<Key, Slot<V>>,
    /// Ready slots by expiry; the time to live is constant, so the front expires first.
    order: VecDeque<(Instant, Key)>,
    pending: usize,
    /// Those of them on account of an asker.
    pending_of: HashMap<Key, usize>,
}

impl<V> Slots<V> {
    /// Takes the front of `order` and its slot, unless that slot has been renewed since.
    fn forget_oldest(&mut self) {
        if let Some((until, key)) = self.order.pop_front()
            && matches!(self.by_key.get(&key), Some(Slot::Ready { until: kept, .. }) if *kept == until)
        {
            self.by_key.remove(&key);
        }
    }

    /// Takes a place for a question on account of `asker`, if there is one.
    fn begin(&mut self, asker: Option<Key>) -> Result<(), LookupError> {
        if self.pending >= PENDING {
            return Err(LookupError::Busy);
        }
        if let Some(asker) = asker {
            let own = self.pending_of.entry(asker).or_default();
            if *own >= PENDING_OF_ONE {
                return Err(LookupError::Busy);
            }
            *own += 1;
        }
        self.pending += 1;
        Ok(())
    }

    fn settle(&mut self, key: Key, asker: Option<Key>, answer: Option<V>, now: Instant) {
        self.pending -= 1;
        if let Some(asker) = asker
            && let Entry::Occupied(mut own) = self.pending_of.entry(asker)
        {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
        while self.order.front().is_some_and(|(until, _)| *until <= now) || self.order.len() >= CAPACITY {
            self.forget_oldest();
        }
        if let Some(value) = answer {
            let until = now + TTL;
            self.order.push_back((until, key));
            self.by_key.insert(key, Slot::Ready { value, until });
        } else {
            self.by_key.remove(&key);
        }
    }
}

/// Where the cache reads the time; tests pass it by hand.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Instant + Send + Sync>);

impl Clock {
    /// The runtime's clock.
    pub(crate) fn real() -> Self {
        Self(Arc::new(Instant::now))
    }

    fn now(&self) -> Instant {
        (self.0)()
    }
}

/// See the module.
pub(crate) struct DecisionCache<V> {
    slots: Arc<Mutex<Slots<V>>>,
    clock: Clock,
    lookup_timeout: Duration,
}

impl<V> std::fmt::Debug for DecisionCache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecisionCache").field("slots", &self.slots.lock().by_key.len()).finish_non_exhaustive()
    }
}

/// Settles its slot when it is dropped, so also when the lookup panics or the runtime stops.
struct Settle<V> {
    slots: Arc<Mutex<Slots<V>>>,
    key: Key,
    asker: Option<Key>,
    answer: Option<V>,
    clock: Clock,
}

impl<V> Drop for Settle<V> {
    fn drop(&mut self) {
        let answer = self.answer.take();
        self.slots.lock().settle(self.key, self.asker, answer, self.clock.now());
    }
}

impl<V: Clone + Send + Sync + 'static> DecisionCache<V> {
    /// An empty cache.
    pub(crate) fn new(clock: Clock) -> Self {
        let slots = Slots { by_key: HashMap::new(), order: VecDeque::new(), pending: 0, pending_of: HashMap::new() };
        Self { slots: Arc::new(Mutex::new(slots)), clock, lookup_timeout: LOOKUP_TIMEOUT }
    }

    /// The answer to `key`: kept, under way, or by `lookup`.
    pub(crate) async fn get<F>(&self, key: Key, lookup: impl FnOnce() -> F + Send) -> Result<V, LookupError>
    where
        F: Future<Output = Result<V, LookupError>> + Send + 'static,
    {
        self.ask(key, None, lookup).await
    }

    /// The same, on account of `asker`.
    pub(crate) async fn get_for<F>(
        &self,
        asker: Key,
        key: Key,
        lookup: impl FnOnce() -> F + Send,
    ) -> Result<V, LookupError>
    where
        F: Future<Output = Result<V, LookupError>> + Send + 'static,
    {
        self.ask(key, Some(asker), lookup).await
    }

    async fn ask<F>(&self, key: Key, asker: Option<Key>, lookup: impl FnOnce() -> F + Send) -> Result<V, LookupError>
    where
        F: Future<Output = Result<V, LookupError>> + Send + 'static,
    {
        let pending = {
            let mut slots = self.slots.lock();
            match slots.by_key.get(&key) {
                Some(Slot::Ready { value, until }) if *until > self.clock.now() => return Ok(value.clone()),
                Some(Slot::Pending(pending)) => pending.clone(),
                _ => {
                    slots.begin(asker)?;
                    let pending = self.start(key, asker, lookup());
                    slots.by_key.insert(key, Slot::Pending(pending.clone()));
                    pending
                }
            }
        };
        pending.await
    }

    fn start<F>(&self, key: Key, asker: Option<Key>, lookup: F) -> Lookup<V>
    where
        F: Future<Output = Result<V, LookupError>> + Send + 'static,
    {
        // Made before the task is: a task that never runs settles too.
        let settle = Settle { slots: Arc::clone(&self.slots), key, asker, answer: None, clock: self.clock.clone() };
        let limit = self.lookup_timeout;
        let task = async move {
            // Moves in as a whole: a closure that only names a field would leave the guard outside.
            let mut settle = settle;
            let result = tokio::time::timeout(limit, lookup).await.unwrap_or(Err(LookupError::TimedOut));
            settle.answer = result.as_ref().ok().cloned();
            result
        };
        // Spawned when it is first awaited, and not here under the lock: a runtime that is going down drops the task at once,
        // and with it the guard, which takes the same lock.
        async move { tokio::spawn(task).await.unwrap_or_else(|error| Err(LookupError::failed(&error))) }
            .boxed()
            .shared()
    }
}

#[cfg(test)]
pub(crate) mod tests;
