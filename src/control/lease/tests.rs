//! Processes that want the same Lease, and an API server that keeps one object and its version. Time is the test's.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

const DURATION: Duration = Duration::from_secs(15);

/// The Lease, who cannot reach it, and what time it is.
struct World {
    lease: Option<Value>,
    version: u64,
    cut_off: Vec<&'static str>,
    writes: usize,
    /// The next request is never answered.
    hangs: bool,
    now: Instant,
}

type Shared = Arc<Mutex<World>>;

fn world() -> Shared {
    let now = Instant::now();
    Arc::new(Mutex::new(World { lease: None, version: 0, cut_off: Vec::new(), writes: 0, hangs: false, now }))
}

fn answer(code: u16, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

fn refuse(code: u16) -> Response {
    let reason = if code == 404 { "NotFound" } else { "Conflict" };
    answer(code, &json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": reason}))
}

impl World {
    fn handle(&mut self, method: &http::Method, body: &[u8]) -> Response {
        match (method, &self.lease) {
            (&http::Method::GET, Some(lease)) => answer(200, lease),
            (&http::Method::GET, None) => refuse(404),
            (&http::Method::POST, Some(_)) => refuse(409),
            (_, lease) => {
                let mut new: Value = serde_json::from_slice(body).unwrap();
                let known = lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
                if known.is_some_and(|known| known != new["metadata"]["resourceVersion"]) {
                    return refuse(409);
                }
                self.version += 1;
                self.writes += 1;
                new["metadata"]["resourceVersion"] = json!(self.version.to_string());
                self.lease = Some(new.clone());
                answer(200, &new)
            }
        }
    }
}

/// A process; it looks at the Lease when the test says so.
struct Process {
    election: Election,
    leadership: Leadership,
}

fn terms(identity: &str) -> Terms {
    Terms { namespace: "tidegate".into(), name: "tidegate".into(), identity: identity.into(), duration: DURATION }
}

fn process(world: &Shared, identity: &'static str) -> Process {
    let server = Arc::clone(world);
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.map_err(|_| "no body")?;
            if std::mem::take(&mut server.lock().hangs) {
                std::future::pending::<()>().await;
            }
            let mut server = server.lock();
            if server.cut_off.contains(&identity) {
                return Err("connection refused");
            }
            Ok(server.handle(&parts.method, &body))
        }
    });
    let leases = Api::namespaced(kube::Client::new(service, "tidegate"), "tidegate");
    let terms = terms(identity);
    let clock = Arc::clone(world);
    let (election, leadership) = Election::new(leases, terms, Clock::start(), Arc::new(move || clock.lock().now));
    Process { election, leadership }
}

fn holders(processes: &[Process]) -> Vec<bool> {
    processes.iter().map(|process| process.leadership.holds()).collect()
}

/// So many looks of each process, a second apart.
async fn pass(world: &Shared, processes: &mut [Process], seconds: usize) -> Vec<Vec<bool>> {
    let mut seen = Vec::new();
    for _ in 0..seconds {
        world.lock().now += Duration::from_secs(1);
        for process in &mut *processes {
            // A look that fails changes nothing.
            let _ = process.election.attempt().await;
        }
        seen.push(holders(processes));
    }
    seen
}

#[tokio::test]
async fn one_of_many_holds_the_lease_and_keeps_it() {
    let world = world();
    let mut all = ["a", "b", "c"].map(|name| process(&world, name));
    let seen = pass(&world, &mut all, 120).await;
    assert!(seen.iter().all(|holds| *holds == [true, false, false]), "{seen:?}");
}

#[tokio::test]
async fn a_holder_that_is_cut_off_stops_by_its_own_clock_before_another_begins() {
    let world = world();
    let mut both = ["a", "b"].map(|name| process(&world, name));
    pass(&world, &mut both, 7).await;
    world.lock().cut_off.push("a");
    let seen = pass(&world, &mut both, 30).await;
    assert!(!seen.iter().any(|holds| *holds == [true, true]), "never two: {seen:?}");
    let stopped = seen.iter().position(|holds| !holds[0]).expect("the first stops");
    let next = seen.iter().position(|holds| holds[1]).expect("the second begins");
    assert!(stopped <= next && (13..=15).contains(&stopped) && next <= 15, "{stopped} {next}");
    // Back again, the first one waits its turn.
    world.lock().cut_off.clear();
    let seen = pass(&world, &mut both, 60).await;
    assert!(seen.iter().all(|holds| *holds == [false, true]), "{seen:?}");
    assert_eq!(world.lock().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_holder_that_ends_gives_the_lease_back_and_the_next_is_there_at_its_next_look() {
    let world = world();
    let [mut a, b] = ["a", "b"].map(|name| process(&world, name));
    a.election.attempt().await.unwrap();
    assert!(a.leadership.holds());
    a.election.run(async {}).await;
    assert!(!a.leadership.holds());
    let mut rest = [b];
    assert_eq!(pass(&world, &mut rest, 1).await, [[true]]);
}

#[tokio::test]
async fn without_an_answer_nobody_leads() {
    let world = world();
    world.lock().cut_off.push("a");
    let mut all = [process(&world, "a")];
    let seen = pass(&world, &mut all, 60).await;
    assert!(seen.iter().all(|holds| *holds == [false]));
    assert_eq!(world.lock().writes, 0);
}

#[tokio::test]
async fn a_renewal_that_hangs_leaves_the_time_for_another_one() {
    let world = world();
    let mut a = process(&world, "a").election;
    a.terms.duration = Duration::from_secs(10);
    a.attempt().await.unwrap();
    world.lock().hangs = true;
    let began = Instant::now();
    let running = tokio::spawn(a.run(std::future::pending()));
    while world.lock().writes < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(10), "before the Lease is lost: {:?}", began.elapsed());
    running.abort();
}

#[tokio::test]
async fn of_two_that_take_an_abandoned_lease_at_once_one_has_it() {
    let world = world();
    let [mut dead, mut b, mut c] = ["dead", "b", "c"].map(|name| process(&world, name));
    dead.election.attempt().await.unwrap();
    for process in [&mut b, &mut c] {
        process.election.attempt().await.unwrap();
    }
    world.lock().now += DURATION;
    let (first, second) = tokio::join!(b.election.attempt(), c.election.attempt());
    first.and(second).unwrap();
    let leading = [b.leadership.holds(), c.leadership.holds()];
    assert_eq!(leading.iter().filter(|leads| **leads).count(), 1, "{leading:?}");
}

#[test]
fn identities_differ_between_processes_of_the_same_name() {
    assert_ne!(identity(Some("adapter")), identity(Some("adapter")));
    assert!(identity(Some("adapter")).starts_with("adapter_"));
}

#[test]
fn a_refusal_is_told_in_the_api_servers_words_with_what_to_do_about_it() {
    let refused = |code: u16, message: &str| {
        let status = json!({"code": code, "message": message, "reason": "R", "details": {"kind": "leases"}});
        terms("a").problem(&kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    };
    assert_eq!(
        refused(403, "leases is forbidden"),
        "the API server answers 403: leases is forbidden; it needs the rights to get, create and update \
         leases.coordination.k8s.io in namespace tidegate"
    );
    assert_eq!(
        refused(404, "namespaces \"tidegate\" not found"),
        "the API server answers 404: namespaces \"tidegate\" not found; create namespace tidegate, or name another one in \
         control.lease.namespace"
    );
    assert_eq!(refused(500, "etcd is away"), "the API server answers 500: etcd is away; trying again");
}
