use jiff::{SignedDuration, Timestamp};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::{CA_DAYS, DAY, LEAF_DAYS, RENEW_DAYS, SelfMade, ServiceName};
use crate::testing::service;

fn start() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn trusted(bundle: &str, certificate: &str, name: &str, now: Timestamp) -> bool {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let provider = rustls::crypto::ring::default_provider().into();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let leaf = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_second().try_into().unwrap()));
    verifier.verify_server_cert(&leaf, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], now).is_ok()
}

#[test]
fn the_certificate_is_good_for_the_services_names_and_no_others() {
    let made = SelfMade::new(&service(), start()).unwrap();
    for name in
        ["adapter.tidegate.svc", "adapter.tidegate.svc.cluster.local", "adapter.tidegate", "adapter", "localhost"]
    {
        assert!(trusted(made.ca_bundle(), &made.certificate, name, start()), "{name}");
    }
    assert!(!trusted(made.ca_bundle(), &made.certificate, "other.tidegate.svc", start()));
    let stranger = SelfMade::new(&service(), start()).unwrap();
    assert!(!trusted(stranger.ca_bundle(), &made.certificate, "adapter", start()));
    assert!(!trusted(made.ca_bundle(), &made.certificate, "adapter", start() + DAY * (LEAF_DAYS + 1)));
}

#[test]
fn a_certificate_is_renewed_by_the_same_authority_well_before_it_expires() {
    let made = SelfMade::new(&service(), start()).unwrap();
    assert_eq!(made.renewed(&service(), start()).unwrap(), None);
    assert_eq!(made.renewed(&service(), start() + DAY * (LEAF_DAYS - RENEW_DAYS - 1)).unwrap(), None);
    let later = start() + DAY * (LEAF_DAYS - RENEW_DAYS);
    let renewed = made.renewed(&service(), later).unwrap().unwrap();
    assert_eq!(renewed.ca_bundle, made.ca_bundle);
    assert_ne!(renewed.certificate, made.certificate);
    assert!(trusted(made.ca_bundle(), &renewed.certificate, "adapter", later));
    assert_eq!(renewed.renewed(&service(), later).unwrap(), None);
}

#[test]
fn a_service_that_was_renamed_gets_a_certificate_for_its_new_name() {
    let made = SelfMade::new(&service(), start()).unwrap();
    let moved = ServiceName { name: "other".into(), ..service() };
    let renewed = made.renewed(&moved, start()).unwrap().unwrap();
    assert!(trusted(made.ca_bundle(), &renewed.certificate, "other.tidegate.svc", start()));
}

#[test]
fn over_twenty_years_whoever_knew_the_bundle_a_minute_ago_trusts_the_certificate() {
    let mut now = start();
    let mut made = SelfMade::new(&service(), now).unwrap();
    let (mut bundles, mut leaves) = (1, 1);
    while now < start() + DAY * (2 * CA_DAYS) {
        let before = made.ca_bundle.clone();
        if let Some(next) = made.renewed(&service(), now).unwrap() {
            assert!(next.ca_bundle != made.ca_bundle || next.certificate != made.certificate);
            bundles += usize::from(next.ca_bundle != made.ca_bundle);
            leaves += usize::from(next.certificate != made.certificate);
            made = next;
        }
        assert!(trusted(&before, &made.certificate, "adapter", now), "{now}");
        now += SignedDuration::from_hours(24 * 5);
    }
    assert!(bundles >= 3, "{bundles} bundles");
    assert!(leaves > 200, "{leaves} certificates");
    assert!(made.ca_bundle.matches("BEGIN").count() <= 2, "expired authorities leave the bundle");
}

#[test]
fn after_years_asleep_everything_is_made_anew() {
    let made = SelfMade::new(&service(), start()).unwrap();
    let later = start() + DAY * (CA_DAYS + 1);
    let next = made.renewed(&service(), later).unwrap().unwrap();
    assert!(trusted(next.ca_bundle(), &next.certificate, "adapter", later));
}
