//! Programs that cannot outlive the test process, however that one ends.
//!
//! Statics are never dropped, a panic may abort and `kill -9` runs nothing at all, so no clean-up of ours can be relied
//! upon. The kernel closes our files in every case. Each program therefore runs in a process group of its own beside a
//! shell that waits for the end of a pipe from us and then kills the group. (`PR_SET_PDEATHSIG` would not do: it fires at
//! the end of the *thread* that spawned the program, and libtest ends a thread with each test.)

use std::{
    fs::{self, File},
    io,
    net::{TcpListener, UdpSocket},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

/// The shell keeps the pipe as descriptor 3, leaves a reader in the background and becomes the program.
const SUPERVISE: &str = r#"exec 3<&0 </dev/null; (read -r _ <&3; kill -KILL 0) & exec "$@" 3<&-"#;

/// Removes the folder `$1` once the pipe ends; programs that are just being killed may still write to it.
const SWEEP: &str =
    r#"read -r _; n=0; while [ -e "$1" ] && [ $n -lt 100 ]; do rm -rf "$1"; n=$((n+1)); sleep 0.1; done 2>/dev/null"#;

/// A supervised program. Dropping it kills its whole process group.
#[derive(Debug)]
pub struct Part {
    /// For messages.
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts `program`; what it says goes to `NAME.log` in `folder`, which is its working directory and home, too.
    pub fn start(name: &str, folder: &Path, program: &Path, arguments: &[String]) -> Result<Self, String> {
        if !program.exists() {
            return Err(format!("{} is missing; tests/controlplane/build makes it", program.display()));
        }
        let log = folder.join(format!("{name}.log"));
        let open = || File::options().create(true).append(true).open(&log);
        let start = || -> io::Result<Child> {
            Command::new("/bin/sh")
                .args(["-c", SUPERVISE, name])
                .arg(program)
                .args(arguments)
                .current_dir(folder)
                .env("HOME", folder)
                .env_remove("KUBECONFIG")
                .stdin(Stdio::piped())
                .stdout(open()?)
                .stderr(open()?)
                .process_group(0)
                .spawn()
        };
        let child = start().map_err(|error| format!("{name} does not start: {error}"))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `Err` with the end of its log if the program has ended.
    pub fn alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("{} has ended ({status}); its last words:\n{}", self.name, self.tail(30))),
            Err(error) => Err(format!("{} cannot be watched: {error}", self.name)),
        }
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// SIGTERM. What it does then is seen by [`alive`](Self::alive) and [`ended`](Self::ended).
    pub fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -TERM {}", self.pid());
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        drop(self.child.stdin.take());
        // The reader in the group kills it, too; either may be first, and both are enough.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last `lines` lines of a file, or what is wrong with it.
pub fn tail(file: &Path, lines: usize) -> String {
    match fs::read(file) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", file.display()),
    }
}

/// A folder that is gone soon after the test process is.
#[derive(Debug)]
pub struct Scratch {
    /// Where it is.
    pub path: PathBuf,
    sweeper: Child,
}

impl Scratch {
    /// Makes the folder `target/controlplane/run/NAME`.
    pub fn new(name: &str) -> Result<Self, String> {
        let path = target().join("controlplane/run").join(name);
        let start = || -> io::Result<Child> {
            fs::create_dir_all(&path)?;
            Command::new("/bin/sh")
                .args(["-c", SWEEP, "sweep"])
                .arg(&path)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
        };
        let sweeper = start().map_err(|error| format!("{} cannot be made: {error}", path.display()))?;
        Ok(Self { path, sweeper })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// Cargo's target folder of this build.
pub fn target() -> &'static Path {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    scratch.parent().unwrap_or(scratch)
}

/// Where ports are looked for: below those that Linux gives to outgoing connections (32768 and up by default), or a
/// connection could take one between the look and the start of the program that it is for.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Neighbouring process ids begin this far from each other, so that test processes side by side seldom meet.
const PORTS_APART: usize = 97;

/// TCP ports of 127.0.0.1 that were free a moment ago, all different, and given to nobody else while this process lives.
///
/// A program takes seconds to bind its port, and another test process may look meanwhile. The UDP port of the same number,
/// which nobody here wants, says that it is taken; the kernel lets go of it with the process.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static LOOKED_AT: AtomicUsize = AtomicUsize::new(0);
    static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let take = |port: &u16| match UdpSocket::bind(("127.0.0.1", *port)) {
        Ok(claim) => {
            TAKEN.lock().push(claim);
            TcpListener::bind(("127.0.0.1", *port)).is_ok()
        }
        Err(_) => false,
    };
    let begin = std::process::id() as usize * PORTS_APART;
    let mut candidates = std::iter::repeat_with(|| begin + LOOKED_AT.fetch_add(1, Ordering::Relaxed))
        .take(PORTS.len())
        .map(|n| PORTS.start + u16::try_from(n % PORTS.len()).expect("the remainder is below the number of ports"))
        .filter(take);
    std::array::from_fn(|_| candidates.next().expect("loopback has a free port"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};

    use super::*;

    #[test]
    fn ports_are_given_once_and_not_while_another_test_process_has_them() {
        let [mine, other] = free_ports();
        assert_ne!(mine, other);
        for port in [mine, other] {
            assert!(UdpSocket::bind(("127.0.0.1", port)).is_err(), "{port} can be claimed twice");
            assert!(is_usable_soon(port), "{port} cannot be used");
        }
    }

    /// Whether a program can bind the port. A child that another test starts just then holds the listener of our look
    /// until it executes its program.
    fn is_usable_soon(port: u16) -> bool {
        (0..1200).any(|_| {
            TcpListener::bind(("127.0.0.1", port)).is_ok() || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                false
            }
        })
    }

