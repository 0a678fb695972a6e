//! A library that answers as `libnvidia-ml.so.1` does: the calls that the agent makes, with nvml.h's signatures, structs and
//! return codes. What it says is made up; how it says it is NVML's. `super::build` compiles it by itself.
//!
//! The file named by `STATE` at build time says how the driver is: `busy`, `idle`, `lost`, `restarted`, `mig` or `full`.

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

type Code = c_int;
const SUCCESS: Code = 0;
const UNINITIALIZED: Code = 1;
const INVALID_ARGUMENT: Code = 2;
const NOT_SUPPORTED: Code = 3;
const NOT_FOUND: Code = 6;
const INSUFFICIENT_SIZE: Code = 7;
const GPU_IS_LOST: Code = 15;
const ARGUMENT_VERSION_MISMATCH: Code = 25;
/// `NVML_VALUE_NOT_AVAILABLE` of instance ids.
const NO_INSTANCE: c_uint = 0xffff_ffff;
/// Handles of MIG devices; those of cards are their index and 1.
const MIG: usize = 100;
const MIB: u64 = 1 << 20;

fn state() -> String {
    std::fs::read_to_string(env!("STATE")).unwrap_or_default().trim().to_owned()
}

unsafe fn text(to: *mut c_char, room: c_uint, text: &str) -> Code {
    if text.len() + 1 > room as usize {
        return INSUFFICIENT_SIZE;
    }
    std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
    *to.add(text.len()) = 0;
    SUCCESS
}

#[no_mangle]
pub extern "C" fn nvmlInit_v2() -> Code {
    SUCCESS
}

