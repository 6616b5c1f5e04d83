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

/// Who holds memory of a device.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Whether the device supports the question.
    pub(crate) supported: bool,
    /// By instance, if it has instances: those of which somebody holds memory.
    pub(crate) instances: Vec<Holders>,
}

/// The processes that hold memory of an instance.
#[derive(Debug)]
pub(crate) struct Holders {
    pub(crate) instance: u32,
    /// How many of the device's parts the instance has.
    pub(crate) slices: u32,
    pub(crate) pids: Vec<u32>,
}

/// Adds the memory that each process holds to `usage`.
///
/// # Errors
/// The library's: the device is lost, or the error is temporary.
pub(crate) fn read(
    device: &Device<'_>,
    instances: bool,
    now: Timestamp,
    usage: &mut ProcessUsage,
) -> Result<Held, NvmlError> {
    let mut held = Held::default();
    if !instances {
        held.supported = read_one(device, now, usage)?.is_some();
        return Ok(held);
    }
    for index in 0..device.mig_device_count()? {
        match device.mig_device_by_index(index) {
            Ok(part) => {
                let Some(pids) = read_one(&part, now, usage)? else { continue };
                held.supported = true;
                let Some(instance) = instance(&part).filter(|_| !pids.is_empty()) else { continue };
                // An instance may be divided again: its use is known as a whole only.
                match held.instances.iter_mut().find(|holders| holders.instance == instance) {
                    Some(holders) => holders.pids.extend(pids),
                    None => {
                        let slices = part.attributes().map_or(1, |a| a.gpu_instance_slice_count.max(1));
                        held.instances.push(Holders { instance, slices, pids });
                    }
                }
            }
            Err(e) if is_lost(&e) => return Err(e),
            // No instance has this index.
            Err(_) => {}
        }
    }
    for holders in &mut held.instances {
        holders.pids.sort_unstable();
        holders.pids.dedup();
    }
    Ok(held)
}

/// The number of the instance that a MIG device belongs to.
fn instance(part: &Device<'_>) -> Option<u32> {
    let mut id = 0;
    let function = part.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref().ok()?;
    // SAFETY: the handle is of this library, and `id` is a valid place to write to.
    let result = unsafe { function(part.handle(), &raw mut id) };
    (result == nvml_wrapper_sys::bindings::nvmlReturn_enum_NVML_SUCCESS).then_some(id)
}

/// Adds the memory of one device or instance. Returns who holds it, sorted; `None`: it does not say.
fn read_one(
    device: &Device<'_>,
    now: Timestamp,
    usage: &mut ProcessUsage,
) -> Result<Option<Vec<u32>>, NvmlError> {
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
    let pids = held.keys().copied().collect();
    held.into_iter().for_each(|(pid, bytes)| usage.add_memory(pid, bytes, now));
    Ok(supported.then_some(pids))
}

/// A process that both draws and computes is in both lists with the same memory.
fn add(process: &ProcessInfo, held: &mut BTreeMap<u32, u64>) {
    if let UsedGpuMemory::Used(bytes) = process.used_gpu_memory {
        let most = held.entry(process.pid).or_default();
        *most = (*most).max(bytes);
    }
}
