//! Certificate and key from files, taken up again when they change.

use std::{future::Future, path::PathBuf};

use crate::{
    files,
    tls::{Tls, TlsError},
};

/// A pair of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl CertificateFiles {
    /// Reads the pair for the first time, and gives the task that keeps it fresh until `shutdown`: it must be polled.
    pub fn load(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Tls, impl Future<Output = ()> + Send + 'static), TlsError> {
        let content = self.read()?;
        let tls = Tls::from_pem(&content.certificate, &content.key)?;
        let handle = tls.clone();
        let follow = async move {
            let names = format!("{}, {}", self.certificate.display(), self.key.display());
            let take = |content: &Content| handle.replace(&content.certificate, &content.key);
            files::follow(&names, content, || self.read(), take, shutdown).await;
        };
        Ok((tls, follow))
    }

    fn read(&self) -> Result<Content, TlsError> {
        let read =
            |path: &PathBuf| files::read(path).map_err(|error| TlsError::Unreadable { path: path.clone(), error });
        Ok(Content { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}
