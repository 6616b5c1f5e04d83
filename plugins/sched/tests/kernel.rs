//! Tests the kernel programs on the running kernel. They need root: without it they are skipped, or fail if
//! CI=true.
//!
//! The tests see the whole machine, on which other processes come and go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may panic: that is how tests fail"
)]

mod support;

use std::cell::Cell;
use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use support::*;
use wattrace_common::ledger::Entry;
use wattrace_common::log::EventKind;
use wattrace_sched::kernel::{Flush, Kernel, KernelMemory, LogRecord, Options};

/// Locked for reading by tests that need all CPUs to stay online, and for writing by the one that takes a CPU
/// offline.
static CPUS: RwLock<()> = RwLock::new(());

/// Runs `work` and flushes all CPUs, `rounds` times. Every page must balance and begin where the last one
/// ended. `see` gets every entry.
fn watch(
    options: &Options,
    mut work: impl FnMut(usize),
    rounds: usize,
    mut see: impl FnMut(usize, &Entry),
) -> Kernel {
    let _cpus_stay_online = CPUS.read().unwrap_or_else(PoisonError::into_inner);
    let cpus = options.siblings.len();
    let mut kernel = Kernel::load(options).unwrap();
    let online = flush_all(&kernel, cpus);
    assert!(!online.is_empty());
    let mut ends: Vec<u64> = (0..cpus).map(|cpu| kernel.closed_page(cpu).page.end_ns).collect();
    for round in 0..rounds {
        work(round);
        flush_all(&kernel, cpus);
        for &cpu in &online {
            let view = kernel.closed_page(cpu);
            assert_eq!(view.page.start_ns, ends[cpu], "round {round}: a gap between the pages of CPU {cpu}");
            assert_balanced(cpu, &view);
            ends[cpu] = view.page.end_ns;
            view.entries.iter().for_each(|entry| see(cpu, entry));
        }
    }
    kernel
}

#[test]
fn every_nanosecond_is_charged_once_while_processes_come_and_go() {
    if !is_root() {
        return;
    }
    for options in each_way(&Options::of_cpus(cpus())) {
        let mut entries = 0;
        let work = |_| {
            let children: Vec<_> = (0..8).map(|_| Command::new("/bin/true").spawn().unwrap()).collect();
            let spin = || spin(Duration::from_millis(1));
            let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(spin)).collect();
            threads.into_iter().for_each(|t| t.join().unwrap());
            children.into_iter().for_each(|mut c| assert!(c.wait().unwrap().success()));
        };
        let kernel = watch(&options, work, 20, |_, _| entries += 1);
        assert!(entries >= 20 * 8, "only {entries} entries for 160 processes");
        assert!(kernel.switches() > 160);
    }
}

#[test]
fn a_loop_that_never_yields_is_charged_at_every_flush() {
    if !is_root() {
        return;
    }
    for options in each_way(&Options::of_cpus(cpus())) {
        let mut kernel = Kernel::load(&options).unwrap();
        let spinner = Spinner::on(0);
        kernel.flush(0).unwrap();
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(100));
            kernel.flush(0).unwrap();
            let view = kernel.closed_page(0);
            assert_balanced(0, &view);
            let spun: u64 = view.entries.iter().filter(|e| e.tid == spinner.tid).map(|e| e.ns).sum();
            assert!(spun > 0, "a running slice was not charged");
            // Part of the program may have to be read back from disk, and an emulated CPU stops at times.
            let (idle, window) = (view.page.idle_ns, view.page.end_ns - view.page.start_ns);
            let most = window / if is_emulated() { 2 } else { 50 };
            assert!(idle < most, "a busy CPU is not idle: {idle} of {window} ns");
        }
    }
}

#[test]
fn a_full_page_overflows_into_its_own_entry_and_still_balances() {
    if !is_root() {
        return;
    }
    // The smallest page: 256 entries.
    let mut kernel = Kernel::load(&Options { memory_mib: 0, ..Options::of_cpus(cpus()) }).unwrap();
    pin_to(0);
    kernel.flush(0).unwrap();
    kernel.take_wakeup();
    for _ in 0..400 {
        Command::new("/bin/true").status().unwrap();
    }
    kernel.flush(0).unwrap();
    assert!(kernel.wakeup_error().is_none(), "root may use perf");
    assert!(kernel.take_wakeup(), "the kernel wakes the reader when three quarters of a page are full");
    let view = kernel.closed_page(0);
    assert_eq!(view.entries.len(), 256);
    assert!(view.page.overflow_count > 0 && view.page.overflow_ns > 0);
    assert_balanced(0, &view);
}

