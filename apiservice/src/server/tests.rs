use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Request, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use super::Limits;
use crate::{
    authentication::Peer,
    metrics,
    testing::{PATIENCE, Server, eventually, pki::Ca, read},
};

/// A short while, for limits that a test waits out, and in which a client that means well still gets its request sent on a busy
/// machine.
const SHORT: Duration = Duration::from_secs(1);

async fn who(request: Request) -> String {
    let peer = request.extensions().get::<Arc<Peer>>().unwrap();
    format!("{} {} {:?}", peer.remote(), peer.certificates().len(), request.version())
}

fn app() -> Router {
    Router::new().route("/", get(who))
}

/// Requests that were answered with this code, by the metrics of the accept loop.
fn counted(server: &Server, code: &str) -> u64 {
    let (_, page) = metrics::page(&server.registry, "");
    let of = |line: &&str| line.starts_with("apiserver_request_total{") && line.contains(&format!("code=\"{code}\""));
    page.lines().filter(of).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

fn reqwest(server: &Server) -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(server.ca.as_bytes()).unwrap()])
        .resolve("adapter.tidegate.svc", server.address)
        .build()
        .unwrap()
}

#[tokio::test]
async fn handlers_see_the_peer_over_both_versions_of_http() {
    let server = Server::start(app(), Limits::default()).await;
    let answer = server.client().get("/", &[]).await;
    assert!(answer.body.contains(" 0 HTTP/1.1"), "{answer:?}");
    let any = Ca::new("nobody knows").issue("x", None);
    let answer = server.client().with(&any).get("/", &[]).await;
    assert!(answer.body.contains(" 1 HTTP/1.1"), "{answer:?}");
    let url = format!("https://adapter.tidegate.svc:{}/", server.address.port());
    let answer = reqwest(&server).get(url).send().await.unwrap().text().await.unwrap();
    assert!(answer.ends_with(" 0 HTTP/2.0"), "{answer}");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so_and_garbage_is_not_answered() {
    let server = Server::start(app(), Limits::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = read(&mut stream).await.unwrap();
    assert_eq!(answer.code, 400);
    assert!(answer.body.contains("HTTPS"), "{answer:?}");
    for garbage in [&b"\x16\x03\x01\xff\xff garbage"[..], b"\0\0\0\0", b"\x16", b"\xff\xfe\x80", b"lower case"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(read(&mut stream).await.is_none(), "{garbage:?}");
    }
    assert_eq!(server.client().get("/", &[]).await.code, 200);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended() {
    let limits = Limits { handshake: SHORT, ..Limits::default() };
    let server = Server::start(app(), limits).await;
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        assert!(read(&mut stream).await.is_none());
    }
}

#[tokio::test]
async fn heads_that_trickle_in_or_never_come_close_the_connection() {
    let limits = Limits { header_read: SHORT, ..Limits::default() };
    let server = Server::start(app(), limits).await;
    for beginning in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\nX-A: "] {
        let mut stream = server.client().connect().await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let answer = read(&mut stream).await;
        assert!(answer.is_none_or(|answer| answer.code == 408), "no answer, or 408");
    }
    // Over HTTP/2: nothing at all, and a preface with settings and half a HEADERS frame.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for beginning in [&b""[..], &[&preface[..], b"\0\0\x10\x01\0\0\0\0\x01"].concat()] {
        let mut stream = server.client().connect_alpn(&[b"h2"]).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        let _ = read(&mut stream).await;
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered_with_431() {
    let limits = Limits { header_bytes: 16 * 1024, header_count: 10, ..Limits::default() };
    let server = Server::start(app(), limits).await;
    let client = server.client();
    let long = "x".repeat(12 * 1024);
    assert_eq!(client.get("/", &[("X-A", &long)]).await.code, 200);
    let longer = "x".repeat(20 * 1024);
    let answer = client.get("/", &[("X-A", &longer)]).await;
    assert_eq!(answer.code, 431);
    assert_eq!(answer.json()["reason"], "RequestHeaderFieldsTooLarge", "a little over the limit: in our words");
    assert_eq!(counted(&server, "431"), 1);
    let many: Vec<_> = (0..20).map(|_| ("X-A", "b")).collect();
    assert_eq!(client.get("/", &many).await.code, 431);
    let url = format!("https://adapter.tidegate.svc:{}/", server.address.port());
    let http = reqwest(&server);
    assert_eq!(http.get(&url).header("X-A", &long).send().await.unwrap().status(), 200);
    // Over HTTP/2 the refusal is either the code, or the stream's end when the client knows the limit beforehand.
    match http.get(&url).header("X-A", &longer).send().await {
        Ok(answer) => assert_eq!(answer.status(), 431),
        Err(error) => assert!(error.is_request(), "{error:?}"),
    }
    let default = Server::start(app(), Limits::default()).await;
    assert_eq!(default.client().get("/", &[("X-A", &"x".repeat(600_000))]).await.code, 200);
    assert_eq!(default.client().get("/", &[("X-A", &"x".repeat(1_200_000))]).await.code, 431);
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_answered_with_a_504_status() {
    let limits = Limits { request: SHORT, ..Limits::default() };
    let server = Server::start(Router::new().fallback(std::future::pending::<()>), limits).await;
    let answer = server.client().get("/", &[]).await;
    assert_eq!(answer.code, 504);
    assert_eq!(answer.json()["reason"], "Timeout");
    assert_eq!(answer.json()["kind"], "Status");
    assert!(!answer.head.contains("retry-after"));
    assert_eq!(counted(&server, "504"), 1);
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_until_one_closes() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let server = Server::start(app(), limits).await;
    let first = server.client().connect().await.unwrap();
    let _second = server.client().connect().await.unwrap();
    let client = server.client();
    let mut third = tokio::spawn(async move { client.get("/", &[]).await.code });
    assert!(tokio::time::timeout(SHORT, &mut third).await.is_err(), "no slot for a third");
    drop(first);
    assert_eq!(tokio::time::timeout(PATIENCE, third).await.unwrap().unwrap(), 200);
}

#[tokio::test]
async fn a_connection_that_is_of_no_use_is_closed_and_one_that_waits_is_not() {
    let limits = Limits { idle: SHORT, ..Limits::default() };
    let release = Arc::new(Notify::new());
    let (began, notify) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&release));
    let seen = Arc::clone(&began);
    let slow = move || {
        let (notify, seen) = (Arc::clone(&notify), Arc::clone(&seen));
        async move {
            seen.fetch_add(1, Ordering::Relaxed);
            notify.notified().await;
            "done"
        }
    };
    let server = Server::start(app().route("/slow", get(slow)), limits).await;
    let mut idle = server.client().connect().await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut waiting = server.client().connect().await.unwrap();
    waiting.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(read(&mut idle).await.unwrap().code, 200, "answered, then closed by the server");
    assert_eq!(began.load(Ordering::Relaxed), 1);
    tokio::time::sleep(2 * SHORT).await;
    release.notify_one();
    assert_eq!(read(&mut waiting).await.unwrap().body, "done");
}

#[tokio::test]
async fn at_shutdown_what_is_under_way_is_finished_and_nothing_new_is_taken() {
    let release = Arc::new(Notify::new());
    let (began, notify) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&release));
    let seen = Arc::clone(&began);
    let slow = move || {
        let (notify, seen) = (Arc::clone(&notify), Arc::clone(&seen));
        async move {
            seen.fetch_add(1, Ordering::Relaxed);
            notify.notified().await;
            "done"
        }
    };
    // Whoever has never asked would have longer than this test waits for anything.
    let limits = Limits { first_request: 3 * PATIENCE, ..Limits::default() };
    let mut server = Server::start(app().route("/slow", get(slow)), limits).await;
    let client = server.client();
    let mut idle = client.connect().await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answered = [0; 15];
    idle.read_exact(&mut answered).await.unwrap();
    assert_eq!(&answered, b"HTTP/1.1 200 OK");
    let (http1, http2) = (server.client(), reqwest(&server));
    let url = format!("https://adapter.tidegate.svc:{}/slow", server.address.port());
    let first = tokio::spawn(async move { http1.get("/slow", &[]).await.body });
    let second = tokio::spawn(async move { http2.get(url).send().await.unwrap().text().await.unwrap() });
    eventually("both requests are under way", || began.load(Ordering::Relaxed) == 2).await;

    server.stop();
    read(&mut idle).await; // waits for the end
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
    release.notify_waiters();
    assert_eq!(first.await.unwrap(), "done");
    assert_eq!(second.await.unwrap(), "done");
    server.ended().await;
}

