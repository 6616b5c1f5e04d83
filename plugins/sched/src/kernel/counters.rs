//! Hardware counters: opens a perf event per CPU and counter, and hands them to the kernel programs in a map.
//! Whether a counter is worth its cost is decided in `open.rs`: reading one that traps into a hypervisor
//! costs a hundred times as much as the switch at which it is read.

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::MapData;
use perf_event_open_sys as sys;
use serde::{Deserialize, Serialize};
use sys::bindings::{PERF_FLAG_FD_CLOEXEC, PERF_TYPE_HARDWARE, perf_event_attr};
use wattrace_common::counters::{CACHE_MISSES, CYCLES, INSTRUCTIONS};

use super::error::{KernelError, failed, not_found};

/// What can be counted per process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counter {
    /// CPU cycles while not halted.
    Cycles,
    /// Instructions retired.
    Instructions,
    /// Misses of the last-level cache.
    CacheMisses,
}

impl Counter {
    /// Its position among the counts of a ledger entry.
    pub fn position(self) -> usize {
        (match self {
            Counter::Cycles => CYCLES,
            Counter::Instructions => INSTRUCTIONS,
            Counter::CacheMisses => CACHE_MISSES,
        }) as usize
    }

    fn map(self) -> &'static str {
        match self {
            Counter::Cycles => "CYCLES",
            Counter::Instructions => "INSTRUCTIONS",
            Counter::CacheMisses => "CACHE_MISSES",
        }
    }

    /// The perf event that counts it.
    pub fn event(self) -> PerfEvent {
        let number = match self {
            Counter::Cycles => sys::bindings::PERF_COUNT_HW_CPU_CYCLES,
            Counter::Instructions => sys::bindings::PERF_COUNT_HW_INSTRUCTIONS,
            Counter::CacheMisses => sys::bindings::PERF_COUNT_HW_CACHE_MISSES,
        };
        PerfEvent { kind: PERF_TYPE_HARDWARE, config: [number.into(), 0, 0] }
    }
}

/// An event that `perf_event_open` counts. Tests count another than the counter's own where there is no such
/// hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfEvent {
    /// Its `type`.
    pub kind: u32,
    /// Its `config`, `config1` and `config2`.
    pub config: [u64; 3],
}

impl PerfEvent {
    /// Opens it on `cpu`, for all threads that run there.
    fn open(self, cpu: usize) -> std::io::Result<OwnedFd> {
        let [config, config1, config2] = self.config;
        let mut attr = perf_event_attr {
            type_: self.kind,
            size: size_of::<perf_event_attr>() as u32,
            config,
            ..Default::default()
        };
        attr.__bindgen_anon_3.config1 = config1;
        attr.__bindgen_anon_4.config2 = config2;
        // SAFETY: `attr` is valid for the call; the result is checked.
        let fd = unsafe { sys::perf_event_open(&mut attr, -1, cpu as i32, -1, PERF_FLAG_FD_CLOEXEC.into()) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the call has just returned this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Counters that run while this is kept, and their maps, which must exist when programs are loaded.
#[derive(Debug, Default)]
pub struct Installed {
    open: Vec<OwnedFd>,
    maps: Vec<MapData>,
}

/// Opens `counters` on every online CPU and hands them to the programs of `ebpf`, which reads each from the
/// map of its name. They count while the result is kept.
///
/// # Errors
/// The machine or the hypervisor has no such counter, or there is no permission to use it.
pub fn install(
    ebpf: &mut Ebpf,
    counters: &[(Counter, PerfEvent)],
    cpus: usize,
) -> Result<Installed, KernelError> {
    let mut installed = Installed::default();
    for &(counter, event) in counters {
        let name = counter.map();
        let step = || format!("put a counter into the map {name}");
        let Some(aya::maps::Map::PerfEventArray(map)) = ebpf.take_map(name) else {
            return Err(not_found(step(), "the eBPF object has no such map"));
        };
        for cpu in 0..cpus {
            let fd = match event.open(cpu) {
                Ok(fd) => fd,
                // The CPU is offline. Threads that run there later have time, but no counts.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) && cpu > 0 => continue,
                Err(e) => return Err(unavailable(counter, event, &e)),
            };
            put(&map, cpu as u32, &fd).map_err(failed(step()))?;
            installed.open.push(fd);
        }
        installed.maps.push(map);
    }
    Ok(installed)
}

fn unavailable(counter: Counter, event: PerfEvent, error: &std::io::Error) -> KernelError {
    let (found, remedy) = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => (
            "no permission to open it".to_owned(),
            "run as root, or give the binary cap_perfmon, or remove it from plugins.sched.counters or \
             plugins.sched.events",
        ),
        _ => (
            format!("none ({error})"),
            "remove it from plugins.sched.counters or plugins.sched.events; a virtual machine has counters \
             only if its host provides them",
        ),
    };
    let what = match event == counter.event() {
        true => format!("a hardware counter for {counter:?}"),
        false => format!("a counter of perf's event type {}, code {:#x}", event.kind, event.config[0]),
    };
    KernelError::Requirement { what, found, remedy: remedy.into() }
}

/// `bpf(BPF_MAP_UPDATE_ELEM)`. aya puts only its own perf buffers into such a map.
fn put(map: &MapData, cpu: u32, counter: &OwnedFd) -> std::io::Result<()> {
    #[repr(C, align(8))]
    struct Update {
        map: u32,
        _pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
    let value = counter.as_raw_fd();
    let update = Update {
        map: map.fd().as_fd().as_raw_fd() as u32,
        _pad: 0,
        key: &raw const cpu as u64,
        value: &raw const value as u64,
        flags: 0,
    };
    // SAFETY: `update` has the layout of the kernel's attributes for this command, and what it points to
    // outlives the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const update, size_of::<Update>()) };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
