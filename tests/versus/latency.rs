//! How long a query takes and what it costs: over TLS, one connection that is kept, one query after the other.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    cluster::{wait::eventually_or_error, workload::METRIC},
    connection::{Answer, Connection, request},
    contender::{Contender, Kind},
    quantity::items,
    scene::{Scene, Service},
    usage::{Idle, Processes, cpu_ms},
};

/// What is asked for.
#[derive(Debug)]
pub struct Case {
    /// For people.
    pub name: &'static str,
    /// Pods in the answer.
    pub pods: usize,
    /// Whether prometheus-adapter lists the pods at kube-apiserver for it.
    lists: bool,
    path: String,
    /// What the pods read, by name.
    expected: BTreeMap<String, f64>,
}

/// What was measured of one contender in one case.
#[derive(Debug, Clone, Serialize)]
pub struct Query {
    /// See [`Case::name`].
    pub case: &'static str,
    /// Pods in the answer.
    pub pods: usize,
    /// Who answered.
    pub contender: Kind,
    /// Queries.
    pub queries: usize,
    /// Bytes of one answer's body.
    pub bytes: usize,
    /// Half of the queries were answered within this, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 queries were answered within this, milliseconds.
    pub p99_ms: f64,
    /// CPU of the adapter per query beyond what it uses anyway, milliseconds.
    pub adapter_cpu_ms: f64,
    /// As above, Prometheus.
    pub prometheus_cpu_ms: f64,
    /// As above, kube-apiserver.
    pub apiserver_cpu_ms: f64,
}

impl Query {
    /// CPU per query of all that take part, milliseconds.
    pub fn cpu_ms(&self) -> f64 {
        self.adapter_cpu_ms + self.prometheus_cpu_ms + self.apiserver_cpu_ms
    }
}

/// How much is asked.
#[derive(Debug, Clone, Copy)]
struct Effort {
    /// Queries of one round at least.
    queries: usize,
    /// Time of one round at least: CPU time is counted in ticks of 10 ms.
    time: Duration,
    /// Rounds, in each of which all take their turn: what else the machine does hits all alike.
    rounds: usize,
    /// Queries before each round that do not count: they set up the connection, too.
    warm_up: usize,
}

impl Effort {
    fn of(case: &Case, kind: Kind, quick: bool) -> Self {
        let time = Duration::from_millis(400);
        match kind {
            // Limited to 5 a second. The first ones use up its burst of 10.
            Kind::IncumbentDefault if case.lists => {
                Self { queries: if quick { 10 } else { 50 }, time: Duration::ZERO, rounds: 1, warm_up: 15 }
            }
            _ if quick => Self { queries: if case.pods < 1000 { 50 } else { 10 }, time, rounds: 2, warm_up: 3 },
            _ => Self { queries: 100, time, rounds: 5, warm_up: 3 },
        }
    }
}

/// The four questions.
pub fn cases(scene: &Scene<'_>) -> [Case; 4] {
    let wildcard = |name, pods, service: &Service<'_>| Case {
        name,
        pods,
        lists: true,
        path: service.path(METRIC),
        expected: service.workload.expected(),
    };
    let expected = scene.one.workload.expected();
    let pod = expected.keys().next().cloned().unwrap_or_default();
    let path = scene.one.path(METRIC);
    let (before, _) = path.split_once("%2A").unwrap_or((&path, ""));
    [
        wildcard("1 pod by selector", 1, &scene.one),
        Case { name: "1 pod by name", pods: 1, lists: false, path: format!("{before}{pod}/{METRIC}"), expected },
        wildcard("200 pods by selector", 200, &scene.two_hundred),
        wildcard("1,000 pods by selector", 1000, &scene.thousand),
    ]
}

/// Waits until all serve the right value for each pod in each case: who serves less has it easier.
pub async fn check(scene: &Scene<'_>, contenders: &[Contender]) -> Result<(), String> {
    for contender in contenders {
        eventually_or_error(&format!("{} to serve every pod", contender.kind.label()), async || {
            contender.alive()?;
            let mut connection = scene.connector.open(contender.port)?;
            for case in cases(scene) {
                let answer = tokio::task::block_in_place(|| connection.send(&request(&case.path)))?;
                right(&case, &answer).map_err(|error| format!("{}: {error}", case.name))?;
            }
            Ok::<(), String>(())
        })
        .await
        .map_err(|error| format!("{error}\n--- {}\n{}", contender.kind.name(), contender.tail()))?;
    }
    Ok(())
}

