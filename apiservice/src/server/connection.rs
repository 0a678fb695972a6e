//! One connection, from the accepted socket to its end.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, Request, Uri, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;

use crate::{
    Api, Status,
    authentication::Peer,
    metrics::RequestLabels,
    path,
    server::{Limits, Shared, activity::Activity},
    tls::Tls,
};

/// The first byte of every TLS handshake record (RFC 8446, 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What Go's server says to those who forgot the `s`.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
    Client sent an HTTP request to an HTTPS server.\n";
/// For the client of [`NOT_TLS`] to read it before the socket closes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Bytes by which hyper may read more than a head may have, so that whoever is a little over the limit is told so in our
/// own words. hyper takes no setting below it.
const SLACK: u32 = 8192;

/// What a connection's task needs besides its socket.
pub(super) struct Connection {
    pub(super) remote: SocketAddr,
    pub(super) shared: Arc<Shared>,
    /// Turns true, or loses its sender, when the server shuts down.
    pub(super) closes: watch::Receiver<bool>,
}

impl Connection {
    pub(super) async fn run(self, stream: TcpStream, tls: Option<&Tls>) {
        // Answers are small: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let grace = Instant::now() + self.shared.limits.first_request;
        let Some(tls) = tls else {
            return self.speak(stream, Vec::new(), false, grace).await;
        };
        let handshake = timeout(self.shared.limits.handshake, handshake(stream, tls));
        let mut closes = self.closes.clone();
        let too_late = async {
            let _ = closes.wait_for(|closing| *closing).await; // an error: the sender is gone, which says the same
            sleep_until(grace).await;
        };
        let stream = tokio::select! {
            () = too_late => return,
            stream = handshake => stream,
        };
        match stream {
            Ok(Ok(Some(stream))) => {
                let (_, session) = stream.get_ref();
                let certificates = session.peer_certificates().unwrap_or_default();
                let certificates = certificates.iter().map(|der| der.clone().into_owned()).collect();
                let http2 = session.alpn_protocol() == Some(b"h2");
                self.speak(stream, certificates, http2, grace).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(remote = %self.remote, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(remote = %self.remote, "TLS handshake took too long"),
        }
    }

    /// Answers requests until the connection is of no more use. `grace`: until then the first one may still come after the
    /// server has begun to shut down.
    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        certificates: Vec<CertificateDer<'static>>,
        http2: bool,
        grace: Instant,
    ) {
        let Self { remote, shared, mut closes } = self;
        let limits = &shared.limits;
        let peer = Arc::new(Peer::new(remote, certificates));
        let http = protocol(limits, http2);
        let activity = Arc::new(Activity::new(Instant::now()));

        let service = {
            let (shared, activity, closes) = (Arc::clone(&shared), Arc::clone(&activity), closes.clone());
            service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Arc::clone(&peer));
                request.extensions_mut().insert(ConnectInfo(remote));
                let answer = answer(request.map(Body::new), Arc::clone(&shared), Arc::clone(&activity));
                let closes = closes.clone();
                async move {
                    let mut response = answer.await;
                    // Over HTTP/2 hyper says it in a frame.
                    if !http2 && *closes.borrow() {
                        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    }
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let closing = async {
            let _ = closes.wait_for(|closing| *closing).await; // an error: the sender is gone, which says the same
            // A client may be sending its first request just now, and would see it reset. One that was answered before
            // knows how connections end, and asks again.
            let _ = timeout_at(grace, activity.first_request()).await; // too late, or there is one to finish
        };
        let mut closing = std::pin::pin!(closing);
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
                () = &mut closing, if ends.is_none() => {
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
        .max_buf_size(limits.header_bytes.saturating_add(SLACK) as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.header_bytes.saturating_add(SLACK))
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

async fn answer(request: Request<Body>, shared: Arc<Shared>, activity: Arc<Activity>) -> Response {
    activity.begin();
    let _under_way = UnderWay(activity);
    let received = Instant::now();
    let Shared { app, metrics, limits } = &*shared;
    let refuse = |method: &Method, uri: &Uri, status: &Status| {
        if let Some(metrics) = metrics {
            let labels = RequestLabels::new(method, path::parse(uri.path(), &Api::ALL).ok().as_ref());
            metrics.answered(labels, status.code, received.elapsed().as_secs_f64());
        }
    };
    // hyper looks at the size between two reads only, and lets more through than it is told.
    if head_bytes(&request) > limits.header_bytes as usize {
        let message = format!("the head of the request is longer than {} bytes", limits.header_bytes);
        let status = Status::new(431, "RequestHeaderFieldsTooLarge", message);
        let (parts, _) = request.into_parts();
        refuse(&parts.method, &parts.uri, &status);
        return status.respond(&parts);
    }
    // Cheap: a path is shared, not copied.
    let (method, uri) = (request.method().clone(), request.uri().clone());
    match timeout(limits.request, app.clone().oneshot(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            let message = format!("the request was not answered within {} s", limits.request.as_secs_f64());
            let status = Status::timeout(message);
            refuse(&method, &uri, &status);
            status.into_response()
        }
    }
}
