//! What the cases read from the machine: time, memory, allocations; and a pipeline to put elements into.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::runtime::{Builder, Runtime};
use wattrace_api::{Clock, Host, Registry, Setup};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this process so far.
pub(crate) fn allocations() -> u64 {
    ALLOCATIONS.load(Relaxed)
}

/// Nanoseconds on a clock: wall time, or CPU time of a process.
pub(crate) fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    assert_eq!(unsafe { libc::clock_gettime(id, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A line of `/proc/self/status`, in MB.
pub(crate) fn memory(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_or(f64::NAN, |kib: f64| kib * 1024.0 / 1e6)
}

/// Keeps this process, threads to come included, on one CPU.
pub(crate) fn stay_on_one_cpu() {
    // SAFETY: the set is plain data, initialised by the macros; the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

/// Like the agent's.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}

/// A host with the elements that `declare` adds, as those of the plugin `bench`.
pub(crate) fn host(runtime: &Runtime, declare: impl FnOnce(&mut Setup)) -> Host {
    let mut host = Host::new(Registry::new(), Clock::system(), runtime.handle().clone());
    let start = |setup: &mut Setup| {
        declare(setup);
        Ok(())
    };
    host.start("bench", start).expect("declaring elements cannot fail");
    host
}

/// A descriptor that is always readable: a source that has it as its wake-up descriptor is polled as fast as
/// its batches are accepted.
pub(crate) fn always_readable() -> OwnedFd {
    // SAFETY: the flags are valid; the result is checked before it is owned.
    unsafe {
        let event = libc::eventfd(1, libc::EFD_CLOEXEC);
        assert!(event >= 0, "eventfd: {}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(event)
    }
}

/// Says whether a target was met.
pub(crate) fn target(what: &str, is: f64, met: bool) {
    println!("    {what}: {is:.3}: {}", if met { "met" } else { "MISSED" });
}
