//! Moves against an API server that knows one Deployment's scale.

use axum::{body::Body, response::Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    attribution::scene::{key, now},
    burst::findings::Standing,
    cluster::ScalingPolicy,
    control::{roster::Subject, round::Settled},
    engine::{Decision, Flags, Verdict},
    policy::target::Following,
};

/// The scale of `llm`, and how often it was written.
type Scale = Arc<Mutex<(Value, usize)>>;

fn server() -> (Client, Scale) {
    let scale =
        json!({"metadata": {"name": "llm", "namespace": "prod", "resourceVersion": "7"}, "spec": {"replicas": 1}});
    let scale: Scale = Arc::new(Mutex::new((scale, 0)));
    let known = Arc::clone(&scale);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let known = Arc::clone(&known);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.map_err(|_| "no body")?;
            let mut known = known.lock();
            if parts.method == http::Method::PUT {
                *known = (serde_json::from_slice(&body).map_err(|_| "no JSON")?, known.1 + 1);
            }
            Ok::<_, &str>(Response::new(Body::from(known.0.to_string())))
        }
    });
    (Client::new(service, "default"), scale)
}

fn actor(client: Client) -> Actor {
    Actor {
        client,
        leadership: Leadership::held(Duration::from_mins(5)),
        meters: Arc::default(),
        failures: Failures::default(),
    }
}

/// `llm` has one replica and should have two.
fn round() -> Round {
    let spec = json!({"targetRef": {"kind": "Deployment", "name": "llm"}, "maxReplicas": 3, "mode": "Act"});
    let policy = ScalingPolicy {
        key: key("llm"),
        uid: "u".into(),
        created: None,
        generation: 1,
        spec: Ok(serde_json::from_value(spec).unwrap()),
        conditions: Vec::new(),
    };
    let decision = Decision {
        at: Timestamp::UNIX_EPOCH,
        current: 1,
        desired: 2,
        demand: Some(1.7),
        source: None,
        forecasts: Vec::new(),
        up: Verdict::Done,
        down: Verdict::NotNeeded,
        landing: None,
        release: None,
        flags: Flags::default(),
        reasons: Vec::new(),
    };
    let settled = Settled { decision, ready: 1, last_scale: None, following: Following::Nobody, max: 3, durable: None };
    let outcome = Outcome {
        subject: Subject::Policy(Arc::new(policy)),
        mode: Mode::Act,
        target: Some((key("llm"), None)),
        pools: Standing::Unasked,
        verdict: Ok(settled),
    };
    Round { at: now(), outcomes: Ok(vec![outcome]), whole: true }
}

#[tokio::test]
async fn a_move_is_made_once() {
    let (client, scale) = server();
    let (actor, mut pauses) = (actor(client), BTreeMap::new());
    for _ in 0..2 {
        actor.act(&round(), &mut pauses, LATE).await;
    }
    let (scale, writes) = &*scale.lock();
    assert_eq!((&scale["spec"]["replicas"], *writes), (&json!(2), 1), "the second time it is elsewhere already");
}

/// R2: a decision that has waited behind others is from another time.
#[tokio::test]
async fn a_move_whose_turn_comes_too_late_is_not_made() {
    let (client, scale) = server();
    let (actor, mut pauses) = (actor(client), BTreeMap::new());
    actor.act(&round(), &mut pauses, Duration::ZERO).await;
    assert_eq!(scale.lock().1, 0);
    assert!(pauses.is_empty() && actor.failures.lock().is_empty(), "that is no failure");
}
