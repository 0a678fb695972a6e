//! Certificate authorities, and what a client certificate says of its holder.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authentication::{TrustError, User};

/// A set of certificate authorities that sign client certificates.
#[derive(Debug, Clone)]
pub struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    /// From a PEM bundle. `source` names it in errors: a file, or a key of the ConfigMap.
    pub fn from_pem(source: &str, bundle: &[u8]) -> Result<Self, TrustError> {
        let invalid = |why: String| TrustError::Invalid { source_name: source.to_owned(), why };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate = certificate.map_err(|error| invalid(format!("not a PEM bundle: {error}")))?;
            roots.add(certificate).map_err(|error| invalid(format!("not a CA certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(invalid("expected at least one PEM certificate, found none".into()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { verifier })
    }

    /// Whether this authority vouches for `chain` (leaf first) as a TLS client at this moment.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), String> {
        let (leaf, intermediates) = chain.split_first().ok_or("no certificate was presented")?;
        self.verifier.verify_client_cert(leaf, intermediates, now).map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The subject of a certificate, as far as Kubernetes reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

impl Subject {
    /// Reads the subject; a missing common name is empty.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let subject = certificate.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(str::to_owned).map_err(|error| format!("unreadable subject: {error}"))
        };
        // Go keeps the last common name of several.
        let common_name = subject.iter_common_name().last().map(text).transpose()?.unwrap_or_default();
        let organizations = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        Ok(Self { common_name, organizations })
    }

    /// CN is the user, O are the groups.
    pub(super) fn into_user(self) -> Result<User, String> {
        if self.common_name.is_empty() {
            return Err("its subject has no common name".into());
        }
        Ok(User { name: self.common_name, groups: self.organizations, ..User::default() })
    }
}
