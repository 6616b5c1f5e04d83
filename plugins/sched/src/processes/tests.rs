//! Tests the table of processes with scripted entries and events.

use std::time::Duration;

use wattrace_api::process_stats::ALL;
use wattrace_api::{MetricId, Resource, metric};

use super::*;
use crate::reader::quantity;
use crate::usage::Metrics;

struct Table {
    registry: Arc<Registry>,
    processes: Processes,
}

impl Table {
    fn new() -> Self {
        let registry = Registry::new();
        let metric = registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
        let metrics = only_time(metric);
        let clock = Clock::manual(Timestamp(1_000_000_000));
        let groups = [0, 1].map(|n| CpuGroup { resource: Resource::package(n), metrics });
        Self {
            registry: registry.clone(),
            processes: Processes::new(registry, clock, 1, groups.into(), Details::default()),
        }
    }

    /// Begins the next pass, which is `millis` after the last one.
    fn pass_after(&mut self, millis: u64) {
        self.processes.begin_pass(Timestamp(self.processes.pass.0 + millis * 1_000_000));
    }

    fn charge(&mut self, entry: &Entry, page_start: u64, package: usize) {
        _ = self.processes.charge(entry, &time(entry.ns), page_start, &[package]);
    }

    fn emit(&mut self, last: bool) -> Batch {
        let mut batch = Batch::default();
        self.processes.emit(Timestamp(0), last, &mut batch);
        batch
    }

    /// (pid, package, ns) of every point.
    fn points(&self, batch: &Batch) -> Vec<(String, String, u64)> {
        let mut all = Vec::new();
        for (id, value) in batch.segments().flat_map(|s| s.points().collect::<Vec<_>>()) {
            let series = self.registry.get(id).unwrap();
            let pid = series.consumer.as_ref().unwrap().identity().id.to_string();
            all.push((pid, series.resource.id.to_string(), value.steps()));
        }
        all
    }
}

/// No process has so high a pid, so /proc does not have it.
const PID: u32 = 99_999_999;

/// Groups emit CPU time alone, as this metric.
fn only_time(metric: MetricId) -> Metrics {
    let mut metrics = Metrics::default();
    metrics[quantity::TIME] = Some(metric);
    metrics
}

/// A use of `ns` of CPU time.
fn time(ns: u64) -> Quantities {
    let mut used = Quantities::default();
    used[quantity::TIME] = ns;
    used
}

fn event(pid: u32, start: u64) -> Event {
    Event {
        kind: 0,
        pid,
        start,
        at_ns: 500,
        parent_pid: 1,
        wait_status: 0,
        parent_start: 1,
        cgroup: 0,
        path: 0,
        comm: comm_bytes("sh"),
        uid: 0,
        reserved: 0,
    }
}

fn entry(tid: u32, pid: u32, start: u64, ns: u64) -> Entry {
    let comm = comm_bytes("sh");
    Entry { tid, pid, thread_start: start, process_start: start, cgroup: 0, ns, comm, shared_ns: 0 }
}

#[test]
fn time_that_is_charged_to_a_core_is_emitted_per_core_too() {
    let registry = Registry::new();
    let metrics = |metric| only_time(registry.metric(metric).unwrap());
    let groups = vec![
        CpuGroup { resource: Resource::package(0), metrics: metrics(&metric::CONSUMER_CPU_TIME) },
        CpuGroup { resource: Resource::core(0), metrics: metrics(&metric::CONSUMER_CORE_TIME) },
        CpuGroup { resource: Resource::core(2), metrics: metrics(&metric::CONSUMER_CORE_TIME) },
    ];
    let clock = Clock::manual(Timestamp(1_000_000_000));
    let mut t = Table {
        registry: registry.clone(),
        processes: Processes::new(registry, clock, 1, groups, Details::default()),
    };
    t.pass_after(1000);
    for (core, ns) in [(1, 10), (2, 20), (1, 5)] {
        t.processes.charge(&entry(PID, PID, 7, ns), &time(ns), 0, &[0, core]);
    }
    let batch = t.emit(false);
    let of = |resource: &str| t.points(&batch).into_iter().find(|p| p.1 == resource).map(|p| p.2);
    assert_eq!([of("0"), of("cpu-0"), of("cpu-2")], [Some(35), Some(15), Some(20)]);
}

#[test]
fn a_process_has_the_user_of_its_parent_until_an_exec_changes_it() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.processes.forked(&Event { uid: 1000, ..event(PID, 7) });
    let user = |t: &Table| {
        let process = t.processes.all.iter().next().unwrap().1;
        let attributes = process.usage.consumer.attributes();
        attributes.iter().find(|a| a.key == "process.real_user.id").unwrap().value.to_string()
    };
    assert_eq!(user(&t), "1000");
    t.processes.executed(&Event { uid: 33, ..event(PID, 7) }, b"/bin/true", b"");
    assert_eq!(user(&t), "33");
}

