//! The engine on real parts: it advises a real HPA, and it acts itself, with models that take their time to load.

use std::{path::PathBuf, time::Duration};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use tidegate::{policy::hpa::Follower, sim::exporter::Fault};

use super::{
    account, adapter,
    kwok::MODEL_LOAD,
    model_servers::{ModelServers, served_deployment},
    namespace::Namespace,
    policies::{self, advice, condition, create, leader, policy, status},
    timeline::Timeline,
    wait::eventually,
    workload::{DEPLOYMENT, HPA_WOULD_HAVE_ACTED, Load, Workload},
};

/// Time that a model takes to load.
const LOAD_SECONDS: u64 = 8;
/// Requests under way: what one replica serves, and what takes three. One replica's own queue tells it.
const CALM: u64 = 6;
/// See [`CALM`].
const BUSY: u64 = 96;
/// Several ticks, and several looks of the HPA (every 2 s): whoever follows the advice has no stabilization of its own.
const SEVERAL_LOOKS: Duration = Duration::from_secs(8);
/// Window and cooldown of removals, short enough for a test.
const WINDOW_SECONDS: u64 = 10;

/// One replica of a model server that takes its time to load.
async fn start(namespace: &Namespace) -> (Workload<'_>, ModelServers) {
    let mut slow = served_deployment(1);
    slow["spec"]["template"]["metadata"]["annotations"] = json!({MODEL_LOAD: format!("{LOAD_SECONDS}s")});
    let workload = Workload::deploy_as(namespace, slow, 1, 1, Load::Each(40.0)).await.unwrap();
    let servers = ModelServers::follow(namespace, 0);
    servers.share(CALM);
    (workload, servers)
}

/// More than the load ever needs, so that it is not this that keeps additions down.
const MAX: i32 = 8;

fn spec(mode: &str, cooldown_seconds: u64) -> Value {
    json!({
        "mode": mode, "maxReplicas": 3, "signals": {"use": "Queue"},
        "behavior": {"scaleDown": {
            "window": format!("{WINDOW_SECONDS}s"), "cooldown": format!("{cooldown_seconds}s"), "maxStep": 2,
        }},
        "pools": [{"name": "all", "boot": {"node": "1s", "image": "1s", "load": format!("{LOAD_SECONDS}s")}}],
    })
}

fn roomy(mode: &str) -> Value {
    let mut spec = spec(mode, 5);
    spec["maxReplicas"] = json!(MAX);
    spec
}

async fn follow(namespace: &Namespace) -> String {
    let follower = Follower {
        policy: "llm".into(),
        namespace: namespace.name.clone(),
        deployment: DEPLOYMENT.into(),
        min: 1,
        max: u32::try_from(MAX).unwrap(),
        tolerance: true,
    };
    namespace.create::<HorizontalPodAutoscaler>(follower.object()).await;
    follower.name()
}

/// A status that knows demand.
fn knows(status: &Value) -> bool {
    condition(status, "Unknown") == "False because Known" && status["demand"].is_string()
}