fn right(case: &Case, answer: &Answer) -> Result<(), String> {
    if answer.status != 200 {
        return Err(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    let items = items(&answer.body)?;
    let all = &case.expected;
    if items.len() != case.pods {
        return Err(format!("{} of {} pods", items.len(), case.pods));
    }
    // Both round to thousandths.
    let wrong =
        items.iter().find(|item| all.get(&item.pod).is_none_or(|percent| (percent - item.value).abs() > 0.0011));
    wrong.map_or(Ok(()), |item| Err(format!("{item:?} instead of {:?}", all.get(&item.pod))))
}

/// What processes use with nobody asking.
pub async fn idle(processes: &Processes, quick: bool) -> Result<Idle, String> {
    processes.idle(Duration::from_secs(if quick { 8 } else { 20 })).await
}

/// Sums over a contender's rounds.
#[derive(Debug, Default)]
struct Account {
    times: Vec<Duration>,
    bytes: usize,
    wall: Duration,
    /// CPU of adapter, Prometheus and kube-apiserver, milliseconds.
    cpu: [f64; 3],
}

/// Measures one case for all.
pub fn run(
    scene: &Scene<'_>,
    case: &Case,
    contenders: &[Contender],
    processes: &Processes,
    idle: &Idle,
    quick: bool,
) -> Result<Vec<Query>, String> {
    let request = request(&case.path);
    let mut turns = Vec::new();
    for contender in contenders {
        let effort = Effort::of(case, contender.kind, quick);
        turns.push((contender, effort, Account::default()));
    }
    for round in 0..turns.iter().map(|(_, effort, ..)| effort.rounds).max().unwrap_or(0) {
        for (contender, effort, account) in turns.iter_mut().filter(|(_, effort, ..)| round < effort.rounds) {
            let pids = [contender.pid(), processes.prometheus, processes.apiserver];
            // A connection per round: servers may close one that idles through the others' turns.
            let mut connection = scene.connector.open(contender.port)?;
            // On this thread, which the runtime does without meanwhile: exporters are served by others.
            tokio::task::block_in_place(|| account.round(&mut connection, &request, *effort, pids))
                .map_err(|error| format!("{}, {}: {error}\n{}", contender.kind.label(), case.name, contender.tail()))?;
        }
    }
    let query = |(contender, _, account): (&Contender, Effort, Account)| {
        let pids = [contender.pid(), processes.prometheus, processes.apiserver];
        account.query(case, contender.kind, pids.map(|pid| idle.ms_per_second(pid)))
    };
    Ok(turns.into_iter().map(query).collect())
}

impl Account {
    fn round(
        &mut self,
        connection: &mut Connection,
        request: &[u8],
        effort: Effort,
        pids: [u32; 3],
    ) -> Result<(), String> {
        for _ in 0..effort.warm_up {
            self.bytes = ask(connection, request)?;
        }
        let read = || -> Result<[f64; 3], String> { Ok([cpu_ms(pids[0])?, cpu_ms(pids[1])?, cpu_ms(pids[2])?]) };
        let before = read()?;
        let start = Instant::now();
        for asked in 0.. {
            if asked >= effort.queries && start.elapsed() >= effort.time {
                break;
            }
            let sent = Instant::now();
            ask(connection, request)?;
            self.times.push(sent.elapsed());
        }
        self.wall += start.elapsed();
        for (sum, (before, after)) in self.cpu.iter_mut().zip(before.iter().zip(read()?)) {
            *sum += after - before;
        }
        Ok(())
    }

    fn query(mut self, case: &Case, contender: Kind, idle: [f64; 3]) -> Query {
        self.times.sort_unstable();
        let queries = self.times.len();
        // The nearest rank.
        let rank = |share: f64| self.times[((queries as f64 * share).ceil() as usize).clamp(1, queries) - 1];
        let ms = |share: f64| rank(share).as_secs_f64() * 1000.0;
        // Scraping goes on meanwhile; what a process does anyway is not the query's. Noise must not read as a gain.
        let cpu = |i: usize| ((self.cpu[i] - idle[i] * self.wall.as_secs_f64()) / queries as f64).max(0.0);
        Query {
            case: case.name,
            pods: case.pods,
            contender,
            queries,
            bytes: self.bytes,
            p50_ms: ms(0.50),
            p99_ms: ms(0.99),
            adapter_cpu_ms: cpu(0),
            // Tidegate has nothing to do with it; what it does meanwhile for others is not counted.
            prometheus_cpu_ms: if contender == Kind::Tidegate { 0.0 } else { cpu(1) },
            apiserver_cpu_ms: cpu(2),
        }
    }
}

/// Asks once; returns the bytes of the answer.
fn ask(connection: &mut Connection, request: &[u8]) -> Result<usize, String> {
    let answer = connection.send(request)?;
    if answer.status == 200 {
        Ok(answer.body.len())
    } else {
        Err(format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))
    }
}
