//! A device's memory by process: of the whole device, or of each of its instances if it is cut into such
//! (MIG).

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use wattrace_api::Timestamp;
use wattrace_gpu::Users;

use crate::session::is_lost;

/// Whether a device is cut into instances.
pub(crate) fn has_instances(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current != 0)
}

/// Tells `users` who holds how much of `device`. Returns whether anybody could be asked.
///
/// # Errors
/// That the device is lost, or the library's in a passing trouble.
pub(crate) fn read(
    device: &Device<'_>,
    instances: bool,
    now: Timestamp,
    users: &mut Users,
) -> Result<bool, NvmlError> {
    if !instances {
        return read_one(device, now, users);
    }
    let mut asked = false;
    for index in 0..device.mig_device_count()? {
        match device.mig_device_by_index(index) {
            Ok(instance) => asked |= read_one(&instance, now, users)?,
            Err(e) if is_lost(&e) => return Err(e),
            // A place for an instance that is not taken.
            Err(_) => {}
        }
    }
    Ok(asked)
}

fn read_one(device: &Device<'_>, now: Timestamp, users: &mut Users) -> Result<bool, NvmlError> {
    let mut held = BTreeMap::<u32, u64>::new();
    let mut asked = false;
    for list in [device.running_compute_processes(), device.running_graphics_processes()] {
        match list {
            Ok(processes) => {
                asked = true;
                processes.iter().for_each(|process| note(process, &mut held));
            }
            Err(e) if is_lost(&e) => return Err(e),
            Err(NvmlError::NotSupported) => {}
            Err(e) => return Err(e),
        }
    }
    held.into_iter().for_each(|(pid, bytes)| users.holds(pid, bytes, now));
    Ok(asked)
}

/// Who both draws and computes is listed twice with the same memory.
fn note(process: &ProcessInfo, held: &mut BTreeMap<u32, u64>) {
    if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
        let most = held.entry(process.pid).or_default();
        *most = (*most).max(bytes);
    }
}