    const ROLE: &str = "TIDEGATE_TEST_LEAVE_PARTS_BEHIND";

    /// Whether a process with that id runs; a zombie does not.
    fn runs(pid: &str) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
    }

    /// In the child: a program with a child of its own, and a scratch folder; says their ids and waits to be killed.
    fn leave_parts_behind() {
        let scratch = Scratch::new(&format!("left-{}", std::process::id())).unwrap();
        let script = "sleep 600 & echo $! >grandchild; exec sleep 600";
        let part = Part::start("sleeper", &scratch.path, Path::new("/bin/sh"), &["-c".into(), script.into()]).unwrap();
        let grandchild = scratch.path.join("grandchild");
        let mut pid = String::new();
        while pid.trim().is_empty() {
            std::thread::yield_now();
            pid = fs::read_to_string(&grandchild).unwrap_or_default();
        }
        let mut out = io::stdout();
        writeln!(out, "\nleft {} {} {}", scratch.path.display(), part.pid(), pid.trim()).unwrap();
        out.flush().unwrap();
        loop {
            std::thread::park();
        }
    }

    #[test]
    fn a_test_process_that_is_killed_or_interrupted_leaves_no_process_and_no_folder() {
        if std::env::var_os(ROLE).is_some() {
            leave_parts_behind();
        }
        for signal in ["-KILL", "-INT"] {
            let name =
                "cluster::process::tests::a_test_process_that_is_killed_or_interrupted_leaves_no_process_and_no_folder";
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args([name, "--exact", "--nocapture"])
                .env(ROLE, "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let left = BufReader::new(child.stdout.take().unwrap())
                .lines()
                .map_while(Result::ok)
                .find_map(|line| line.strip_prefix("left ").map(String::from))
                .expect("the child says what it started");
            let [folder, part, grandchild] = left.split(' ').collect::<Vec<_>>()[..] else { panic!("{left}") };
            assert!(runs(part) && runs(grandchild) && Path::new(folder).exists(), "all there before: {left}");
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            child.wait().unwrap();
            for _ in 0..1200 {
                if !(runs(part) || runs(grandchild) || Path::new(folder).exists()) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            assert!(!runs(part), "{signal}: the program survives");
            assert!(!runs(grandchild), "{signal}: the program's child survives");
            assert!(!Path::new(folder).exists(), "{signal}: {folder} survives");
        }
    }

    #[test]
    fn a_missing_program_says_how_to_make_it() {
        let error = Part::start("etcd", Path::new("/"), Path::new("/no/such/etcd"), &[]).unwrap_err();
        assert_eq!(error, "/no/such/etcd is missing; tests/controlplane/build makes it");
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_last_words() {
        let scratch = Scratch::new(&format!("ends-{}", std::process::id())).unwrap();
        let script = ["-c".into(), "echo no such flag >&2; exit 3".into()];
        let mut part = Part::start("brief", &scratch.path, Path::new("/bin/sh"), &script).unwrap();
        let error = loop {
            if let Err(error) = part.alive() {
                break error;
            }
            std::thread::yield_now();
        };
        assert_eq!(error, "brief has ended (exit status: 3); its last words:\nno such flag");
    }
}
