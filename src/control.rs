//! The control loop: what turns the engine into a product.
//!
//! ```text
//! snapshot ─▶ roster ─▶ desk (engine) ─▶ round ─┬─▶ advice (external metrics): every replica of the adapter
//!                                               ├─▶ actor (scale subresource)          ┐ the holder of
//!                                               └─▶ reporter (status, events, memory)  ┘ the Lease only
//! ```
//!
//! Every replica of the adapter decides, by the same function and from what it has measured itself; one of them writes. What
//! writes has tasks of its own: an API server that does not answer never delays a decision.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use crate::{
    burst::announce::Found,
    clock::Clock,
    config,
    engine::State,
    publish::{Publisher, decided::Decided},
};

pub mod act;
mod bill;
pub mod desk;
pub mod lease;
pub mod memory;
pub mod meters;
pub mod recorder;
pub mod report;
pub mod roster;
pub mod round;
pub mod scale;
pub mod words;

use act::Actor;
use desk::Desk;
use lease::{Election, Leadership, Terms};
use memory::Memory;
use meters::{Meters, Shown};
use recorder::Recorder;
use report::Reporter;
use round::Round;

/// A decision outlives so many ticks, at least [`SHORTEST_AGE`]: then the loop hangs, and its advice is unknown.
const TICKS: u32 = 3;
/// See [`TICKS`].
const SHORTEST_AGE: Duration = Duration::from_secs(15);
/// Pause between two attempts to read what was kept.
const RETRY: Duration = Duration::from_secs(2);

/// The recording cannot be begun.
#[derive(Debug, thiserror::Error)]
#[error("control.record.file: {}: {source}", file.display())]
pub struct CannotRecord {
    file: PathBuf,
    source: io::Error,
}

/// The tasks of the control loop, to be run side by side.
#[derive(Debug)]
pub struct Control {
    /// Asks for the Lease.
    pub election: Election,
    /// Decides.
    pub ticker: Ticker,
    /// Writes replicas.
    pub actor: Actor,
    /// Writes what is told and kept.
    pub reporter: Reporter,
    /// What was decided last.
    pub rounds: watch::Receiver<Option<Arc<Round>>>,
    /// For `/metrics`.
    pub shown: Shown,
}

impl Control {
    /// Everything, not yet running. `namespace` is our own, for what we keep.
    ///
    /// # Errors
    /// [`CannotRecord`].
    pub fn new(
        settings: &config::Control,
        scrape: config::Scrape,
        namespace: &str,
        client: &Client,
        publisher: Arc<Publisher>,
        clock: Clock,
    ) -> Result<Self, CannotRecord> {
        let config::Control { enabled: _, tick, identity, lease, record } = settings;
        let namespace = lease.namespace.as_deref().unwrap_or(namespace);
        let identity = lease::identity(identity.as_deref());
        let terms = Terms {
            namespace: namespace.to_owned(),
            name: lease.name.clone(),
            identity: identity.clone(),
            duration: lease.duration.0,
        };
        let leases = Api::namespaced(client.clone(), namespace);
        let (election, leadership) = Election::new(leases, terms, clock, Arc::new(Instant::now));
        let recorder = record.file.as_ref().map(|file| {
            let target = recorder::Target { file: file.clone(), bytes: record.bytes.0, files: record.files };
            Recorder::start(target).map_err(|source| CannotRecord { file: file.clone(), source })
        });
        let memory = Memory::new(Api::namespaced(client.clone(), namespace));
        let meters = Arc::new(Mutex::new(Meters::default()));
        let failures = act::Failures::default();
        let (sender, rounds) = watch::channel(None);
        publisher.advise(Decided::nothing_yet(clock.now()));
        Ok(Self {
            election,
            ticker: Ticker {
                publisher,
                scrape,
                clock,
                tick: tick.0,
                memory: memory.clone(),
                recorder: recorder.transpose()?,
                meters: Arc::clone(&meters),
                rounds: sender,
            },
            actor: Actor {
                client: client.clone(),
                leadership: leadership.clone(),
                meters: Arc::clone(&meters),
                failures: Arc::clone(&failures),
            },
            reporter: Reporter {
                client: client.clone(),
                leadership: leadership.clone(),
                identity,
                memory,
                failures,
                found: Found::default(),
            },
            rounds,
            shown: Shown { meters, leadership, clock, max_age: max_age(tick.0) },
        })
    }

    /// Whether this process writes to the cluster.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.actor.leadership.clone()
    }
}

/// Decides at each tick, and hands the round to everybody.
#[derive(Debug)]
pub struct Ticker {
    publisher: Arc<Publisher>,
    scrape: config::Scrape,
    clock: Clock,
    tick: Duration,
    memory: Memory,
    recorder: Option<Recorder>,
    meters: Arc<Mutex<Meters>>,
    rounds: watch::Sender<Option<Arc<Round>>>,
}

impl Ticker {
    /// Until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        // Deciding without what was kept would forget cooldowns, and then write over it.
        let restored = tokio::select! {
            () = &mut shutdown => return,
            restored = restore(&self.memory) => restored,
        };
        let mut desk = Desk::new(restored, self.recorder.take());
        let max_age = max_age(self.tick);
        let mut ticks = tokio::time::interval(self.tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                _ = ticks.tick() => {}
            }
            let began = Instant::now();
            let round = turn(&mut desk, &self.publisher, &self.scrape, &mut self.meters.lock(), self.clock, max_age);
            self.rounds.send_replace(Some(Arc::new(round)));
            self.meters.lock().ticked(began.elapsed().as_secs_f64());
        }
    }
}

/// The age beyond which a decision is unknown (R2).
fn max_age(tick: Duration) -> Duration {
    (tick * TICKS).max(SHORTEST_AGE)
}

/// Decides for everybody by what is published now, and publishes what should be; what is older than `max_age` says nothing
/// any more. The whole of a tick but its pace, which is another one in the demo.
pub fn turn(
    desk: &mut Desk,
    publisher: &Publisher,
    scrape: &config::Scrape,
    meters: &mut Meters,
    clock: Clock,
    max_age: Duration,
) -> Round {
    let round = desk.tick(&publisher.snapshot(), scrape, meters, clock.now());
    publisher.advise(round.decided(max_age));
    round
}

async fn restore(memory: &Memory) -> BTreeMap<Arc<str>, State> {
    let mut told = None;
    loop {
        match memory.read().await {
            Ok(states) => return states,
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    warn!(error, "what the engine has learned cannot be read yet: nothing is decided until then");
                    told = Some(error);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
