//! What the kernel programs report of a process that exited, against what `wait4` says about it, and of one
//! that lives, against what it did. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use support::*;
use wattrace_common::process_stats::{LivingThread, ProcessStats};
use wattrace_sched::kernel::{Kernel, Options};
use wattrace_sched::requirements::Facts;

/// Set in the process under test.
const WORK: &str = "WATTRACE_TEST_WORK";
const THREADS: usize = 4;
const BYTES: usize = 1_000_000;

/// Does nothing unless the variable is set. Several threads use memory and write; the process exits while
/// they still wait, so that they exit all at once.
#[test]
fn child_whose_threads_write_and_wait() {
    if std::env::var(WORK).is_err() {
        return;
    }
    let (done, is_done) = mpsc::channel();
    for _ in 0..THREADS {
        let done = done.clone();
        std::thread::spawn(move || {
            let data = vec![1_u8; BYTES];
            File::create("/dev/null").unwrap().write_all(&data).unwrap();
            done.send(()).unwrap();
            loop {
                std::thread::park();
            }
        });
    }
    (0..THREADS).for_each(|_| is_done.recv().unwrap());
    std::process::exit(0);
}

/// Waits for a child. Returns what the kernel says that it used.
fn wait4(pid: u32) -> libc::rusage {
    // SAFETY: the arguments are valid for the call; zero is valid for plain data.
    unsafe {
        let (mut status, mut usage) = (0, std::mem::zeroed());
        assert_eq!(libc::wait4(pid as i32, &mut status, 0, &mut usage), pid as i32);
        assert_eq!(status, 0);
        usage
    }
}

/// The figures of the child that `command` starts, and its `rusage`.
fn run(kernel: &mut Kernel, command: &mut Command) -> (Option<ProcessStats>, libc::rusage) {
    let pid = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap().id();
    let usage = wait4(pid);
    let mut sum: Option<ProcessStats> = None;
    kernel.drain_log(monotonic(), |record| {
        if let Some(stats) = record.stats.filter(|_| record.event.pid == pid) {
            sum.get_or_insert_default().add(&stats);
        }
    });
    (sum, usage)
}

fn kernel() -> Kernel {
    let options = Options { process_stats: true, thread_exits: true, ..Options::of_cpus(cpus()) };
    Kernel::load(&options).unwrap()
}

/// Equal, but for what the process does from its exit event until it is gone.
fn assert_nearly(seen: u64, truth: i64, what: &str) {
    let truth = u64::try_from(truth).unwrap();
    assert!(seen <= truth && truth - seen <= 16, "{what}: {seen}, and the kernel says {truth}");
}

#[test]
fn an_exit_comes_with_what_the_process_used() {
    if !is_root() {
        return;
    }
    let mut command = Command::new("head");
    let (stats, usage) = run(&mut kernel(), command.args(["-c", "3000000", "/dev/zero"]));
    let stats = stats.unwrap();
    assert!((3_000_000..3_100_000).contains(&stats.io_read), "{stats:?}");
    assert!((3_000_000..3_100_000).contains(&stats.io_written), "{stats:?}");
    assert_nearly(stats.voluntary_switches, usage.ru_nvcsw, "voluntary switches");
    assert_nearly(stats.involuntary_switches, usage.ru_nivcsw, "involuntary switches");
    assert_nearly(stats.minor_faults, usage.ru_minflt, "minor faults");
    assert_nearly(stats.major_faults, usage.ru_majflt, "major faults");
    assert_eq!(stats.peak_rss_pages * 4, u64::try_from(usage.ru_maxrss).unwrap());
}

#[test]
fn threads_that_exit_at_once_are_all_counted() {
    if !is_root() {
        return;
    }
    let mut kernel = kernel();
    for _ in 0..10 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_whose_threads_write_and_wait"]).env(WORK, "1");
        let (stats, usage) = run(&mut kernel, &mut command);
        let stats = stats.unwrap();
        let bytes = (THREADS * BYTES) as u64;
        assert!((bytes..bytes + 10_000).contains(&stats.io_written), "{stats:?}");
        assert!(stats.minor_faults > bytes / 4096, "{stats:?}");
        assert!(stats.run_delay_ns > 0, "{stats:?}");
        assert_nearly(stats.minor_faults, usage.ru_minflt, "minor faults");
    }
}

/// The sum over the threads of `pid` that are listed; `None` if there is none.
fn living(kernel: &mut Kernel, pid: u32) -> Option<ProcessStats> {
    let mut sum: Option<ProcessStats> = None;
    let add = |thread: &LivingThread| {
        if thread.pid == pid {
            sum.get_or_insert_default().add(&thread.stats);
        }
    };
    kernel.living_threads(add).unwrap();
    sum
}

#[test]
fn all_threads_of_living_processes_are_listed_with_what_they_used() {
    if !is_root() {
        return;
    }
    let mut kernel = kernel();
    assert_eq!(kernel.lists_threads(), Facts::gather().btf);
    if !kernel.lists_threads() {
        return eprintln!("skipped: this kernel has no type information");
    }
    let (done, is_done) = mpsc::channel();
    let (begin, stop) = (std::sync::Barrier::new(THREADS + 1), std::sync::Barrier::new(THREADS + 1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (done, begin, stop) = (done.clone(), &begin, &stop);
            scope.spawn(move || {
                begin.wait();
                File::create("/dev/null").unwrap().write_all(&vec![1_u8; BYTES]).unwrap();
                // Barriers and channels may find what they wait for; whoever sleeps gives its CPU away.
                std::thread::sleep(Duration::from_millis(1));
                done.send(()).unwrap();
                stop.wait();
            });
        }
        let before = living(&mut kernel, std::process::id()).unwrap();
        begin.wait();
        (0..THREADS).for_each(|_| is_done.recv().unwrap());
        let after = living(&mut kernel, std::process::id()).unwrap();
        stop.wait();
        let (bytes, written) = ((THREADS * BYTES) as u64, after.io_written - before.io_written);
        assert!((bytes..bytes + 10_000).contains(&written), "{before:?} {after:?}");
        assert!(after.voluntary_switches >= before.voluntary_switches + THREADS as u64);
        assert_eq!(after.peak_rss_pages, 0);
    });
}

#[test]
fn a_process_that_has_exited_is_not_listed_before_its_parent_waits_for_it() {
    if !is_root() {
        return;
    }
    let mut kernel = kernel();
    let pid = Command::new("true").spawn().unwrap().id();
    // SAFETY: the arguments are valid for the call; zero is valid for plain data.
    let waited = unsafe {
        let mut info = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT)
    };
    assert_eq!((waited, living(&mut kernel, pid)), (0, None));
    wait4(pid);
}

#[test]
fn nothing_is_read_unless_it_is_asked_for() {
    if !is_root() {
        return;
    }
    let mut kernel = Kernel::load(&Options::of_cpus(cpus())).unwrap();
    let (stats, _) = run(&mut kernel, &mut Command::new("true"));
    assert_eq!((stats, living(&mut kernel, std::process::id())), (None, None));
}
