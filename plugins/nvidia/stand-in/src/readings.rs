//! NVML's functions to read a device: energy, power, utilisation, and the processes that use it. `machine.rs`
//! computes the values.
#![expect(non_upper_case_globals, reason = "NVML's own names")]

use std::os::raw::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::*;

use crate::abi::{NOT_FOUND, OK, UNSUPPORTED, put, put_list, with};
use crate::machine;
use crate::scenario::Process;

/// `nvmlDeviceGetTotalEnergyConsumption`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: nvmlDevice_t,
    energy: *mut c_ulonglong,
) -> nvmlReturn_t {
    with(device, |machine, device, instance| {
        if !device.counter || instance > 0 {
            return UNSUPPORTED;
        }
        if machine::is_troubled(device, machine.now()) {
            return nvmlReturn_enum_NVML_ERROR_UNKNOWN;
        }
        // SAFETY: the caller's pointer.
        unsafe { put(energy, machine::millijoules(device, machine.now())) };
        OK
    })
}

/// `nvmlDeviceGetPowerUsage`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, power: *mut c_uint) -> nvmlReturn_t {
    with(device, |machine, device, _| {
        // SAFETY: the caller's pointer.
        unsafe { put(power, machine::milliwatts(device, machine.now())) };
        OK
    })
}

/// `nvmlDeviceGetSamples`, of power and of utilisation.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSamples(
    device: nvmlDevice_t,
    kind: nvmlSamplingType_t,
    last: c_ulonglong,
    value_type: *mut nvmlValueType_t,
    count: *mut c_uint,
    to: *mut nvmlSample_t,
) -> nvmlReturn_t {
    with(device, |machine, device, instance| {
        let samples = match kind {
            nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES if device.power_samples => {
                machine.power_samples(device, last)
            }
            nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES if instance == 0 && device.mig.is_empty() => {
                machine.busy_samples(device, last)
            }
            _ => return UNSUPPORTED,
        };
        if samples.is_empty() {
            return NOT_FOUND;
        }
        let sample =
            |(stamp, value)| nvmlSample_st { timeStamp: stamp, sampleValue: nvmlValue_t { uiVal: value } };
        // SAFETY: the caller's pointers.
        unsafe {
            put(value_type, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT);
            put_list(samples.into_iter().map(sample).collect(), to, count)
        }
    })
}

/// `nvmlDeviceGetProcessUtilization`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: nvmlDevice_t,
    to: *mut nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    last: c_ulonglong,
) -> nvmlReturn_t {
    with(device, |machine, device, instance| {
        if !device.per_process || instance > 0 || !device.mig.is_empty() {
            return UNSUPPORTED;
        }
        let uses = machine.uses(device, last);
        if uses.is_empty() {
            return NOT_FOUND;
        }
        let sample = |(pid, used): (u32, machine::Use)| nvmlProcessUtilizationSample_st {
            pid,
            timeStamp: used.timestamp,
            smUtil: used.sm.round() as c_uint,
            memUtil: 0,
            encUtil: used.enc.round() as c_uint,
            decUtil: used.dec.round() as c_uint,
        };
        // SAFETY: the caller's pointers.
        unsafe { put_list(uses.into_iter().map(sample).collect(), to, count) }
    })
}

/// The processes that use a device or an instance of it.
fn running(
    handle: nvmlDevice_t,
    graphics: bool,
    to: *mut nvmlProcessInfo_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    with(handle, |machine, device, instance| {
        let now = machine.now();
        let there = |p: &&Process| p.graphics == graphics && (p.from..p.to).contains(&now);
        let info = |p: &Process, instance: usize| nvmlProcessInfo_v2_st {
            pid: p.pid,
            usedGpuMemory: p.memory,
            gpuInstanceId: if instance > 0 { instance as u32 } else { u32::MAX },
            computeInstanceId: if instance > 0 { 0 } else { u32::MAX },
        };
        let list = match instance.checked_sub(1).and_then(|at| device.mig.get(at)) {
            Some(mig) => mig.processes.iter().filter(there).map(|p| info(p, instance)).collect(),
            None => device.processes.iter().filter(there).map(|p| info(p, 0)).collect(),
        };
        // SAFETY: the caller's pointers, as NVML documents them.
        unsafe { put_list(list, to, count) }
    })
}

/// `nvmlDeviceGetComputeRunningProcesses_v3`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    running(device, false, to, count)
}

/// `nvmlDeviceGetGraphicsRunningProcesses_v3`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    running(device, true, to, count)
}
