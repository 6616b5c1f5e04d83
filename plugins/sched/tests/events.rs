//! A perf event that is counted per process, against what `wait4` says about it. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::process::{Command, Stdio};

use support::*;
use wattrace_sched::kernel::{Counter, Kernel, Options, PerfEvent};

/// Set in the process under test.
const WORK: &str = "WATTRACE_TEST_WORK";
const PAGES: u64 = 2_000;

/// `page-faults`: a software event, which every machine has.
const PAGE_FAULTS: PerfEvent = PerfEvent { kind: 1, config: [2, 0, 0] };

/// Does nothing unless the variable is set: uses some memory.
#[test]
fn child_that_touches_pages() {
    if std::env::var(WORK).is_ok() {
        std::hint::black_box(vec![1_u8; PAGES as usize * 4096]);
        std::process::exit(0);
    }
}

#[test]
fn page_faults_are_counted_for_the_process_that_caused_them() {
    if !is_root() {
        return;
    }
    let counters = vec![(Counter::CacheMisses, PAGE_FAULTS)];
    let mut kernel = Kernel::load(&Options { counters, ..Options::of_cpus(cpus()) }).unwrap();
    flush_all(&kernel, cpus());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_touches_pages"]).env(WORK, "1").stdout(Stdio::null());
    let pid = command.spawn().unwrap().id();
    // SAFETY: the arguments are valid for the call; zero is valid for plain data.
    let usage = unsafe {
        let (mut status, mut usage): (_, libc::rusage) = (0, std::mem::zeroed());
        assert_eq!(libc::wait4(pid as i32, &mut status, 0, &mut usage), pid as i32);
        usage
    };
    flush_all(&kernel, cpus());
    let mut faults = 0;
    for cpu in 0..cpus() {
        let view = kernel.closed_page(cpu);
        let entries = view.entries.iter().zip(view.counts);
        faults += entries.filter(|(entry, _)| entry.pid == pid).map(|(_, counts)| counts[2]).sum::<u64>();
    }
    let truth = (usage.ru_minflt + usage.ru_majflt) as u64;
    assert!(faults >= PAGES && faults.abs_diff(truth) <= truth / 50, "{faults}, and the kernel says {truth}");
}
