//! The other end of a connection, and what its certificate has been found to prove.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

use crate::authentication::{Trust, User, certificate::Subject};

/// How long a verified chain is believed before its dates are looked at again: signatures cost more than answers.
const BELIEVED: Duration = Duration::from_secs(10);

/// The other end of a connection; requests carry it as `Arc<Peer>`.
#[derive(Debug)]
pub struct Peer {
    remote: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    proven: Mutex<Option<Proven>>,
}

/// What the presented chain proves under one trust.
#[derive(Debug)]
pub(super) struct Proof {
    /// Whether the holder is a front proxy whose headers count, or why not.
    pub(super) proxy: Result<(), String>,
    /// The user that the certificate itself names, or why none.
    pub(super) client: Result<User, String>,
}

#[derive(Debug)]
struct Proven {
    trust: Arc<Trust>,
    at: Instant,
    proof: Arc<Proof>,
}

impl Peer {
    /// A peer with the chain it presented, leaf first; empty if it presented none.
    #[must_use]
    pub fn new(remote: SocketAddr, certificates: Vec<CertificateDer<'static>>) -> Self {
        Self { remote, certificates, proven: Mutex::new(None) }
    }

    /// Its address.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The chain it presented, leaf first. The handshake proved that the peer holds the leaf's key, nothing more.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn has_certificate(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// What the chain proves now, remembered for a moment for as long as the trust stays the same.
    pub(super) fn proof(&self, trust: &Arc<Trust>) -> Arc<Proof> {
        let now = Instant::now();
        let mut proven = self.proven.lock();
        if let Some(kept) = proven.as_ref()
            && Arc::ptr_eq(&kept.trust, trust)
            && now.duration_since(kept.at) < BELIEVED
        {
            return Arc::clone(&kept.proof);
        }
        let proof = Arc::new(self.prove(trust, UnixTime::now()));
        *proven = Some(Proven { trust: Arc::clone(trust), at: now, proof: Arc::clone(&proof) });
        proof
    }

    fn prove(&self, trust: &Trust, now: UnixTime) -> Proof {
        let subject = self.certificates.first().ok_or_else(|| "no certificate".to_owned()).and_then(Subject::of);
        let proxy = match &trust.request_header {
            None => Err("no request-header CA is configured".into()),
            Some(front_proxy) => front_proxy
                .authority()
                .verify(&self.certificates, now)
                .and_then(|()| subject.clone())
                .and_then(|subject| front_proxy.allows(&subject.common_name)),
        };
        let client = match &trust.client_ca {
            None => Err("no client CA is configured".into()),
            Some(authority) => authority.verify(&self.certificates, now).and(subject).and_then(Subject::into_user),
        };
        Proof { proxy, client }
    }
}
