//! Hardware counters: a perf event per CPU and counter, handed to the kernel programs in a map. What a
//! reading costs is measured first: where it traps into a hypervisor, it is a hundred times dearer than the
//! switch it is made at.

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::MapData;
use perf_event_open_sys as sys;
use serde::{Deserialize, Serialize};
use sys::bindings::{PERF_FLAG_FD_CLOEXEC, PERF_TYPE_HARDWARE, PERF_TYPE_SOFTWARE, perf_event_attr};
use wattrace_common::counters::{CACHE_MISSES, CYCLES, INSTRUCTIONS};

use super::{KernelError, refused};

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
    /// Its place among the counts of a ledger's entry.
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

    /// perf's type and number of it.
    fn event(self, simulated: bool) -> (u32, u32) {
        let hardware = match self {
            _ if simulated => return (PERF_TYPE_SOFTWARE, sys::bindings::PERF_COUNT_SW_CPU_CLOCK),
            Counter::Cycles => sys::bindings::PERF_COUNT_HW_CPU_CYCLES,
            Counter::Instructions => sys::bindings::PERF_COUNT_HW_INSTRUCTIONS,
            Counter::CacheMisses => sys::bindings::PERF_COUNT_HW_CACHE_MISSES,
        };
        (PERF_TYPE_HARDWARE, hardware)
    }

    /// Opens it on `cpu`, for whatever runs there.
    fn open(self, cpu: usize, simulated: bool) -> std::io::Result<OwnedFd> {
        let (kind, number) = self.event(simulated);
        let mut attr = perf_event_attr {
            type_: kind,
            size: size_of::<perf_event_attr>() as u32,
            config: number.into(),
            ..Default::default()
        };
        // SAFETY: `attr` is valid for the call; the result is checked.
        let fd = unsafe { sys::perf_event_open(&mut attr, -1, cpu as i32, -1, PERF_FLAG_FD_CLOEXEC.into()) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the call just gave us this descriptor.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// Counters that count while this is kept, in maps that must be there when programs are loaded.
#[derive(Debug, Default)]
pub(super) struct Installed {
    open: Vec<OwnedFd>,
    maps: Vec<MapData>,
}

/// Opens `counters` on every CPU that is online and hands them to the kernel programs. They count while the
/// result is kept. Simulated ones count nanoseconds.
///
/// # Errors
/// The machine or the hypervisor has no such counter, or we lack the permission.
pub(super) fn install(
    ebpf: &mut Ebpf,
    counters: &[Counter],
    simulated: bool,
    cpus: usize,
) -> Result<Installed, KernelError> {
    let mut installed = Installed::default();
    for &counter in counters {
        let name = counter.map();
        let map: MapData = match ebpf.take_map(name) {
            Some(aya::maps::Map::PerfEventArray(map)) => map,
            _ => return Err(refused(format!("find the map {name} in the eBPF object"))("it is missing")),
        };
        for cpu in 0..cpus {
            let fd = match counter.open(cpu, simulated) {
                Ok(fd) => fd,
                // The CPU is offline: what runs there later has time, but no counts.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) && cpu > 0 => continue,
                Err(e) => return Err(none(counter, &e)),
            };
            put(&map, cpu as u32, &fd).map_err(refused(format!("put a counter into {name}")))?;
            installed.open.push(fd);
        }
        installed.maps.push(map);
    }
    Ok(installed)
}

fn none(counter: Counter, error: &std::io::Error) -> KernelError {
    let (found, remedy) = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => (
            "no permission to open it".to_owned(),
            "run as root, or give the binary cap_perfmon, or take it out of plugins.sched.counters",
        ),
        _ => (
            format!("none ({error})"),
            "take it out of plugins.sched.counters; a virtual machine has counters only if its host passes them on",
        ),
    };
    KernelError::Requirement {
        what: format!("a hardware counter for {counter:?}"),
        found,
        remedy: remedy.into(),
    }
}

/// `bpf(BPF_MAP_UPDATE_ELEM)`: aya puts only perf buffers of its own into such a map.
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
    // SAFETY: `update` is laid out as the kernel's attributes for this command, and what it points to lives
    // through the call.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_ELEM, &raw const update, size_of::<Update>()) };
    if done < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
