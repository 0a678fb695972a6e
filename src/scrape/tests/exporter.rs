//! An exporter that does what a test says, byte by byte, right or wrong.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::Mutex;

/// What the exporter does on a request, one after the other; then it waits for the next request.
pub enum Act {
    Send(Vec<u8>),
    /// Sends that again and again until the client has had enough.
    Forever(Vec<u8>),
    Wait(Duration),
    /// Says nothing more until the client leaves.
    Hang,
    Close,
}

/// A request as it came in.
pub struct Request {
    pub head: String,
    /// Counted from 0 over all connections.
    pub number: usize,
    /// Counted from 0 on this connection.
    pub on_connection: usize,
}

type Script = dyn Fn(&Request) -> Vec<Act> + Send + Sync;

struct Shared {
    script: Box<Script>,
    tls: Option<Arc<rustls::ServerConfig>>,
    stopping: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

/// A listening exporter; closed when dropped.
pub struct Exporter {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Exporter {
    pub fn new(script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::start(Box::new(script), None)
    }

    pub fn with_tls(
        tls: Arc<rustls::ServerConfig>,
        script: impl Fn(&Request) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Box::new(script), Some(tls))
    }

    /// Answers each request with that.
    pub fn always(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::new(move |_| vec![Act::Send(answer.clone())])
    }

    fn start(script: Box<Script>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            tls,
            stopping: AtomicBool::new(false),
            sockets: Mutex::default(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            heads: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/metrics", self.address)
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().clone()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes `accept`.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections = Vec::new();
    for socket in listener.incoming() {
        let Ok(socket) = socket else { continue };
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        shared.sockets.lock().push(socket.try_clone().unwrap());
        let shared = Arc::clone(shared);
        connections.push(std::thread::spawn(move || {
            let closer = socket.try_clone().unwrap();
            match shared.tls.clone() {
                None => serve(socket, &shared),
                Some(tls) => {
                    let connection = rustls::ServerConnection::new(tls).unwrap();
                    serve(rustls::StreamOwned::new(connection, socket), &shared);
                }
            }
            let _ = closer.shutdown(Shutdown::Both);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        }));
    }
    for socket in shared.sockets.lock().iter() {
        let _ = socket.shutdown(Shutdown::Both);
    }
    for connection in connections {
        let _ = connection.join();
    }
}

/// Returns when either side has had enough.
fn serve(mut stream: impl Read + Write, shared: &Shared) {
    for on_connection in 0.. {
        let Some(head) = read_head(&mut stream) else { return };
        shared.heads.lock().push(head.clone());
        let number = shared.requests.fetch_add(1, Ordering::SeqCst);
        for act in (shared.script)(&Request { head, number, on_connection }) {
            let done = match act {
                Act::Send(bytes) => stream.write_all(&bytes).and_then(|()| stream.flush()),
                Act::Forever(bytes) => loop {
                    if let Err(error) = stream.write_all(&bytes) {
                        break Err(error);
                    }
                },
                Act::Wait(time) => {
                    std::thread::sleep(time);
                    Ok(())
                }
                Act::Hang => stream.read(&mut [0]).map(drop),
                Act::Close => return,
            };
            if done.is_err() {
                return;
            }
        }
    }
}

fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    // A TLS handshake starts with 22; a server of plain HTTP answers that like any other nonsense, at once.
    while !head.ends_with(b"\r\n\r\n") && head != [22] {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// A whole answer with status 200.
pub fn ok(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The body in gzip.
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}
