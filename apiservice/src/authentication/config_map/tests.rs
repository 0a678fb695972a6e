use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::watch_trust;
use crate::{
    authentication::{Authority, Trust, TrustFiles, TrustStore},
    testing::{eventually, kube_api::KubeApi, pki::Ca},
};

const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_missing_key_is_not_offered_and_a_malformed_one_is_named() {
    let ca = Ca::new("ca").pem();
    let trust = Trust::from_config_map(&data(&[])).unwrap();
    assert!(trust.client_ca.is_none() && trust.request_header.is_none());
    let trust =
        Trust::from_config_map(&data(&[("client-ca-file", &ca), ("requestheader-client-ca-file", &ca)])).unwrap();
    assert!(trust.client_ca.is_some() && trust.request_header.is_some());
    for (key, value) in [
        ("client-ca-file", "nonsense"),
        ("client-ca-file", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("requestheader-allowed-names", "front-proxy"),
        ("requestheader-username-headers", "[1]"),
        ("requestheader-group-headers", "[\"two words\"]"),
        ("requestheader-extra-headers-prefix", "[\"\"]"),
        ("requestheader-uid-headers", "{}"),
    ] {
        let error = Trust::from_config_map(&data(&[("requestheader-client-ca-file", &ca), (key, value)])).unwrap_err();
        assert!(error.to_string().starts_with(key), "{key}={value}: {error}");
    }
}

#[tokio::test]
async fn the_config_map_is_followed_and_a_broken_one_changes_nothing() {
    let kube = KubeApi::start().await;
    let store = Arc::new(TrustStore::new(Trust::default()));
    let task = tokio::spawn(watch_trust(kube.client(), Arc::clone(&store), std::future::pending()));
    let map =
        |pem: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"client-ca-file": pem}});
    let client_ca = || store.current().is_some_and(|trust| trust.client_ca.is_some());
    assert!(!store.is_loaded());
    kube.put(PATH, map(Ca::new("one").pem()));
    eventually("the ConfigMap is read", client_ca).await;
    let first = store.current().unwrap();
    kube.put(PATH, map(Ca::new("two").pem()));
    eventually("a new authority is taken", || !Arc::ptr_eq(&first, &store.current().unwrap())).await;
    let second = store.current().unwrap();
    kube.put(PATH, map("broken".into()));
    kube.put(PATH, map(Ca::new("three").pem()));
    eventually("the next good one is taken", || !Arc::ptr_eq(&second, &store.current().unwrap())).await;
    assert!(client_ca());
    task.abort();
}

#[test]
fn what_is_given_at_the_start_replaces_its_part_of_the_config_map() {
    let ca = Ca::new("ca").pem();
    let authority = Authority::from_pem("test", ca.as_bytes()).unwrap();
    let store = TrustStore::new(Trust { client_ca: Some(authority), request_header: None });
    assert!(store.wants_config_map() && !store.is_loaded());
    store.replace(Trust::from_config_map(&data(&[("requestheader-client-ca-file", &ca)])).unwrap());
    let trust = store.current().unwrap();
    assert!(trust.client_ca.is_some() && trust.request_header.is_some());

    let files = TrustFiles { client_ca: Some("/nonexistent/ca.crt".into()), ..TrustFiles::default() };
    let Err(error) = files.load(std::future::pending()) else { panic!("there is no such file") };
    assert!(error.to_string().starts_with("/nonexistent/ca.crt"), "{error}");
}
