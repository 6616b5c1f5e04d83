//! A device's memory by process: of the whole device, or of each of its MIG instances.

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use wattrace_api::Timestamp;
use wattrace_gpu::ProcessUsage;

use crate::session::is_lost;

/// Whether a device is partitioned into MIG instances.
pub(crate) fn has_instances(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current != 0)
}

/// Adds the memory that each process holds to `usage`. Returns whether the device supports the question.
///
/// # Errors
/// The library's: the device is lost, or the error is temporary.
pub(crate) fn read(
    device: &Device<'_>,
    instances: bool,
    now: Timestamp,
    usage: &mut ProcessUsage,
) -> Result<bool, NvmlError> {
    if !instances {
        return read_one(device, now, usage);
    }
    let mut supported = false;
    for index in 0..device.mig_device_count()? {
        match device.mig_device_by_index(index) {
            Ok(instance) => supported |= read_one(&instance, now, usage)?,
            Err(e) if is_lost(&e) => return Err(e),
            // No instance has this index.
            Err(_) => {}
        }
    }
    Ok(supported)
}

fn read_one(device: &Device<'_>, now: Timestamp, usage: &mut ProcessUsage) -> Result<bool, NvmlError> {
    let mut held = BTreeMap::<u32, u64>::new();
    let mut supported = false;
    for list in [device.running_compute_processes(), device.running_graphics_processes()] {
        match list {
            Ok(processes) => {
                supported = true;
                processes.iter().for_each(|process| add(process, &mut held));
            }
            Err(e) if is_lost(&e) => return Err(e),
            Err(NvmlError::NotSupported) => {}
            Err(e) => return Err(e),
        }
    }
    held.into_iter().for_each(|(pid, bytes)| usage.add_memory(pid, bytes, now));
    Ok(supported)
}

/// A process that both draws and computes is in both lists with the same memory.
fn add(process: &ProcessInfo, held: &mut BTreeMap<u32, u64>) {
    if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
        let most = held.entry(process.pid).or_default();
        *most = (*most).max(bytes);
    }
}
