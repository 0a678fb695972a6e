//! Lists and watches each kind, for as long as the process lives.
//!
//! kube's `runtime::watcher` is not used: it shows neither bookmarks nor a connection that was made again, so that a
//! quiet kind cannot be told from a dead one, and its requests have no time limit of their own. What is served here must
//! not come from a picture of the cluster that stopped following it ([`STALE_AFTER`]).

use std::{convert::Infallible, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    task::{JoinError, JoinSet},
    time::Instant,
};
use tracing::{debug, info, warn};

use super::{Index, Kind, Scope, decode};

mod transport;

use transport::{Connection, WatchError};

/// A kind whose watch has shown no life for so long is out of sync: nothing is made of it until it is listed again.
/// Twice the time after which a healthy watch shows life at the latest ([`transport::WATCH_SECONDS`]), so that one lost
/// connection or one restart of the API server does not count, and short beside the minutes a model takes to load, so
/// that hardly a new replica can be ready without being known.
pub const STALE_AFTER: Duration = Duration::from_mins(2);

/// Most objects that are kept of one kind (R22): the pods of the largest cluster that Kubernetes is made for
/// (kubernetes.io, "Considerations for large clusters"). Beyond, the watch has failed: what was known of the kind stays as it
/// is until [`STALE_AFTER`], is not used from then on, and the log says what to do.
const MOST_OBJECTS: usize = 150_000;

/// The times of a watch; constants, but for tests.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// See [`STALE_AFTER`].
    stale_after: Duration,
    /// First pause after a failure; doubled up to `longest_pause`.
    first_pause: Duration,
    /// Longest pause between two attempts: bounds how long a recovered API server goes unnoticed.
    longest_pause: Duration,
    /// A watch that ends sooner than this is followed by a pause, ever longer, however it ended: an API server or proxy
    /// that closes at once, or lists and then refuses to watch, is not asked in a tight loop.
    shortest_watch: Duration,
    /// How soon a CRD that appears is noticed.
    absent_recheck: Duration,
    /// Without a byte for so long the connection is dead.
    idle: Duration,
}

impl Timing {
    const REAL: Self = Self {
        stale_after: STALE_AFTER,
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(15),
        shortest_watch: Duration::from_secs(1),
        absent_recheck: Duration::from_secs(15),
        idle: transport::IDLE_TIMEOUT,
    };
}