#[test]
fn threads_sum_to_their_process_per_package() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.processes.forked(&event(PID, 7));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.charge(&entry(PID + 1, PID, 7, 5), 0, 0);
    t.charge(&entry(PID + 1, PID, 7, 3), 0, 1);
    let batch = t.emit(false);
    let pid = PID.to_string();
    assert_eq!(t.points(&batch), [(pid.clone(), "0".into(), 15), (pid.clone(), "1".into(), 3)]);

    t.pass_after(1000);
    t.charge(&entry(PID, PID, 7, 1), 0, 1);
    let batch = t.emit(false);
    assert_eq!(t.points(&batch), [(pid, "1".into(), 4)], "only what changed, cumulative");
    assert!(t.emit(false).is_empty());
}

#[test]
fn the_last_slice_after_exit_is_charged_before_the_end() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.processes.forked(&event(PID, 7));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.processes.exited(&Event { wait_status: 3 << 8, ..event(PID, 7) }, None);
    let batch = t.emit(false);
    assert!(batch.ended().is_empty(), "it ran in this pass, so a slice may be outstanding");
    // The kernel preempts it for some passes before the last slice.
    for _ in 0..9 {
        t.pass_after(100);
        assert!(t.emit(false).ended().is_empty());
    }
    t.charge(&entry(PID, PID, 7, 2), 0, 0);
    let batch = t.emit(false);
    assert_eq!(t.points(&batch), [(PID.to_string(), "0".into(), 12)], "of the same series");
    assert!(batch.ended().is_empty());
    t.pass_after(1000);
    let batch = t.emit(false);
    assert_eq!((batch.len(), batch.ended().len()), (0, 1));
    let consumer = t.registry.get(batch.ended()[0]).unwrap().consumer.clone().unwrap();
    assert_eq!(consumer.attribute("process.exit.code"), Some(3i64.into()));
    assert_eq!(consumer.end_unix_nano(), Some(500));
    assert_eq!(t.processes.len(), 0);
}

#[test]
fn a_reused_pid_is_another_process() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.processes.forked(&event(PID, 7));
    t.processes.forked(&event(PID, 8));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.charge(&entry(PID, PID, 8, 20), 0, 0);
    let batch = t.emit(false);
    let ns: Vec<_> = t.points(&batch).into_iter().map(|p| p.2).collect();
    assert_eq!(ns, [10, 20]);
}

#[test]
fn exec_changes_the_name_and_not_the_identity() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.processes.forked(&event(PID, 7));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    let first = t.emit(false);
    let exec = Event { comm: comm_bytes("true"), ..event(PID, 7) };
    t.processes.executed(&exec, b"/bin/true", b"");
    t.pass_after(1000);
    let mut charged = entry(PID, PID, 7, 1);
    charged.comm = comm_bytes("true");
    t.charge(&charged, 0, 0);
    let second = t.emit(false);
    let id = |b: &Batch| b.segments().next().unwrap().series[0];
    assert_eq!(id(&first), id(&second));
    let consumer = t.registry.get(id(&first)).unwrap().consumer.clone().unwrap();
    assert_eq!(consumer.attribute("process.executable.path"), Some("/bin/true".into()));
    assert_eq!(consumer.attribute("process.executable.name"), Some("true".into()));
}

#[test]
fn an_entry_begun_before_an_exec_does_not_bring_the_old_name_back() {
    let name_after = |page_start| {
        let mut t = Table::new();
        t.pass_after(1000);
        t.processes.forked(&event(PID, 7));
        let exec = Event { comm: comm_bytes("true"), at_ns: 500, ..event(PID, 7) };
        t.processes.executed(&exec, b"/bin/true", b"");
        t.charge(&entry(PID, PID, 7, 10), page_start, 0);
        let batch = t.emit(false);
        let series = t.registry.get(batch.segments().next().unwrap().series[0]).unwrap();
        series.consumer.as_ref().unwrap().attribute("wattrace.process.comm")
    };
    assert_eq!(name_after(400), Some("true".into()), "the page was begun before the exec");
    assert_eq!(name_after(600), Some("sh".into()), "renamed since");
}

#[test]
fn an_entry_whose_events_were_lost_is_charged_and_ended() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    let batch = t.emit(false);
    assert_eq!(t.points(&batch).len(), 1);
    t.pass_after(1000);
    assert_eq!(t.emit(false).ended().len(), 1, "/proc does not know it, so it must have exited");
}