/// One rise is asked for once, though the new replicas take longer to load than several decisions; one fall brings it back.
async fn up_and_down(namespace: &Namespace, servers: &ModelServers, timeline: &Timeline) {
    status(namespace, "llm", "demand to be known", knows).await;
    timeline
        .holds("one replica while there is little to do", Duration::from_secs(3), |m| m.replicas == 1)
        .await
        .unwrap();
    servers.share(BUSY);
    let first = timeline.until("more replicas to be asked for", |m| m.replicas > 1).await.unwrap().replicas;
    timeline.until("all of them to be ready", |m| m.ready == m.replicas && m.ready > 1).await.unwrap();
    // Decisions are made each half a second, and a model takes sixteen of them: were what is on its way not counted, the second
    // or third would ask for as many as there may be.
    assert!((3..MAX).contains(&first), "as many as the load takes, and not as many as may be:\n{timeline}");
    timeline.holds("no more while the load lasts", SEVERAL_LOOKS, |m| m.replicas <= first).await.unwrap();
    let most = timeline.moments().iter().map(|moment| moment.replicas).max();
    assert_eq!(most, Some(first), "one rise is one addition:\n{timeline}");
    servers.share(CALM);
    timeline.until("one replica after the load", |m| m.replicas == 1 && m.ready == 1).await.unwrap();
    timeline.holds("one replica after it", SEVERAL_LOOKS, |m| m.replicas == 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acting_it_goes_up_and_back_and_does_not_ask_again_for_what_is_on_its_way() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("engine-act").await;
    let (workload, servers) = start(&namespace).await;
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, "none");
    create(&namespace, &policy("llm", &roomy("Act"))).await.unwrap();
    up_and_down(&namespace, &servers, &timeline).await;
    drop((workload, servers));
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_hpa_that_follows_the_advice_goes_up_and_back_and_does_not_ask_again_for_what_is_on_its_way() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("engine-advise").await;
    let (workload, servers) = start(&namespace).await;
    create(&namespace, &policy("llm", &roomy("Advise"))).await.unwrap();
    status(&namespace, "llm", "demand to be known", knows).await;
    let hpa = follow(&namespace).await;
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, &hpa);
    timeline.until("the HPA to read the advice", |m| m.active).await.unwrap();
    up_and_down(&namespace, &servers, &timeline).await;
    drop((workload, servers));
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_at_peak_holds_and_says_why_to_the_hpa_and_in_the_status() {
    let _adapter = adapter::running().await;
    let namespace = Namespace::new("engine-unknown").await;
    let (workload, servers) = start(&namespace).await;
    create(&namespace, &policy("llm", &spec("Advise", 5))).await.unwrap();
    status(&namespace, "llm", "demand to be known", knows).await;
    let hpa = follow(&namespace).await;
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, &hpa);
    servers.share(BUSY);
    timeline.until("three ready replicas", |m| m.ready == 3).await.unwrap();
    servers.set_fault(Fault::Dead);
    let unknown = |status: &Value| condition(status, "Unknown") == "True because Unknown";
    status(&namespace, "llm", "demand to be unknown", unknown).await;
    let why = eventually("the advice to be withdrawn", async || match advice(&namespace, DEPLOYMENT).await {
        Err(why) if why.starts_with("404") => Ok(why),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(why.contains("none of the 3 ready pods has a fresh value"), "{why}");
    timeline.until("the HPA to say that it does not know", |m| !m.active).await.unwrap();
    // Calm by now, but nobody can know.
    servers.share(CALM);
    timeline.holds("three replicas while nothing is known", HPA_WOULD_HAVE_ACTED, |m| m.replicas == 3).await.unwrap();
    servers.set_fault(Fault::None);
    timeline.until("one replica once it is known", |m| m.replicas == 1).await.unwrap();
    drop((workload, servers));
    namespace.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_while_it_decides_is_followed_by_the_other_without_a_second_move() {
    let exclusive = adapter::exclusive().await;
    let adapter = exclusive.adapter;
    let namespace = Namespace::new("engine-leader").await;
    let (workload, servers) = start(&namespace).await;
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, "none");
    // Removals are not what this is about.
    let mut patient = spec("Act", 5);
    patient["behavior"]["scaleDown"]["window"] = json!("5m");
    create(&namespace, &policy("llm", &patient)).await.unwrap();
    status(&namespace, "llm", "demand to be known", knows).await;
    let first = leader(&namespace.client).await.unwrap();
    let companion = adapter.companion().unwrap();
    // The second has measured for some time, before the first dies.
    tokio::time::sleep(SEVERAL_LOOKS / 2).await;
    servers.share(BUSY);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    adapter.kill();
    timeline.until("three replicas to be asked for", |m| m.replicas == 3).await.unwrap();
    timeline.until("three ready replicas", |m| m.ready == 3).await.unwrap();
    let second = eventually("another leader", async || {
        let holder = leader(&namespace.client).await?;
        if holder == first { Err(holder) } else { Ok(holder) }
    })
    .await;
    let held = timeline.holds("three and no more moves", SEVERAL_LOOKS, |m| m.replicas == 3).await;
    held.unwrap_or_else(|error| panic!("{error}\n--- companion\n{}", companion.tail(40)));
    assert_eq!(timeline.steps(), [1, 3], "{timeline}");
    // The one that comes back finds the Lease held, and everything as it should be.
    adapter.start().unwrap();
    adapter.available(&namespace.client).await.unwrap();
    assert_eq!(leader(&namespace.client).await, Ok(second));
    timeline.holds("three with both", Duration::from_secs(4), |m| m.replicas == 3).await.unwrap();
    drop(companion);
    drop((workload, servers));
    namespace.finish().await;
}

/// Longer than a restart, a Lease and a window together.
const COOLDOWN_SECONDS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_a_cooldown_does_not_shorten_it() {
    let exclusive = adapter::exclusive().await;
    let adapter = exclusive.adapter;
    let namespace = Namespace::new("engine-restart").await;
    let (workload, servers) = start(&namespace).await;
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, "none");
    create(&namespace, &policy("llm", &spec("Act", COOLDOWN_SECONDS))).await.unwrap();
    status(&namespace, "llm", "demand to be known", knows).await;
    servers.share(BUSY);
    let up = timeline.until("three replicas to be asked for", |m| m.replicas == 3).await.unwrap();
    timeline.until("three ready replicas", |m| m.ready == 3).await.unwrap();
    let config_maps = namespace.client.clone();
    let kept: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(config_maps, account::NAMESPACE);
    let uid = policies::policies(&namespace).get("llm").await.unwrap().metadata.uid.unwrap();
    eventually("the move to be kept", async || {
        kept.get(&format!("tidegate-policy-{uid}")).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    adapter.kill();
    servers.share(CALM);
    adapter.start().unwrap();
    adapter.available(&namespace.client).await.unwrap();
    let down = timeline.until("fewer replicas", |m| m.replicas < 3).await.unwrap();
    let waited = down.at.saturating_sub(up.at).as_secs_f64();
    // The engine's times are those of its ticks.
    assert!(waited >= COOLDOWN_SECONDS as f64 - 1.0, "after {waited} s:\n{timeline}");
    drop((workload, servers));
    namespace.finish().await;
}

/// `tidegate replay --decisions`: its exit status and what it says.
async fn replayed(program: PathBuf, recording: PathBuf) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(program);
    command.args(["replay", "--decisions"]).arg(recording);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// R17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_recorded_on_a_cluster_replays_bit_for_bit_and_one_changed_byte_is_named() {
    let running = adapter::running().await;
    let namespace = Namespace::new("engine-record").await;
    let (workload, servers) = start(&namespace).await;
    let file = namespace.plane.folder().join("recorded.jsonl");
    let mut recorder = running.adapter.recorder(&file).unwrap();
    let timeline = Timeline::watch(&namespace.client, &namespace.name, DEPLOYMENT, "none");
    create(&namespace, &policy("llm", &spec("Act", 5))).await.unwrap();
    status(&namespace, "llm", "demand to be known", knows).await;
    servers.share(BUSY);
    timeline.until("three ready replicas", |m| m.ready == 3).await.unwrap();
    // The recorder decides at its own ticks: one of them sees this, too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    recorder.terminate();
    eventually("the recorder to end", async || recorder.ended().ok_or("it runs still")).await;

    let program = running.adapter.program.clone();
    let (status, said) = replayed(program.clone(), file.clone()).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the same bit for bit"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    // Of the rise itself the recorder may have seen less: another replica acts.
    let stays = "\"current\":3,\"desired\":3";
    let ours = format!("\"service\":\"{}/", namespace.name);
    let line = text.lines().position(|line| line.contains(&ours) && line.contains(stays));
    let line = line.unwrap_or_else(|| panic!("no decision on three replicas among {} lines", text.lines().count()));
    let changed: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(i, text)| if i == line { text.replace(stays, "\"current\":3,\"desired\":2") } else { text.to_owned() })
        .collect();
    let other = namespace.plane.folder().join("changed.jsonl");
    std::fs::write(&other, changed.join("\n")).unwrap();
    let (status, said) = replayed(program, other).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("line {}: this engine decides differently", line + 1)), "{said}");
    drop((workload, servers));
    namespace.finish().await;
}
