//! The functions of NVML that the plugin calls, by the names and with the layouts of NVIDIA's library. What
//! each returns is the business of `machine.rs`.
#![expect(non_upper_case_globals, reason = "NVML's own names")]

use std::ffi::c_char;
use std::os::raw::{c_uint, c_ulonglong};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nvml_wrapper_sys::bindings::*;

use crate::machine::{self, Machine};
use crate::scenario::{Device, Process};

const OK: nvmlReturn_t = nvmlReturn_enum_NVML_SUCCESS;
const UNINITIALIZED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_UNINITIALIZED;
const INVALID: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const UNSUPPORTED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
const NOT_FOUND: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
const TOO_SMALL: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
const LOST: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;

static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);

fn machine() -> MutexGuard<'static, Option<Machine>> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes through a caller's pointer.
///
/// # Safety
/// `to` is null or a valid place for a `T`.
unsafe fn put<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: by this function's own contract.
        unsafe { to.write(value) };
    }
}

/// Writes text and its end.
///
/// # Safety
/// `to` has room for `room` bytes.
unsafe fn put_text(text: &str, to: *mut c_char, room: c_uint) -> nvmlReturn_t {
    if text.len() >= room as usize {
        return TOO_SMALL;
    }
    for (i, byte) in text.bytes().chain([0]).enumerate() {
        // SAFETY: `i` is at most the text's length, which is below `room`.
        unsafe { to.add(i).write(byte as c_char) };
    }
    OK
}

/// Writes a list, or how long it is if there is no room for it.
///
/// # Safety
/// `count` is valid, and `to` is null or has room for as many entries as it says.
unsafe fn put_list<T>(list: Vec<T>, to: *mut T, count: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: by this function's own contract.
    let room = unsafe { count.read() } as usize;
    // SAFETY: the same.
    unsafe { count.write(list.len() as c_uint) };
    if list.is_empty() {
        return OK;
    }
    if to.is_null() || room < list.len() {
        return TOO_SMALL;
    }
    for (i, entry) in list.into_iter().enumerate() {
        // SAFETY: `i` is below the list's length, which is at most `room`.
        unsafe { to.add(i).write(entry) };
    }
    OK
}

/// A handle: the generation it was given out in, an instance plus one (0: the whole GPU), a device plus one.
fn handle(generation: u32, instance: usize, device: usize) -> nvmlDevice_t {
    (u64::from(generation) << 32 | (instance as u64) << 16 | device as u64) as usize as nvmlDevice_t
}

/// Calls `then` with the device of a handle and the number of its instance plus one.
fn with(handle: nvmlDevice_t, then: impl FnOnce(&Machine, &Device, usize) -> nvmlReturn_t) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref().filter(|m| m.users > 0) else { return UNINITIALIZED };
    let bits = handle as usize as u64;
    let (generation, instance, device) = ((bits >> 32) as u32, (bits >> 16 & 0xffff) as usize, bits & 0xffff);
    let device = (device as usize).checked_sub(1).and_then(|at| machine.scenario.devices.get(at));
    match device.filter(|_| generation == machine.generation) {
        Some(device) if machine::is_lost(device, machine.initialised, machine.now()) => LOST,
        Some(device) => then(machine, device, instance),
        None => INVALID,
    }
}

/// `nvmlInit_v2`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    let mut slot = machine();
    if slot.is_none() {
        *slot = Machine::load();
    }
    let Some(machine) = slot.as_mut() else { return nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED };
    machine.users += 1;
    if machine.users == 1 {
        machine.generation += 1;
        let now = machine.now();
        machine.initialised = now;
        let there = machine.scenario.devices.iter().enumerate();
        machine.visible = there.filter(|(_, d)| !machine::is_lost(d, now, now)).map(|(at, _)| at).collect();
    }
    OK
}

/// `nvmlShutdown`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    match machine().as_mut() {
        Some(machine) if machine.users > 0 => {
            machine.users -= 1;
            OK
        }
        _ => UNINITIALIZED,
    }
}

/// `nvmlSystemGetDriverVersion`.
///
/// # Safety
/// As NVML documents it; so for all that follow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, room: c_uint) -> nvmlReturn_t {
    match machine().as_ref() {
        // SAFETY: the caller says that there is so much room.
        Some(machine) => unsafe { put_text(&machine.scenario.driver, version, room) },
        None => UNINITIALIZED,
    }
}

/// `nvmlDeviceGetCount_v2`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref() else { return UNINITIALIZED };
    // SAFETY: the caller's pointer.
    unsafe { put(count, machine.visible.len() as c_uint) };
    OK
}

/// `nvmlDeviceGetHandleByIndex_v2`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut nvmlDevice_t) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref() else { return UNINITIALIZED };
    let Some(&device) = machine.visible.get(index as usize) else { return INVALID };
    // SAFETY: the caller's pointer.
    unsafe { put(to, handle(machine.generation, 0, device + 1)) };
    OK
}

/// `nvmlDeviceGetUUID`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> nvmlReturn_t {
    with(device, |_, device, instance| {
        let mig = instance.checked_sub(1).and_then(|at| device.mig.get(at));
        // SAFETY: the caller says that there is so much room.
        unsafe { put_text(mig.map_or(&device.uuid, |mig| &mig.uuid), to, room) }
    })
}

/// `nvmlDeviceGetName`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller says that there is so much room.
    with(device, |_, device, _| unsafe { put_text(&device.name, to, room) })
}

/// `nvmlDeviceGetTotalEnergyConsumption`.
///
/// # Safety
/// See above.
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
/// See above.
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
/// See above.
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
/// See above.
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

/// The processes that are on a device or an instance of it.
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
/// See above.
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
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    running(device, true, to, count)
}

/// `nvmlDeviceGetMigMode`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    with(device, |_, device, _| {
        let mode = c_uint::from(!device.mig.is_empty());
        // SAFETY: the caller's pointers.
        unsafe {
            put(current, mode);
            put(pending, mode);
        }
        OK
    })
}

/// `nvmlDeviceGetMaxMigDeviceCount`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller's pointer. Seven is what NVIDIA's have; the places need not be taken.
    with(device, |_, _, _| unsafe {
        put(count, 7);
        OK
    })
}

/// `nvmlDeviceGetMigDeviceHandleByIndex`.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    to: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    with(device, |machine, found, _| {
        if index as usize >= found.mig.len() {
            return NOT_FOUND;
        }
        let number = device as usize & 0xffff;
        // SAFETY: the caller's pointer.
        unsafe { put(to, handle(machine.generation, index as usize + 1, number)) };
        OK
    })
}
