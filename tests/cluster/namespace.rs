//! A namespace for one test, and the logs of the parts if that test fails.

use k8s_openapi::api::core::v1::{Namespace as Object, ServiceAccount};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    controlplane::{ControlPlane, shared},
    process::tail,
    wait::eventually,
};

/// Lines of each part's log that a failed test prints.
const TAIL: usize = 25;

/// A namespace of the shared control plane.
pub struct Namespace {
    /// The control plane.
    pub plane: &'static ControlPlane,
    /// A client of this test's runtime.
    pub client: Client,
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes `NAME` and waits until pods can be made in it, that is until it has its default service account.
    pub async fn new(name: &str) -> Self {
        let plane = shared();
        let client = plane.client().await.unwrap();
        let this = Self { plane, client, name: name.into() };
        let namespaces: Api<Object> = Api::all(this.client.clone());
        let object: Object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        namespaces.create(&PostParams::default(), &object).await.unwrap();
        let accounts: Api<ServiceAccount> = this.api();
        eventually("the default service account", async || accounts.get("default").await).await;
        this
    }

    /// Typed access to one kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object of that kind.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Asks for the namespace's removal, so that what it holds keeps no part busy while other tests run.
    pub async fn finish(self) {
        let namespaces: Api<Object> = Api::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::background()).await.unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let adapter = tail(&self.plane.folder().join("tidegate.log"), TAIL);
            eprintln!("the last lines of each log:\n{}\n--- tidegate\n{adapter}", self.plane.tails(TAIL));
        }
    }
}
