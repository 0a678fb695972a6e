//! The reader of the documents: a folder with what a checkout has, a shell, and the programs on its search path.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::commands::Outcome;
use crate::cluster::{
    controlplane::ControlPlane,
    process::{Part, free_ports, target},
    wait::{eventually, eventually_or_error},
};

/// The release build takes minutes, and its program differs from this one in speed only.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
  "run --release -- "*) shift 3; exec tidegate "$@" ;;
  *) echo "only cargo run --release -- … is stood in for, got: cargo $*" >&2; exit 2 ;;
esac
"#;

/// A recording of load, as the reader has one of his own service: seconds and requests per second.
const LOAD: &str = "time,rate\n0,2\n300,3\n600,2\n";

/// A command that has not ended by then hangs. The replays take a minute and more where all processors are busy.
const LIMIT: &str = "600s";

/// An adapter is ready when it has scraped all its targets, each at its own moment of the interval.
const INTERVAL: &str = "TIDEGATE_SCRAPE_INTERVAL=3s";

/// Whoever reads, types and waits.
pub struct Reader {
    folder: PathBuf,
    path: String,
    beside: Mutex<Vec<JoinHandle<Result<String, String>>>>,
}

impl Reader {
    /// In a folder of the control plane's, with its administrator's kubeconfig at the usual place.
    pub fn new(plane: &ControlPlane) -> Self {
        let folder = plane.folder().join("reader");
        let programs = folder.join("bin");
        fs::create_dir_all(&programs).unwrap();
        fs::create_dir_all(folder.join(".kube")).unwrap();
        fs::copy(plane.folder().join("admin.yaml"), folder.join(".kube/config")).unwrap();
        let helm = target().join("controlplane/bin/helm/helm");
        for (name, program) in [
            ("tidegate", Path::new(env!("CARGO_BIN_EXE_tidegate"))),
            ("kubectl", &plane.program("kubectl")),
            ("helm", &helm),
        ] {
            symlink(program, programs.join(name)).unwrap();
        }
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy"), folder.join("deploy")).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
        let this = Self { folder, path, beside: Mutex::default() };
        this.write("load.csv", LOAD);
        this.write("bin/cargo", CARGO);
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(programs.join("cargo"), executable).unwrap();
        this
    }

    /// Writes a file that a document shows.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Runs a command, and sees whether it does what it must.
    pub async fn run(&self, command: &str, outcome: &Outcome) -> Result<(), String> {
        let command = command.replace("REGISTRY", "registry.example");
        match *outcome {
            Outcome::Except(reason) => {
                eprintln!("$ {command}\n(not run: it {reason})");
                Ok(())
            }
            Outcome::Installs | Outcome::Removes => self.says(command, &[]).await.map(drop),
            Outcome::Says(words) => self.says(command, words).await.map(drop),
            Outcome::Comes(words) => {
                eventually_or_error("it", async || self.says(command.clone(), words).await).await.map(drop)
            }
            Outcome::Beside(words) => {
                self.beside.lock().push(tokio::spawn(self.says(command, words)));
                Ok(())
            }
            Outcome::Serves(shows) => self.serves(&command, shows).await,
        }
    }

    /// Waits for what runs beside.
    pub async fn finish(&self) {
        let beside = std::mem::take(&mut *self.beside.lock());
        for task in beside {
            task.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Runs it to its end. `Err` if that is not good, or if it does not say all of `words`.
    fn says(
        &self,
        command: String,
        words: &'static [&'static str],
    ) -> impl Future<Output = Result<String, String>> + Send + use<> {
        let mut shell = Command::new("timeout");
        shell.args([LIMIT, "bash", "-o", "pipefail", "-c", &command]);
        shell.current_dir(&self.folder).env_clear().env("HOME", &self.folder).env("PATH", &self.path);
        async move {
            let output =
                tokio::task::spawn_blocking(move || shell.output()).await.map_err(|error| error.to_string())?;
            let output = output.map_err(|error| error.to_string())?;
            let said =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            if output.status.success() && words.iter().all(|words| said.contains(words)) {
                eprintln!("$ {command}\n{said}");
                Ok(said)
            } else {
                Err(format!("{command}\n{}; expected {words:?}, got:\n{said}", output.status))
            }
        }
    }

    /// Starts it at ports that are free, waits until it is ready and its page shows that, and tells it to stop.
    async fn serves(&self, command: &str, shows: &str) -> Result<(), String> {
        let [api, metrics]: [u16; 2] = free_ports();
        let arguments = [
            &format!("PATH={}", self.path),
            &format!("TIDEGATE_LISTEN=127.0.0.1:{api}"),
            &format!("TIDEGATE_METRICS_LISTEN=127.0.0.1:{metrics}"),
            INTERVAL,
            "bash",
            "-c",
            // The shell gives way to the program, so that the signal reaches that one.
            &format!("exec {command}"),
        ];
        let mut part = Part::start("serving", &self.folder, Path::new("/usr/bin/env"), &arguments.map(String::from))?;
        let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
        let get = async |page: &str| -> Result<String, String> {
            let answer = client.get(format!("http://127.0.0.1:{metrics}/{page}")).send().await;
            let answer = answer.map_err(|error| error.to_string())?;
            let good = answer.status().is_success();
            let text = answer.text().await.map_err(|error| error.to_string())?;
            if good { Ok(text) } else { Err(text) }
        };
        eventually_or_error("it to be ready", async || {
            part.alive()?;
            get("readyz").await?;
            let page = get("metrics").await?;
            if page.contains(shows) { Ok(()) } else { Err(format!("no {shows:?} in\n{page}")) }
        })
        .await
        .map_err(|error| format!("{error}\n{}", part.tail(20)))?;
        part.terminate();
        let status = eventually("it to end", async || part.ended().ok_or("it runs still")).await;
        if status.success() { Ok(()) } else { Err(format!("{status} after SIGTERM\n{}", part.tail(20))) }
    }
}