/// The records about one process.
fn records_of(records: &[LogRecord], pid: u32) -> Vec<&LogRecord> {
    records.iter().filter(|t| t.event.pid == pid).collect()
}

#[test]
fn fork_exec_and_exit_are_logged_in_order_and_with_all_details() {
    if !is_root() {
        return;
    }
    for options in each_way(&Options { command_lines: true, ..Options::of_cpus(cpus()) }) {
        let mut kernel = Kernel::load(&options).unwrap();
        let before = monotonic();
        let mut child = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        let (pid, after) = (child.id(), monotonic());
        let mut records = Vec::new();
        kernel.drain_log(after, |record| records.push(record.clone()));
        assert!(records.is_sorted_by_key(|t| t.event.at_ns));
        let of_child = records_of(&records, pid);
        let kinds: Vec<_> = of_child.iter().map(|t| t.event.kind).collect();
        assert_eq!(kinds, [EventKind::Fork as u32, EventKind::Exec as u32, EventKind::Exit as u32]);
        let [fork, exec, exit] = of_child[..] else { unreachable!() };
        assert_eq!(fork.event.parent_pid, std::process::id());
        assert_eq!((&fork.event.start, &exec.event.start), (&exit.event.start, &exit.event.start));
        assert_eq!(exit.event.wait_status, 7 << 8);
        assert!((before..after).contains(&fork.event.at_ns) && (before..after).contains(&exit.event.at_ns));
        assert_eq!(&exec.event.comm[..3], b"sh\0");
        if !reads_kernel_memory() {
            assert_eq!((&*exec.path, &*exec.arguments), (&b""[..], &b""[..]), "they are looked up");
        } else if options.typed {
            assert_eq!(exec.path, b"/bin/sh");
            assert_eq!(exec.arguments, b"/bin/sh\0-c\0exit 7\0");
        }
        assert_eq!(kernel.events_lost(), 0);
    }
}

#[test]
fn events_that_were_overwritten_are_counted_and_the_latest_are_kept() {
    if !is_root() {
        return;
    }
    // The smallest ring: 256 events.
    let mut kernel = Kernel::load(&Options { memory_mib: 0, ..Options::of_cpus(cpus()) }).unwrap();
    pin_to(0);
    let mut last = 0;
    for _ in 0..300 {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        (last, _) = (child.id(), child.wait().unwrap());
    }
    let mut records = Vec::new();
    kernel.drain_log(monotonic(), |record| records.push(record.clone()));
    assert!(kernel.events_lost() >= 900 - 257, "{} of at least 900 lost", kernel.events_lost());
    assert_eq!(records_of(&records, last).last().unwrap().event.kind, EventKind::Exit as u32);
    // The ring works as before.
    let lost = kernel.events_lost();
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    records.clear();
    kernel.drain_log(monotonic(), |record| records.push(record.clone()));
    assert!(records_of(&records, child.id()).len() >= 3 && kernel.events_lost() == lost);
}

/// A process whose main thread exits while another one runs for 60 ms more and exits the process with status
/// 5.
fn spawn_thread_that_outlives_its_leader() -> u32 {
    // SAFETY: the child does no more than spin in a thread and exit; the C library makes fork safe for its
    // allocator.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        std::thread::spawn(|| {
            spin(Duration::from_millis(60));
            // SAFETY: ends the process without running anything else in it.
            unsafe { libc::_exit(5) }
        });
        // SAFETY: ends only this thread.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    pid as u32
}

