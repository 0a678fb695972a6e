//! NVML itself, loaded when it is first asked: the program starts without it, and says what is missing.
//!
//! A driver that was restarted or upgraded leaves a library that fails: it is let go and loaded again, at most once in
//! [`RETRY`].

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use nvml_wrapper::{
    Device, Nvml, enums::device::UsedGpuMemory, error::NvmlError, struct_wrappers::device::ProcessInfo,
};

use super::{
    Answer, CardAnswer, DeviceUtilization, Driver, Fault, Identity, InstanceAnswer, Memory, ProcessKind, ProcessSample,
    RunningProcess, Samples, raw,
};
use crate::agent::{MAX_CARDS, window::ReadTime};

/// The library's name in the driver's package.
pub const LIBRARY: &str = "libnvidia-ml.so.1";
/// Between two attempts to load the library.
const RETRY: Duration = Duration::from_secs(10);
/// Rows at which an answer counts as full: the driver's ring has 72 entries
/// (`NV2080_CTRL_PERF_GPUMON_SAMPLE_COUNT_PERFMON_UTIL` of NVIDIA's open kernel modules).
const RING: usize = 72;

/// NVML, or the wish for it.
#[derive(Debug)]
pub struct Library {
    path: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Loaded(Box<Nvml>),
    Missing { fault: Option<Fault>, retry_at: Duration },
}

impl Library {
    /// The library of that name or path.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), state: State::Missing { fault: None, retry_at: Duration::ZERO } }
    }

    fn load(&self) -> Result<Nvml, Fault> {
        Nvml::builder().lib_path(self.path.as_os_str()).init().map_err(|error| self.explain(&error))
    }

    /// What is missing, and what to do.
    fn explain(&self, error: &NvmlError) -> Fault {
        let path = self.path.display();
        let message = match error {
            NvmlError::LibloadingError(error) => format!(
                "{path} not found: this node has no NVIDIA driver, or the container was not given it \
                 (runtimeClassName: nvidia, NVIDIA_VISIBLE_DEVICES=all, NVIDIA_DRIVER_CAPABILITIES=utility): {error}"
            ),
            NvmlError::DriverNotLoaded => {
                format!(
                    "{path} is there, but the kernel's NVIDIA driver is not loaded: look at `nvidia-smi` on the node"
                )
            }
            NvmlError::LibRmVersionMismatch => format!(
                "{path} and the kernel's NVIDIA driver are of different versions: the driver was upgraded; restart the node or reload the driver"
            ),
            error => format!("{path} does not start: {error}"),
        };
        let reason = match error {
            NvmlError::LibloadingError(_) => Cow::Borrowed("library_not_found"),
            error => reason(error),
        };
        Fault { reason, message }
    }
}

impl Driver for Library {
    fn read(&mut self, now: ReadTime, since: &dyn Fn(&str) -> u64) -> Result<Answer, Fault> {
        if let State::Missing { fault, retry_at } = &self.state {
            if let Some(fault) = fault.clone().filter(|_| now.monotonic < *retry_at) {
                return Err(fault);
            }
            self.state = match self.load() {
                Ok(nvml) => State::Loaded(Box::new(nvml)),
                Err(fault) => State::Missing { fault: Some(fault), retry_at: now.monotonic + RETRY },
            };
        }
        let answer = match &self.state {
            State::Loaded(nvml) => read(nvml, since).map_err(|error| self.explain(&error)),
            State::Missing { fault, .. } => Err(fault.clone().unwrap_or_else(|| fault_of(&NvmlError::Uninitialized))),
        };
        if let (State::Loaded(_), Err(fault)) = (&self.state, &answer) {
            // Dropping it shuts the library down. It is loaded anew: the old one stays with the old driver.
            self.state = State::Missing { fault: Some(fault.clone()), retry_at: now.monotonic + RETRY };
        }
        answer
    }
}

