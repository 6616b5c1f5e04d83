//! NVML's functions for context (temperature, clocks, memory), and for the use of MIG instances (GPU
//! performance monitoring). `machine.rs` computes the values.
#![expect(non_upper_case_globals, reason = "NVML's own names")]

use std::os::raw::c_uint;
use std::sync::atomic::{AtomicUsize, Ordering};

use nvml_wrapper_sys::bindings::*;

use crate::abi::{INVALID, OK, UNINITIALIZED, UNSUPPORTED, machine, put, with};

/// Samples that are not freed.
pub(crate) static SAMPLES: AtomicUsize = AtomicUsize::new(0);

/// Where the caller keeps a sample: the device and instance it is of, and when it was taken.
struct Sample {
    device: usize,
    instance: usize,
    at: f64,
}

/// `nvmlDeviceGetTemperature`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: nvmlTemperatureSensors_t,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with(device, |_, device, _| {
        if device.temperature == 0 {
            return UNSUPPORTED;
        }
        // SAFETY: the caller's pointer.
        unsafe { put(to, device.temperature) };
        OK
    })
}

/// `nvmlDeviceGetClockInfo`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetClockInfo(
    device: nvmlDevice_t,
    clock: nvmlClockType_t,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with(device, |_, device, _| {
        let megahertz = match clock {
            nvmlClockType_enum_NVML_CLOCK_SM => device.clocks.0,
            nvmlClockType_enum_NVML_CLOCK_MEM => device.clocks.1,
            _ => return UNSUPPORTED,
        };
        // SAFETY: the caller's pointer.
        unsafe { put(to, megahertz) };
        OK
    })
}

/// `nvmlDeviceGetMemoryInfo_v2`: 80 GiB, and what the processes hold.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    to: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    with(device, |machine, device, _| {
        let now = machine.now();
        let all = device.processes.iter().chain(device.mig.iter().flat_map(|mig| &mig.processes));
        let used = all.filter(|p| (p.from..p.to).contains(&now)).map(|p| p.memory).sum();
        let total = 80 << 30;
        // SAFETY: the caller's pointer.
        unsafe { put(to, nvmlMemory_v2_st { version: 2, total, reserved: 0, free: total - used, used }) };
        OK
    })
}

/// `nvmlDeviceGetAttributes_v2`, of an instance.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    to: *mut nvmlDeviceAttributes_t,
) -> nvmlReturn_t {
    with(device, |_, device, instance| {
        let Some(mig) = instance.checked_sub(1).and_then(|at| device.mig.get(at)) else { return UNSUPPORTED };
        // SAFETY: a structure of numbers, for which zero is a value.
        let mut attributes: nvmlDeviceAttributes_t = unsafe { std::mem::zeroed() };
        attributes.gpuInstanceSliceCount = mig.slices;
        // SAFETY: the caller's pointer.
        unsafe { put(to, attributes) };
        OK
    })
}

/// `nvmlDeviceGetGpuInstanceId`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, to: *mut c_uint) -> nvmlReturn_t {
    with(device, |_, _, instance| {
        if instance == 0 {
            return INVALID;
        }
        // SAFETY: the caller's pointer.
        unsafe { put(to, instance as c_uint) };
        OK
    })
}

/// `nvmlGpmQueryDeviceSupport`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmQueryDeviceSupport(
    device: nvmlDevice_t,
    to: *mut nvmlGpmSupport_t,
) -> nvmlReturn_t {
    with(device, |_, device, _| {
        // SAFETY: the caller's pointer.
        unsafe { put(to, nvmlGpmSupport_t { version: 1, isSupportedDevice: device.gpm.into() }) };
        OK
    })
}

/// `nvmlGpmSampleAlloc`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleAlloc(to: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    SAMPLES.fetch_add(1, Ordering::Relaxed);
    let sample = Box::into_raw(Box::new(Sample { device: 0, instance: 0, at: 0.0 }));
    // SAFETY: the caller's pointer.
    unsafe { put(to, sample.cast()) };
    OK
}

/// `nvmlGpmSampleFree`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    SAMPLES.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: the sample is from `nvmlGpmSampleAlloc`, and freed once.
    drop(unsafe { Box::from_raw(sample.cast::<Sample>()) });
    OK
}

/// `nvmlGpmMigSampleGet`.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmMigSampleGet(
    device: nvmlDevice_t,
    instance: c_uint,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    let number = (device as usize & 0xffff).wrapping_sub(1);
    with(device, |machine, device, _| {
        if !device.gpm || instance == 0 || instance as usize > device.mig.len() {
            return UNSUPPORTED;
        }
        let taken = Sample { device: number, instance: instance as usize - 1, at: machine.now() };
        // SAFETY: the sample is from `nvmlGpmSampleAlloc`.
        unsafe { sample.cast::<Sample>().write(taken) };
        OK
    })
}

/// `nvmlGpmMetricsGet`, of the use of multiprocessors.
///
/// # Safety
/// As NVML documents it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    let machine = machine();
    let Some(machine) = machine.as_ref() else { return UNINITIALIZED };
    // SAFETY: the caller's structure, with samples from `nvmlGpmSampleAlloc`.
    let (first, second) =
        unsafe { (&*(*request).sample1.cast::<Sample>(), &*(*request).sample2.cast::<Sample>()) };
    // SAFETY: the same.
    let request = unsafe { &mut *request };
    let Some(device) = machine.scenario.devices.get(first.device) else { return INVALID };
    for metric in request.metrics.iter_mut().take(request.numMetrics as usize) {
        metric.nvmlReturn = if metric.metricId == nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL {
            metric.value = machine.instance_use(device, first.instance, first.at, second.at);
            OK
        } else {
            UNSUPPORTED
        };
    }
    OK
}
