//! Helpers of the tests of the kernel programs.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wattrace_sched::kernel::{Counter, Flush, Kernel, KernelMemory, Options, PageView, PerfEvent};
use wattrace_sched::requirements::Facts;
use wattrace_topology::Topology;

/// Whether this is root. If not, says that the test is skipped, or fails in CI.
pub(crate) fn is_root() -> bool {
    // SAFETY: it has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        return true;
    }
    let ci = std::env::var("CI").as_deref() == Ok("true");
    assert!(!ci, "the privileged tests need root: sudo cargo xtask test");
    eprintln!("skipped: loading eBPF programs needs root");
    false
}

/// Whether QEMU emulates the CPUs. Those of x86 say so. Those of Arm bear the names of real ones, and the
/// board has to tell: on a machine that is virtual but not emulated, that gives more tolerance than it takes.
pub(crate) fn is_emulated() -> bool {
    let says = |file: &str, what: &str| {
        std::fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(what))
    };
    says("/proc/cpuinfo", "QEMU TCG") || says("/proc/device-tree/compatible", "linux,dummy-virt")
}

/// The number of possible CPUs.
pub(crate) fn cpus() -> usize {
    Topology::read("/sys".as_ref()).unwrap().package_of.len()
}

/// Whether programs may read text in the kernel's memory: `lockdown=confidentiality` forbids it.
pub(crate) fn reads_kernel_memory() -> bool {
    Facts::gather().kernel_memory == Some(KernelMemory::All)
}

/// `options` with the kernel's type information, and without it where that is possible.
pub(crate) fn each_way(options: &Options) -> Vec<Options> {
    let ways: &[bool] = if reads_kernel_memory() { &[true, false] } else { &[true] };
    ways.iter().map(|&typed| Options { typed, ..options.clone() }).collect()
}

/// Counters that count nanoseconds of perf's clock, for machines without such hardware.
pub(crate) fn simulated<const N: usize>(counters: [Counter; N]) -> Vec<(Counter, PerfEvent)> {
    const CPU_CLOCK: PerfEvent = PerfEvent { kind: 1, config: [0; 3] };
    counters.map(|counter| (counter, CPU_CLOCK)).to_vec()
}

/// Flushes all CPUs; returns those that are online.
pub(crate) fn flush_all(kernel: &Kernel, cpus: usize) -> Vec<usize> {
    (0..cpus).filter(|&cpu| kernel.flush(cpu).unwrap() == Flush::Closed).collect()
}

/// Asserts that the charges of the page sum to the time that it covers.
pub(crate) fn assert_balanced(cpu: usize, view: &PageView<'_>) {
    let page = &view.page;
    let charged: u64 = view.entries.iter().map(|e| e.ns).sum();
    assert_eq!(
        page.idle_ns + page.irq_ns + page.overflow_ns + charged,
        page.end_ns - page.start_ns,
        "the ledger of CPU {cpu} does not balance: {page:?}"
    );
}

/// `CLOCK_MONOTONIC`, ns.
pub(crate) fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Binds the calling thread to `cpu`.
pub(crate) fn pin_to(cpu: usize) {
    // SAFETY: the set is plain data, initialised by the macros; the calls only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

/// Uses a CPU for the given time.
pub(crate) fn spin(for_: Duration) {
    let start = Instant::now();
    while start.elapsed() < for_ {
        std::hint::spin_loop();
    }
}

/// A thread that uses a CPU without yielding, until it is dropped.
pub(crate) struct Spinner {
    /// Its id.
    pub(crate) tid: u32,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Spinner {
    /// One on `cpu`, where it runs when this returns.
    pub(crate) fn on(cpu: usize) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let (started, tid) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            pin_to(cpu);
            // SAFETY: it has no preconditions.
            started.send(unsafe { libc::gettid() } as u32).unwrap();
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                std::hint::spin_loop();
            }
        });
        Self { tid: tid.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.take();
        let joined = self.thread.take().unwrap().join();
        assert!(joined.is_ok() || std::thread::panicking());
    }
}

/// Where cgroup v2 is mounted.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.find(|fields| fields[2] == "cgroup2").map(|fields| fields[1].into())
}

/// `CAP_PERFMON`
pub(crate) const CAP_PERFMON: u32 = 38;
/// `CAP_BPF`
pub(crate) const CAP_BPF: u32 = 39;

/// Makes the calling process run as nobody with `capabilities` only, also after an exec.
pub(crate) fn become_nobody_with(capabilities: &[u32]) -> std::io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const NOBODY: u32 = 65534;
    let check = |result: libc::c_long| match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    let header = Header { version: 0x2008_0522, pid: 0 };
    let mut data = [Data { effective: 0, permitted: 0, inheritable: 0 }; 2];
    for capability in capabilities {
        let (word, bit) = ((capability / 32) as usize, 1 << (capability % 32));
        data[word] = Data {
            effective: data[word].effective | bit,
            permitted: data[word].permitted | bit,
            inheritable: data[word].inheritable | bit,
        };
    }
    // SAFETY: system calls on plain data that outlives them.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        check(libc::setgroups(0, std::ptr::null()).into())?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY).into())?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY).into())?;
        check(libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()))?;
        for &capability in capabilities {
            check(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0).into())?;
        }
    }
    Ok(())
}