/// A short word for each of NVML's errors.
fn reason(error: &NvmlError) -> Cow<'static, str> {
    Cow::Borrowed(match error {
        NvmlError::Uninitialized => "uninitialized",
        NvmlError::InvalidArg => "invalid_argument",
        NvmlError::NotSupported => "not_supported",
        NvmlError::NoPermission => "no_permission",
        NvmlError::NotFound => "not_found",
        NvmlError::InsufficientSize(_) => "insufficient_size",
        NvmlError::DriverNotLoaded => "driver_not_loaded",
        NvmlError::Timeout => "timeout",
        NvmlError::IrqIssue => "irq_issue",
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "driver_too_old",
        NvmlError::GpuLost => "gpu_lost",
        NvmlError::ResetRequired => "reset_required",
        NvmlError::OperatingSystem => "operating_system",
        NvmlError::LibRmVersionMismatch => "version_mismatch",
        NvmlError::InUse => "in_use",
        NvmlError::InsufficientMemory => "insufficient_memory",
        NvmlError::NoData => "no_data",
        _ => "unknown",
    })
}

fn fault_of(error: &NvmlError) -> Fault {
    Fault { reason: reason(error), message: format!("NVML: {error}") }
}

/// The errors after which the library is of no more use, whatever it was asked.
fn is_final(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch)
}

fn read(nvml: &Nvml, since: &dyn Fn(&str) -> u64) -> Result<Answer, NvmlError> {
    let driver = nvml.sys_driver_version()?;
    let count = nvml.device_count()?.min(MAX_CARDS as u32);
    let cards = (0..count).map(|index| card(nvml, index, since)).collect::<Result<_, _>>()?;
    Ok(Answer { driver, cards })
}

/// Fails only if the whole library does.
fn card(nvml: &Nvml, index: u32, since: &dyn Fn(&str) -> u64) -> Result<CardAnswer, NvmlError> {
    let whole = |error: NvmlError| if is_final(&error) { Err(error) } else { Ok(fault_of(&error)) };
    let lost = |fault: &Fault| CardAnswer {
        index,
        identity: Err(fault.clone()),
        mig: Err(fault.clone()),
        utilization: Err(fault.clone()),
        memory: Err(fault.clone()),
        processes: Err(fault.clone()),
        samples: Err(fault.clone()),
        instances: Vec::new(),
    };
    let device = match nvml.device_by_index(index) {
        Ok(device) => device,
        Err(error) => return Ok(lost(&whole(error)?)),
    };
    let identity = match identity(&device) {
        Ok(identity) => identity,
        Err(error) => return Ok(lost(&whole(error)?)),
    };
    let mig = match device.mig_mode() {
        Ok(mode) => Ok(mode.current == 1),
        // Cards that know no MIG, and drivers from before it.
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => Ok(false),
        Err(error) => Err(whole(error)?),
    };
    let utilization =
        device.utilization_rates().map(|rates| DeviceUtilization { gpu: rates.gpu, memory: rates.memory });
    let samples = match samples(&device, since(&identity.uuid)) {
        Ok(samples) => Ok(samples),
        Err(error) => Err(whole(error)?),
    };
    // After the samples: whoever is listed lived at least until they were taken.
    let processes = match processes(&device) {
        Ok(processes) => Ok(processes),
        Err(error) => Err(whole(error)?),
    };
    Ok(CardAnswer {
        index,
        instances: if mig == Ok(true) { instances(&device) } else { Vec::new() },
        identity: Ok(identity),
        mig,
        utilization: utilization.map_err(|error| fault_of(&error)),
        memory: memory(&device),
        processes,
        samples,
    })
}

fn identity(device: &Device<'_>) -> Result<Identity, NvmlError> {
    Ok(Identity { uuid: device.uuid()?, model: device.name()?, minor: device.minor_number()? })
}

fn memory(device: &Device<'_>) -> Result<Memory, Fault> {
    let info = device.memory_info().map_err(|error| fault_of(&error))?;
    Ok(Memory { total: info.total, used: info.used, free: info.free })
}