#[test]
fn the_last_emission_ends_everything_that_has_exited() {
    let mut t = Table::new();
    t.pass_after(1000);
    t.processes.forked(&event(PID, 7));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.processes.exited(&event(PID, 7), None);
    let batch = t.emit(true);
    assert_eq!((batch.len(), batch.ended().len()), (1, 1));
}

#[test]
fn wait_statuses_read_as_in_a_shell() {
    assert_eq!([exit_code(0), exit_code(1 << 8), exit_code(9), exit_code(0x80 | 11)], [0, 1, 137, 139]);
}

#[test]
fn a_process_is_announced_when_it_starts() {
    use wattrace_api::events::Received;
    let mut t = Table::new();
    let mut started = t.registry.events().subscribe::<ConsumerStarted>();
    t.pass_after(1000);
    t.processes.forked(&event(PID, 7));
    let Some(Received::Event(ConsumerStarted(consumer))) = started.try_next() else { panic!("no event") };
    assert_eq!(consumer.identity().id, PID.to_string());
    assert!(started.try_next().is_none());
}

/// A directory like /proc with a `stat` per process: the pid, and what follows it up to the parent. All
/// started at tick 3448.
fn proc_with(processes: &[(u32, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (pid, stat) in processes {
        let folder = dir.path().join(pid.to_string());
        std::fs::create_dir(&folder).unwrap();
        let stat = format!("{pid} {stat} 1 1 0 -1 4194560 120 0 0 0 50 7 0 0 20 0 1 0 3448 63012864 566");
        std::fs::write(folder.join("stat"), stat).unwrap();
    }
    dir
}

const PROC_START: u64 = 3448 * TICK_NANOS;

#[test]
fn a_process_whose_leader_has_ended_goes_on_while_its_other_threads_run() {
    let (mut table, proc) = (Table::new(), proc_with(&[(6000, "(render) Z 1")]));
    table.processes.procfs = Procfs::at(proc.path());
    for ns in [5, 6] {
        table.pass_after(2000);
        table.charge(&entry(6003, 6000, PROC_START, ns), 0, 0);
        let batch = table.emit(false);
        assert_eq!(table.points(&batch).len(), 1);
        assert!(batch.ended().is_empty(), "its leader is a zombie, but it works");
        table.processes.repair();
    }
    let consumer = table.registry.directory().process(6000).unwrap();
    assert_eq!(consumer.end_unix_nano(), None);
}

#[test]
fn a_process_bears_the_name_of_its_leader_whichever_thread_ran_first() {
    let proc = proc_with(&[(5000, "(qemu-system-x86) S 1"), (8, "(kworker/0:0H-events_highpri) I 2")]);
    let mut table = Table::new();
    table.processes.procfs = Procfs::at(proc.path());
    table.pass_after(1000);
    for comm in ["CPU 0/KVM", "worker"] {
        table.charge(&Entry { comm: comm_bytes(comm), ..entry(5007, 5000, PROC_START, 1) }, 0, 0);
    }
    table.charge(&Entry { comm: comm_bytes("kworker/0:0H"), ..entry(8, 8, PROC_START, 1) }, 1, 0);
    assert_eq!(table.processes.len(), 2);
    let name = |pid| {
        let consumer = table.registry.directory().process(pid).unwrap();
        consumer.attribute("process.executable.name").unwrap().to_string()
    };
    assert_eq!((name(5000), name(8)), ("qemu-system-x86".to_owned(), "kworker/0:0H".to_owned()));
}

#[test]
fn in_a_fork_storm_only_so_many_are_followed_until_the_next_emission() {
    let mut table = Table::new();
    table.pass_after(1000);
    let most = 10_240;
    for number in 0..most + 5 {
        table.processes.forked(&event(PID + number, 7));
        table.processes.exited(&event(PID + number, 7), None);
    }
    assert_eq!(table.processes.len(), most as usize);
    let follows = |table: &mut Table, pid| table.processes.charge(&entry(pid, pid, 7, 1), &time(1), 0, &[0]);
    assert!(follows(&mut table, PID) && !follows(&mut table, PID + most));
    table.emit(false);
    table.pass_after(2000);
    table.emit(false);
    assert!(follows(&mut table, PID + most), "there is room again");
}

/// A table of processes whose other figures are asked for, besides what `living` is listed first.
fn with_stats(living: &[LivingThread]) -> Table {
    let registry = Registry::new();
    let metric = registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
    let groups = vec![CpuGroup { resource: Resource::package(0), metrics: only_time(metric) }];
    let stats = ProcessStatsEmitter::new(registry.clone(), Some(Duration::from_secs(10))).unwrap();
    let details = Details { threads: false, stats: Some(stats) };
    let clock = Clock::manual(Timestamp(1_000_000_000));
    let mut t =
        Table { registry: registry.clone(), processes: Processes::new(registry, clock, 1, groups, details) };
    t.list(living);
    t.pass_after(1000);
    t
}

impl Table {
    /// Lists living threads.
    fn list(&mut self, living: &[LivingThread]) {
        self.processes.stats().unwrap().begin_listing(Timestamp(1_000_000_000));
        living.iter().for_each(|thread| self.processes.living(thread));
        self.processes.listed();
    }

    /// The figures that are emitted: process, metric, value; and how many of their series end.
    fn figures(&mut self, last: bool) -> (Vec<(u32, &'static str, f64)>, usize) {
        let mut batch = self.emit(last);
        let end = self.processes.pass;
        self.processes.stats().unwrap().emit(end, true, &mut batch);
        let (mut points, mut ended) = (Vec::new(), 0);
        for (id, value) in batch.segments().flat_map(|s| s.points().collect::<Vec<_>>()) {
            let series = self.registry.get(id).unwrap();
            let Some(metric) = ALL.iter().find(|metric| metric.name == series.metric.name) else { continue };
            let pid = series.consumer.as_ref().unwrap().identity().id.parse().unwrap();
            ended += usize::from(batch.ended().contains(&id));
            let Cow::Borrowed(name) = metric.name else { continue };
            points.push((pid, name, metric.in_units(value)));
        }
        (points, ended)
    }
}

fn living(pid: u32, io_read: u64) -> LivingThread {
    let stats = ProcessStats { io_read, ..ProcessStats::default() };
    LivingThread { pid, process_start: 7, stats, ..LivingThread::default() }
}

const IO: &str = "wattrace.consumer.io.read";

#[test]
fn what_else_a_process_used_is_the_sum_of_its_exited_and_living_threads() {
    let mut t = with_stats(&[]);
    t.processes.forked(&event(PID, 7));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.list(&[living(PID, 100), living(PID, 20)]);
    assert_eq!(t.figures(false), (vec![(PID, IO, 120.0)], 0));
    // One of the two has exited, and is not listed any more.
    let stats = |io_read| Some(ProcessStats { io_read, peak_rss_pages: 3, ..ProcessStats::default() });
    t.processes.thread_exited(&event(PID, 7), stats(30));
    t.list(&[living(PID, 100)]);
    let peak = 3.0 * rustix::param::page_size() as f64;
    assert_eq!(t.figures(false), (vec![(PID, IO, 130.0), (PID, "wattrace.consumer.memory.peak", peak)], 0));
    // Nothing has changed, or a thread is exiting, whose exit is not read yet.
    for listed in [vec![living(PID, 100)], vec![living(PID, 0)]] {
        t.list(&listed);
        assert_eq!(t.figures(false), (vec![], 0));
    }
    let last = ProcessStats { run_delay_ns: 5, io_read: 100, ..ProcessStats::default() };
    t.processes.exited(&event(PID, 7), Some(last));
    assert_eq!(t.figures(true), (vec![(PID, "wattrace.consumer.cpu.wait", 5e-9)], 1));
}

#[test]
fn what_a_process_used_before_it_was_watched_does_not_count() {
    // It and its threads are not looked at until they run.
    let mut t = with_stats(&[living(PID, 1000), living(PID, 500), living(PID - 1, 9)]);
    t.list(&[living(PID, 1000), living(PID, 500)]);
    assert_eq!(t.figures(false), (vec![], 0));
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.list(&[living(PID, 1030), living(PID, 500)]);
    assert_eq!(t.figures(false), (vec![(PID, IO, 30.0)], 0));
    let stats = |io_read| Some(ProcessStats { io_read, ..ProcessStats::default() });
    t.processes.thread_exited(&event(PID, 7), stats(500));
    t.processes.exited(&event(PID, 7), stats(1035));
    assert_eq!(t.figures(true), (vec![(PID, IO, 35.0)], 1));
}

#[test]
fn a_process_that_was_neither_forked_nor_listed_has_no_figures() {
    // It is older than the first listing, and was exiting then.
    let mut t = with_stats(&[]);
    t.charge(&entry(PID, PID, 7, 10), 0, 0);
    t.processes.exited(&event(PID, 7), Some(ProcessStats { io_read: 5, ..ProcessStats::default() }));
    assert_eq!(t.figures(true), (vec![], 0));
}
