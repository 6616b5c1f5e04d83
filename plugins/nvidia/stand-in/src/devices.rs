//! NVML's functions to initialise the library and to find the devices and their MIG instances. `machine.rs`
//! has the state; `readings.rs` exports the functions that read a device.

use std::ffi::{CStr, c_char};
use std::os::raw::c_uint;
use std::sync::atomic::Ordering::Relaxed;

use nvml_wrapper_sys::bindings::*;

use crate::abi::{
    INVALID, NOT_FOUND, OK, UNINITIALIZED, UNSUPPORTED, handle, machine, put, put_text, with, with_any,
};
use crate::machine::{Machine, is_lost};
use crate::monitoring::SAMPLES;

/// `nvmlInit_v2`, which attaches all devices, and so wakes them.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    let result = initialise();
    if let Some(machine) = machine().as_ref() {
        machine.scenario.devices.iter().for_each(|device| machine.wake(device));
    }
    result
}

/// `nvmlInitWithFlags`, of which only the flag not to attach devices is known.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(flags: c_uint) -> nvmlReturn_t {
    if flags & NVML_INIT_FLAG_NO_ATTACH == 0 { nvmlInit_v2() } else { initialise() }
}

fn initialise() -> nvmlReturn_t {
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
        machine.visible = there.filter(|(_, d)| !is_lost(d, now, now)).map(|(at, _)| at).collect();
    }
    OK
}

/// `nvmlShutdown`. The last one writes how many samples nobody has freed beside the clock's file.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    match machine().as_mut() {
        Some(machine) if machine.users > 0 => {
            machine.users -= 1;
            if machine.users == 0 {
                let left = SAMPLES.load(Relaxed).to_string();
                _ = std::fs::write(format!("{}.samples", machine.scenario.clock), left);
            }
            OK
        }
        _ => UNINITIALIZED,
    }
}

/// `nvmlSystemGetDriverVersion`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, room: c_uint) -> nvmlReturn_t {
    match machine().as_ref() {
        // SAFETY: the caller says how much room there is.
        Some(machine) => unsafe { put_text(&machine.scenario.driver, version, room) },
        None => UNINITIALIZED,
    }
}

/// `nvmlDeviceGetCount_v2`.
///
/// # Safety
/// As NVML documents it.
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
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut nvmlDevice_t) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref() else { return UNINITIALIZED };
    let Some(&device) = machine.visible.get(index as usize) else { return INVALID };
    machine.wake(&machine.scenario.devices[device]);
    // SAFETY: the caller's pointer.
    unsafe { put(to, handle(machine.generation, 0, device + 1)) };
    OK
}

/// `nvmlDeviceGetHandleByPciBusId_v2`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(
    address: *const c_char,
    to: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref() else { return UNINITIALIZED };
    // SAFETY: the caller's string.
    let address = unsafe { CStr::from_ptr(address) }.to_string_lossy();
    let is = |device: &&usize| machine.scenario.devices[**device].pci == address;
    let Some(&device) = machine.visible.iter().find(is) else { return NOT_FOUND };
    machine.wake(&machine.scenario.devices[device]);
    // SAFETY: the caller's pointer.
    unsafe { put(to, handle(machine.generation, 0, device + 1)) };
    OK
}

/// `nvmlDeviceGetPciInfo_v3`. The bus id is as long as NVIDIA's, with eight digits of the domain.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    to: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    with(device, |_, device, _| {
        if device.pci.is_empty() {
            return UNSUPPORTED;
        }
        // SAFETY: a structure of numbers, for which zero is a value.
        let mut info: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        let text = format!("0000{}", device.pci.to_uppercase());
        for (to, byte) in info.busId.iter_mut().zip(text.bytes().take(31)) {
            *to = byte as c_char;
        }
        // SAFETY: the caller's pointer.
        unsafe { put(to, info) };
        OK
    })
}

/// `nvmlDeviceGetUUID`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> nvmlReturn_t {
    with(device, |_, device, instance| {
        let mig = instance.checked_sub(1).and_then(|at| device.mig.get(at));
        // SAFETY: the caller says how much room there is.
        unsafe { put_text(mig.map_or(&device.uuid, |mig| &mig.uuid), to, room) }
    })
}

/// `nvmlDeviceGetName`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller says how much room there is.
    with_any(device, |_, device, _| unsafe { put_text(&device.name, to, room) })
}

/// `nvmlDeviceGetMigMode`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    with(device, |_, device, _| {
        if !device.mig_mode {
            return UNSUPPORTED;
        }
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
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nvmlDevice_t,
    count: *mut c_uint,
) -> nvmlReturn_t {
    // SAFETY: the caller's pointer. NVIDIA's GPUs have up to seven instances; not all indices are in use.
    with(device, |_, _, _| unsafe {
        put(count, 7);
        OK
    })
}

/// `nvmlDeviceGetMigDeviceHandleByIndex`.
///
/// # Safety
/// As NVML documents it.
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
