//! A certificate authority of our own, and the serving certificate that it signs, for clusters without cert-manager.
//!
//! The authority lives long and signs short-lived serving certificates. Before it would expire under one of them it gets a
//! successor, which goes into the bundle at once and signs only from the next renewal on: whoever follows the bundle
//! never meets a certificate that it does not know the authority of.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::tls::{Tls, TlsError};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// An authority's life.
const CA_DAYS: i32 = 3650;
/// A serving certificate's life.
const LEAF_DAYS: i32 = 90;
/// A serving certificate with less left than this is renewed: two months to notice that renewing fails.
const RENEW_DAYS: i32 = 60;
/// An authority with less left than this gets a successor: it outlives every certificate it still signs.
const SUCCEED_DAYS: i32 = 2 * LEAF_DAYS;
/// Certificates are valid from a little before now, for clients whose clocks are behind.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);

/// The Service in front of the server; the aggregator checks certificates for its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceName {
    /// Namespace of the Service.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ServiceName {
    /// The names that the serving certificate is good for.
    fn alternative_names(&self) -> Vec<String> {
        let Self { namespace, name } = self;
        vec![
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
            name.clone(),
            "localhost".into(),
        ]
    }
}

/// An authority and a certificate that it signed; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct SelfMade {
    /// Authorities to be trusted: the one that signs next, then its predecessors.
    pub(super) ca_bundle: String,
    pub(super) ca_key: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for SelfMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No keys in logs.
        f.debug_struct("SelfMade").field("ca_bundle", &self.ca_bundle).finish_non_exhaustive()
    }
}

fn make(error: impl std::fmt::Display) -> TlsError {
    TlsError::Make(error.to_string())
}

impl SelfMade {
    /// A new authority with a first certificate.
    pub fn new(service: &ServiceName, now: Timestamp) -> Result<Self, TlsError> {
        let (ca_bundle, ca_key) = authority(service, now)?;
        let (certificate, key) = leaf(service, &ca_bundle, &ca_key, now)?;
        Ok(Self { ca_bundle, ca_key, certificate, key })
    }

    /// The authorities that clients must trust: the `caBundle` of our APIServices.
    pub fn ca_bundle(&self) -> &str {
        &self.ca_bundle
    }

    /// What to replace this by, or `None` while it is good. Takes one step at a time: a successor of the authority is
    /// published before it signs anything.
    pub fn renewed(&self, service: &ServiceName, now: Timestamp) -> Result<Option<Self>, TlsError> {
        let ca_expires = Expiry::of(&self.ca_bundle)?;
        let leaf_expires = Expiry::of(&self.certificate)?;
        if !ca_expires.is_after(now, SUCCEED_DAYS) && ca_expires.is_after(now, 0) {
            let (successor, ca_key) = authority(service, now)?;
            let ca_bundle = successor + &still_valid(&self.ca_bundle, now)?;
            return Ok(Some(Self { ca_bundle, ca_key, ..self.clone() }));
        }
        if !ca_expires.is_after(now, 0) {
            // Nobody renewed in time (a cluster that slept for years): nothing to be gentle about.
            return Self::new(service, now).map(Some);
        }
        if leaf_expires.is_after(now, RENEW_DAYS) && covers(&self.certificate, service)? {
            return Ok(None);
        }
        let ca_bundle = still_valid(&self.ca_bundle, now)?;
        let (certificate, key) = leaf(service, &ca_bundle, &self.ca_key, now)?;
        Ok(Some(Self { ca_bundle, ca_key: self.ca_key.clone(), certificate, key }))
    }

    /// Serves it.
    pub fn tls(&self) -> Result<Tls, TlsError> {
        Tls::from_pem(self.certificate.as_bytes(), self.key.as_bytes())
    }
}

/// Certificates name moments of the calendar, so here the calendar is asked.
#[expect(clippy::disallowed_methods, reason = "certificates are dated; this is the one place that dates them")]
pub(crate) fn wall_clock() -> Timestamp {
    Timestamp::now()
}

/// Days and seconds since 1970 as rcgen takes them.
fn dated(params: &mut CertificateParams, now: Timestamp, days: i32) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |moment: Timestamp| Duration::from_secs(u64::try_from(moment.as_second()).unwrap_or(0));
    params.not_before = epoch + seconds(now.saturating_sub(CLOCK_SKEW).unwrap_or(now));
    params.not_after = epoch + seconds(now.saturating_add(DAY * days).unwrap_or(now));
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn authority(service: &ServiceName, now: Timestamp) -> Result<(String, String), TlsError> {
    let ServiceName { namespace, name } = service;
    // The moment tells an authority from its predecessor.
    let mut params = authority_params(&format!("{name}.{namespace} serving CA {}", now.as_second()));
    dated(&mut params, now, CA_DAYS);
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A certificate for `service`, signed by the first authority of `ca_bundle`.
fn leaf(service: &ServiceName, ca_bundle: &str, ca_key: &str, now: Timestamp) -> Result<(String, String), TlsError> {
    let der = first(ca_bundle)?;
    let authority = parse(&der)?;
    let common_name = authority.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let common_name = common_name.ok_or_else(|| make("the authority has no common name"))?;
    let issuer = Issuer::new(authority_params(common_name), KeyPair::from_pem(ca_key).map_err(make)?);

    let mut params = CertificateParams::new(service.alternative_names()).map_err(make)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("{}.{}.svc", service.name, service.namespace));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    dated(&mut params, now, LEAF_DAYS);
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.signed_by(&key, &issuer).map_err(make)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn first(pem: &str) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| TlsError::Certificate(error.to_string()))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| TlsError::Certificate(error.to_string()))
}

/// When the first certificate of a PEM ends.
#[derive(Clone, Copy)]
struct Expiry(i64);

impl Expiry {
    fn of(pem: &str) -> Result<Self, TlsError> {
        Ok(Self(parse(&first(pem)?)?.validity().not_after.timestamp()))
    }

    fn is_after(self, now: Timestamp, days: i32) -> bool {
        self.0 > now.as_second() + i64::from(days) * DAY.as_secs()
    }
}

/// The blocks of a bundle that have not expired.
fn still_valid(bundle: &str, now: Timestamp) -> Result<String, TlsError> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut kept = String::new();
    for block in bundle.split_inclusive(END).filter(|block| block.contains(END)) {
        let block = block.trim();
        if Expiry::of(block)?.is_after(now, 0) {
            kept.push_str(block);
            kept.push('\n');
        }
    }
    Ok(kept)
}

/// Whether a certificate has all names of `service`: false after the Service was renamed.
fn covers(certificate: &str, service: &ServiceName) -> Result<bool, TlsError> {
    let der = first(certificate)?;
    let certificate = parse(&der)?;
    let names = certificate.subject_alternative_name().map_err(make)?;
    let has = |wanted: &String| {
        names.as_ref().is_some_and(|names| {
            names.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(name) if name == wanted))
        })
    };
    Ok(service.alternative_names().iter().all(has))
}

#[cfg(test)]
mod tests;