/// A watch ended, which only a fault in this program makes it do. The process must not go on without it.
#[derive(Debug, thiserror::Error)]
#[error("a watch of the cluster ended: {0}")]
pub struct WatchEnded(#[from] JoinError);

/// Keeps the index current. Returns only if a watch dies; dropping the future ends all watches.
///
/// # Errors
/// [`WatchEnded`].
pub async fn run(client: kube::Client, index: Arc<Index>) -> Result<Infallible, WatchEnded> {
    let mut tasks = JoinSet::new();
    for (kind, scope) in index.watches() {
        tasks.spawn(Watch::new(client.clone(), Arc::clone(&index), kind, scope, Timing::REAL).run());
    }
    match tasks.join_next().await {
        Some(Err(error)) => Err(error.into()),
        // A watch returns no value, and there is a watch for each kind.
        Some(Ok(never)) => match never {},
        None => std::future::pending().await,
    }
}

/// One kind in one scope.
struct Watch {
    connection: Connection,
    index: Arc<Index>,
    kind: Kind,
    scope: Scope,
    /// The resource version up to which the index follows; `None`: list first.
    position: Option<String>,
    /// When it was last known that the index follows the cluster.
    confirmed: Instant,
    /// Whether the index calls this watch out of sync.
    lost: bool,
    /// The last failure since it was last confirmed.
    failing: Option<String>,
    /// When the watch that is open, or was until just now, was answered.
    opened: Option<Instant>,
    pause: Duration,
    timing: Timing,
    /// [`MOST_OBJECTS`], but for tests.
    most: usize,
}

impl Watch {
    fn new(client: kube::Client, index: Arc<Index>, kind: Kind, scope: Scope, timing: Timing) -> Self {
        Self {
            connection: Connection::new(client, kind.path(&scope), timing.idle),
            index,
            kind,
            scope,
            position: None,
            confirmed: Instant::now(),
            lost: true,
            failing: None,
            opened: None,
            pause: timing.first_pause,
            timing,
            most: MOST_OBJECTS,
        }
    }

    async fn run(mut self) -> Infallible {
        loop {
            let outcome = self.follow().await;
            let settled = self.opened.take().is_some_and(|since| since.elapsed() >= self.timing.shortest_watch);
            if settled {
                self.pause = self.timing.first_pause;
            }
            let pause = match outcome {
                Ok(()) if settled => Duration::ZERO,
                Ok(()) => self.next_pause(),
                Err(WatchError::Absent) if self.kind.may_be_absent() => {
                    self.absent();
                    self.timing.absent_recheck
                }
                Err(error) => {
                    self.failed(&error);
                    // Listing this many again costs the API server much, and changes nothing soon.
                    let large = matches!(error, WatchError::TooMany(_));
                    if large { self.timing.stale_after } else { self.next_pause() }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Lists if need be, then follows until the server ends the watch.
    async fn follow(&mut self) -> Result<(), WatchError> {
        let position = match self.position.clone() {
            Some(position) => position,
            None => self.list().await?,
        };
        let mut lines = match self.connection.watch(&position).await {
            Ok(lines) => lines,
            Err(error) => {
                // An absent kind is the list's to confirm, an expired position is of no more use.
                if matches!(error, WatchError::Expired | WatchError::Absent) {
                    self.position = None;
                }
                return Err(error);
            }
        };
        self.opened = Some(Instant::now());
        self.confirm();
        while let Some(line) = lines.next().await? {
            if let Err(error) = self.event(line) {
                self.position = None;
                return Err(error);
            }
            self.confirm();
        }
        Ok(())
    }

    /// Replaces what the index holds by a complete list and returns its position.
    async fn list(&mut self) -> Result<String, WatchError> {
        let mut objects = Vec::new();
        let elsewhere = self.index.count_outside(self.kind, &self.scope);
        let mut token = None;
        loop {
            let body = self.page(token.as_deref()).await?;
            let page: WireList<'_> = serde_json::from_str(&body).map_err(|e| WatchError::garbled("list", &e))?;
            for item in page.items.into_iter().flatten() {
                match self.index.decode(self.kind, item.get()) {
                    Ok(object) => objects.push(object),
                    Err(error) => warn!(kind = %self.kind, %error, "an object cannot be read and counts as deleted"),
                }
            }
            if elsewhere + objects.len() > self.most {
                return Err(WatchError::TooMany(self.most));
            }
            token = page.metadata.continue_token.filter(|token| !token.is_empty());
            if token.is_some() {
                continue;
            }
            let Some(position) = page.metadata.resource_version.filter(|version| !version.is_empty()) else {
                return Err(WatchError::Garbled("the list has no resourceVersion".into()));
            };
            debug!(kind = %self.kind, scope = %self.scope, objects = objects.len(), "listed");
            self.index.reset(self.kind, &self.scope, objects);
            self.lost = false;
            self.position = Some(position.clone());
            self.confirm();
            return Ok(position);
        }
    }

    /// One page of the list. Meanwhile nothing is followed: a list that takes too long must not keep the old picture in use.
    async fn page(&mut self, token: Option<&str>) -> Result<String, WatchError> {
        let Self { connection, index, kind, scope, confirmed, lost, timing, .. } = self;
        let mut page = std::pin::pin!(connection.list(token));
        if !*lost {
            tokio::select! {
                page = &mut page => return page,
                () = tokio::time::sleep_until(*confirmed + timing.stale_after) => {}
            }
            lose(index, *kind, scope);
            *lost = true;
        }
        page.await
    }

    /// Takes in one line of the watch. After an error the position is of no more use: the line may have been a change.
    fn event(&mut self, line: &str) -> Result<(), WatchError> {
        let garbled = |error: &serde_json::Error| WatchError::garbled("event", error);
        let event: WireEvent<'_> = serde_json::from_str(line).map_err(|e| garbled(&e))?;
        let json = event.object.get();
        match &*event.r#type {
            "ADDED" | "MODIFIED" => {
                self.index.apply(self.kind, json);
                if self.index.count(self.kind) > self.most {
                    return Err(WatchError::TooMany(self.most));
                }
            }
            "DELETED" => self.index.delete(self.kind, &decode::key(json).map_err(|e| garbled(&e))?),
            "BOOKMARK" => {}
            "ERROR" => {
                let WireStatus { code, message } = serde_json::from_str(json).map_err(|e| garbled(&e))?;
                return Err(WatchError::refused(code, message));
            }
            other => return Err(WatchError::Garbled(format!("an event of the unknown type {other:?}"))),
        }
        let versioned: WireVersioned = serde_json::from_str(json).map_err(|e| garbled(&e))?;
        self.position = Some(versioned.metadata.resource_version);
        Ok(())
    }

    /// The API server has just shown that this watch follows.
    fn confirm(&mut self) {
        self.confirmed = Instant::now();
        if self.failing.take().is_some() {
            info!(kind = %self.kind, scope = %self.scope, "the watch has recovered");
            self.index.note(self.kind, &self.scope, None);
        }
    }

    /// The kind does not exist on this cluster: there are none of it, which is something to know.
    fn absent(&mut self) {
        self.index.reset(self.kind, &self.scope, Vec::new());
        self.lost = false;
        self.position = None;
        self.confirm();
    }

    fn failed(&mut self, error: &WatchError) {
        let (kind, scope, problem) = (self.kind, &self.scope, error.to_string());
        if matches!(error, WatchError::Expired) {
            // Ordinary: the API server forgets after minutes, and at each restart.
            debug!(%kind, %scope, error = problem, "listing again");
        } else if self.failing.as_ref() != Some(&problem) {
            warn!(%kind, %scope, error = problem, "the watch fails");
            self.index.note(kind, scope, Some(problem.clone()));
            self.failing = Some(problem);
        }
        if self.confirmed.elapsed() >= self.timing.stale_after && !self.lost {
            lose(&self.index, kind, scope);
            self.lost = true;
        }
        if self.lost || matches!(error, WatchError::Expired) {
            // After so long only a complete list is the truth again.
            self.position = None;
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(self.timing.longest_pause);
        pause
    }
}

fn lose(index: &Index, kind: Kind, scope: &Scope) {
    let limit_seconds = STALE_AFTER.as_secs();
    warn!(%kind, %scope, limit_seconds, "not followed for too long: what is known may be wrong and is not used");
    index.lose(kind, scope);
}

#[derive(Deserialize)]
struct WireList<'a> {
    metadata: WireListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireListMetadata {
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(default, rename = "continue")]
    continue_token: Option<String>,
}

#[derive(Deserialize)]
struct WireEvent<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct WireVersioned {
    metadata: WireVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireVersion {
    resource_version: String,
}

/// `metav1.Status`.
#[derive(Deserialize)]
struct WireStatus {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[cfg(test)]
mod tests;
