//! Certificate and key from files, taken up again when they change: cert-manager and kubelet replace them in place.

use std::{future::Future, path::PathBuf, pin::pin, time::Duration};

use tokio::time::MissedTickBehavior;

use crate::tls::{Tls, TlsError};

/// How often the files are looked at. Their content is compared: modification times are coarse, and a kubelet volume
/// changes by a symbolic link.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// A PEM file is a few kilobytes; what is larger is not one.
const MAX_BYTES: u64 = 1 << 20;

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
        Ok((tls.clone(), self.keep_fresh(tls, content, shutdown)))
    }

    fn read(&self) -> Result<Content, TlsError> {
        let read = |path: &PathBuf| {
            let unreadable = |error| TlsError::Unreadable { path: path.clone(), error };
            let size = std::fs::metadata(path).map_err(unreadable)?.len();
            if size > MAX_BYTES {
                let why = format!("{size} bytes are too many for a PEM file (limit {MAX_BYTES})");
                return Err(unreadable(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)));
            }
            std::fs::read(path).map_err(unreadable)
        };
        Ok(Content { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }

    /// A pair that is half written, or missing for a moment, leaves the old one in use; each such state is told once.
    async fn keep_fresh(self, tls: Tls, mut serving: Content, shutdown: impl Future<Output = ()>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = pin!(shutdown);
        let mut told = None;
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                _ = look.tick() => {}
            }
            // Two small local files; an async read would go to a thread for each.
            let problem = match self.read() {
                Ok(content) if content == serving => None,
                Ok(content) => match tls.replace(&content.certificate, &content.key) {
                    Ok(()) => {
                        tracing::info!(certificate = %self.certificate.display(), "new serving certificate");
                        serving = content;
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
                Err(error) => Some(error.to_string()),
            };
            if problem != told {
                if let Some(problem) = &problem {
                    tracing::warn!(
                        certificate = %self.certificate.display(), key = %self.key.display(), problem,
                        "changed certificate files cannot be used: the previous certificate stays"
                    );
                }
                told = problem;
            }
        }
    }
}
