//! The accept loop: TLS, HTTP/1.1 and HTTP/2, with a bound on everything that a client could otherwise hold on to.
//!
//! `axum::serve` offers neither TLS nor these bounds, and axum's TLS companion does not hand the peer's certificate to
//! handlers.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use futures::FutureExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{metrics::Metrics, server::addresses::Addresses, tls::Tls};

mod activity;
mod addresses;
mod connection;

/// What one client, and all of them, may take. Each field says what happens beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; beyond, no more are accepted until one closes, and the kernel's bounded backlog holds them.
    pub connections: usize,
    /// Open connections from one address; beyond, a new one is closed at once, so that no single client can take all.
    pub connections_of_one: usize,
    /// From accept to the end of the TLS handshake; beyond, the connection is closed.
    pub handshake: Duration,
    /// Bytes of a request's head; beyond, 431. The default is the reference server's. What is longer by
    /// more than 8 KiB, or has too many lines, is not read to its end: hyper then answers by itself, with neither a
    /// `Status` nor a trace in the metrics, and cannot be told otherwise.
    pub header_bytes: u32,
    /// Number of header lines over HTTP/1.1; beyond, hyper's own 431. A user with many groups has many.
    pub header_count: usize,
    /// To read a request's head, and over HTTP/1.1 to wait for one; beyond, the connection is closed.
    pub header_read: Duration,
    /// For a handler to answer; beyond, 504.
    pub request: Duration,
    /// Without a request under way; beyond, the connection is closed. Also how long a client may take to read an answer.
    pub idle: Duration,
    /// Requests under way on one HTTP/2 connection; beyond, clients wait (the aggregator sends all on few connections).
    pub streams: u32,
    /// At shutdown: from accept to a connection's first request, which may be on its way; beyond, the connection is closed.
    pub first_request: Duration,
    /// For requests under way at shutdown; beyond, their connections are dropped.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_of_one: 256,
            handshake: Duration::from_secs(10),
            header_bytes: 1 << 20,
            header_count: 1024,
            header_read: Duration::from_secs(30),
            request: Duration::from_mins(1),
            idle: Duration::from_mins(3),
            streams: 250,
            // Go's server gives as much (net/http, `closeIdleConns`).
            first_request: Duration::from_secs(5),
            drain: Duration::from_secs(20),
        }
    }
}

/// After a failed `accept` (out of file descriptors): long enough not to spin, short enough not to be noticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` over TLS on `listener` until `shutdown`, then finishes what is under way and returns. What is refused
/// here, before or in spite of `app`, is counted in `metrics`, which are the router's own where `app` is one:
/// [`Options::metrics`](crate::Options).
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    app: Router,
    metrics: impl Into<Option<Metrics>>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    run(listener, Some(tls), Shared { app, metrics: metrics.into(), limits }, shutdown).await
}

/// The same without TLS, over HTTP/1.1: for a port that only the node or a mesh can reach.
pub async fn serve_plain(
    listener: TcpListener,
    app: Router,
    metrics: impl Into<Option<Metrics>>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    run(listener, None, Shared { app, metrics: metrics.into(), limits }, shutdown).await
}

/// What all connections share.
struct Shared {
    app: Router,
    metrics: Option<Metrics>,
    limits: Limits,
}

async fn run(
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Shared,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shared = Arc::new(shared);
    let slots = Arc::new(Semaphore::new(shared.limits.connections));
    let addresses = Addresses::new(shared.limits.connections_of_one);
    let (closing, closes) = watch::channel(false);
    let mut connections = JoinSet::new();
    let begin = |connections: &mut JoinSet<()>, (stream, remote, slot): (TcpStream, SocketAddr, _)| {
        let Some(place) = addresses.enter(remote.ip()) else {
            tracing::debug!(%remote, "too many connections from one address: closed");
            return;
        };
        let connection = connection::Connection { remote, shared: Arc::clone(&shared), closes: closes.clone() };
        let tls = tls.clone();
        connections.spawn(async move {
            connection.run(stream, tls.as_ref()).await;
            drop((place, slot));
        });
    };
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &slots) => begin(&mut connections, accepted),
        }
    }
    // Who has connected already is answered as well.
    while let Some(accepted) = accept(&listener, &slots).now_or_never() {
        begin(&mut connections, accepted);
    }
    drop(listener);
    closing.send_replace(true);
    let drain = shared.limits.drain;
    let drained = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(connections = connections.len(), "requests were still under way after the drain time: dropped");
        connections.shutdown().await;
    }
    Ok(())
}

/// The next connection, once there is a slot for it. Safe to cancel.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = match Arc::clone(slots).acquire_owned().await {
        Ok(slot) => slot,
        // Nobody closes the semaphore; were it closed, no connection may be accepted.
        Err(_) => std::future::pending().await,
    };
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => return (stream, remote, slot),
            Err(error) => {
                // A client that left before it was accepted needs no pause; the rest are shortages of ours.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
