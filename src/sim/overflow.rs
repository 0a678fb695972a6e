//! The engine's scene: a service that outgrows its on-premises nodes, goes to the cloud and comes back, while pages are lost
//! at peak.
//!
//! As in [`scene`](super::scene) GPUs, pods, load and the HPA are simulated, and so are model servers with their queues
//! ([`fleet`](super::fleet)) and a node autoscaler ([`cluster`](super::cluster)). In between runs what `tidegate adapter`
//! runs: scrapes, attribution, the control loop's turn with roster, observation and engine
//! ([`control::turn`](crate::control::turn)), the order of release, and the metrics API over TLS, which the HPA asks for
//! `tidegate_desired_replicas`. The policy is one that an operator would apply.
//!
//! The clock of all this goes as fast as the scene is played, so that every time is the one that it would be.

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

pub mod act;
pub mod script;
mod world;

pub use act::{Flop, Summary, Turn};

use act::{Critic, Pods, Sync};
use world::World;

use super::{
    hpa::{
        Client, Hpa, Metric, Spec, Target, Tolerance,
        pace::{Amount, Behavior, Policy, Rules, Select},
    },
    scene::{
        COMPRESSION, SPEEDS, SceneError, Settings,
        adapter::{Adapter, exporters},
        certificates::Certificates,
    },
};
use crate::{
    attribution::Statistic,
    burst,
    clock::Clock,
    cluster::{Autoscaler, ObjectKey, ScalingPolicy},
    config::{self, Scrape, Serving},
    control::{
        self,
        desk::Desk,
        lease::Leadership,
        meters::{Meters, Shown},
        recorder,
        round::Settled,
        words,
    },
    engine::Decision,
    policy::{self, DESIRED_METRIC, hpa::Follower},
    publish::Snapshot,
    reading::fresh,
};

/// A value may always be this old by the machine's clock, whatever the pace: its scheduling delays are not compressed.
const LEAST_AGE: Duration = Duration::from_millis(250);
/// A decision outlives so many steps, as in the control loop.
const TURNS: u32 = 3;
/// Most bytes of a recording, far more than a scene's decisions take.
const RECORDING_BYTES: u64 = 1 << 30;

/// Plays the scene; `show` is called after each decision, and `record` is where decisions are recorded. A TLS crypto provider
/// must have been installed.
///
/// # Errors
/// [`SceneError`]. That a promise was broken is for [`Summary::judge`] to say.
pub async fn play(
    settings: Settings,
    record: Option<PathBuf>,
    mut show: impl FnMut(&Turn) -> io::Result<()>,
) -> Result<Summary, SceneError> {
    let mut director = Director::start(settings, record).await?;
    let played = director.play(&mut show).await;
    let Director { adapter, world, .. } = director;
    adapter.stop().await?;
    world.stop().await;
    played
}

/// Lets the world, the engine and the HPA take their turns.
struct Director {
    pace: f64,
    clock: Clock,
    started: Instant,
    world: World,
    adapter: Adapter,
    client: Client,
    hpa: Hpa,
    desk: Desk,
    meters: Arc<Mutex<Meters>>,
    /// Age beyond which a decision says nothing.
    decision_age: Duration,
    replicas: u32,
    critic: Critic,
}