#[test]
fn a_thread_that_outlives_its_leader_still_counts_for_the_process() {
    if !is_root() {
        return;
    }
    let pid = Cell::new(0);
    let mut by_tid: HashMap<u32, u64> = HashMap::new();
    let mut records = Vec::new();
    let see = |_, entry: &Entry| {
        if entry.pid == pid.get() {
            *by_tid.entry(entry.tid).or_default() += entry.ns;
        }
    };
    let work = |round| {
        if round == 0 {
            pid.set(spawn_thread_that_outlives_its_leader());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut kernel = watch(&Options::of_cpus(cpus()), work, 6, see);
    let (pid, mut status) = (pid.get(), 0);
    // SAFETY: waits for our own child.
    assert_eq!(unsafe { libc::waitpid(pid as i32, &mut status, 0) }, pid as i32);
    kernel.drain_log(monotonic(), |record| records.push(record.clone()));
    assert!(by_tid.iter().any(|(&tid, &ns)| tid != pid && ns > 10_000_000), "{by_tid:?}");
    let exits: Vec<_> =
        records_of(&records, pid).into_iter().filter(|t| t.event.kind == EventKind::Exit as u32).collect();
    assert_eq!(exits.len(), 1, "the process ends with its last thread");
    assert_eq!(exits[0].event.wait_status, status as u32);
}

#[test]
fn time_with_a_busy_sibling_is_accounted_separately() {
    if !is_root() {
        return;
    }
    // Two CPUs are declared to share a core, whether they do or not.
    let mut options = Options::of_cpus(cpus());
    if options.siblings.len() < 2 {
        return eprintln!("skipped: this machine has one CPU");
    }
    options.siblings[0] = Some(1);
    options.siblings[1] = Some(0);
    let mut kernel = Kernel::load(&options).unwrap();
    // CPU 0 is never idle, so its threads shared the core for as long as CPU 1 was busy, whatever ran on
    // either.
    let _spinner = Spinner::on(0);
    for with_sibling in [true, false, true] {
        let sibling = with_sibling.then(|| Spinner::on(1));
        kernel.flush(1).unwrap();
        kernel.flush(0).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        kernel.flush(1).unwrap();
        kernel.flush(0).unwrap();
        drop(sibling);
        let page = kernel.closed_page(1).page;
        let (window, busy) = (page.end_ns - page.start_ns, page.end_ns - page.start_ns - page.idle_ns);
        let view = kernel.closed_page(0);
        // The two pages do not cover exactly the same time.
        let apart = page.start_ns.abs_diff(view.page.start_ns) + page.end_ns.abs_diff(view.page.end_ns);
        // An emulated CPU may stop for long between two readings of a clock.
        let apart = apart + view.page.idle_ns + if is_emulated() { window / 2 } else { 0 };
        assert_balanced(0, &view);
        assert!(view.entries.iter().all(|entry| entry.shared_ns <= entry.ns));
        let shared: u64 = view.entries.iter().map(|entry| entry.shared_ns).sum();
        assert!(shared.abs_diff(busy) < window / 20 + apart, "{shared} ns shared, CPU 1 was busy for {busy}");
        let least = if is_emulated() { window / 2 } else { window / 10 * 9 };
        assert!(!with_sibling || busy > least, "{busy} of {window}");
    }
}

#[test]
fn interrupts_are_accounted_separately_from_the_task_that_they_interrupt() {
    if !is_root() {
        return;
    }
    let options = Options { separate_irq: true, ..Options::of_cpus(cpus()) };
    let mut kernel = Kernel::load(&options).unwrap();
    let spinner = Spinner::on(0);
    kernel.flush(0).unwrap();
    let (mut irq, mut spun) = (0, 0);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(40));
        kernel.flush(0).unwrap();
        let view = kernel.closed_page(0);
        assert_balanced(0, &view);
        irq += view.page.irq_ns;
        spun += view.entries.iter().filter(|e| e.tid == spinner.tid).map(|e| e.ns).sum::<u64>();
    }
    assert!(irq > 0, "the timer alone interrupts a busy CPU");
    // An emulated CPU may stop for long within an interrupt.
    let least = if is_emulated() { 0 } else { irq };
    assert!(spun > least, "{irq} ns of interrupts, {spun} ns of work");
}

