//! One certificate authority for one scene: a server and one client, valid while the process lives.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// All PEM.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: String,
    /// The server's chain, for `127.0.0.1`.
    pub server: String,
    /// The server's key.
    pub server_key: String,
    /// The client's certificate and key in one.
    pub client: String,
}

/// The identity of the real HPA; the group is what keeps the demo from needing an API server to ask for its rights.
const CLIENT_NAME: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const CLIENT_GROUP: &str = "system:masters";

impl Certificates {
    /// Makes them.
    ///
    /// # Errors
    /// The generator's.
    pub fn make() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "tidegate demo");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let mut server = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        server.distinguished_name.push(DnType::CommonName, "tidegate");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let server = server.signed_by(&server_key, &authority)?;

        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, CLIENT_NAME);
        client.distinguished_name.push(DnType::OrganizationName, CLIENT_GROUP);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client = client.signed_by(&client_key, &authority)?;

        Ok(Self {
            authority: authority.as_ref().pem(),
            server: server.pem(),
            server_key: server_key.serialize_pem(),
            client: format!("{}{}", client.pem(), client_key.serialize_pem()),
        })
    }
}