/// The newer call where the driver has it, else the older one.
fn samples(device: &Device<'_>, since: u64) -> Result<Samples, NvmlError> {
    let newer = match raw::processes_utilization(device, since) {
        Err(
            NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound
            | NvmlError::NotSupported
            | NvmlError::UnexpectedVariant(_), // among them: another version of the struct
        ) => None,
        answer => Some(answer),
    };
    let answer = newer.unwrap_or_else(|| {
        let rows = device.process_utilization_stats(since)?.into_iter().map(|row| ProcessSample {
            pid: row.pid,
            at: row.timestamp,
            sm: row.sm_util,
            memory: row.mem_util,
            encoder: row.enc_util,
            decoder: row.dec_util,
        });
        Ok(rows.collect())
    });
    let mut rows = match answer {
        // Nobody used the card since then.
        Err(NvmlError::NotFound) => Vec::new(),
        answer => answer?,
    };
    // What the driver has not filled stays zero.
    rows.retain(|row| row.pid != 0);
    Ok(Samples { full: rows.len() >= RING, rows })
}

/// Everyone with a context, each once. A card that cannot tell one of the kinds (no display, no MPS) has none of it.
fn processes(device: &Device<'_>) -> Result<Vec<RunningProcess>, NvmlError> {
    let optional = |list: Result<Vec<ProcessInfo>, NvmlError>| match list {
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => Ok(Vec::new()),
        list => list,
    };
    let kinds = [
        (ProcessKind::Compute, device.running_compute_processes()?),
        (ProcessKind::Graphics, optional(device.running_graphics_processes())?),
        (ProcessKind::MultiProcess, optional(device.mps_running_compute_processes())?),
    ];
    let mut all: BTreeMap<u32, RunningProcess> = BTreeMap::new();
    for (kind, process) in kinds.into_iter().flat_map(|(kind, list)| list.into_iter().map(move |one| (kind, one))) {
        let memory = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let instance = process.gpu_instance_id;
        let new = RunningProcess { pid: process.pid, kind, memory, instance };
        all.entry(process.pid)
            .and_modify(|known| {
                // Each list gives the whole of the process's memory.
                known.memory = known.memory.max(memory);
                known.kind = match (known.kind, kind) {
                    (ProcessKind::Compute, ProcessKind::Graphics) => ProcessKind::Both,
                    (_, ProcessKind::MultiProcess) => ProcessKind::MultiProcess,
                    (known, _) => known,
                };
            })
            .or_insert(new);
    }
    Ok(all.into_values().collect())
}

fn instances(device: &Device<'_>) -> Vec<InstanceAnswer> {
    let places = device.mig_device_count().unwrap_or(0);
    // Places without an instance are errors; what an instance cannot say of itself makes it unknown, not the card.
    let instance = |place| {
        let part = device.mig_device_by_index(place).ok()?;
        let id = raw::gpu_instance_id(&part).ok()?;
        Some(InstanceAnswer { id, uuid: part.uuid().ok()?, model: part.name().ok()?, memory: memory(&part) })
    };
    (0..places).filter_map(instance).collect()
}

/// The default library.
pub fn default_path() -> &'static Path {
    Path::new(OsStr::new(LIBRARY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> ReadTime {
        ReadTime { wall: seconds * 1_000_000, monotonic: Duration::from_secs(seconds) }
    }

    #[test]
    fn without_the_library_every_read_says_what_is_missing_and_what_to_do() {
        let mut library = Library::new(Path::new("libnvidia-ml-that-is-not-here.so.1"));
        for second in [1, 2, 30] {
            let fault = library.read(at(second), &|_| 0).expect_err("no such library");
            assert_eq!(fault.reason, "library_not_found");
            assert!(fault.message.starts_with("libnvidia-ml-that-is-not-here.so.1 not found"), "{fault}");
            assert!(fault.message.contains("runtimeClassName: nvidia"), "{fault}");
        }
    }

    #[test]
    fn a_library_that_is_not_nvml_is_said_to_be_one() {
        // Any shared object that is surely there: the C library, which has no nvmlInit.
        let mut library = Library::new(Path::new("libc.so.6"));
        let fault = library.read(at(1), &|_| 0).expect_err("not NVML");
        assert_eq!(fault.reason, "driver_too_old", "{fault}");
        assert!(fault.message.contains("libc.so.6 does not start"), "{fault}");
    }
}
