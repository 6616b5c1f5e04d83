//! The kernel programs on the running kernel. Needs root; says so and skips without it, and fails under CI=true.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

use std::time::{Duration, Instant};

use wattrace_sched::kernel::{Flush, Kernel};
use wattrace_sched::topology::Topology;

/// The loaded programs, or `None` with a word about it where we lack the permission.
fn kernel() -> Option<(Kernel, usize)> {
    // SAFETY: it has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "the privileged tests need root: sudo cargo xtask test"
        );
        eprintln!("skipped: loading eBPF programs needs root");
        return None;
    }
    let cpus = Topology::read("/sys".as_ref()).unwrap().package_of.len();
    Some((Kernel::load(cpus, 32).unwrap(), cpus))
}

fn flush_all(kernel: &Kernel, cpus: usize) -> Vec<usize> {
    (0..cpus).filter(|&cpu| kernel.flush(cpu).unwrap() == Flush::Closed).collect()
}

fn pin_to(cpu: usize) {
    // SAFETY: the set is plain data, initialised by the macros; the calls only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

fn spin(for_: Duration) {
    let start = Instant::now();
    while start.elapsed() < for_ {
        std::hint::spin_loop();
    }
}

#[test]
fn every_nanosecond_is_charged_once_while_processes_come_and_go() {
    let Some((mut kernel, cpus)) = kernel() else { return };
    let online = flush_all(&kernel, cpus);
    assert!(!online.is_empty());
    let mut ends: Vec<u64> = (0..cpus).map(|cpu| kernel.closed_page(cpu).0.end_ns).collect();
    let mut entries_seen = 0;
    for round in 0..40 {
        let children: Vec<_> =
            (0..8).map(|_| std::process::Command::new("/bin/true").spawn().unwrap()).collect();
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(|| spin(Duration::from_millis(1)))).collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        children.into_iter().for_each(|mut c| assert!(c.wait().unwrap().success()));
        flush_all(&kernel, cpus);
        for &cpu in &online {
            let (page, entries) = kernel.closed_page(cpu);
            let charged: u64 = entries.iter().map(|e| e.ns).sum();
            assert_eq!(page.start_ns, ends[cpu], "round {round}: a gap between the pages of CPU {cpu}");
            assert_eq!(
                page.idle_ns + page.overflow_ns + charged,
                page.end_ns - page.start_ns,
                "round {round}: the books of CPU {cpu} do not close: {page:?}"
            );
            ends[cpu] = page.end_ns;
            entries_seen += entries.len();
        }
    }
    assert!(entries_seen >= 40 * 8, "only {entries_seen} entries for 320 processes");
    assert!(kernel.switches() > 320);
}

#[test]
fn a_loop_that_never_yields_is_charged_at_every_flush() {
    let Some((mut kernel, _)) = kernel() else { return };
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let spinner = std::thread::spawn(move || {
        pin_to(0);
        // SAFETY: it has no preconditions.
        tell.send(unsafe { libc::gettid() } as u32).unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            std::hint::spin_loop();
        }
    });
    let tid = told.recv().unwrap();
    kernel.flush(0).unwrap();
    let mut outside = 0.0;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        kernel.flush(0).unwrap();
        let (page, entries) = kernel.closed_page(0);
        let window = page.end_ns - page.start_ns;
        let spun: u64 = entries.iter().filter(|e| e.tid == tid).map(|e| e.ns).sum();
        let others: u64 = entries.iter().filter(|e| e.tid != tid).map(|e| e.ns).sum();
        assert_eq!(spun + others + page.idle_ns, window);
        assert!(spun > 0, "a running slice was not charged");
        assert_eq!(page.idle_ns, 0, "a busy CPU is not idle");
        outside += others as f64 / window as f64;
    }
    drop(stop);
    spinner.join().unwrap();
    assert!(outside < 10.0, "{outside}");
}

#[test]
fn a_full_page_overflows_into_its_own_entry_and_the_books_still_close() {
    // SAFETY: it has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return assert!(std::env::var("CI").as_deref() != Ok("true"), "needs root");
    }
    let cpus = Topology::read("/sys".as_ref()).unwrap().package_of.len();
    // The smallest page: 256 entries.
    let mut kernel = Kernel::load(cpus, 0).unwrap();
    pin_to(0);
    kernel.flush(0).unwrap();
    for _ in 0..400 {
        std::process::Command::new("/bin/true").status().unwrap();
    }
    kernel.flush(0).unwrap();
    let (page, entries) = kernel.closed_page(0);
    assert_eq!(entries.len(), 256);
    assert!(page.overflow_count > 0 && page.overflow_ns > 0);
    let charged: u64 = entries.iter().map(|e| e.ns).sum();
    assert_eq!(page.idle_ns + page.overflow_ns + charged, page.end_ns - page.start_ns);
}