#[tokio::test]
async fn at_shutdown_a_new_connection_still_gets_its_first_request_answered_and_no_second_one() {
    let mut server = Server::start(app(), Limits::default()).await;
    let client = server.client();
    // Accepted in this order: the first is in its handshake once the others have theirs behind them.
    let greets = TcpStream::connect(server.address).await.unwrap();
    let mut http2 = client.connect_alpn(&[b"h2"]).await.unwrap();
    let mut http1 = client.connect().await.unwrap();
    server.stop();
    eventually("nobody listens any more", || std::net::TcpStream::connect(server.address).is_err()).await;

    let mut greeted = client.handshake(greets, &[b"http/1.1"]).await.unwrap();
    for stream in [&mut http1, &mut greeted] {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = read(stream).await.expect("an answer, and then the end");
        assert_eq!(answer.code, 200);
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    http2.write_all(&[preface(b""), get_root(1)].concat()).await.unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("HTTP/2.0") {
        let read = tokio::time::timeout(PATIENCE, http2.read_buf(&mut said)).await.expect("an answer");
        assert_ne!(read.unwrap(), 0, "{said:?}");
    }
    drop(http2);
    server.ended().await;
}

#[tokio::test]
async fn at_shutdown_a_new_connection_that_asks_nothing_is_closed_after_a_short_grace() {
    let limits = Limits { first_request: SHORT, drain: 3 * PATIENCE, ..Limits::default() };
    let mut server = Server::start(app(), limits).await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let idle = server.client().connect().await.unwrap();
    server.stop();
    server.ended().await;
    drop((silent, idle));
}

#[tokio::test]
async fn the_drain_has_an_end() {
    let limits = Limits { drain: SHORT, ..Limits::default() };
    let began = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&began);
    let never = move || {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    };
    let mut server = Server::start(Router::new().fallback(never), limits).await;
    let client = server.client();
    let hangs = tokio::spawn(async move {
        let mut stream = client.connect().await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read(&mut stream).await.is_none()
    });
    eventually("the request is under way", || began.load(Ordering::Relaxed) == 1).await;
    server.stop();
    server.ended().await;
    assert!(hangs.await.unwrap());
}

