//! The control planes of this test binary: each started by the first test that needs it, gone with the process.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use rcgen::KeyPair;

use super::{
    kubectl, kwok, parts,
    pki::{Authority, Pair},
    process::{Part, Scratch, free_ports, target},
    wait::eventually_or_error,
};

/// Another program may take a port between our asking for it and a part's binding it.
const ATTEMPTS: usize = 3;

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    /// What ran, by the order of starting.
    parts: Mutex<Vec<Part>>,
    /// Certificates, kubeconfigs, logs and data. After `parts`: programs go before their files.
    scratch: Scratch,
    bin: PathBuf,
    /// The cluster's certificate authority.
    pub authority: Authority,
    server: String,
}

/// How much of a control plane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Everything that moves pods.
    Whole,
    /// The same with nothing of ours and nobody else's definitions but KServe's: a cluster as a new user has it.
    Untouched,
    /// etcd and kube-apiserver, with an audit log: nothing happens but what a test does.
    ApiServer,
}

/// The shared control plane, or a panic that says why there is none and what to do.
pub fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    get(&SHARED, Extent::Whole)
}

/// An API server alone, for tests that need the objects of cluster scope to themselves. What service accounts ask of it is in
/// `audit.log`.
pub fn api_server() -> &'static ControlPlane {
    static ALONE: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
    get(&ALONE, Extent::ApiServer)
}

/// A cluster as a new user has it, for one test alone: it goes with what is returned.
pub fn untouched() -> ControlPlane {
    start_apart(Extent::Untouched).unwrap_or_else(|error| panic!("there is no control plane to test on: {error}"))
}

fn get(cell: &'static OnceLock<Result<ControlPlane, String>>, extent: Extent) -> &'static ControlPlane {
    let outcome = cell.get_or_init(|| start_apart(extent));
    outcome.as_ref().unwrap_or_else(|error| panic!("there is no control plane to test on: {error}"))
}

/// On a thread of its own: the caller may be inside a runtime, and the starting needs one to itself.
fn start_apart(extent: Extent) -> Result<ControlPlane, String> {
    // kube and reqwest are told once which provider of cryptography they use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::thread::spawn(move || start(extent)).join().unwrap_or_else(|_| Err("starting it panicked".into()))
}

fn start(extent: Extent) -> Result<ControlPlane, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut outcome = Err(String::new());
    for attempt in 0..ATTEMPTS {
        outcome = runtime.block_on(ControlPlane::start(extent, attempt));
        if outcome.as_ref().err().is_none_or(|error| !error.contains("address already in use")) {
            break;
        }
    }
    outcome
}

impl ControlPlane {
    async fn start(extent: Extent, attempt: usize) -> Result<Self, String> {
        let name = match extent {
            Extent::Whole => "whole",
            Extent::Untouched => "untouched",
            Extent::ApiServer => "api-server",
        };
        let scratch = Scratch::new(&format!("{}-{name}-{attempt}", std::process::id()))?;
        let folder = scratch.path.clone();
        let [etcd, etcd_peer, api, controllers, scheduler] = free_ports();
        let ports = parts::Ports { etcd, etcd_peer, api, controllers, scheduler };
        let bin = target().join("controlplane/bin");
        let plane = Self {
            parts: Mutex::new(Vec::new()),
            scratch,
            bin: bin.clone(),
            authority: Authority::new("tidegate-test-ca"),
            server: format!("https://127.0.0.1:{api}"),
        };
        plane.write_files()?;
        kwok::write_stages(&bin, &folder)?;

        plane.run("etcd", &parts::etcd(&folder, ports))?;
        let audit = if extent == Extent::ApiServer { parts::audit(&folder)? } else { Vec::new() };
        plane.run("kube-apiserver", &[parts::kube_apiserver(&folder, ports), audit].concat())?;
        let client = plane.client().await?;
        eventually_or_error("kube-apiserver to be ready", async || {
            plane.alive()?;
            let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
            client.request_text(request).await.map_err(|error| error.to_string())
        })
        .await
        .map_err(|error| format!("{error}\n{}", plane.tails(20)))?;
        kubectl::create(&plane, include_str!("inferenceservice_crd.yaml")).await?;
        if extent == Extent::ApiServer {
            return Ok(plane);
        }
        if extent == Extent::Whole {
            // Before the controllers: they look but twice a minute for kinds that they did not find.
            kubectl::create(&plane, include_str!("../../deploy/crds/scalingpolicy.yaml")).await?;
            kubectl::create(&plane, include_str!("fleet_crd.yaml")).await?;
        }
        plane.run("kube-controller-manager", &parts::kube_controller_manager(&folder, ports))?;
        plane.run("kube-scheduler", &parts::kube_scheduler(&folder, ports))?;
        plane.run("kwok", &parts::kwok(&folder))?;
        kwok::create_nodes(&client).await.map_err(|error| format!("{error}\n{}", plane.tails(20)))?;
        plane.alive()?;
        Ok(plane)
    }

