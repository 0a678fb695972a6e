//! Watches against an API server that the test plays, request by request. Times are short, and none is waited for.

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::channel::mpsc as stream;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::*;
use crate::cluster::{index::tests::pod, view::View};

/// Quick to try again, slow to give up.
const TIMING: Timing = Timing {
    stale_after: Duration::from_mins(1),
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(8),
    shortest_watch: Duration::ZERO,
    absent_recheck: Duration::from_millis(1),
    idle: Duration::from_mins(1),
};

/// One request, waiting for its answer.
struct Asked {
    uri: http::Uri,
    reply: oneshot::Sender<Response>,
}

/// The test's side of a watch under test.
struct Server {
    requests: mpsc::UnboundedReceiver<Asked>,
    index: Arc<Index>,
    _watch: JoinSet<Infallible>,
}

/// The open body of a watch; dropping it ends the watch.
type Open = stream::UnboundedSender<Result<Bytes, std::io::Error>>;

impl Server {
    fn start(kind: Kind, scope: Scope, timing: Timing) -> Self {
        Self::bounded(kind, scope, timing, MOST_OBJECTS)
    }

    fn bounded(kind: Kind, scope: Scope, timing: Timing, most: usize) -> Self {
        let (asked, requests) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let asked = asked.clone();
            async move {
                let (reply, answer) = oneshot::channel();
                let uri = request.uri().clone();
                asked.send(Asked { uri, reply }).map_err(|_| "the test has ended")?;
                answer.await.map_err(|_| "connection refused")
            }
        });
        let client = kube::Client::new(service, "default");
        let index = Arc::new(Index::default());
        let mut watch = JoinSet::new();
        let bounded = Watch { most, ..Watch::new(client, Arc::clone(&index), kind, scope, timing) };
        watch.spawn(bounded.run());
        Self { requests, index, _watch: watch }
    }

    fn pods() -> Self {
        Self::start(Kind::Pods, Scope::Cluster, TIMING)
    }

    async fn asked(&mut self) -> Asked {
        self.requests.recv().await.unwrap()
    }

    /// Expects a list and answers it.
    async fn list(&mut self, version: &str, items: &[Value]) {
        let asked = self.asked().await;
        assert!(!asked.watches(), "expected a list, got {}", asked.uri);
        asked.answer(200, &json!({"kind": "List", "metadata": {"resourceVersion": version}, "items": items}));
    }

    /// Expects a watch from `version` and opens it.
    async fn watch(&mut self, version: &str) -> Open {
        let asked = self.asked().await;
        assert!(asked.watches() && asked.parameter("resourceVersion") == Some(version), "{}", asked.uri);
        let (open, body) = stream::unbounded();
        asked.reply.send(Response::new(Body::from_stream(body))).unwrap();
        open
    }

    async fn until(&self, condition: impl Fn(&View) -> bool) -> Arc<View> {
        let mut changes = self.index.changes();
        loop {
            changes.mark_unchanged();
            let view = self.index.view();
            if condition(&view) {
                return view;
            }
            changes.changed().await.unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        self.index.view().pods.keys().map(|key| key.name.to_string()).collect()
    }
}

impl Asked {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    fn watches(&self) -> bool {
        self.parameter("watch") == Some("true")
    }

    fn answer(self, code: u16, body: &Value) {
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
        let _gone = self.reply.send(response);
    }

    fn fail(self, code: u16) {
        self.answer(
            code,
            &json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "No"}),
        );
    }
}

