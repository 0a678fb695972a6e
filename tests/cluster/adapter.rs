//! `tidegate adapter` as its own process behind real APIService objects: one for all tests, as there is one owner of a
//! metrics API group in a cluster.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use k8s_openapi::{ByteString, api::core::v1::Service, kube_aggregator::pkg::apis::apiregistration::v1::APIService};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    account,
    controlplane::{ControlPlane, shared},
    process::{Part, free_ports},
    raw::get as get_raw,
    wait::{eventually, eventually_or_error},
};

/// The API versions that we own, with their priorities: the higher is the one that the HPA uses.
pub const VERSIONS: [(&str, &str, i32); 3] = [
    ("v1beta1", "custom.metrics.k8s.io", 100),
    ("v1beta2", "custom.metrics.k8s.io", 200),
    ("v1beta1", "external.metrics.k8s.io", 100),
];

/// Namespace and name of our Service.
pub const NAMESPACE: &str = "kube-system";
/// See [`NAMESPACE`].
pub const SERVICE: &str = "tidegate";

/// How long the Lease lasts by which one adapter is chosen to write.
pub const LEASE_SECONDS: u64 = 5;

/// Exporters are found as pods with this label, at their port of this name.
pub const EXPORTER_LABEL: &str = "tidegate.test/exporter";
/// The label's value where the pages' own timestamps are not trusted, which is the default.
pub const UNTRUSTED: &str = "true";
/// The label's value where they are.
pub const TRUSTED: &str = "timestamps";
/// See [`EXPORTER_LABEL`].
pub const EXPORTER_PORT: &str = "metrics";

/// The adapter process, its addresses and files.
#[derive(Debug)]
pub struct Adapter {
    plane: &'static ControlPlane,
    process: Mutex<Option<Part>>,
    /// A copy: whoever builds meanwhile does not change what is tested.
    pub program: PathBuf,
    /// Port of the metrics APIs on 127.0.0.1.
    pub port: u16,
    /// Port of its own metrics on 127.0.0.1.
    pub telemetry: u16,
    /// Its serving certificate and key.
    pub certificate: (PathBuf, PathBuf),
    calm: RwLock<()>,
}

/// The adapter for a test that needs it running, undisturbed by tests that stop it.
#[derive(Debug)]
pub struct Running {
    /// The adapter.
    pub adapter: &'static Adapter,
    _calm: RwLockReadGuard<'static, ()>,
}

/// The adapter for a test that stops and starts it while no other test uses it.
#[derive(Debug)]
pub struct Exclusive {
    /// The adapter.
    pub adapter: &'static Adapter,
    _calm: RwLockWriteGuard<'static, ()>,
}

/// The adapter, shared with other tests.
pub async fn running() -> Running {
    let adapter = get().await;
    let calm = adapter.calm.read().await;
    adapter.alive().unwrap_or_else(|error| panic!("{error}"));
    Running { adapter, _calm: calm }
}

/// The adapter, for this test alone.
pub async fn exclusive() -> Exclusive {
    let adapter = get().await;
    Exclusive { adapter, _calm: adapter.calm.write().await }
}

impl Drop for Exclusive {
    /// A test that failed in between must not take the others with it.
    fn drop(&mut self) {
        if self.adapter.alive().is_err() {
            self.adapter.start().unwrap_or_else(|error| eprintln!("{error}"));
        }
    }
}

async fn get() -> &'static Adapter {
    static SHARED: OnceCell<Result<Adapter, String>> = OnceCell::const_new();
    SHARED.get_or_init(Adapter::launch).await.as_ref().unwrap_or_else(|error| panic!("there is no adapter: {error}"))
}

