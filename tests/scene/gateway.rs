//! One process stands for the gateway and for the vLLM servers behind it: it routes by Host header to the ready replicas and
//! answers OpenAI's chat completions. What its replicas really compute at a moment is what the simulated GPUs under them
//! read, so that a load from outside is all that moves the scene.
//!
//! Simplified: a replica computes at most [`SEATS`] requests at once and queues the others in order; a request takes a
//! prefill and a step per token, each longer the more run beside it.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::HOST},
    routing::post,
};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle, time::Instant};

/// Requests that one replica computes at once; vLLM's `--max-num-seqs` of a small model.
const SEATS: usize = 4;
/// Requests that wait at one replica; more are answered 503 (R22).
const QUEUE: usize = 256;
const PREFILL: Duration = Duration::from_millis(40);
const STEP: Duration = Duration::from_millis(25);
/// How much longer a step takes for each request that runs beside this one.
const CROWDING: f64 = 0.1;
/// Tokens of an answer whose length is not asked for, and the most that is given.
const TOKENS: u64 = 64;
const MOST_TOKENS: u64 = 512;

/// The server, and what its replicas do.
#[derive(Debug)]
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Ready replicas by host name and pod.
    hosts: Mutex<HashMap<String, BTreeMap<String, Arc<Replica>>>>,
}

/// One vLLM server.
#[derive(Debug)]
pub struct Replica {
    seats: Semaphore,
    work: Mutex<Work>,
}

#[derive(Debug)]
struct Work {
    running: usize,
    waiting: usize,
    answered: u64,
    /// Integral of the utilization since `from`, percent seconds, complete up to `until`.
    busy: f64,
    from: Instant,
    until: Instant,
}

/// What a replica does at this moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Doing {
    /// Mean utilization since the last look, percent.
    pub utilization: f64,
    /// Requests being computed.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Requests answered since the start.
    pub answered: u64,
}

/// SM utilization while so many requests run: one request keeps a card half busy, four fill it.
fn utilization(running: usize) -> f64 {
    if running == 0 { 0.0 } else { (25.0 + 18.0 * running as f64).min(100.0) }
}

impl Work {
    fn advance(&mut self, now: Instant) {
        self.busy += utilization(self.running) * now.duration_since(self.until).as_secs_f64();
        self.until = now;
    }
}

impl Replica {
    fn new() -> Self {
        let now = Instant::now();
        let work = Work { running: 0, waiting: 0, answered: 0, busy: 0.0, from: now, until: now };
        Self { seats: Semaphore::new(SEATS), work: Mutex::new(work) }
    }

    /// What it does, and has done since this was asked last.
    pub fn look(&self) -> Doing {
        let now = Instant::now();
        let mut work = self.work.lock();
        work.advance(now);
        let time = now.duration_since(work.from).as_secs_f64();
        let utilization = if time > 0.0 { work.busy / time } else { utilization(work.running) };
        work.busy = 0.0;
        work.from = now;
        Doing { utilization, running: work.running, waiting: work.waiting, answered: work.answered }
    }

    fn load(&self) -> usize {
        let work = self.work.lock();
        work.running + work.waiting
    }

    async fn compute(&self, tokens: u64) -> Result<(), StatusCode> {
        {
            let mut work = self.work.lock();
            if work.waiting >= QUEUE {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            work.waiting += 1;
        }
        // A client that goes away while it waits must not stay in the count.
        let waiting = Leave(self, |work| work.waiting -= 1);
        let seat = self.seats.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        drop(waiting);
        let beside = {
            let mut work = self.work.lock();
            work.advance(Instant::now());
            work.running += 1;
            work.running - 1
        };
        let running = Leave(self, |work| {
            work.advance(Instant::now());
            work.running -= 1;
        });
        let time = (PREFILL + STEP * u32::try_from(tokens).unwrap_or(u32::MAX)).mul_f64(1.0 + CROWDING * beside as f64);
        tokio::time::sleep(time).await;
        self.work.lock().answered += 1;
        drop(running);
        drop(seat);
        Ok(())
    }
}

/// Undoes a count, also when the request is dropped in the middle.
struct Leave<'a>(&'a Replica, fn(&mut Work));

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        (self.1)(&mut self.0.work.lock());
    }
}

impl Gateway {
    /// Listens on a port of this machine.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let app = Router::new().route("/v1/chat/completions", post(complete)).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the gateway ended: {error}");
            }
        });
        Ok(Self { address, shared, task })
    }

    /// Host name of an InferenceService, as KServe's ingress gives it by default.
    pub fn host(namespace: &str, name: &str) -> String {
        format!("{name}-{namespace}.example.com")
    }

    /// The replicas that serve a host from now on. One that stays keeps its work; one that goes finishes what it has.
    pub fn route(&self, host: &str, pods: impl IntoIterator<Item = String>) -> BTreeMap<String, Arc<Replica>> {
        let mut hosts = self.shared.hosts.lock();
        let mut before = hosts.remove(host).unwrap_or_default();
        let now: BTreeMap<_, _> = pods
            .into_iter()
            .map(|pod| {
                let replica = before.remove(&pod).unwrap_or_else(|| Arc::new(Replica::new()));
                (pod, replica)
            })
            .collect();
        hosts.insert(host.to_owned(), now.clone());
        now
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Deserialize)]
struct Request {
    model: String,
    messages: Vec<Value>,
    #[serde(default)]
    max_tokens: Option<u64>,
}

async fn complete(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(Request { model, messages, max_tokens }): Json<Request>,
) -> Result<Json<Value>, StatusCode> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default();
    let replica = {
        let hosts = shared.hosts.lock();
        let replicas = hosts.get(host).ok_or(StatusCode::NOT_FOUND)?;
        let least = replicas.values().min_by_key(|replica| replica.load());
        Arc::clone(least.ok_or(StatusCode::SERVICE_UNAVAILABLE)?)
    };
    let tokens = max_tokens.unwrap_or(TOKENS).min(MOST_TOKENS);
    replica.compute(tokens).await?;
    Ok(Json(json!({
        "id": "chatcmpl-scene", "object": "chat.completion", "model": model,
        "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "token ".repeat(tokens as usize)}}],
        "usage": {"prompt_tokens": messages.len(), "completion_tokens": tokens, "total_tokens": messages.len() as u64 + tokens},
    })))
}