fn event(open: &Open, r#type: &str, object: &Value) {
    open.unbounded_send(Ok(format!("{}\n", json!({"type": r#type, "object": object})).into())).unwrap();
}

fn named(name: &str) -> Value {
    pod("prod", name, "u", &json!({}))
}

fn version(mut object: Value, version: &str) -> Value {
    object["metadata"]["resourceVersion"] = json!(version);
    object
}

fn bookmark(version: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"resourceVersion": version, "creationTimestamp": null}})
}

#[tokio::test]
async fn the_list_comes_in_pages_and_the_kind_is_in_sync_after_the_last() {
    let mut server = Server::start(Kind::Pods, Scope::Namespace("prod".into()), TIMING);
    let first = server.asked().await;
    assert_eq!((first.uri.path(), first.parameter("limit")), ("/api/v1/namespaces/prod/pods", Some("500")));
    first.answer(200, &json!({"metadata": {"resourceVersion": "7", "continue": "next"}, "items": [named("a")]}));
    let second = server.asked().await;
    assert_eq!(second.parameter("continue"), Some("next"));
    assert!(server.index.view().pods.is_empty(), "half a list is no list");
    second.answer(200, &json!({"metadata": {"resourceVersion": "7"}, "items": [named("b")]}));
    let _open = server.watch("7").await;
    assert_eq!(server.names(), ["a", "b"]);
}

#[tokio::test]
async fn changes_are_applied_and_the_next_watch_continues_where_the_last_ended() {
    let mut server = Server::pods();
    server.list("1", &[named("a")]).await;
    let open = server.watch("1").await;
    assert!(!server.index.view().unsynced.contains("pods"));
    event(&open, "ADDED", &version(named("b"), "2"));
    event(&open, "DELETED", &version(named("a"), "3"));
    server.until(|view| view.pods.keys().all(|key| &*key.name == "b")).await;
    assert_eq!(server.names(), ["b"]);
    event(&open, "BOOKMARK", &bookmark("9"));
    drop(open);
    let _open = server.watch("9").await;
    assert!(server.index.problems().is_empty(), "a watch that the server ends is no failure");
}

#[tokio::test]
async fn an_unreadable_object_is_skipped_in_a_list_and_deleted_by_a_watch() {
    let mut broken = named("b");
    broken["spec"]["containers"] = json!("?");
    let mut server = Server::pods();
    server.list("1", &[named("a"), broken.clone(), named("c")]).await;
    let open = server.watch("1").await;
    assert_eq!(server.names(), ["a", "c"]);
    broken["metadata"]["name"] = json!("a");
    event(&open, "MODIFIED", &broken);
    server.until(|view| view.pods.len() == 1).await;
    assert_eq!(server.names(), ["c"]);
}

#[tokio::test]
async fn an_expired_position_is_listed_again_whether_the_answer_or_an_event_says_so() {
    let mut server = Server::pods();
    server.list("1", &[named("a"), named("b")]).await;
    server.asked().await.fail(410);
    server.list("5", &[named("b")]).await;
    let open = server.watch("5").await;
    assert_eq!(server.names(), ["b"], "what vanished meanwhile is gone");
    event(&open, "ERROR", &json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}));
    server.list("8", &[named("c")]).await;
    let _open = server.watch("8").await;
    assert_eq!(server.names(), ["c"]);
}

#[tokio::test]
async fn an_absent_crd_means_none_and_is_watched_once_it_appears_and_reset_when_it_vanishes() {
    let isvc = json!({"metadata": {"name": "qwen-chat", "namespace": "prod", "resourceVersion": "3"}});
    let count = |view: &View| view.inference_services.len();
    let mut server = Server::start(Kind::InferenceServices, Scope::Cluster, TIMING);
    let first = server.asked().await;
    assert_eq!(first.uri.path(), "/apis/serving.kserve.io/v1beta1/inferenceservices");
    assert!(server.index.view().unsynced.contains("inferenceservices"));
    first.fail(404);
    server.until(|view| !view.unsynced.contains("inferenceservices")).await;
    server.list("3", &[isvc]).await;
    let open = server.watch("3").await;
    assert_eq!(count(&server.index.view()), 1);
    drop(open);
    server.asked().await.fail(404);
    server.asked().await.fail(404);
    server.until(|view| count(view) == 0).await;
    assert!(server.index.problems().is_empty() && !server.index.view().unsynced.contains("inferenceservices"));
}

#[tokio::test]
async fn a_404_for_pods_is_a_failure_and_never_a_cluster_without_pods() {
    let mut server = Server::pods();
    server.asked().await.fail(404);
    server.asked().await.fail(403);
    let again = server.asked().await;
    assert!(server.index.view().unsynced.contains("pods"));
    let [problem] = &server.index.problems()[..] else { panic!() };
    assert!(problem.contains("pods in all namespaces") && problem.contains("403"), "{problem}");
    drop(again);
}

#[tokio::test]
async fn a_kind_that_shows_no_life_for_too_long_is_out_of_sync_until_it_is_listed_again() {
    // The first silence is noticed long after what is looked at below, on a machine that is busy, too.
    let timing = Timing { stale_after: Duration::from_secs(3), idle: Duration::from_secs(1), ..TIMING };
    let mut server = Server::start(Kind::Pods, Scope::Cluster, timing);
    server.list("1", &[named("a")]).await;
    let open = server.watch("1").await;
    let began = Instant::now();
    // The connection dies without a word: `open` stays, and from now on every request is refused.
    let asked = loop {
        let asked = server.asked().await;
        if !asked.watches() {
            break asked;
        }
        assert_eq!(asked.parameter("resourceVersion"), Some("1"), "until then it tries to go on where it was");
    };
    assert!(began.elapsed() >= timing.stale_after);
    assert!(server.index.view().unsynced.contains("pods"));
    assert_eq!(server.names(), ["a"], "what was known stays, beside the word that it may be wrong");
    asked.answer(200, &json!({"metadata": {"resourceVersion": "50"}, "items": [named("b")]}));
    let _open = server.watch("50").await;
    assert!(!server.index.view().unsynced.contains("pods") && server.index.problems().is_empty());
    assert_eq!(server.names(), ["b"]);
    drop(open);
}

