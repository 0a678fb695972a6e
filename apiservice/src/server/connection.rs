//! One connection, from the accepted socket to its end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use crate::{
    Status,
    authentication::Peer,
    server::{Limits, activity::Activity},
    tls::Tls,
};

/// The first byte of every TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What Go's server says to those who forgot the `s`.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";
/// For the client of [`NOT_TLS`] to read it before the socket closes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a connection's task needs besides its socket.
pub(super) struct Connection {
    pub(super) remote: SocketAddr,
    pub(super) app: Router,
    pub(super) limits: Arc<Limits>,
    /// Turns true, or loses its sender, when the server shuts down.
    pub(super) closes: watch::Receiver<bool>,
}

impl Connection {
    pub(super) async fn run(mut self, stream: TcpStream, tls: &Tls) {
        // Answers are small: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let handshake = timeout(self.limits.handshake, handshake(stream, tls));
        let stream = tokio::select! {
            _ = self.closes.wait_for(|closing| *closing) => return,
            stream = handshake => stream,
        };
        match stream {
            Ok(Ok(Some(stream))) => self.speak(stream).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(remote = %self.remote, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(remote = %self.remote, "TLS handshake took too long"),
        }
    }

    async fn speak(self, stream: TlsStream<TcpStream>) {
        let Self { remote, app, limits, mut closes } = self;
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().unwrap_or_default();
        let peer = Arc::new(Peer::new(remote, certificates.iter().map(|der| der.clone().into_owned()).collect()));
        let http = protocol(&limits, session.alpn_protocol() == Some(b"h2"));
        let activity = Arc::new(Activity::new(Instant::now()));

        let service = {
            let (limits, activity) = (Arc::clone(&limits), Arc::clone(&activity));
            service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Arc::clone(&peer));
                request.extensions_mut().insert(ConnectInfo(remote));
                answer(app.clone(), request.map(Body::new), Arc::clone(&limits), Arc::clone(&activity))
            })
        };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // Once set, the connection only finishes what is under way, until then at most.
        let mut ends: Option<Instant> = None;
        loop {
            let deadline = ends.unwrap_or_else(|| {
                let now = Instant::now();
                // Looks again after `idle`: requests move the deadline while this sleeps.
                activity.deadline(now, limits.header_read, limits.idle).min(now + limits.idle)
            });
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%remote, error, "connection ended");
                    }
                    return;
                }
                _ = closes.wait_for(|closing| *closing), if ends.is_none() => {
                    connection.as_mut().graceful_shutdown();
                    ends = Some(Instant::now() + limits.drain);
                }
                () = sleep_until(deadline) => {
                    if ends.is_some() {
                        return;
                    }
                    let now = Instant::now();
                    if activity.deadline(now, limits.header_read, limits.idle) <= now {
                        connection.as_mut().graceful_shutdown();
                        // A request that arrives just now is still answered; nobody waits longer than for a request's head.
                        ends = Some(now + limits.header_read.min(limits.drain));
                    }
                }
            }
        }
    }
}

/// `None` when the client did not speak TLS and has been told so.
async fn handshake(mut stream: TcpStream, tls: &Tls) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first[0] != TLS_HANDSHAKE && first[0].is_ascii_uppercase() {
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection and take the answer with it.
        let mut unread = [0; 1024];
        let _ =
            timeout(LAST_WORDS, async { while stream.read(&mut unread).await.is_ok_and(|count| count > 0) {} }).await;
        return Ok(None);
    }
    TlsAcceptor::from(tls.current()).accept(stream).await.map(Some)
}

fn protocol(limits: &Limits, http2: bool) -> auto::Builder<TokioExecutor> {
    // By ALPN and not by the first bytes: the detection would wait for them without a limit.
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_headers(limits.header_count)
        // Below 8192 bytes hyper refuses the setting.
        .max_buf_size((limits.header_bytes as usize).max(8192));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes)
        // Finds peers that vanished without a word.
        .keep_alive_interval(limits.idle.min(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Counts a request as under way until it is answered or given up.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}

/// The request's line and headers, as HTTP/1.1 spells them.
fn head_bytes(request: &Request<Body>) -> usize {
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    path + headers.sum::<usize>()
}

async fn answer(
    app: Router,
    request: Request<Body>,
    limits: Arc<Limits>,
    activity: Arc<Activity>,
) -> Result<Response, Infallible> {
    activity.begin();
    let _under_way = UnderWay(activity);
    // hyper looks at the size between two reads only: a head that arrives at once may be twice as long.
    if head_bytes(&request) > limits.header_bytes as usize {
        let message = format!("the head of the request is longer than {} bytes", limits.header_bytes);
        return Ok(Status::new(431, "RequestHeaderFieldsTooLarge", message).into_response());
    }
    let Ok(response) = timeout(limits.request, app.oneshot(request)).await else {
        let message = format!("the request was not answered within {} s", limits.request.as_secs_f64());
        return Ok(Status::timeout(message).into_response());
    };
    response
}