#[no_mangle]
pub extern "C" fn nvmlShutdown() -> Code {
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, room: c_uint) -> Code {
    if state() == "restarted" {
        UNINITIALIZED
    } else {
        text(to, room, "550.144.03")
    }
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Code {
    *count = 2;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, handle: *mut usize) -> Code {
    if index == 1 && state() == "lost" {
        return GPU_IS_LOST;
    }
    *handle = index as usize + 1;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: usize, to: *mut c_char, room: c_uint) -> Code {
    if device >= MIG {
        text(to, room, &format!("MIG-{}", device - MIG))
    } else {
        text(to, room, &format!("GPU-{}", device - 1))
    }
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetName(device: usize, to: *mut c_char, room: c_uint) -> Code {
    text(to, room, if device >= MIG { "NVIDIA A100 MIG 1g.5gb" } else { "NVIDIA A100" })
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(device: usize, minor: *mut c_uint) -> Code {
    *minor = device as c_uint + 3;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(device: usize, now: *mut c_uint, pending: *mut c_uint) -> Code {
    if device == 2 {
        return NOT_SUPPORTED;
    }
    *now = c_uint::from(state() == "mig");
    *pending = *now;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetUtilizationRates(_: usize, rates: *mut [c_uint; 2]) -> Code {
    if state() == "mig" {
        return NOT_SUPPORTED;
    }
    *rates = [70, 20];
    SUCCESS
}

#[repr(C)]
pub struct Memory {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: usize, memory: *mut Memory) -> Code {
    if (*memory).version != size_of::<Memory>() as c_uint | 2 << 24 {
        return ARGUMENT_VERSION_MISMATCH;
    }
    let total = if device >= MIG { 5000 } else { 40_000 };
    (*memory).total = total * MIB;
    (*memory).reserved = 100 * MIB;
    (*memory).used = 1000 * MIB;
    (*memory).free = (total - 1100) * MIB;
    SUCCESS
}

#[repr(C)]
pub struct Process {
    pid: c_uint,
    memory: c_ulonglong,
    instance: c_uint,
    compute_instance: c_uint,
}

unsafe fn list(processes: &[(c_uint, u64, c_uint)], count: *mut c_uint, to: *mut Process) -> Code {
    let room = *count;
    *count = processes.len() as c_uint;
    if (room as usize) < processes.len() {
        return INSUFFICIENT_SIZE;
    }
    for (nth, (pid, memory, instance)) in processes.iter().enumerate() {
        *to.add(nth) = Process { pid: *pid, memory: memory * MIB, instance: *instance, compute_instance: NO_INSTANCE };
    }
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: usize,
    count: *mut c_uint,
    to: *mut Process,
) -> Code {
    match (device, &*state()) {
        (1, "mig") => list(&[(100, 900, 3)], count, to),
        (1, _) => list(&[(100, 900, NO_INSTANCE), (200, 500, NO_INSTANCE)], count, to),
        _ => list(&[], count, to),
    }
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: usize,
    count: *mut c_uint,
    to: *mut Process,
) -> Code {
    if device == 1 {
        list(&[(200, 500, NO_INSTANCE), (300, 10, NO_INSTANCE)], count, to)
    } else {
        NOT_SUPPORTED
    }
}

/// Rows of the ring: process, time before now in milliseconds, and SM utilization. `full` has as many as the ring.
fn rows(since: u64) -> Vec<(c_uint, u64, c_uint)> {
    let row = |pid, at, sm| (pid, since + at, sm);
    match &*state() {
        "busy" => vec![row(100, 500_000, 60), row(200, 900_000, 10)],
        "full" => (0..72).map(|n| row(100, 1000 * (n + 1), 50)).collect(),
        _ => Vec::new(),
    }
}

#[repr(C)]
pub struct Sample {
    pid: c_uint,
    time: c_ulonglong,
    sm: c_uint,
    memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
}

/// The older call: it gives room for a hundred rows whatever there are, and leaves those it does not need as they were.
#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: usize,
    to: *mut Sample,
    count: *mut c_uint,
    since: c_ulonglong,
) -> Code {
    let rows = if device == 1 { rows(since) } else { Vec::new() };
    if to.is_null() {
        *count = 100;
        return INSUFFICIENT_SIZE;
    }
    if rows.is_empty() {
        return NOT_FOUND;
    }
    for (nth, (pid, time, sm)) in rows.into_iter().enumerate() {
        *to.add(nth) = Sample { pid, time, sm, memory: sm / 2, encoder: 1, decoder: 2 };
    }
    SUCCESS
}

#[repr(C)]
pub struct Info {
    time: c_ulonglong,
    pid: c_uint,
    sm: c_uint,
    memory: c_uint,
    encoder: c_uint,
    decoder: c_uint,
    jpeg: c_uint,
    optical_flow: c_uint,
}

#[repr(C)]
pub struct Infos {
    version: c_uint,
    count: c_uint,
    since: c_ulonglong,
    rows: *mut Info,
}

/// The newer call, which drivers before 550 do not have.
#[cfg(newer)]
#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetProcessesUtilizationInfo(device: usize, infos: *mut Infos) -> Code {
    if infos.is_null() {
        return INVALID_ARGUMENT;
    }
    let infos = &mut *infos;
    // nvml.h: sizeof(nvmlProcessesUtilizationInfo_v1_t) | 1 << 24
    if infos.version != 0x0100_0018 {
        return ARGUMENT_VERSION_MISMATCH;
    }
    let rows = if device == 1 { rows(infos.since) } else { Vec::new() };
    if rows.is_empty() {
        return NOT_FOUND;
    }
    let room = infos.count as usize;
    infos.count = rows.len() as c_uint;
    if infos.rows.is_null() || room < rows.len() {
        return INSUFFICIENT_SIZE;
    }
    for (nth, (pid, time, sm)) in rows.into_iter().enumerate() {
        // One more than the older call gives: the test sees which of them was used.
        let decoder = 3;
        *infos.rows.add(nth) = Info { time, pid, sm, memory: sm / 2, encoder: 1, decoder, jpeg: 0, optical_flow: 0 };
    }
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(_: usize, count: *mut c_uint) -> Code {
    *count = 7;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(_: usize, index: c_uint, handle: *mut usize) -> Code {
    // Of seven places, two are taken.
    if index >= 2 {
        return NOT_FOUND;
    }
    *handle = MIG + index as usize;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: usize, id: *mut c_uint) -> Code {
    if device < MIG {
        return NOT_SUPPORTED;
    }
    *id = (device - MIG) as c_uint + 3;
    SUCCESS
}