#[tokio::test]
async fn r2_a_list_that_takes_too_long_does_not_keep_the_old_picture_in_use() {
    let timing = Timing { stale_after: Duration::from_millis(50), ..TIMING };
    let mut server = Server::start(Kind::Pods, Scope::Cluster, timing);
    server.list("1", &[named("a")]).await;
    event(&server.watch("1").await, "ERROR", &json!({"kind": "Status", "code": 410, "message": "too old"}));
    let slow = server.asked().await;
    server.until(|view| view.unsynced.contains("pods")).await;
    slow.answer(200, &json!({"metadata": {"resourceVersion": "5"}, "items": [named("b")]}));
    let _open = server.watch("5").await;
    assert!(!server.index.view().unsynced.contains("pods"));
    assert_eq!(server.names(), ["b"]);
}

#[tokio::test]
async fn a_quiet_watch_that_the_server_renews_stays_in_sync() {
    let mut server =
        Server::start(Kind::Pods, Scope::Cluster, Timing { stale_after: Duration::from_millis(20), ..TIMING });
    server.list("1", &[named("a")]).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(100) {
        let open = server.watch("1").await;
        tokio::time::sleep(Duration::from_millis(5)).await; // the server's own time limit
        drop(open);
    }
    let _open = server.watch("1").await;
    assert!(!server.index.view().unsynced.contains("pods") && server.index.problems().is_empty());
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_asked_ever_less_often() {
    let mut server =
        Server::start(Kind::Pods, Scope::Cluster, Timing { shortest_watch: Duration::from_mins(1), ..TIMING });
    server.list("1", &[]).await;
    let began = Instant::now();
    for _ in 0..20 {
        drop(server.watch("1").await);
    }
    assert!(began.elapsed() >= TIMING.first_pause * 19, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_lists_and_then_refuses_to_watch_is_asked_ever_less_often() {
    let mut server =
        Server::start(Kind::Pods, Scope::Cluster, Timing { shortest_watch: Duration::from_mins(1), ..TIMING });
    let began = Instant::now();
    for _ in 0..10 {
        server.list("1", &[]).await;
        event(&server.watch("1").await, "ERROR", &json!({"kind": "Status", "code": 410, "message": "too old"}));
    }
    server.asked().await.fail(500);
    let least: Duration = [1, 2, 4, 8, 8, 8, 8, 8, 8, 8].map(Duration::from_millis).iter().sum();
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_garbled_event_may_have_been_a_change_so_the_kind_is_listed_again() {
    for line in ["{}\n", "no json\n", "{\"type\":\"DELETED\",\"object\":{}}\n", "{\"type\":\"MOVED\",\"object\":{}}\n"]
    {
        let mut server = Server::pods();
        server.list("1", &[named("a")]).await;
        let open = server.watch("1").await;
        open.unbounded_send(Ok(line.into())).unwrap();
        server.list("2", &[named("b")]).await;
        let _open = server.watch("2").await;
        assert_eq!(server.names(), ["b"], "{line}");
    }
}

#[tokio::test]
async fn a_line_that_is_cut_off_is_no_event_and_comes_again() {
    let mut server = Server::pods();
    server.list("1", &[named("a")]).await;
    let open = server.watch("1").await;
    let whole = format!("{}\n", json!({"type": "DELETED", "object": version(named("a"), "2")}));
    open.unbounded_send(Ok(whole[..40].to_owned().into())).unwrap();
    drop(open);
    let open = server.watch("1").await;
    assert_eq!(server.names(), ["a"]);
    open.unbounded_send(Ok(whole[..40].to_owned().into())).unwrap();
    open.unbounded_send(Ok(whole[40..].to_owned().into())).unwrap();
    server.until(|view| view.pods.is_empty()).await;
}

#[tokio::test]
async fn r22_a_kind_with_more_objects_than_are_kept_is_not_read_to_its_end_and_soon_out_of_sync() {
    let timing = Timing { stale_after: Duration::from_millis(50), ..TIMING };
    let mut server = Server::bounded(Kind::Pods, Scope::Cluster, timing, 2);
    let list = |items: &[&str], more: Option<&str>| {
        let items: Vec<Value> = items.iter().map(|name| named(name)).collect();
        json!({"metadata": {"resourceVersion": "1", "continue": more}, "items": items})
    };
    server.asked().await.answer(200, &list(&["a", "b", "c"], Some("next")));
    let again = server.asked().await;
    assert_eq!(again.parameter("continue"), None, "the rest is not asked for");
    let [problem] = &server.index.problems()[..] else { panic!() };
    assert!(problem.contains("more than 2 objects") && problem.contains("aggregate.namespaces"), "{problem}");
    assert!(server.names().is_empty() && server.index.view().unsynced.contains("pods"));

    again.answer(200, &list(&["a", "b"], None));
    let open = server.watch("1").await;
    assert!(server.index.problems().is_empty() && !server.index.view().unsynced.contains("pods"));
    event(&open, "ADDED", &version(named("c"), "2"));
    server.asked().await.answer(200, &list(&["a", "b", "c"], None));
    let last = server.asked().await;
    assert!(server.index.view().unsynced.contains("pods"), "what is not followed is not used");
    last.answer(200, &list(&["a"], None));
    let _open = server.watch("1").await;
    assert!(!server.index.view().unsynced.contains("pods"));
    assert_eq!(server.names(), ["a"]);
}
