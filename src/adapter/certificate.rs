//! The serving certificate: from files, or self-made and shared by all replicas through a Secret.
//!
//! For the Secret the API server has to answer, and it may be away when this process starts. Everything else goes on meanwhile:
//! pages are scraped, `/metrics` and `/livez` answer, and `/readyz` says what is waited for (R21).

use std::{sync::Arc, time::Duration};

use apiservice::{
    Tls,
    ca_bundle::{Holder, keep_ca_bundle},
    tls::{CertificateFiles, ServiceName, SharedCertificate, TlsError},
};
use parking_lot::Mutex;

use super::{AdapterError, Tasks, group};
use crate::config::Serve;

/// Secret with the self-made certificate that all replicas share, in our own namespace.
const SECRET: &str = "tidegate-serving-certificate";
/// Longest time for one attempt: two short requests, which may have to be repeated after another replica's.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after the first attempt that failed; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Bounds how long an API server that is back goes unnoticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why there is no certificate yet; `None` once there is one.
#[derive(Debug, Clone)]
pub(super) struct Missing(Arc<Mutex<Option<String>>>);

impl Missing {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some("it is being read".to_owned()))))
    }

    pub(super) fn why(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// Where the certificate comes from, and who has to trust it.
pub(super) struct Certificate {
    pub(super) serve: Serve,
    /// The MutatingWebhookConfiguration that has to trust us, too.
    pub(super) webhook: Option<String>,
    pub(super) client: kube::Client,
    pub(super) missing: Missing,
}

impl Certificate {
    /// The certificate, once there is one. What keeps it current runs with `tasks`.
    pub(super) async fn obtain(self, tasks: &mut Tasks) -> Result<Tls, AdapterError> {
        let Self { serve, webhook, client, missing } = self;
        let Serve { listen: _, tls_cert_file, tls_key_file, service_namespace, service_name, groups, passthrough: _ } =
            serve;
        if let (Some(certificate), Some(key)) = (tls_cert_file, tls_key_file) {
            let (tls, fresh) = CertificateFiles { certificate, key }.load(tasks.stopped())?;
            tasks.spawn_quiet("certificate files", fresh);
            *missing.0.lock() = None;
            return Ok(tls);
        }
        let service = ServiceName { namespace: service_namespace, name: service_name };
        let shared = SharedCertificate::new(client.clone(), service, SECRET);
        let mut pause = FIRST_PAUSE;
        let (tls, bundle, renewal) = loop {
            let attempt = tokio::time::timeout(PATIENCE, shared.clone().serve(tasks.stopped()));
            let why = match attempt.await {
                Ok(Ok(served)) => break served,
                Ok(Err(error @ TlsError::Secret { .. })) => error.to_string(),
                // Nothing that another attempt could mend.
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => format!("Secret {SECRET}: no answer from the API server within {} s", PATIENCE.as_secs()),
            };
            let before = missing.0.lock().replace(why.clone());
            if before.as_ref() != Some(&why) {
                tracing::warn!(
                    "nothing is served yet, because there is no serving certificate: {why}; trying again \
                     (serve.tlsCertFile and serve.tlsKeyFile would give another)"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        *missing.0.lock() = None;
        tasks.spawn_quiet("certificate renewal", renewal);
        let apis = apiservice::Api::ALL.into_iter().filter(|api| groups.contains(&group(*api)));
        let names = apis.map(|api| Holder::ApiService(format!("{}.{}", api.version(), api.group().name())));
        let holders: Vec<_> = names.chain(webhook.map(Holder::MutatingWebhook)).collect();
        let stopped = tasks.stopped();
        tasks.spawn_quiet("caBundle", async move { keep_ca_bundle(client, &holders, bundle, stopped).await });
        Ok(tls)
    }
}
