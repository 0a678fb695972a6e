//! The agent's glue to NVML, against a library that speaks as NVML does: a shared object that is loaded at run time, with
//! nvml.h's calls, structs and codes. It shows that the glue calls as it should, not what a driver answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tidegate::agent::{
    nvml::{
        Answer, DeviceUtilization, Driver, Fault, Identity, Memory, ProcessKind, ProcessSample, RunningProcess,
        library::Library,
    },
    window::ReadTime,
};

const MIB: u64 = 1 << 20;
const SINCE: u64 = 1_790_000_000_000_000;

/// A built library and how its driver is.
struct Fake {
    folder: PathBuf,
    library: Library,
    seconds: u64,
}

impl Fake {
    /// `newer`: with the call that drivers have since 550.
    fn build(name: &str, newer: bool) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fake-nvml-{name}"));
        fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libnvidia-ml.so.1");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/fake_nvml.rs");
        let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        command.args([
            "--edition=2021",
            "--crate-type=cdylib",
            "-Cpanic=abort",
            "-Adead_code",
            "--check-cfg=cfg(newer)",
        ]);
        if newer {
            command.args(["--cfg", "newer"]);
        }
        command.env("STATE", folder.join("state")).arg(source).arg("-o").arg(&library);
        let output = command.output().expect("rustc, which has just built this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self { library: Library::new(&library), folder, seconds: 0 }
    }

    fn read(&mut self, state: &str) -> Result<Answer, Fault> {
        fs::write(self.folder.join("state"), state).unwrap();
        self.seconds += 60; // longer than a failed library is left alone
        let now = ReadTime { wall: SINCE + 1_000_000, monotonic: Duration::from_secs(self.seconds) };
        self.library.read(now, &|_| SINCE)
    }
}

fn sample(pid: u32, micros: u64, sm: u32, decoder: u32) -> ProcessSample {
    ProcessSample { pid, at: SINCE + micros, sm, memory: sm / 2, encoder: 1, decoder }
}

#[test]
fn every_figure_of_a_card_arrives_where_it_belongs() {
    let answer = Fake::build("figures", true).read("busy").unwrap();
    assert_eq!((answer.driver.as_str(), answer.cards.len()), ("550.144.03", 2));
    let card = &answer.cards[0];
    assert_eq!(card.identity, Ok(Identity { uuid: "GPU-0".into(), model: "NVIDIA A100".into(), minor: 4 }));
    assert_eq!((&card.mig, &answer.cards[1].mig), (&Ok(false), &Ok(false)), "a card that knows no MIG is not divided");
    assert_eq!(card.utilization, Ok(DeviceUtilization { gpu: 70, memory: 20 }));
    assert_eq!(card.memory, Ok(Memory { total: 40_000 * MIB, used: 1000 * MIB, free: 38_900 * MIB }));
    let process = |pid, kind, mib: u64| RunningProcess { pid, kind, memory: Some(mib * MIB), instance: None };
    let expected = [
        process(100, ProcessKind::Compute, 900),
        process(200, ProcessKind::Both, 500),
        process(300, ProcessKind::Graphics, 10),
    ];
    assert_eq!(card.processes.as_deref(), Ok(&expected[..]), "each process once");
    assert_eq!(answer.cards[1].processes, Ok(Vec::new()), "without graphics and MPS there are none of theirs");
}

#[test]
fn the_newer_call_is_used_where_the_driver_has_it_and_the_older_one_elsewhere() {
    for (newer, decoder) in [(true, 3), (false, 2)] {
        let answer = Fake::build(&format!("newer-{newer}"), newer).read("busy").unwrap();
        let samples = answer.cards[0].samples.clone().unwrap();
        let expected = [sample(100, 500_000, 60, decoder), sample(200, 900_000, 10, decoder)];
        assert_eq!((&samples.rows[..], samples.full), (&expected[..], false), "newer: {newer}");
    }
}

#[test]
fn that_nobody_used_the_card_is_no_samples_and_no_fault() {
    for newer in [true, false] {
        let answer = Fake::build(&format!("idle-{newer}"), newer).read("idle").unwrap();
        let samples = answer.cards[0].samples.clone().unwrap();
        assert_eq!((samples.rows.len(), samples.full), (0, false), "newer: {newer}");
    }
}

#[test]
fn a_full_ring_is_told() {
    for newer in [true, false] {
        let answer = Fake::build(&format!("full-{newer}"), newer).read("full").unwrap();
        let samples = answer.cards[0].samples.clone().unwrap();
        assert_eq!((samples.rows.len(), samples.full), (72, true), "newer: {newer}");
    }
}

#[test]
fn a_lost_card_leaves_the_other_and_a_restarted_driver_is_taken_up_again() {
    let mut fake = Fake::build("lost", true);
    let answer = fake.read("lost").unwrap();
    assert!(answer.cards[0].identity.is_ok());
    let reasons =
        [&answer.cards[1].identity.as_ref().unwrap_err().reason, &answer.cards[1].samples.as_ref().unwrap_err().reason];
    assert_eq!(reasons, ["gpu_lost", "gpu_lost"]);
    assert_eq!(fake.read("restarted").unwrap_err().reason, "uninitialized");
    assert_eq!(fake.read("busy").unwrap().cards.len(), 2);
}

#[test]
fn of_a_divided_card_the_instances_are_named_and_their_processes_too() {
    let answer = Fake::build("mig", true).read("mig").unwrap();
    let card = &answer.cards[0];
    assert_eq!((&card.mig, card.utilization.as_ref().unwrap_err().reason.as_ref()), (&Ok(true), "not_supported"));
    let instances: Vec<_> =
        card.instances.iter().map(|part| (part.id, &*part.uuid, part.memory.clone().unwrap().total)).collect();
    assert_eq!(instances, [(3, "MIG-0", 5000 * MIB), (4, "MIG-1", 5000 * MIB)]);
    assert_eq!(card.processes.as_ref().unwrap()[0].instance, Some(3));
}