/// Frames of RFC 9113, by hand: a client that means well cannot send what these tests send.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The preface, and settings.
fn preface(settings: &[u8]) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(4, 0, 0, settings)].concat()
}

/// `GET /` of authority `a`, complete in one frame.
fn get_root(stream: u32) -> Vec<u8> {
    frame(1, 5, stream, b"\x82\x87\x84\x41\x01a")
}

#[tokio::test]
async fn requests_that_are_begun_and_reset_at_once_end_the_connection() {
    let began = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&began);
    let never = move || {
        seen.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<()>()
    };
    let server = Server::start(app().fallback(never), Limits::default()).await;
    let mut stream = server.client().connect_alpn(&[b"h2"]).await.unwrap();
    let reset = |number: u32| [get_root(2 * number + 1), frame(3, 0, 2 * number + 1, &8_u32.to_be_bytes())].concat();
    let flood: Vec<u8> = [preface(b"")].into_iter().chain((0..10_000).map(reset)).flatten().collect();
    // The server may close before it has taken all of it.
    let _ = stream.write_all(&flood).await;
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the connection is closed");
    let calm = [&[7, 0, 0, 0, 0, 0][..]].concat();
    assert!(said.windows(calm.len()).any(|bytes| bytes == calm), "GOAWAY expected: {said:?}");
    assert!(began.load(Ordering::Relaxed) < 1000, "{} of 10000 were begun", began.load(Ordering::Relaxed));
    assert_eq!(server.client().get("/", &[]).await.code, 200, "others are served");
}

