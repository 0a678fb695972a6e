//! The serving certificate's files are replaced while requests run.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::future::join_all;
use reqwest::tls::TlsInfo;

use super::{
    adapter,
    namespace::Namespace,
    raw::{administrator, direct, direct_url, get},
    wait::eventually,
};

const PATH: &str = "/apis/custom.metrics.k8s.io/v1beta2";
/// Requests under way at once, each on a connection of its own.
const CALLERS: usize = 4;
/// Requests that each must have seen answered before and after the exchange.
const ENOUGH: usize = 20;

/// As certificate managers and kubelets do it: a file is the old one or the new one, never half of each.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_files_are_replaced_while_requests_run_and_none_fails() {
    let running = adapter::running().await;
    let namespace = Namespace::new("certificates").await;
    let plane = namespace.plane;
    let url = direct_url(running.adapter, PATH);
    let presented = async || -> Result<Vec<u8>, String> {
        let client = direct(plane).identity(administrator(plane)).build().map_err(|error| error.to_string())?;
        let response = client.get(&url).send().await.map_err(|error| format!("{error:?}"))?;
        let info = response.extensions().get::<TlsInfo>().and_then(TlsInfo::peer_certificate).map(<[u8]>::to_vec);
        if response.status() == 200 { info.ok_or("no certificate".into()) } else { Err(response.status().to_string()) }
    };
    let old = presented().await.unwrap();

    let done = AtomicBool::new(false);
    let answered: [AtomicUsize; CALLERS + 2] = Default::default();
    let lasting = direct(plane).identity(administrator(plane)).build().unwrap();
    // One connection per request; one connection for all of them; and the API server's own.
    let callers = (0..CALLERS + 2).map(async |caller| {
        while !done.load(Ordering::Relaxed) {
            let outcome = match caller {
                0 => get(&namespace.client, PATH).await.map(|_| ()),
                1 => lasting
                    .get(&url)
                    .send()
                    .await
                    .and_then(reqwest::Response::error_for_status)
                    .map(|_| ())
                    .map_err(|error| format!("{error:?}")),
                _ => presented().await.map(|_| ()),
            };
            outcome.map_err(|error| format!("caller {caller}: {error}"))?;
            answered[caller].fetch_add(1, Ordering::Relaxed);
        }
        Ok::<(), String>(())
    });
    let enough = async |what: &str| {
        let before: Vec<usize> = answered.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        eventually(what, async || {
            let short = answered
                .iter()
                .zip(&before)
                .filter(|(now, before)| now.load(Ordering::Relaxed) < **before + ENOUGH)
                .count();
            if short == 0 { Ok(()) } else { Err(format!("{short} callers have not seen {ENOUGH} answers")) }
        })
        .await;
    };
    let exchange = async {
        enough("requests before the exchange").await;
        let names = ["tidegate.kube-system.svc", "localhost", "127.0.0.1"];
        let new = plane.authority.issue("tidegate", &[], &names);
        let (cert, key) = &running.adapter.certificate;
        // Between the two renames the files do not match: the old pair must go on serving.
        replace(cert, &new.cert);
        enough("requests while certificate and key do not match").await;
        replace(key, &new.key);
        let now = eventually("the new certificate", async || {
            let now = presented().await?;
            if now == old { Err("the old one is presented".to_owned()) } else { Ok(now) }
        })
        .await;
        enough("requests after the exchange").await;
        done.store(true, Ordering::Relaxed);
        (now, new.cert)
    };
    let (results, (now, pem)) = tokio::join!(join_all(callers), exchange);
    let failed: Vec<String> = results.into_iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let expected =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(pem.as_bytes())
            .unwrap();
    assert_eq!(now, expected.as_ref(), "what is presented is the new file");
    namespace.finish().await;
}
