//! The certificates of a test cluster: the cluster's authority, the front proxy's, and what they sign.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Certificate.
    pub cert: String,
    /// PKCS #8 key.
    pub key: String,
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        fs::write(&cert, &self.cert).expect("the scratch folder can be written");
        fs::write(&key, &self.key).expect("the scratch folder can be written");
        (cert, key)
    }
}

/// A certificate authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

fn named(common_name: &str, organizations: &[&str], names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
    let mut params = CertificateParams::new(names).expect("names are ASCII");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    for &organization in organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}

impl Authority {
    /// Self-signed.
    pub fn new(common_name: &str) -> Self {
        let mut params = named(common_name, &[], &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("ring makes keys");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are complete"))
    }

    /// The authority's own certificate, PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for clients (`common_name` is the user, `organizations` its groups) and servers (`names`).
    pub fn issue(&self, common_name: &str, organizations: &[&str], names: &[&str]) -> Pair {
        let mut params = named(common_name, organizations, names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("ring makes keys");
        let cert = params.signed_by(&key, &self.0).expect("the parameters are complete");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }
}