#[tokio::test]
async fn who_does_not_read_the_answer_loses_the_connection() {
    const LONG: usize = 32 * 1024 * 1024;
    let limits = Limits { connections: 1, idle: SHORT, header_read: SHORT, handshake: PATIENCE, ..Limits::default() };
    let server = Server::start(app().route("/long", get(async || vec![b'x'; LONG])), limits).await;
    // Over HTTP/2 the client does not even open a window: SETTINGS_INITIAL_WINDOW_SIZE = 0.
    let get_long = frame(1, 5, 1, b"\x82\x87\x04\x05/long\x41\x01a");
    let no_window = [preface(b"\0\x04\0\0\0\0"), get_long].concat();
    for (protocol, request) in [(&b"http/1.1"[..], &b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n"[..]), (b"h2", &no_window)]
    {
        let mut stream = server.client().connect_alpn(&[protocol]).await.unwrap();
        stream.write_all(request).await.unwrap();
        // There is one slot: another client is served only when the first has lost its own.
        let answer = tokio::time::timeout(PATIENCE, server.client().get("/", &[])).await.expect("the slot is free");
        assert_eq!(answer.code, 200);
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection is closed");
        assert!(rest.len() < LONG, "{} bytes", rest.len());
    }
}

#[tokio::test]
async fn a_head_that_two_readers_could_end_at_different_places_is_refused_and_nothing_behind_it_is_read() {
    let paths = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen = Arc::clone(&paths);
    let note = move |request: Request| {
        seen.lock().push(request.uri().path().to_owned());
        async { "noted" }
    };
    let server = Server::start(Router::new().fallback(note), Limits::default()).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X-A: b\r\n Transfer-Encoding: chunked\r\n",
        "X-A: b\0c\r\n",
        ": empty\r\n",
        "X-\u{e9}: b\r\n",
    ] {
        let mut stream = server.client().connect().await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n{smuggled}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read(&mut stream).await;
        assert!(answer.as_ref().is_none_or(|answer| answer.code == 400), "{lines:?}: {answer:?}");
        assert_eq!(paths.lock().as_slice(), [""; 0], "{lines:?}");
    }
    for line in ["GET /a b HTTP/1.1", "GET / HTTP/1.2", "GET  / HTTP/1.1", "G\0T / HTTP/1.1", "GET /\x7f HTTP/1.1", "/"]
    {
        let mut stream = server.client().connect().await.unwrap();
        stream.write_all(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let answer = read(&mut stream).await;
        assert!(answer.as_ref().is_none_or(|answer| answer.code == 400), "{line:?}: {answer:?}");
    }
    assert_eq!(paths.lock().as_slice(), [""; 0]);
    let long = format!("/{}", "x".repeat(70_000));
    assert_eq!(server.client().get(&long, &[]).await.code, 414);
}

#[tokio::test]
async fn a_body_that_nobody_reads_costs_nobody_anything() {
    let server = Server::start(app(), Limits::default()).await;
    // Announced, begun and never finished.
    let mut stream = server.client().connect().await.unwrap();
    let head = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b'x'; 1000]).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap().code, 200, "answered, then closed");
    // Sent as fast as the connection takes it.
    let mut stream = server.client().connect().await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let sent = async {
        let mut sent = 0;
        while stream.write_all(&[b'x'; 16_384]).await.is_ok() {
            sent += 16_384;
        }
        sent
    };
    let sent = tokio::time::timeout(PATIENCE, sent).await.expect("the connection is closed");
    assert!(sent < 100_000_000, "{sent} bytes were taken");
}

/// R22: one client that keeps connections open does not keep the others out.
#[tokio::test]
async fn connections_of_one_address_beyond_their_limit_are_closed_and_those_of_others_are_not() {
    let server = Server::start(app(), Limits { connections: 8, connections_of_one: 2, ..Limits::default() }).await;
    let connect = async |from: [u8; 4]| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    // Whoever is let in is told that this is no TLS; whoever is not hears nothing.
    let is_heard = async |mut stream: TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() && read(&mut stream).await.is_some()
    };
    let (greedy, other) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    let (first, second) = (connect(greedy).await, connect(greedy).await);
    assert!(!is_heard(connect(greedy).await).await);
    assert!(is_heard(connect(other).await).await);
    drop(first);
    let dropped = tokio::time::Instant::now();
    while !is_heard(connect(greedy).await).await {
        assert!(dropped.elapsed() < PATIENCE, "a place that became free is taken again");
    }
    drop(second);
}