impl Adapter {
    async fn launch() -> Result<Self, String> {
        let plane = shared();
        let [port, telemetry] = free_ports();
        let folder = plane.folder();
        let program = folder.join("tidegate");
        fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).map_err(|error| error.to_string())?;
        let names = [&format!("{SERVICE}.{NAMESPACE}.svc"), "localhost", "127.0.0.1"];
        let certificate = plane.authority.issue(SERVICE, &[], &names).write(folder, "tidegate");
        fs::write(folder.join("tidegate.yaml"), config(folder, port, telemetry)).map_err(|error| error.to_string())?;
        account::create(plane).await?;
        let process = Mutex::new(None);
        let this = Self { plane, process, program, port, telemetry, certificate, calm: RwLock::new(()) };
        this.start()?;
        let client = plane.client().await?;
        register(&client, plane, port).await.map_err(|error| error.to_string())?;
        this.available(&client).await?;
        Ok(this)
    }

    /// Starts the process; it must not run already.
    pub fn start(&self) -> Result<(), String> {
        let folder = self.plane.folder();
        let flags = |name: &str, file: &str| [name.into(), folder.join(file).display().to_string()];
        let arguments = [
            &["adapter".into()][..],
            &flags("--config", "tidegate.yaml"),
            &flags("--kubeconfig", "tidegate-adapter.yaml"),
        ];
        *self.process.lock() = Some(Part::start("tidegate", folder, &self.program, &arguments.concat())?);
        Ok(())
    }

    /// Another replica: it decides as this one does, and nobody asks it. It ends with what is returned.
    pub fn companion(&self) -> Result<Part, String> {
        self.another("companion", &[])
    }

    /// Another replica that records what it decides.
    pub fn recorder(&self, file: &Path) -> Result<Part, String> {
        self.another("recorder", &["--record".into(), file.display().to_string()])
    }

    fn another(&self, name: &'static str, more: &[String]) -> Result<Part, String> {
        let folder = self.plane.folder();
        let [port, telemetry] = free_ports();
        let settings = format!("{name}-settings.yaml");
        fs::write(folder.join(&settings), config(folder, port, telemetry)).map_err(|error| error.to_string())?;
        let flags = |name: &str, file: &str| [name.into(), folder.join(file).display().to_string()];
        let arguments = [
            &["adapter".into()][..],
            &flags("--config", &settings),
            &flags("--kubeconfig", "tidegate-adapter.yaml"),
            more,
        ];
        Part::start(name, folder, &self.program, &arguments.concat())
    }

    /// `kill -9`.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().take() {
            process.kill();
        }
    }

    /// SIGTERM; the exit status that follows.
    pub async fn terminate(&self) -> ExitStatus {
        self.process.lock().as_ref().expect("it runs").terminate();
        eventually("the adapter to end", async || {
            self.process.lock().as_mut().and_then(Part::ended).ok_or("it runs still")
        })
        .await
    }

    /// `Err` with its last words if the process has ended.
    pub fn alive(&self) -> Result<(), String> {
        self.process.lock().as_mut().map_or_else(|| Err("the adapter is stopped".into()), Part::alive)
    }

    /// The end of its log.
    pub fn tail(&self, lines: usize) -> String {
        super::process::tail(&self.plane.folder().join("tidegate.log"), lines)
    }

    /// Waits until the aggregator finds all our versions available.
    pub async fn available(&self, client: &Client) -> Result<(), String> {
        let services: Api<APIService> = Api::all(client.clone());
        eventually_or_error("the APIServices to be available", async || {
            self.alive()?;
            for (version, group, _) in VERSIONS {
                let name = format!("{version}.{group}");
                let object = services.get(&name).await.map_err(|error| error.to_string())?;
                let conditions = object.status.and_then(|status| status.conditions).unwrap_or_default();
                let available = conditions.iter().find(|condition| condition.type_ == "Available");
                if available.is_none_or(|condition| condition.status != "True") {
                    return Err(format!("{name}: {available:?}"));
                }
            }
            Ok(())
        })
        .await
        .map_err(|error| format!("{error}\n--- tidegate\n{}", self.tail(40)))
    }
}

/// What the configuration says beyond [`config`]; set before the adapter is asked for first.
pub static MORE: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// A page a second, and forgotten after 4 s: the same rules as at 10 s and 30 s, in a test's time.
fn config(folder: &Path, port: u16, telemetry: u16) -> String {
    let folder = folder.display();
    format!(
        "scrape:\n  interval: 1s\n  timeout: 900ms\n  maxAge: 4s\n  pageBytes: 4MiB\n  discover:\n  \
         - {{selector: '{EXPORTER_LABEL}={UNTRUSTED}', port: {EXPORTER_PORT}}}\n  \
         - {{selector: '{EXPORTER_LABEL}={TRUSTED}', port: {EXPORTER_PORT}, access: {{honorTimestamps: true}}}}\n  \
         - {{preset: tidegate-agent}}\n\
         serve:\n  listen: 127.0.0.1:{port}\n  tlsCertFile: {folder}/tidegate.crt\n  tlsKeyFile: {folder}/tidegate.key\n  \
         serviceNamespace: {NAMESPACE}\n  serviceName: {SERVICE}\n\
         control:\n  tick: 500ms\n  lease: {{namespace: {}, duration: {LEASE_SECONDS}s}}\n\
         telemetry:\n  listen: 127.0.0.1:{telemetry}\n  logFilter: info\n{}",
        account::NAMESPACE,
        MORE.get().map_or("", String::as_str)
    )
}

/// The Service and the APIServices. The cluster network does not exist: an external name on this machine stands in for the
/// Service's pods, and certificates are checked against the Service's name all the same.
async fn register(client: &Client, plane: &ControlPlane, port: u16) -> Result<(), kube::Error> {
    let from = |value: Value| serde_json::from_value(value).map_err(kube::Error::SerdeError);
    let service: Service = from(json!({
        "metadata": {"name": SERVICE},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }))?;
    Api::namespaced(client.clone(), NAMESPACE).create(&PostParams::default(), &service).await?;
    let services: Api<APIService> = Api::all(client.clone());
    for (version, group, priority) in VERSIONS {
        let object: APIService = serde_json::from_value(json!({
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": priority,
                "service": {"namespace": NAMESPACE, "name": SERVICE, "port": port},
                "caBundle": ByteString(plane.authority.pem().into_bytes()),
            },
        }))
        .map_err(kube::Error::SerdeError)?;
        services.create(&PostParams::default(), &object).await?;
    }
    Ok(())
}

/// Sends the aggregator's requests for our groups to this Service.
pub async fn point(client: &Client, service: &str, port: u16) {
    let services: Api<APIService> = Api::all(client.clone());
    let patch = Patch::Merge(json!({"spec": {"service": {"name": service, "port": port}}}));
    for (version, group, _) in VERSIONS {
        services.patch(&format!("{version}.{group}"), &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Waits until the aggregator's answers come from the server that lists `metric`, or no longer from it.
pub async fn answered(client: &Client, metric: &str, lists: bool) {
    eventually("the aggregator to ask the other server", async || {
        for (version, group, _) in VERSIONS {
            let list = get_raw(client, &format!("/apis/{group}/{version}")).await?;
            if list["kind"] != "APIResourceList" || list.to_string().contains(metric) != lists {
                return Err(list.to_string());
            }
        }
        Ok(())
    })
    .await;
}
