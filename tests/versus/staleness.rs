//! How long a dead exporter's last value is still served, and how old the answer claims it to be.

use std::{thread, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tidegate::{clock::Clock, sim::exporter::Fault};
use tokio::time::Instant;

use super::{
    cluster::workload::METRIC,
    connection::{Connection, request},
    contender::{Contender, Kind},
    quantity::items,
    scene::{LAST_WORDS, Scene, Service},
};

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(250);
/// Prometheus looks back five minutes.
const BOUND: Duration = Duration::from_secs(330);
/// As [`BOUND`], for a quick run.
const QUICK_BOUND: Duration = Duration::from_secs(40);
/// A value that has been gone for this long does not come back.
const GONE: Duration = Duration::from_secs(5);
/// How long an exporter writes timestamps before it dies: some scrapes.
const STAMPED: Duration = Duration::from_secs(10);
const STAMP: Duration = Duration::from_millis(200);

/// How the exporter was before it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exporter {
    /// As exporters are: values without timestamps.
    Plain,
    /// It wrote a timestamp on each line.
    WithTimestamps,
}

/// What became of its value.
#[derive(Debug, Clone, Serialize)]
pub struct Stale {
    /// Whose value.
    pub exporter: Exporter,
    /// Who served it.
    pub contender: Kind,
    /// How long after the exporter's death it was served last, seconds.
    pub served_for_s: f64,
    /// Whether it was still served when the run ended.
    pub cut_off: bool,
    /// How old the answers said it was at most, seconds.
    pub claimed_age_s: f64,
    /// What was answered afterwards.
    pub afterwards: String,
}

/// Kills the exporters, and asks both adapters four times a second.
pub async fn run(scene: &Scene<'_>, contenders: &[Contender], quick: bool) -> Result<Vec<Stale>, String> {
    // prometheus-adapter's client limits play no role in it: one of the two is asked.
    let asked: Vec<&Contender> =
        contenders.iter().filter(|contender| contender.kind != Kind::IncumbentDefault).collect();
    let mut services = vec![(Exporter::Plain, &scene.dying)];
    if !quick {
        services.push((Exporter::WithTimestamps, &scene.dying_stamped));
        let (start, clock) = (Instant::now(), Clock::start());
        while start.elapsed() < STAMPED {
            scene.dying_stamped.workload.set_fault(Fault::Frozen(clock.now()));
            tokio::time::sleep(STAMP).await;
        }
    }
    let bound = if quick { QUICK_BOUND } else { BOUND };
    let mut watches = Vec::new();
    for (exporter, service) in services {
        for contender in &asked {
            let mut watch = Watch::new(scene, service, exporter, contender)?;
            if !watch.look()? {
                return Err(format!("{} does not serve the value to begin with", contender.kind.label()));
            }
            watches.push(watch);
        }
        service.workload.set_fault(Fault::Dead);
        let death = Instant::now();
        for watch in watches.iter_mut().filter(|watch| watch.stale.exporter == exporter) {
            watch.death = death;
        }
    }
    // Threads of their own: a slow answer to one delays no other.
    let threads: Vec<_> = watches.into_iter().map(|watch| thread::spawn(move || watch.follow(bound))).collect();
    let join = |thread: thread::JoinHandle<Result<Stale, String>>| {
        thread.join().unwrap_or_else(|_| Err("a watching thread panicked".into()))
    };
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().map(join).collect());
    joined.await.map_err(|error| error.to_string())?
}

struct Watch {
    connection: Connection,
    request: Vec<u8>,
    clock: Clock,
    death: Instant,
    stale: Stale,
}

impl Watch {
    fn new(
        scene: &Scene<'_>,
        service: &Service<'_>,
        exporter: Exporter,
        contender: &Contender,
    ) -> Result<Self, String> {
        Ok(Self {
            connection: scene.connector.open(contender.port)?,
            request: request(&service.path(METRIC)),
            clock: Clock::start(),
            death: Instant::now(),
            stale: Stale {
                exporter,
                contender: contender.kind,
                served_for_s: 0.0,
                cut_off: false,
                claimed_age_s: 0.0,
                afterwards: String::new(),
            },
        })
    }

    fn follow(mut self, bound: Duration) -> Result<Stale, String> {
        loop {
            let served = self.look()?;
            let since = self.death.elapsed();
            if since > bound {
                self.stale.cut_off = served;
                return Ok(self.stale);
            }
            if !served && since.as_secs_f64() > self.stale.served_for_s + GONE.as_secs_f64() {
                return Ok(self.stale);
            }
            thread::sleep(GLANCE);
        }
    }

    /// Whether the value is served now.
    fn look(&mut self) -> Result<bool, String> {
        let answer = self.connection.send(&self.request)?;
        let (now, since) = (self.clock.now(), self.death.elapsed());
        if answer.status != 200 {
            self.stale.afterwards = format!("{}, {}", answer.status, said(&answer.body));
            return Ok(false);
        }
        let items = items(&answer.body)?;
        let Some(item) = items.iter().find(|item| (item.value - LAST_WORDS).abs() < f64::EPSILON) else {
            self.stale.afterwards = match items.first() {
                None => "200, no items".to_owned(),
                Some(item) => format!("200, {}", item.value),
            };
            return Ok(false);
        };
        // It is written in whole seconds, rounded down: the claim is up to a second younger than this.
        let stamp: Timestamp = item.timestamp.parse().map_err(|error| format!("{item:?}: {error}"))?;
        self.stale.claimed_age_s = self.stale.claimed_age_s.max(now.duration_since(stamp).as_secs_f64());
        self.stale.served_for_s = since.as_secs_f64();
        Ok(true)
    }
}

/// The message of a `Status`, or whatever it is.
fn said(body: &[u8]) -> String {
    let status: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str());
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}
