//! What the exported functions share: the machine, NVML's result codes, handles, and writes through the
//! caller's pointers.

use std::ffi::c_char;
use std::os::raw::c_uint;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nvml_wrapper_sys::bindings::*;

use crate::machine::{self, Machine};
use crate::scenario::Device;

pub(crate) const OK: nvmlReturn_t = nvmlReturn_enum_NVML_SUCCESS;
pub(crate) const UNINITIALIZED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_UNINITIALIZED;
pub(crate) const INVALID: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
pub(crate) const UNSUPPORTED: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
pub(crate) const NOT_FOUND: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
pub(crate) const TOO_SMALL: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
pub(crate) const LOST: nvmlReturn_t = nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;

static MACHINE: Mutex<Option<Machine>> = Mutex::new(None);

pub(crate) fn machine() -> MutexGuard<'static, Option<Machine>> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes through a caller's pointer, unless it is null.
///
/// # Safety
/// `to` is null or valid for a write of a `T`.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the caller of this function promises it.
        unsafe { to.write(value) };
    }
}

/// Writes text with its terminating zero.
///
/// # Safety
/// `to` has room for `room` bytes.
pub(crate) unsafe fn put_text(text: &str, to: *mut c_char, room: c_uint) -> nvmlReturn_t {
    if text.len() >= room as usize {
        return TOO_SMALL;
    }
    for (i, byte) in text.bytes().chain([0]).enumerate() {
        // SAFETY: `i` is at most the text's length, which is below `room`.
        unsafe { to.add(i).write(byte as c_char) };
    }
    OK
}

/// Writes a list, or its length only if there is no room for it.
///
/// # Safety
/// `count` is valid, and `to` is null or has room for `count` entries.
pub(crate) unsafe fn put_list<T>(list: Vec<T>, to: *mut T, count: *mut c_uint) -> nvmlReturn_t {
    // SAFETY: the caller of this function promises it.
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

/// A handle: the generation that gave it out, the instance plus one (0: the whole GPU), the device plus one.
pub(crate) fn handle(generation: u32, instance: usize, device: usize) -> nvmlDevice_t {
    (u64::from(generation) << 32 | (instance as u64) << 16 | device as u64) as usize as nvmlDevice_t
}

/// Calls `then` with the device of a handle and the number of its instance plus one (0: the whole GPU),
/// unless the device supports nothing but its name.
pub(crate) fn with(
    handle: nvmlDevice_t,
    then: impl FnOnce(&Machine, &Device, usize) -> nvmlReturn_t,
) -> nvmlReturn_t {
    with_any(handle, |machine, device, instance| match device.measures {
        true => then(machine, device, instance),
        false => UNSUPPORTED,
    })
}

/// The same for a function that all devices support.
pub(crate) fn with_any(
    handle: nvmlDevice_t,
    then: impl FnOnce(&Machine, &Device, usize) -> nvmlReturn_t,
) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref().filter(|m| m.users > 0) else { return UNINITIALIZED };
    let bits = handle as usize as u64;
    let (generation, instance, device) = ((bits >> 32) as u32, (bits >> 16 & 0xffff) as usize, bits & 0xffff);
    let device = (device as usize).checked_sub(1).and_then(|at| machine.scenario.devices.get(at));
    match device.filter(|_| generation == machine.generation) {
        Some(device) if machine::is_lost(device, machine.initialised, machine.now()) => LOST,
        Some(device) => {
            machine.wake(device);
            then(machine, device, instance)
        }
        None => INVALID,
    }
}