    fn run(&self, name: &str, arguments: &[String]) -> Result<(), String> {
        let part = Part::start(name, self.folder(), &self.program(name), arguments)?;
        self.parts.lock().push(part);
        Ok(())
    }

    /// The folder of this run.
    pub fn folder(&self) -> &Path {
        &self.scratch.path
    }

    /// A program that `tests/controlplane/build` makes.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// `https://…` of kube-apiserver.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `Err` if a part has ended.
    pub fn alive(&self) -> Result<(), String> {
        self.parts.lock().iter_mut().try_for_each(Part::alive)
    }

    /// The last lines of each part's log.
    pub fn tails(&self, lines: usize) -> String {
        let tails = |part: &Part| format!("--- {}\n{}", part.name, part.tail(lines));
        self.parts.lock().iter().map(tails).collect::<Vec<_>>().join("\n")
    }

    /// Writes a kubeconfig `NAME.yaml` for a user with these groups, and returns its path.
    pub fn kubeconfig(&self, name: &str, user: &str, groups: &[&str]) -> PathBuf {
        let (cert, key) = self.authority.issue(user, groups, &[]).write(self.folder(), name);
        let user = format!("client-certificate: '{}', client-key: '{}'", cert.display(), key.display());
        self.write_kubeconfig(name, &user)
    }

    /// Writes a kubeconfig `NAME.yaml` for whoever has this token, and returns its path.
    pub fn token_kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        self.write_kubeconfig(name, &format!("token: '{token}'"))
    }

    fn write_kubeconfig(&self, name: &str, user: &str) -> PathBuf {
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: test, user: {{{user}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.server,
            self.folder().join("ca.crt").display(),
        );
        let path = self.folder().join(format!("{name}.yaml"));
        fs::write(&path, config).expect("the scratch folder can be written");
        path
    }

    /// A client that may do everything. It belongs to the runtime that it is made on.
    pub async fn client(&self) -> Result<Client, String> {
        let file = Kubeconfig::read_from(self.folder().join("admin.yaml")).map_err(|error| error.to_string())?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(|error| error.to_string())?;
        Client::try_from(config).map_err(|error| error.to_string())
    }

    fn write_files(&self) -> Result<(), String> {
        let folder = self.folder();
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).map_err(|error| format!("{}: {error}", folder.join(name).display()))
        };
        write("ca.crt", &self.authority.pem())?;
        let names = ["kubernetes.default.svc", "kubernetes.default", "localhost", "127.0.0.1", "10.96.0.1"];
        self.authority.issue("kube-apiserver", &[], &names).write(folder, "apiserver");
        let front_proxy = Authority::new("tidegate-test-front-proxy-ca");
        write("front-proxy-ca.crt", &front_proxy.pem())?;
        front_proxy.issue("front-proxy-client", &[], &[]).write(folder, "front-proxy-client");
        let tokens = KeyPair::generate().map_err(|error| error.to_string())?;
        Pair { cert: String::new(), key: tokens.serialize_pem() }.write(folder, "sa");
        write("sa.pub", &tokens.public_key_pem())?;
        self.kubeconfig("admin", "admin", &["system:masters"]);
        self.kubeconfig("controller-manager", "system:kube-controller-manager", &[]);
        self.kubeconfig("scheduler", "system:kube-scheduler", &[]);
        Ok(())
    }
}

impl Drop for ControlPlane {
    /// An API server whose etcd is gone hangs on for minutes: etcd, the first that started, goes last.
    fn drop(&mut self) {
        while let Some(part) = self.parts.get_mut().pop() {
            drop(part);
        }
    }
}
