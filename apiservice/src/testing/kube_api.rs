//! A Kubernetes API server as far as this crate asks one: reviews, answered as told and counted, and a store of objects
//! with versions and watches.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use http::{Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::broadcast, task::JoinHandle};

#[derive(Default)]
struct Told {
    /// Token → `status.user`.
    tokens: HashMap<String, Value>,
    allow: Vec<Value>,
    delay: Duration,
    /// Requests so far, answered or not.
    requests: usize,
    token_reviews: usize,
    access_reviews: Vec<Value>,
    objects: BTreeMap<String, Value>,
    version: u64,
    /// Refused writes with 409, still to come.
    conflicts: usize,
}

/// What the handler shares with the tests: what it is told, and changes of objects with their paths.
type Shared = (Arc<Mutex<Told>>, broadcast::Sender<(String, Value)>);

/// The server; a clone is the same one.
#[derive(Clone)]
pub(crate) struct KubeApi {
    told: Arc<Mutex<Told>>,
    events: broadcast::Sender<(String, Value)>,
    uri: Uri,
    task: Arc<JoinHandle<()>>,
}

impl KubeApi {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let told = Arc::new(Mutex::new(Told::default()));
        let events = broadcast::channel(64).0;
        let app = Router::new().fallback(answer).with_state((Arc::clone(&told), events.clone()));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { told, events, uri, task: Arc::new(task) }
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::try_from(kube::Config::new(self.uri.clone())).unwrap()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.uri.authority().unwrap().as_str().parse().unwrap()
    }

    /// From now on nobody answers.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }

    pub(crate) fn knows_token(&self, token: &str, user: Value) {
        self.told.lock().tokens.insert(token.into(), user);
    }

    pub(crate) fn forget_tokens(&self) {
        self.told.lock().tokens.clear();
    }

    /// Allows reviews whose `spec` has all of `part`.
    pub(crate) fn allow(&self, part: Value) {
        self.told.lock().allow.push(part);
    }

    pub(crate) fn deny_all(&self) {
        self.told.lock().allow.clear();
    }

    pub(crate) fn answer_after(&self, delay: Duration) {
        self.told.lock().delay = delay;
    }

    pub(crate) fn requests(&self) -> usize {
        self.told.lock().requests
    }

    pub(crate) fn token_reviews(&self) -> usize {
        self.told.lock().token_reviews
    }

    /// The `spec`s of all SubjectAccessReviews so far.
    pub(crate) fn access_reviews(&self) -> Vec<Value> {
        self.told.lock().access_reviews.clone()
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.told.lock().objects.get(path).cloned()
    }

    pub(crate) fn version(&self) -> u64 {
        self.told.lock().version
    }

    pub(crate) fn refuse_writes(&self, count: usize) {
        self.told.lock().conflicts = count;
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        store(&mut self.told.lock(), &self.events, path, object);
    }

    pub(crate) fn delete(&self, path: &str) {
        self.told.lock().objects.remove(path);
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        if Arc::strong_count(&self.task) == 1 {
            self.task.abort();
        }
    }
}

/// Whether `whole` has all that `part` has.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        _ => whole == part,
    }
}

fn store(told: &mut Told, events: &broadcast::Sender<(String, Value)>, path: &str, mut object: Value) -> Value {
    told.version += 1;
    object["metadata"]["name"] = json!(path.rsplit('/').next().unwrap());
    object["metadata"]["resourceVersion"] = json!(told.version.to_string());
    let kind = if told.objects.insert(path.into(), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
    let _ = events.send((path.to_owned(), json!({"type": kind, "object": object.clone()})));
    object
}

fn failure(code: StatusCode, reason: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
                        "message": reason, "code": code.as_u16()});
    (code, Json(status)).into_response()
}

fn parameter(query: &str, name: &str) -> String {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// The NAME of `fieldSelector=metadata.name=NAME`.
fn selected_name(query: &str) -> String {
    parameter(query, "fieldSelector").trim_start_matches("metadata.name=").to_owned()
}

async fn answer(State((told, events)): State<Shared>, method: Method, uri: Uri, body: Bytes) -> Response {
    let delay = {
        let mut told = told.lock();
        told.requests += 1;
        told.delay
    };
    tokio::time::sleep(delay).await;
    let path = uri.path();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut told = told.lock();
    if path.ends_with("/tokenreviews") {
        told.token_reviews += 1;
        let user = body.pointer("/spec/token").and_then(Value::as_str).and_then(|token| told.tokens.get(token));
        let status = match user {
            Some(user) => json!({"authenticated": true, "user": user}),
            None => json!({"error": "not known"}),
        };
        return Json(json!({"kind": "TokenReview", "status": status})).into_response();
    }
    if path.ends_with("/subjectaccessreviews") {
        let spec = body["spec"].clone();
        let allowed = told.allow.iter().any(|part| contains(&spec, part));
        told.access_reviews.push(spec);
        return Json(json!({"kind": "SubjectAccessReview", "status": {"allowed": allowed}})).into_response();
    }
    let query = uri.query().unwrap_or_default();
    if method == Method::GET && query.contains("fieldSelector=") {
        return if query.contains("watch=true") {
            // What happened since the version that the client knows comes first, as from etcd.
            let since: u64 = parameter(query, "resourceVersion").parse().unwrap_or(0);
            let mut missed: Vec<_> = told
                .objects
                .iter()
                .filter(|(_, object)| {
                    object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > since
                })
                .map(|(path, object)| (path.clone(), json!({"type": "MODIFIED", "object": object})))
                .collect();
            missed.sort_by_key(|(_, event)| event["object"]["metadata"]["resourceVersion"].to_string());
            let coming = stream::unfold(events.subscribe(), |mut events| async {
                let event = events.recv().await.ok()?;
                Some((event, events))
            });
            let wanted = format!("{path}/{}", selected_name(query));
            let stream = stream::iter(missed).chain(coming).filter_map(move |(path, event)| {
                std::future::ready((path == wanted).then(|| Ok::<_, std::convert::Infallible>(format!("{event}\n"))))
            });
            Response::new(Body::from_stream(stream))
        } else {
            let items: Vec<_> =
                told.objects.get(&format!("{path}/{}", selected_name(query))).cloned().into_iter().collect();
            let version = told.version.to_string();
            Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}))
                .into_response()
        };
    }
    if method != Method::GET && told.conflicts > 0 {
        told.conflicts -= 1;
        return failure(StatusCode::CONFLICT, "Conflict");
    }
    match (method, told.objects.get(path).cloned()) {
        (Method::GET, Some(object)) => Json(object).into_response(),
        (Method::POST, None) => {
            let path = format!("{path}/{}", body.pointer("/metadata/name").and_then(Value::as_str).unwrap());
            if told.objects.contains_key(&path) {
                return failure(StatusCode::CONFLICT, "AlreadyExists");
            }
            (StatusCode::CREATED, Json(store(&mut told, &events, &path, body))).into_response()
        }
        (Method::PUT, Some(held)) => {
            if held.pointer("/metadata/resourceVersion") != body.pointer("/metadata/resourceVersion") {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            Json(store(&mut told, &events, path, body)).into_response()
        }
        (Method::PATCH, Some(mut held)) => {
            for (key, value) in body["spec"].as_object().unwrap() {
                if value.is_null() {
                    held["spec"].as_object_mut().unwrap().remove(key);
                } else {
                    held["spec"][key] = value.clone();
                }
            }
            Json(store(&mut told, &events, path, held)).into_response()
        }
        _ => failure(StatusCode::NOT_FOUND, "NotFound"),
    }
}
