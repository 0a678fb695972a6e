//! One self-made certificate for all replicas, in a Secret.
//!
//! Whoever comes first makes it; whoever loses the race takes the winner's. Renewing works the same way: a replica writes
//! under the version that it read, and on a conflict reads again.

use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    authentication::config_map::core_resource,
    causes,
    tls::{SelfMade, ServiceName, Tls, TlsError, self_made::wall_clock},
};

const CA_BUNDLE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often the Secret and the ages in it are looked at.
const LOOK: Duration = Duration::from_mins(1);
/// Lost races after which something else must be wrong.
const MAX_CONFLICTS: usize = 10;

/// A self-made certificate that all replicas of a server share.
#[derive(Clone)]
pub struct SharedCertificate {
    api: Api<DynamicObject>,
    service: ServiceName,
    secret: String,
}

impl std::fmt::Debug for SharedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedCertificate").field("secret", &self.name()).finish_non_exhaustive()
    }
}

impl SharedCertificate {
    /// For `service`, in the Secret `secret` of the Service's namespace. Needs `get` and `update` on that Secret, and
    /// `create` on Secrets unless it exists (it may be empty).
    #[must_use]
    pub fn new(client: Client, service: ServiceName, secret: impl Into<String>) -> Self {
        let api = Api::namespaced_with(client, &service.namespace, &core_resource("Secret"));
        Self { api, service, secret: secret.into() }
    }

    /// Serves the shared certificate, and gives the authorities to trust and the task that renews both until `shutdown`:
    /// it must be polled.
    pub async fn serve(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(Tls, watch::Receiver<String>, impl Future<Output = ()> + Send + 'static), TlsError> {
        let mut current = self.current(None, wall_clock()).await?;
        let tls = current.tls()?;
        let (bundle, bundles) = watch::channel(current.ca_bundle.clone());
        let handle = tls.clone();
        let follow = async move {
            let mut shutdown = pin!(shutdown);
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    () = &mut shutdown => return,
                    _ = look.tick() => {}
                }
                let next = tokio::select! {
                    () = &mut shutdown => return,
                    next = self.current(Some(&current), wall_clock()) => next,
                };
                match next {
                    Ok(next) if next == current => {}
                    Ok(next) => {
                        bundle.send_replace(next.ca_bundle.clone());
                        if let Err(error) = handle.replace(next.certificate.as_bytes(), next.key.as_bytes()) {
                            tracing::warn!(%error, "the shared certificate cannot be served: the previous one stays");
                        }
                        current = next;
                    }
                    Err(error) => tracing::warn!(%error, "the shared certificate could not be read; trying again"),
                }
            }
        };
        Ok((tls, bundles, follow))
    }

    /// What the Secret holds, made or renewed if that is due. A Secret that was deleted comes back with `known`.
    pub async fn current(&self, known: Option<&SelfMade>, now: Timestamp) -> Result<SelfMade, TlsError> {
        for _ in 0..MAX_CONFLICTS {
            let found = self.api.get_opt(&self.secret).await.map_err(|error| self.refused(error))?;
            let held = found.as_ref().map(|object| self.read(object)).transpose()?.flatten();
            let wanted = match &held {
                Some(held) => held.renewed(&self.service, now)?,
                None => Some(match known {
                    Some(known) => known.clone(),
                    None => SelfMade::new(&self.service, now)?,
                }),
            };
            let Some(wanted) = wanted else {
                return held.ok_or_else(|| self.failed("nothing to serve"));
            };
            match self.write(found, &wanted).await {
                Ok(()) => return Ok(wanted),
                // Another replica was first: what it wrote counts.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(self.refused(error)),
            }
        }
        Err(self.failed(format!("lost {MAX_CONFLICTS} races in a row to write it")))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.service.namespace, self.secret)
    }

    fn failed(&self, why: impl std::fmt::Display) -> TlsError {
        TlsError::Secret { name: self.name(), why: why.to_string() }
    }

    /// What the API server says, in its own words and without what is for programs.
    fn refused(&self, error: kube::Error) -> TlsError {
        match error {
            kube::Error::Api(status) => self.failed(status.message),
            // The outermost error alone often says "client error"; the innermost is the cause.
            other => self.failed(causes(&other)),
        }
    }

    /// `None` for a Secret without any data. One that somebody else filled is an error: it is not ours to overwrite.
    fn read(&self, object: &DynamicObject) -> Result<Option<SelfMade>, TlsError> {
        let data = object.data.get("data").cloned().unwrap_or_default();
        let data: Option<BTreeMap<String, ByteString>> =
            serde_json::from_value(data).map_err(|error| self.failed(format!("data: {error}")))?;
        let data = data.unwrap_or_default();
        if data.is_empty() {
            return Ok(None);
        }
        let text = |key: &str| {
            let bytes = data.get(key).ok_or_else(|| {
                self.failed(format!(
                    "has no key {key}, so it was not made here; delete it, or name another Secret for the certificate"
                ))
            })?;
            String::from_utf8(bytes.0.clone()).map_err(|_| self.failed(format!("{key} is not PEM")))
        };
        Ok(Some(SelfMade {
            ca_bundle: text(CA_BUNDLE)?,
            ca_key: text(CA_KEY)?,
            certificate: text(CERTIFICATE)?,
            key: text(KEY)?,
        }))
    }

    async fn write(&self, found: Option<DynamicObject>, wanted: &SelfMade) -> Result<(), kube::Error> {
        let SelfMade { ca_bundle, ca_key, certificate, key } = wanted;
        let bytes = |pem: &String| ByteString(pem.clone().into_bytes());
        let data = json!({
            CA_BUNDLE: bytes(ca_bundle), CA_KEY: bytes(ca_key), CERTIFICATE: bytes(certificate), KEY: bytes(key),
        });
        if let Some(mut object) = found {
            // Carries the resourceVersion that was read: the API server refuses it if somebody wrote since.
            object.data["data"] = data;
            self.api.replace(&self.secret, &PostParams::default(), &object).await?;
        } else {
            let object = DynamicObject::new(&self.secret, &core_resource("Secret"))
                .data(json!({"type": "kubernetes.io/tls", "data": data}));
            self.api.create(&PostParams::default(), &object).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
