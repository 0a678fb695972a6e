//! The two NVML calls that nvml-wrapper does not offer, and the only unsafe code of this package.

#![allow(unsafe_code, reason = "calls into NVML, a C library; each block says why it is sound")]

use std::ffi::c_uint;

use nvml_wrapper::{
    Device,
    error::{NvmlError, nvml_sym, nvml_try},
};
use nvml_wrapper_sys::bindings::{
    nvmlProcessUtilizationInfo_v1_t, nvmlProcessesUtilizationInfo_v1_t, nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE,
};

use super::ProcessSample;

/// `NVML_STRUCT_VERSION(ProcessesUtilizationInfo, 1)` of nvml.h: the struct's size, and the version in the top byte.
const VERSION: c_uint = size_of::<nvmlProcessesUtilizationInfo_v1_t>() as c_uint | 1 << 24;
/// Most rows that are read at once. The driver's ring has 72; more is not believed (R22).
const MAX_ROWS: c_uint = 4096;
/// Rows for what happens between asking for the size and asking for the rows.
const HEADROOM: c_uint = 8;

/// `nvmlDeviceGetProcessesUtilizationInfo` (driver 550 and up).
///
/// # Errors
/// NVML's; among them `FailedToLoadSymbol` if the driver is older, and `NotFound` if nobody used the card.
pub(super) fn processes_utilization(device: &Device<'_>, since: u64) -> Result<Vec<ProcessSample>, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetProcessesUtilizationInfo.as_ref())?;
    // SAFETY: the handle is passed on to NVML only, while the library that it comes from is borrowed.
    let handle = unsafe { device.handle() };
    let mut info = nvmlProcessesUtilizationInfo_v1_t {
        version: VERSION,
        processSamplesCount: 0,
        lastSeenTimeStamp: since,
        procUtilArray: std::ptr::null_mut(),
    };
    // SAFETY: `info` is as nvml.h wants it for asking for the size: no array, and a count of 0.
    let code = unsafe { call(handle, &raw mut info) };
    if code != nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE {
        nvml_try(code)?;
    }
    let count = info.processSamplesCount;
    if count == 0 {
        return Ok(Vec::new());
    }
    if count > MAX_ROWS {
        return Err(NvmlError::InsufficientSize(Some(count as usize)));
    }
    let room = count + HEADROOM;
    let mut rows = vec![EMPTY; room as usize];
    info.version = VERSION;
    info.processSamplesCount = room;
    info.lastSeenTimeStamp = since;
    info.procUtilArray = rows.as_mut_ptr();
    // SAFETY: the array has room for `processSamplesCount` rows and outlives the call.
    nvml_try(unsafe { call(handle, &raw mut info) })?;
    rows.truncate(info.processSamplesCount.min(room) as usize);
    Ok(rows.iter().map(of_row).collect())
}

const EMPTY: nvmlProcessUtilizationInfo_v1_t = nvmlProcessUtilizationInfo_v1_t {
    timeStamp: 0,
    pid: 0,
    smUtil: 0,
    memUtil: 0,
    encUtil: 0,
    decUtil: 0,
    jpgUtil: 0,
    ofaUtil: 0,
};

fn of_row(row: &nvmlProcessUtilizationInfo_v1_t) -> ProcessSample {
    ProcessSample {
        pid: row.pid,
        at: row.timeStamp,
        sm: row.smUtil,
        memory: row.memUtil,
        encoder: row.encUtil,
        decoder: row.decUtil,
    }
}

/// `nvmlDeviceGetGpuInstanceId`: which part of its card a MIG device is.
///
/// # Errors
/// NVML's.
pub(super) fn gpu_instance_id(device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(device.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id: c_uint = 0;
    // SAFETY: the handle is passed on to NVML only, while the library that it comes from is borrowed; `id` outlives the
    // call.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}