#[test]
fn the_path_of_a_cgroup_is_known_after_it_is_removed() {
    if !is_root() {
        return;
    }
    let Some(root) = cgroup2() else { return eprintln!("skipped: no cgroup v2 is mounted") };
    if !reads_kernel_memory() {
        return eprintln!("skipped: paths of new cgroups are looked up under lockdown=confidentiality");
    }
    let options = Options::of_cpus(cpus());
    let mut kernel = Kernel::load(&options).unwrap();
    let name = format!("wattrace-test-{}", std::process::id());
    let dir = root.join(&name);
    std::fs::create_dir(&dir).unwrap();
    let procs = dir.join("cgroup.procs");
    let mut command = Command::new("/bin/true");
    // SAFETY: one write to a file, which allocates nothing that a fork could have broken.
    unsafe { command.pre_exec(move || std::fs::write(&procs, "0")) };
    let mut child = command.spawn().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir(&dir).unwrap();
    let mut records = Vec::new();
    kernel.drain_log(monotonic(), |record| records.push(record.clone()));
    let made = records
        .iter()
        .find(|r| r.path.ends_with(name.as_bytes()))
        .expect("the creation of the cgroup is logged");
    assert_eq!(made.event.kind, EventKind::Cgroup as u32);
    let exit = records_of(&records, child.id()).pop().unwrap();
    assert_eq!(exit.event.cgroup, made.event.cgroup, "the kernel knew where it ran");
}

/// The difference allowed between two measurements of `ns` that are taken one after the other.
fn tolerance(ns: u64) -> u64 {
    if is_emulated() { ns / 10 + 1_000_000 } else { ns / 50 + 200_000 }
}

#[test]
fn counters_are_charged_to_the_thread_that_ran() {
    if !is_root() {
        return;
    }
    use wattrace_sched::Counter::{CacheMisses, Cycles};
    // Simulated counters count nanoseconds: as many as the thread ran.
    let counters = simulated([Cycles, CacheMisses]);
    for options in each_way(&Options { counters, ..Options::of_cpus(cpus()) }) {
        let (mut ns, mut counted) = (0, 0);
        let mut kernel = Kernel::load(&options).unwrap();
        let cost = kernel.counter_cost().unwrap();
        let most = if is_emulated() { 10_000_000 } else { 50_000 };
        assert!((5..most).contains(&cost), "{cost} ns");
        let spinner = Spinner::on(0);
        kernel.flush(0).unwrap();
        let began = Instant::now();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(30));
            kernel.flush(0).unwrap();
            let view = kernel.closed_page(0);
            assert_balanced(0, &view);
            assert_eq!(view.counts.len(), view.entries.len());
            for (entry, counts) in view.entries.iter().zip(view.counts) {
                if entry.tid == spinner.tid {
                    (ns, counted) = (ns + entry.ns, counted + counts[0]);
                    assert_eq!(counts[1], 0, "instructions are not counted");
                    assert!(
                        counts[2].abs_diff(counts[0]) < counts[0] / 10 + 1_000_000,
                        "{counts:?}: one clock"
                    );
                }
            }
        }
        // On an emulated CPU much time passes between a reading of the clock and one of the counters, at each
        // switch, whoever runs.
        let span = if is_emulated() { began.elapsed().as_nanos() as u64 } else { ns };
        assert!(ns.abs_diff(counted) < tolerance(span), "{counted} counted in {ns} ns of {span} ns");
    }
}

#[test]
fn counters_count_what_a_thread_does() {
    if !is_root() {
        return;
    }
    use wattrace_sched::Counter::{Cycles, Instructions};
    let counters = [Cycles, Instructions].map(|counter| (counter, counter.event())).to_vec();
    let options = Options { counters, ..Options::of_cpus(cpus()) };
    let mut kernel = match Kernel::load(&options) {
        Ok(kernel) => kernel,
        Err(e) => return eprintln!("skipped, this machine has no counters: {e}"),
    };
    assert!(kernel.counter_cost().unwrap() > 0);
    let work = Spinner::on(0);
    kernel.flush(0).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    kernel.flush(0).unwrap();
    let view = kernel.closed_page(0);
    assert_balanced(0, &view);
    assert_eq!(view.counts.len(), view.entries.len());
    let mine = view.entries.iter().zip(view.counts).find(|(e, _)| e.tid == work.tid).unwrap();
    let (ns, cycles, instructions) = (mine.0.ns as f64, mine.1[0] as f64, mine.1[1] as f64);
    assert!((0.3..8.0).contains(&(cycles / ns)), "{cycles} cycles in {ns} ns");
    assert!((0.01..8.0).contains(&(instructions / cycles)), "{instructions} in {cycles} cycles");
    assert_eq!(mine.1[2], 0, "cache misses are not counted");
}

