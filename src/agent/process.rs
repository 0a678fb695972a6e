//! What the kernel tells of a process: who it is, whether it lives, and which pod it runs in.
//!
//! The kernel's files are `/proc/PID/stat` and `/proc/PID/cgroup` (proc(5), cgroups(7)); everyone may read both. The
//! reader must share the host's PID namespace: NVML's ids are the host's.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use super::cgroup::{self, Place};

/// Longest file that is read of a process; a cgroup file has a line of a few hundred bytes for each hierarchy (R22).
const MAX_BYTES: u64 = 64 << 10;

/// One process, at one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The command's name: at most 15 bytes, chosen by the process.
    pub name: String,
    /// It has ended and waits for its parent: what NVML says of it is garbage.
    pub zombie: bool,
    /// When it started, in clock ticks since boot: with the id, this names a process for good.
    pub started: u64,
}

/// The files under `/proc`.
#[derive(Debug)]
pub struct Processes {
    root: PathBuf,
}

impl Processes {
    /// `root`: `/proc`, or a folder that looks like it.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Whether the folder shows a container's own processes instead of the host's: then the first of them is in our own
    /// cgroup, and the ids that NVML gives may be those of others. Says no where it cannot tell.
    pub fn are_a_containers_own(&self) -> bool {
        let cgroup = |process: &str| std::fs::read(self.root.join(process).join("cgroup")).ok();
        cgroup("1").zip(cgroup("self")).is_some_and(|(first, own)| first == own)
    }

    /// Looks at one process.
    ///
    /// # Errors
    /// `NotFound` if there is none of that id; the file system's.
    pub fn look(&self, pid: u32) -> io::Result<Process> {
        let text = self.read(pid, "stat")?;
        parse_stat(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has another form"))
    }

    /// The pods that one process may run in, by its cgroup.
    ///
    /// # Errors
    /// As [`Processes::look`].
    pub fn places(&self, pid: u32) -> io::Result<Vec<Place>> {
        Ok(cgroup::places(&self.read(pid, "cgroup")?))
    }

    fn read(&self, pid: u32, name: &str) -> io::Result<String> {
        let file = File::open(self.root.join(pid.to_string()).join(name))?;
        let mut bytes = Vec::with_capacity(512);
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The second field, in parentheses, may hold anything, parentheses and blanks too; the third is the state, the
/// twenty-second the start time.
fn parse_stat(text: &str) -> Option<Process> {
    let (before, after) = text.rsplit_once(") ")?;
    let name = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X" | "x");
    Some(Process { name, zombie, started: fields.nth(18)?.parse().ok()? })
}

/// Whether a process is the one that had its id before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It is, or the id was free.
    Itself,
    /// The id was another process's: what was measured under it is partly the other's.
    Reused,
}

/// Which processes had which ids in the last reads.
#[derive(Debug, Default)]
pub struct Lives {
    round: u64,
    known: HashMap<u32, (u64, u64)>,
}

/// An id is remembered for so many reads after it was last seen: what was measured under it in one read may have happened
/// before the one before.
const REMEMBERED: u64 = 2;

impl Lives {
    /// A new read begins.
    pub fn begin(&mut self) {
        self.round += 1;
        let oldest = self.round.saturating_sub(REMEMBERED);
        self.known.retain(|_, (_, seen)| *seen >= oldest);
    }

    /// Takes note of a process that is there in this read. Once for each process and read.
    pub fn meet(&mut self, pid: u32, started: u64) -> Life {
        match self.known.insert(pid, (started, self.round)) {
            Some((before, _)) if before != started => Life::Reused,
            _ => Life::Itself,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::testing::Folder;

    #[test]
    fn stat_is_read_as_its_manual_says_whatever_the_command_is_called() {
        let stat = |name: &str, state: &str| {
            format!(
                "4242 ({name}) {state} 1 4242 4242 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 7 0 8675309 123 456 18446744073709551615"
            )
        };
        for name in ["python3", "a b", "x) S 1 2 (", ") Z 9", "", "🦀"] {
            let process = parse_stat(&stat(name, "S")).unwrap_or_else(|| panic!("{name:?}"));
            assert_eq!(process, Process { name: name.into(), zombie: false, started: 8_675_309 }, "{name:?}");
        }
        assert!(parse_stat(&stat("python3", "Z")).is_some_and(|process| process.zombie));
        assert!(parse_stat(&stat("python3", "X")).is_some_and(|process| process.zombie));
        for bad in ["", "1 (a", "1 (a) S", "1 (a) S 1 2 3"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn this_process_is_found_and_lives() {
        let processes = Processes::new("/proc".into());
        let own = processes.look(std::process::id()).unwrap();
        assert!(!own.zombie && own.started > 0, "{own:?}");
        assert_eq!(processes.look(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_containers_own_processes_are_told_from_the_hosts() {
        // As a reader in a cgroup namespace of its own sees itself, and the host's first process.
        for (own, first, expected) in [
            ("0::/\n", "0::/../../../../init.scope\n", false),
            ("0::/\n", "0::/\n", true),
            ("4:memory:/kubepods/pod1/a\n", "4:memory:/\n", false),
            ("4:memory:/kubepods/pod1/a\n", "4:memory:/kubepods/pod1/a\n", true),
        ] {
            let folder = Folder::new();
            folder.file("self/cgroup", own);
            let processes = Processes::new(folder.0.clone());
            assert!(!processes.are_a_containers_own(), "it cannot tell");
            folder.file("1/cgroup", first);
            assert_eq!(processes.are_a_containers_own(), expected, "{own}{first}");
        }
    }

    proptest! {
        #[test]
        fn a_reused_id_is_told_apart_in_the_read_in_which_it_appears_and_only_then(
            reads in proptest::collection::vec(proptest::option::of(1..4_u64), 1..40)
        ) {
            // One id; in each read there is a process that started at that time, or none.
            let mut lives = Lives::default();
            let mut met: Vec<Option<u64>> = Vec::new();
            for started in reads {
                lives.begin();
                if let Some(started) = started {
                    let recent = met.iter().rev().take(REMEMBERED as usize).flatten().next();
                    let reused = recent.is_some_and(|before| *before != started);
                    let expected = if reused { Life::Reused } else { Life::Itself };
                    prop_assert_eq!(lives.meet(7, started), expected);
                }
                met.push(started);
            }
        }

        #[test]
        fn no_stat_makes_it_panic(text in "\\PC{0,200}") {
            let _ = parse_stat(&text);
        }
    }
}