impl Director {
    async fn start(settings: Settings, record: Option<PathBuf>) -> Result<Self, SceneError> {
        let Settings { speed, seed, metrics } = settings;
        let pace = COMPRESSION * speed.clamp(*SPEEDS.start(), *SPEEDS.end());
        let wall = |time: Duration| time.div_f64(pace);
        let least = |time: Duration| time.max(LEAST_AGE.mul_f64(pace));
        let clock = Clock::paced(pace);
        let policy = scaling_policy(clock.now())?;
        let follower = follower(&policy);
        let world = World::start(Arc::new(policy), autoscaler(&follower), seed).await?;
        let mut scrape = exporters(world.exporters(), wall(script::SCRAPE_INTERVAL), least(script::MAX_AGE));
        let retry = config::Duration(wall(Serving::default().retry.0));
        scrape = Scrape { serving: Serving { retry, ..Serving::default() }, ..scrape };
        let certificates = Certificates::make()?;
        let (meters, decision_age) = (Arc::<Mutex<Meters>>::default(), least(script::STEP * TURNS));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shown {
            meters: Arc::clone(&meters),
            leadership: Leadership::never(),
            clock,
            max_age: decision_age,
        }));
        let adapter = Adapter::start(clock, scrape, metrics, registry, &certificates).await?;
        let url = format!("https://{}", adapter.address);
        let client = Client::new(&url, &certificates.authority, &certificates.client)?;
        let recorder = record
            .map(|file| recorder::Recorder::start(recorder::Target { file, bytes: RECORDING_BYTES, files: 1 }))
            .transpose()?;
        let late = adapter.scrape.max_age() + script::SCRAPE_INTERVAL + script::STEP;
        Ok(Self {
            pace,
            clock,
            started: Instant::now(),
            world,
            client,
            hpa: Hpa::new(spec(&follower)),
            desk: Desk::new(BTreeMap::new(), recorder),
            meters,
            decision_age,
            adapter,
            replicas: script::FIRST_REPLICAS,
            critic: Critic::new(script::load(), late),
        })
    }

    async fn play(&mut self, show: &mut impl FnMut(&Turn) -> io::Result<()>) -> Result<Summary, SceneError> {
        self.world.settle_in(self.clock.now(), self.replicas).await?;
        self.started = Instant::now();
        let (mut sync, mut step) = (Duration::ZERO, Duration::ZERO);
        loop {
            let time = self.started.elapsed().mul_f64(self.pace);
            let removed = self.world.act(time, self.clock.now(), self.replicas).await?;
            for (pool, left_in_cloud) in removed {
                self.critic.removed(pool, left_in_cloud);
            }
            self.adapter.see(self.world.cluster.view());
            if let Some(mut turn) = self.decide(time)? {
                if time >= sync {
                    turn.sync = Some(self.sync(time, turn.unknown.is_some()).await);
                    // A late sync is not made up for.
                    while sync <= time {
                        sync += script::SYNC;
                    }
                }
                self.critic.watch(&turn);
                show(&turn).map_err(SceneError::Output)?;
                if time >= script::END && (self.over(&turn) || time >= script::END + script::GRACE) {
                    return Ok(self.summary());
                }
            }
            while step <= time {
                step += script::STEP;
            }
            let wake = self.started + step.div_f64(self.pace);
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                error = self.adapter.ended() => return Err(error),
            }
        }
    }

    fn over(&self, turn: &Turn) -> bool {
        turn.ready() <= script::ON_PREMISES && self.replicas as usize == turn.ready() && !self.world.pays_for_cloud()
    }

    fn summary(&self) -> Summary {
        let tally = self.world.tally();
        Summary {
            cloud_seconds: self.world.cloud_seconds(self.clock.now()).round(),
            requests: tally.requests,
            in_time: tally.in_time,
            seconds: (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            ..self.critic.summary()
        }
    }

    /// The control loop's turn, and the order of release that follows from it. Nothing before the first snapshot.
    fn decide(&mut self, time: Duration) -> Result<Option<Turn>, SceneError> {
        let Adapter { publisher, scrape, .. } = &self.adapter;
        let (desk, age) = (&mut self.desk, self.decision_age);
        let round = control::turn(desk, publisher, scrape, &mut self.meters.lock(), self.clock, age);
        let Some(outcome) = round.outcomes.ok().and_then(|outcomes| outcomes.into_iter().next()) else {
            return Ok(None);
        };
        let settled = outcome.verdict.map_err(|refusal| SceneError::Died(refusal.to_string()))?;
        let snapshot = self.adapter.publisher.snapshot();
        let costs = self.costs(&snapshot);
        self.world.cluster.annotate(&costs);
        Ok(Some(self.turn(time, &snapshot, &settled)))
    }

    fn turn(&mut self, time: Duration, snapshot: &Snapshot, settled: &Settled) -> Turn {
        let Decision { current, desired, demand, flags, .. } = &settled.decision;
        let mut pools = [Pods::default(); script::POOLS.len()];
        let mut pending = 0;
        for (_, node, ready) in self.world.cluster.pods() {
            match node.map(|node| &mut pools[script::NODES[node].pool]) {
                Some(pods) if ready => pods.ready += 1,
                Some(pods) => pods.starting += 1,
                None => pending += 1,
            }
        }
        Turn {
            time: time.as_secs_f64().round(),
            offered: hundredths(script::load().at(time)),
            utilization: self.utilization(snapshot).map(f64::round),
            queued: self.world.queued(),
            demand: demand.map(hundredths),
            pools,
            pending,
            current: *current,
            desired: *desired,
            reason: words::reason(&settled.decision),
            sentence: settled.decision.sentence(),
            unknown: flags.unknown.as_ref().map(ToString::to_string),
            sync: None,
            events: self.world.take_events(),
        }
    }

    fn utilization(&self, snapshot: &Snapshot) -> Option<f64> {
        let family = self.adapter.vocabulary.by_name(super::scene::script::METRIC)?;
        let service = snapshot.readings.services.get(&self.world.deployment())?;
        let mean = service.families.get(&family)?.statistics.get(&Statistic::Mean)?;
        let measured = mean.clone().ok()?;
        fresh(measured, self.clock.now(), self.adapter.scrape.max_age()).ok().map(|measured| measured.value)
    }

    /// The deletion costs that [`burst::controller`] would write.
    fn costs(&self, snapshot: &Snapshot) -> BTreeMap<Arc<str>, i32> {
        let Adapter { publisher, scrape, .. } = &self.adapter;
        let pods = snapshot.view.pods.values();
        let standing = pods.filter_map(|pod| Some((Arc::clone(&pod.uid), pod.deletion_cost?))).collect();
        let decided = publisher.decided();
        burst::wanted::costs(snapshot, decided.as_deref(), scrape, self.clock.now(), &standing)
    }

    /// Lets the HPA ask and follow. `unknown`: the engine says that something is.
    async fn sync(&mut self, time: Duration, unknown: bool) -> Sync {
        let before = self.replicas;
        let current = i32::try_from(before).unwrap_or(i32::MAX);
        let sync = self.hpa.sync(&mut self.client, self.clock.now(), current, &self.world.phases()).await;
        self.replicas = u32::try_from(sync.desired).unwrap_or_default();
        self.critic.moved(time, self.world.cluster.ready(), (before, self.replicas), unknown);
        let usage = sync.usage.first().copied().flatten();
        Sync {
            // The usage is that of one replica, in thousandths.
            advised: usage.map(|usage| (usage * i64::from(before) + 500) / 1000),
            invalid: sync.invalid.map(|(reason, message)| format!("{reason}: {message}")),
            replicas: self.replicas,
        }
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The script's policy, as watches would have shown it.
fn scaling_policy(now: Timestamp) -> Result<ScalingPolicy, SceneError> {
    let policy: policy::ScalingPolicy = serde_saphyr::from_str(script::SCALING_POLICY)
        .map_err(|error| SceneError::Died(format!("the scene's ScalingPolicy: {error}")))?;
    Ok(ScalingPolicy {
        key: ObjectKey { namespace: script::NAMESPACE.into(), name: script::POLICY.into() },
        uid: "00000000-0000-4000-8000-0000000000ff".into(),
        created: Some(now),
        generation: 1,
        spec: Ok(policy.spec),
        conditions: Vec::new(),
    })
}

/// What `tidegate policy hpa` prints for it.
fn follower(policy: &ScalingPolicy) -> Follower {
    let (min, max) = policy.spec.as_ref().map_or((1, 1), |spec| (spec.min_replicas, spec.max_replicas));
    Follower {
        policy: script::POLICY.into(),
        namespace: script::NAMESPACE.into(),
        deployment: format!("{}-predictor", script::SERVICE),
        min,
        max,
        tolerance: true,
    }
}

fn autoscaler(follower: &Follower) -> Autoscaler {
    let Follower { deployment, min, max, .. } = follower;
    let bound = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    Autoscaler {
        key: ObjectKey { namespace: script::NAMESPACE.into(), name: follower.name().into() },
        target_kind: "Deployment".into(),
        target_name: deployment.as_str().into(),
        metrics: vec![(DESIRED_METRIC.into(), 1.0)],
        exact: true,
        min: bound(*min),
        max: bound(*max),
        current: bound(*min),
        desired: bound(*min),
    }
}

/// That HPA for the model of the controller: no stabilization, no rates, no tolerance.
fn spec(follower: &Follower) -> Spec {
    let Follower { namespace, deployment, min, max, .. } = follower;
    let bound = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    let rules = Rules {
        window: Duration::ZERO,
        policies: vec![Policy { amount: Amount::Pods(bound(*max)), period: Duration::from_secs(1) }],
        select: Select::Max,
    };
    Spec {
        namespace: namespace.clone(),
        selector: format!("app=isvc.{deployment}"),
        min: bound(*min),
        max: bound(*max),
        metrics: vec![Metric::External {
            name: DESIRED_METRIC.into(),
            selector: format!("deployment={deployment}"),
            target: Target::Average(1000),
        }],
        behavior: Some(Behavior { up: rules.clone(), down: rules }),
        down_window: Duration::ZERO,
        tolerance: Tolerance { down: 0.0, up: 0.0 },
    }
}
