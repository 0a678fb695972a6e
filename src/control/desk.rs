//! One tick: for everybody on the roster an observation, and the engine's decision. Holds what the engine remembers of each
//! service between ticks. No clock, no I/O but the recorder's queue.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    bill::{Bill, pools},
    meters::Meters,
    recorder::Recorder,
    roster::{Entry, Subject, Work, is_whole, roster},
    round::{Outcome, Round, Settled},
};
use crate::{
    burst::findings::{Standing, Survey},
    cluster::{ObjectKey, View},
    config,
    engine::{
        self, Decision, State, decide,
        record::{Line, VERSION},
    },
    publish::Snapshot,
    signal::{Known, Observation, Observer, Stage},
};

/// Forecasts of one service that wait for their time, to be compared with what came.
const PENDING_FORECASTS: usize = 64;
/// Time between two forecasts that are kept for that.
const FORECAST_EVERY_SECONDS: f64 = 15.0;

/// Whose state it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// A policy's, by UID: one that is made again under the same name has learned nothing.
    Policy(Arc<str>),
    /// A Deployment's whose HPA reads our metrics.
    Implied(ObjectKey),
}

/// What is remembered of one service.
#[derive(Debug, Default)]
struct Kept {
    state: State,
    policy: Option<engine::Policy>,
    replicas: Option<u32>,
    last_scale: Option<Timestamp>,
    /// Pods that were not ready when they were last seen.
    starting: BTreeSet<Arc<str>>,
    /// When a forecast is due, its pool, and what it says.
    forecasts: VecDeque<(Timestamp, usize, f64)>,
    last_forecast: Option<Timestamp>,
}

/// Decides, tick by tick.
#[derive(Debug, Default)]
pub struct Desk {
    kept: BTreeMap<Owner, Kept>,
    bill: Bill,
    last: Option<Timestamp>,
    recorder: Option<Recorder>,
}

impl Desk {
    /// Begins with what was kept, by the policies' UIDs.
    #[must_use]
    pub fn new(restored: BTreeMap<Arc<str>, State>, recorder: Option<Recorder>) -> Self {
        let kept =
            restored.into_iter().map(|(uid, state)| (Owner::Policy(uid), Kept { state, ..Kept::default() })).collect();
        Self { kept, bill: Bill::default(), last: None, recorder }
    }

    /// Decides for everybody at `now`.
    pub fn tick(&mut self, snapshot: &Snapshot, scrape: &config::Scrape, meters: &mut Meters, now: Timestamp) -> Round {
        let Snapshot { readings, view, vocabulary, .. } = snapshot;
        let entries = match roster(view, vocabulary, |name| snapshot.is_metric(name)) {
            Ok(entries) => entries,
            Err(why) => {
                meters.nothing();
                return Round { at: now, outcomes: Err(why), whole: false };
            }
        };
        let survey = Survey::of(view);
        meters.billed(self.bill.tick(view, pools(survey.orders(), &entries), now));
        let since = self.last.replace(now).map_or(0.0, |last| now.duration_since(last).as_secs_f64().max(0.0));
        let mut observer = Observer::new(Known { readings, view, vocabulary, scrape }, now);
        let mut present = BTreeSet::new();
        let mut outcomes = Vec::with_capacity(entries.len());
        for Entry { subject, mode, deployment, work } in entries {
            if let Some(owner) = owner(&subject, deployment.as_ref().map(|deployment| &deployment.key)) {
                present.insert(owner);
            }
            let target =
                deployment.as_ref().map(|deployment| (deployment.key.clone(), deployment.inference_service.clone()));
            let verdict = work.map(|work| {
                let key = deployment.as_ref().map(|deployment| &deployment.key);
                self.settle(&subject, key, work, &mut observer, view, meters, (now, since))
            });
            let verdict = match verdict {
                Ok(Some(settled)) => Ok(settled),
                // Found a moment ago in the same view: it is there.
                Ok(None) => continue,
                Err(refusal) => Err(refusal),
            };
            let pools = match (&subject, &deployment) {
                (Subject::Policy(_), Some(deployment)) => survey.standing(deployment),
                _ => Standing::Unasked,
            };
            outcomes.push(Outcome { subject, mode, target, pools, verdict });
        }
        let whole = is_whole(view);
        // What was kept from before the start may belong to a policy in a namespace that is not listed yet.
        self.kept.retain(|owner, kept| present.contains(owner) || (!whole && kept.policy.is_none()));
        meters.services(&outcomes, now);
        Round { at: now, outcomes: Ok(outcomes), whole }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one service's share of a tick: what it is, and what all have in common"
    )]
    fn settle(
        &mut self,
        subject: &Subject,
        deployment: Option<&ObjectKey>,
        work: Work,
        observer: &mut Observer<'_>,
        view: &View,
        meters: &mut Meters,
        (now, since): (Timestamp, f64),
    ) -> Option<Settled> {
        let deployment = deployment?;
        let Work { mut settings, following } = work;
        if !view.ordered {
            // Nobody sees to it that the new replica comes to the earlier pool and that one of the later goes.
            settings.engine.pools.iter_mut().for_each(|pool| pool.return_after_seconds = None);
        }
        let observation = observer.observe(deployment, &settings.pools, settings.utilization)?;
        let kept = self.kept.entry(owner(subject, Some(deployment))?).or_default();
        let service: Arc<str> = format!("{}/{}", deployment.namespace, deployment.name).into();
        if let Some(recorder) = &mut self.recorder {
            if kept.policy.as_ref() != Some(&settings.engine) {
                recorder.begin_again(&service);
            }
            if recorder.must_begin(&service) {
                recorder.record(Line::Begin {
                    version: VERSION,
                    service: Arc::clone(&service),
                    state: Box::new(kept.state.clone()),
                    policy: Box::new(settings.engine.clone()),
                });
            }
        }
        let (state, decision) = decide(std::mem::take(&mut kept.state), &observation, &settings.engine, now);
        kept.state = state;
        if kept.replicas.replace(observation.replicas).is_some_and(|before| before != observation.replicas) {
            kept.last_scale = Some(now);
        }
        let pools: Vec<&Arc<str>> = settings.engine.pools.iter().map(|pool| &pool.name).collect();
        kept.measure(&observation, &decision, &pools, deployment, view, meters, (now, since));
        let ready = observation.pods.iter().filter(|pod| pod.stage == Stage::Ready).count() as u32;
        let durable = matches!(subject, Subject::Policy(_)).then(|| kept.state.to_json().ok()).flatten();
        let settled = Settled {
            ready,
            last_scale: kept.last_scale,
            following,
            max: settings.engine.max,
            durable: durable.map(Arc::from),
            decision: decision.clone(),
        };
        kept.policy = Some(settings.engine);
        if let Some(recorder) = &mut self.recorder {
            let (observation, decision) = (Box::new(observation), Box::new(decision));
            recorder.record(Line::Step { service, observation, decision });
        }
        Some(settled)
    }
}

