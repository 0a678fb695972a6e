//! A simulated GPU exporter on a real socket, with faults that can be switched while it runs.
//!
//! It speaks HTTP/1.1 by hand: an ordinary server library would not let a page stop in its middle. It answers
//! `GET /metrics`, with gzip for whoever asks for it, and keeps connections open as the real exporters do. It is not for
//! production, and trusts its clients as far as a test does.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use tidegate::sim::{exporter::{Dialect, Exporter, Fault}, gpus::{GpuNode, GpuPod}};
//!
//! let exporter = Exporter::start(([127, 0, 0, 1], 0).into(), GpuNode::new("node-a", 1), Dialect::Ack).await?;
//! exporter.add_pod(GpuPod::new("default", "llm-0", "7c9e", [0]));
//! exporter.set_load("default", "llm-0", 80.0);
//! println!("{}", exporter.url());
//! exporter.set_fault(Fault::Dead);
//! exporter.stop().await;
//! # Ok(())
//! # }
//! ```

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::gpus::{GpuNode, GpuPod};

mod connection;
mod fault;
mod page;

pub use fault::{Fault, OddValue};
pub use page::{Dialect, render};

/// Open connections to one exporter; more wait in the socket's backlog (R22).
const CONNECTIONS: usize = 64;
const BACKLOG: u32 = 128;
/// Wait before a port is tried again that something else holds for a moment.
const REBIND: Duration = Duration::from_millis(20);

/// What is reported, and in which format.
pub trait Source: Clone + Send + 'static {
    /// The page under that fault.
    fn render(&self, fault: Fault) -> String;
}

/// A node's GPUs in the format of one exporter.
#[derive(Debug, Clone)]
pub struct Gpus {
    node: GpuNode,
    dialect: Dialect,
}

impl Source for Gpus {
    fn render(&self, fault: Fault) -> String {
        render(&self.node, self.dialect, fault)
    }
}

/// What is reported, shared between the server and whoever directs the scene.
#[derive(Debug)]
struct Stage<S> {
    state: Mutex<State<S>>,
    fault: watch::Sender<Fault>,
    requests: AtomicU64,
}

#[derive(Debug)]
struct State<S> {
    source: S,
    /// The source when [`Fault::Frozen`] was set.
    frozen: Option<S>,
}

/// A running server of a page. Dropping it ends it.
#[derive(Debug)]
pub struct Endpoint<S> {
    address: SocketAddr,
    stage: Arc<Stage<S>>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A running exporter of a node's GPUs.
pub type Exporter = Endpoint<Gpus>;

impl<S: Source> Stage<S> {
    fn new(source: S) -> Self {
        Self {
            state: Mutex::new(State { source, frozen: None }),
            fault: watch::Sender::new(Fault::None),
            requests: AtomicU64::new(0),
        }
    }

    /// The page as it would be served now.
    fn page(&self) -> String {
        let state = self.state.lock();
        state.frozen.as_ref().unwrap_or(&state.source).render(*self.fault.borrow())
    }
}

impl<S: Source> Endpoint<S> {
    /// Listens on `address` (port 0: any) and serves until stopped or dropped.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn serve(address: SocketAddr, source: S) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stage = Arc::new(Stage::new(source));
        let (shutdown, stopped) = watch::channel(false);
        let task = tokio::spawn(run(listener, Arc::clone(&stage), wait_for_stop(stopped)));
        Ok(Self { address, stage, shutdown, task })
    }

    /// Changes what is reported.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        change(&mut self.stage.state.lock().source)
    }

    /// Where it listens, or will listen again after [`Fault::Dead`].
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of its page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Requests for the page that have arrived, answered or not.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.stage.requests.load(Ordering::Relaxed)
    }

    /// The page as it would be served now.
    #[must_use]
    pub fn page(&self) -> String {
        self.stage.page()
    }

    /// Switches to that fault; [`Fault::None`] heals.
    pub fn set_fault(&self, fault: Fault) {
        let mut state = self.stage.state.lock();
        state.frozen = matches!(fault, Fault::Frozen(_)).then(|| state.source.clone());
        self.stage.fault.send_replace(fault);
    }

    /// The present fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        *self.stage.fault.borrow()
    }

    /// Ends it and waits until its socket is closed.
    pub async fn stop(mut self) {
        self.shutdown.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "a simulated exporter failed");
        }
    }
}

impl Exporter {
    /// Listens on `address` (port 0: any) and serves the node's GPUs until stopped or dropped.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: SocketAddr, node: GpuNode, dialect: Dialect) -> std::io::Result<Self> {
        Self::serve(address, Gpus { node, dialect }).await
    }

    /// Puts a pod on the node; one of the same name is replaced.
    pub fn add_pod(&self, pod: GpuPod) {
        self.change(|Gpus { node, .. }| {
            node.pods.retain(|known| known.key != pod.key);
            node.pods.push(pod);
        });
    }

    /// Takes a pod off the node. False if there was none of that name.
    pub fn remove_pod(&self, namespace: &str, name: &str) -> bool {
        self.change(|Gpus { node, .. }| {
            let before = node.pods.len();
            node.pods.retain(|pod| *pod.key.namespace != *namespace || *pod.key.name != *name);
            node.pods.len() < before
        })
    }

    /// Sets how busy the pod's cards are, percent. False if there is no pod of that name.
    pub fn set_load(&self, namespace: &str, name: &str, percent: f64) -> bool {
        self.change(|Gpus { node, .. }| {
            let pod = node.pods.iter_mut().find(|pod| *pod.key.namespace == *namespace && *pod.key.name == *name);
            pod.map(|pod| pod.percent = percent).is_some()
        })
    }
}

impl<S> Drop for Endpoint<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn wait_for_stop(mut stopped: watch::Receiver<bool>) {
    // An error means that the handle is gone: stop as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// Serves the stage's page until `shutdown` ends. On [`Fault::Dead`] the listener is closed and its connections are cut;
/// afterwards the same port is listened on again.
async fn run<S: Source>(listener: TcpListener, stage: Arc<Stage<S>>, shutdown: impl Future<Output = ()>) {
    tokio::pin!(shutdown);
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut fault = stage.fault.subscribe();
    let mut connections = JoinSet::new();
    loop {
        if *fault.borrow_and_update() == Fault::Dead {
            listener = None;
            connections.shutdown().await;
            // Bound and not listening: connections are refused, and nobody else is given the port.
            let reserved = tokio::select! {
                reserved = reserve(address) => reserved,
                () = &mut shutdown => return,
            };
            tokio::select! {
                healed = fault.wait_for(|fault| *fault != Fault::Dead) => if healed.is_err() { return },
                () = &mut shutdown => return,
            }
            match reserved.listen(BACKLOG) {
                Ok(revived) => listener = Some(revived),
                Err(error) => tracing::warn!(%error, %address, "a simulated exporter cannot listen again"),
            }
        }
        let Some(open) = &listener else { return };
        tokio::select! {
            accepted = open.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => { connections.spawn(connection::serve(stream, Arc::clone(&stage))); }
                Err(error) => tracing::debug!(%error, "accept"),
            },
            Some(_) = connections.join_next() => {}
            changed = fault.changed() => if changed.is_err() { return },
            () = &mut shutdown => return,
        }
    }
}

/// Binds the address without listening, as soon as it is free.
async fn reserve(address: SocketAddr) -> TcpSocket {
    loop {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let bound = socket.and_then(|socket| {
            // Cut connections linger in TIME_WAIT on this port.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => return socket,
            Err(_) => tokio::time::sleep(REBIND).await,
        }
    }
}

#[cfg(test)]
mod tests;
