//! TLS of the server: which certificate it shows, and which clients it lets speak.
//!
//! TLS 1.2 and up with ring, HTTP/2 and HTTP/1.1 by ALPN. A [`Tls`] is a handle: whoever renews the certificate replaces
//! it there, and connections made from then on see the new one.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

mod client_certificate;
pub mod files;
pub mod self_made;
pub mod shared;

pub use files::CertificateFiles;
pub use self_made::{SelfMade, ServiceName};
pub use shared::SharedCertificate;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: std::io::Error,
    },
    /// No certificate in what should hold the chain.
    #[error("the certificate must be a PEM chain, leaf first: {0}")]
    Certificate(String),
    /// No key in what should hold it.
    #[error("the key must be a PEM private key (PKCS#8, PKCS#1 or SEC1): {0}")]
    Key(String),
    /// They do not belong together, or the TLS library does not take them.
    #[error("certificate and key cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
    /// A self-made certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
    /// The Secret that replicas share cannot be read or written.
    #[error("Secret {name}: {why}")]
    Secret {
        /// `NAMESPACE/NAME`.
        name: String,
        /// What the API server said, or what is wrong with the content.
        why: String,
    },
}

/// The TLS configuration of the moment; clones share it.
#[derive(Debug, Clone)]
pub struct Tls {
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Serves `chain` (leaf first) with `key`, both PEM.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Ok(Self { current: Arc::new(ArcSwap::from_pointee(configuration(chain, key)?)) })
    }

    /// Serves another pair from the next connection on; on an error everything stays as it is.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.current.store(Arc::new(configuration(chain, key)?));
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn configuration(chain: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("found no certificate".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    // Named, not the process default: a library must not depend on what the binary installed.
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let clients = Arc::new(client_certificate::AnyHolder::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests;