fn owner(subject: &Subject, deployment: Option<&ObjectKey>) -> Option<Owner> {
    match subject {
        Subject::Policy(policy) => Some(Owner::Policy(Arc::clone(&policy.uid))),
        Subject::Implied(_) => deployment.cloned().map(Owner::Implied),
    }
}

impl Kept {
    /// What is counted about the service itself: times to ready, GPU seconds, errors of forecasts.
    #[expect(clippy::too_many_arguments, reason = "what was seen and decided, and where it is counted")]
    fn measure(
        &mut self,
        observation: &Observation,
        decision: &Decision,
        pools: &[&Arc<str>],
        deployment: &ObjectKey,
        view: &View,
        meters: &mut Meters,
        (now, since): (Timestamp, f64),
    ) {
        let pool_name = |pool: Option<usize>| pool.and_then(|pool| pools.get(pool)).map_or("", |name| &***name);
        let mut starting = BTreeSet::new();
        let mut ready: BTreeMap<Arc<str>, u32> = pools.iter().map(|pool| (Arc::clone(pool), 0)).collect();
        for pod in &observation.pods {
            if pod.stage == Stage::Ready {
                *ready.entry(pool_name(pod.pool).into()).or_default() += 1;
            }
            match (pod.stage, pod.ready_since) {
                (Stage::Ready, Some(ready)) if self.starting.contains(&pod.uid) => {
                    let seconds = ready.duration_since(pod.created).as_secs_f64();
                    meters.ready_after(pool_name(pod.pool), seconds);
                }
                (Stage::Pending | Stage::Starting, _) => {
                    starting.insert(Arc::clone(&pod.uid));
                }
                _ => {}
            }
            if pod.stage != Stage::Pending {
                let key = ObjectKey { namespace: Arc::clone(&deployment.namespace), name: Arc::clone(&pod.name) };
                let gpus = view.pods.get(&key).map_or(0, |pod| pod.gpus);
                meters.held_gpus(deployment, pool_name(pod.pool), f64::from(gpus) * since);
            }
        }
        meters.ready(deployment, ready);
        self.starting = starting;
        while let Some(&(due, pool, forecast)) = self.forecasts.front()
            && due <= now
        {
            self.forecasts.pop_front();
            if let Some(demand) = decision.demand {
                meters.missed_by(pool_name(Some(pool)), demand - forecast);
            }
        }
        let rested = |last: Timestamp| now.duration_since(last).as_secs_f64() >= FORECAST_EVERY_SECONDS;
        if self.last_forecast.is_none_or(rested) {
            for (pool, forecast) in decision.forecasts.iter().enumerate() {
                let horizon = jiff::SignedDuration::try_from_secs_f64(forecast.horizon_seconds);
                if let Some(due) = horizon.ok().and_then(|horizon| now.checked_add(horizon).ok()) {
                    self.forecasts.push_back((due, pool, forecast.value));
                }
            }
            // Pools have different horizons: what is due first goes first.
            self.forecasts.make_contiguous().sort_by_key(|(due, ..)| *due);
            while self.forecasts.len() > PENDING_FORECASTS {
                self.forecasts.pop_back();
            }
            self.last_forecast = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