#[test]
fn a_cpu_may_go_offline_and_come_back() {
    if !is_root() {
        return;
    }
    let _no_other_test = CPUS.write().unwrap_or_else(PoisonError::into_inner);
    let last = cpus() - 1;
    let switch = format!("/sys/devices/system/cpu/cpu{last}/online");
    // The CPUs of this machine are in use by others. Those of the virtual machines are not.
    if last < 3 || std::fs::write(&switch, "1").is_err() {
        return eprintln!("skipped: CPU {last} is needed, or cannot be taken offline");
    }
    let mut kernel = Kernel::load(&Options::of_cpus(cpus())).unwrap();
    assert_eq!(kernel.flush(last).unwrap(), Flush::Closed);
    let begun = kernel.closed_page(last).page.end_ns;
    let spinner = Spinner::on(last);
    std::fs::write(&switch, "0").unwrap();
    assert_eq!(kernel.flush(last).unwrap(), Flush::Offline);
    let (open, slice_start) = kernel.open_page(last).unwrap();
    let ran: u64 = open.entries.iter().filter(|e| e.tid == spinner.tid).map(|e| e.ns).sum();
    let charged: u64 = open.entries.iter().map(|e| e.ns).sum::<u64>() + open.page.idle_ns;
    assert!(ran > 0, "it ran there until it was migrated");
    assert_eq!(begun + charged, slice_start, "everything is charged until the CPU went offline");
    std::fs::write(&switch, "1").unwrap();
    assert_eq!(kernel.flush(last).unwrap(), Flush::Closed);
    let view = kernel.closed_page(last);
    assert_balanced(last, &view);
    assert_eq!(view.page.start_ns, begun, "its page covers the time offline, which is idle");
    assert!(view.page.end_ns - view.page.start_ns <= monotonic() - begun);
}

/// Set in a process whose limit of locked memory is low.
const LIMITED: &str = "WATTRACE_TEST_LIMITED";

#[test]
fn a_low_limit_of_locked_memory_is_lifted_before_the_kernel_is_tried() {
    let tried = || wattrace_sched::requirements::Facts::gather().kernel_memory;
    if std::env::var_os(LIMITED).is_some() {
        assert!(matches!(tried(), Some(KernelMemory::All | KernelMemory::Typed)), "{:?}", tried());
        return;
    }
    if !is_root() {
        return;
    }
    let mut command = Command::new("/proc/self/exe");
    let name = "a_low_limit_of_locked_memory_is_lifted_before_the_kernel_is_tried";
    command.args(["--exact", name, "--nocapture"]).env(LIMITED, "1");
    let limit_to_a_page = || {
        let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
        // SAFETY: `limit` is valid for the call.
        match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: only a system call.
    unsafe { command.pre_exec(limit_to_a_page) };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Set in a process that has only the capabilities under test.
const CAPABLE: &str = "WATTRACE_TEST_CAPABLE";

#[test]
fn two_capabilities_are_enough() {
    if std::env::var_os(CAPABLE).is_some() {
        let cpus = cpus();
        let mut kernel = Kernel::load(&Options { separate_irq: true, ..Options::of_cpus(cpus) }).unwrap();
        flush_all(&kernel, cpus);
        spin(Duration::from_millis(5));
        for cpu in flush_all(&kernel, cpus) {
            assert_balanced(cpu, &kernel.closed_page(cpu));
        }
        kernel.drain_log(monotonic(), |_| {});
        return;
    }
    if !is_root() {
        return;
    }
    // It may not lift the limit itself.
    wattrace_bpf::lift_memlock_limit();
    // Not by its path, which the user nobody may not be allowed to access.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "two_capabilities_are_enough", "--nocapture"]).env(CAPABLE, "1");
    // SAFETY: only system calls.
    unsafe { command.pre_exec(|| become_nobody_with(&[CAP_PERFMON, CAP_BPF])) };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
