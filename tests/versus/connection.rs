//! One TLS connection that is kept, and plain GETs over it, one after the other. As cheap as it can be, so that what is
//! measured is the server: no runtime, no pool, no decompression (none is asked for).

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::cluster::controlplane::ControlPlane;

/// Longest wait for the next bytes; longer than the time after which the slowest server gives up itself (60 s).
const PATIENCE: Duration = Duration::from_secs(90);
/// Largest answer: a thousand pods are a quarter of this.
const ANSWER: usize = 1 << 20;

/// Whom the aggregator names to an adapter when the HPA asks.
const USER: &str = "X-Remote-User: system:serviceaccount:kube-system:horizontal-pod-autoscaler\r\n\
    X-Remote-Group: system:serviceaccounts\r\nX-Remote-Group: system:serviceaccounts:kube-system\r\n\
    X-Remote-Group: system:authenticated\r\n";

/// How to connect as the aggregator does: with its client certificate, trusting the cluster's authority.
#[derive(Debug, Clone)]
pub struct Connector(Arc<ClientConfig>);

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Without the transfer's framing.
    pub body: Vec<u8>,
}

impl Connector {
    /// From the control plane's files.
    pub fn new(plane: &ControlPlane) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(plane.authority.pem().as_bytes()).map_err(|e| e.to_string())?;
        roots.add(authority).map_err(|error| error.to_string())?;
        let file = |name: &str| plane.folder().join(name);
        let certificate = CertificateDer::from_pem_file(file("front-proxy-client.crt")).map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_file(file("front-proxy-client.key")).map_err(|e| e.to_string())?;
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = config.with_client_auth_cert(vec![certificate], key).map_err(|error| error.to_string())?;
        Ok(Self(Arc::new(config)))
    }

    /// Connects to a port of this machine.
    pub fn open(&self, port: u16) -> Result<Connection, String> {
        let open = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port)))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = open().map_err(|error| format!("127.0.0.1:{port}: {error}"))?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let session = ClientConnection::new(Arc::clone(&self.0), name).map_err(|error| error.to_string())?;
        Ok(Connection { stream: StreamOwned::new(session, stream), buffer: Vec::with_capacity(ANSWER) })
    }
}

/// The request for a path.
pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n{USER}\r\n").into_bytes()
}

impl Connection {
    /// Sends a [`request`] and waits for the whole answer.
    pub fn send(&mut self, request: &[u8]) -> Result<Answer, String> {
        self.stream.write_all(request).and_then(|()| self.stream.flush()).map_err(|error| format!("send: {error}"))?;
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.fill()?;
        };
        let head = Head::parse(&self.buffer[..end])?;
        self.buffer.drain(..end + 4);
        let body = match head.length {
            Some(length) => self.take(length)?,
            None => self.chunks()?,
        };
        Ok(Answer { status: head.status, body })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                self.fill()?;
            };
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end + 2);
            let length =
                usize::from_str_radix(line.trim(), 16).map_err(|_| format!("not a chunk's length: {line:?}"))?;
            let chunk = self.take(length)?;
            self.take(2)?;
            if length == 0 {
                return Ok(body);
            }
            body.extend(chunk);
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> Result<(), String> {
        let mut bytes = [0; 16 << 10];
        if self.buffer.len() > ANSWER {
            return Err(format!("an answer of more than {ANSWER} bytes"));
        }
        match self.stream.read(&mut bytes) {
            Ok(0) => Err("the server has closed the connection".into()),
            Ok(n) => {
                self.buffer.extend(&bytes[..n]);
                Ok(())
            }
            Err(error) => Err(format!("receive: {error}")),
        }
    }
}

struct Head {
    status: u16,
    /// `None`: in chunks.
    length: Option<usize>,
}

impl Head {
    fn parse(head: &[u8]) -> Result<Self, String> {
        let head = String::from_utf8_lossy(head);
        let strange = || format!("not an answer that keeps the connection: {head:?}");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let mut length = None;
        let mut chunked = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
                return Err(strange());
            }
        }
        match status {
            Some(status) if chunked || length.is_some() => Ok(Self { status, length: length.filter(|_| !chunked) }),
            _ => Err(strange()),
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}
