//! Reads the event log of the kernel programs: the events of all CPUs' rings, merged by time. `common/`
//! describes the rings, `ebpf/src/log.rs` writes them.

use std::sync::atomic::{Ordering, fence};

use aya::Ebpf;
use wattrace_common::log::{Arguments, Event, EventKind, Logged, Path};
use wattrace_common::process_stats::ProcessStats;

use super::error::KernelError;
use super::mapped::Mapped;
use super::sizes::Sizes;

/// An event with its path and command line.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// The event.
    pub event: Event,
    /// Its path, without the terminating zero. Empty if it has none or the path was overwritten.
    pub path: Vec<u8>,
    /// The command line, if those are read: each argument terminated by a zero.
    pub arguments: Vec<u8>,
    /// Of an exit: what the thread used, if that is read.
    pub stats: Option<ProcessStats>,
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct Log {
    rings: Rings,
    /// How many of each CPU's events were read.
    read: Vec<u64>,
    lost: u64,
    /// The events of one call, with their CPUs and numbers. Kept for its memory, as is `record`.
    merged: Vec<(Event, usize, u64)>,
    record: Option<LogRecord>,
}

#[derive(Debug)]
struct Rings {
    events: Mapped<Event>,
    paths: Mapped<Path>,
    arguments: Option<Mapped<Arguments>>,
    stats: Option<Mapped<ProcessStats>>,
    logged: Mapped<Logged>,
    events_per_cpu: u64,
    paths_per_cpu: u64,
}

impl Log {
    pub(super) fn take(
        ebpf: &mut Ebpf,
        sizes: &Sizes,
        arguments: bool,
        stats: bool,
    ) -> Result<Self, KernelError> {
        let cpus = sizes.cpus;
        let (events, paths) = (cpus * sizes.events_per_cpu, cpus * sizes.paths_per_cpu);
        let rings = Rings {
            events: Mapped::take(ebpf, "EVENTS", events)?,
            paths: Mapped::take(ebpf, "PATHS", paths)?,
            arguments: arguments.then(|| Mapped::take(ebpf, "ARGUMENTS", paths)).transpose()?,
            stats: stats.then(|| Mapped::take(ebpf, "PROCESS_STATS", events)).transpose()?,
            logged: Mapped::take(ebpf, "LOGGED", cpus)?,
            events_per_cpu: sizes.events_per_cpu as u64,
            paths_per_cpu: sizes.paths_per_cpu as u64,
        };
        Ok(Self { rings, read: vec![0; cpus], lost: 0, merged: Vec::new(), record: None })
    }

    /// Events that were overwritten before they were read, since loading.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Calls `handle` with each event until `until` (`CLOCK_MONOTONIC`, ns; not in the future), in order.
    ///
    /// A cause is logged before its effect, on whichever CPU, and `until` has passed. So no effect is handled
    /// before its cause.
    pub(super) fn drain(&mut self, until: u64, mut handle: impl FnMut(&LogRecord)) {
        for cpu in 0..self.read.len() {
            self.gather(cpu, until);
        }
        self.merged.sort_unstable_by_key(|&(event, cpu, number)| (event.at_ns, cpu, number));
        for &(event, cpu, number) in &self.merged {
            let record = self.record.get_or_insert_with(|| LogRecord {
                event,
                path: Vec::new(),
                arguments: Vec::new(),
                stats: None,
            });
            record.event = event;
            record.path.clear();
            record.arguments.clear();
            record.stats = None;
            if [EventKind::Exit as u32, EventKind::ThreadExit as u32].contains(&event.kind) {
                record.stats = self.rings.stats(cpu, number);
            }
            if event.kind == EventKind::Exec as u32 || event.kind == EventKind::Cgroup as u32 {
                self.rings.look_up_path(cpu, event.path, record);
            }
            handle(record);
        }
        self.merged.clear();
    }

    fn gather(&mut self, cpu: usize, until: u64) {
        let written = self.rings.written(cpu).events;
        while self.read[cpu] < written {
            let number = self.read[cpu];
            let event = self.rings.event(cpu, number);
            // The next event that is written overwrites its place before it is counted.
            let oldest = (self.rings.written(cpu).events + 1).saturating_sub(self.rings.events_per_cpu);
            if number < oldest {
                self.lost += oldest - number;
                self.read[cpu] = oldest;
            } else if event.at_ns > until {
                break;
            } else {
                self.merged.push((event, cpu, number));
                self.read[cpu] = number + 1;
            }
        }
    }
}

impl Rings {
    fn written(&self, cpu: usize) -> Logged {
        // SAFETY: within the mapping; two aligned words, which the kernel may be writing.
        let logged = unsafe { self.logged.at(cpu).read_volatile() };
        fence(Ordering::Acquire);
        logged
    }

    /// Event `number` of `cpu`, which may be half overwritten: check [`Rings::written`] afterwards.
    fn event(&self, cpu: usize, number: u64) -> Event {
        let at = cpu as u64 * self.events_per_cpu + number % self.events_per_cpu;
        // SAFETY: within the mapping, and any bytes are an event.
        let event = unsafe { self.events.at(at as usize).read_volatile() };
        fence(Ordering::Acquire);
        event
    }

    /// What the thread used whose exit is event `number` of `cpu`; `None`: it is not read, or the event was
    /// overwritten meanwhile.
    fn stats(&self, cpu: usize, number: u64) -> Option<ProcessStats> {
        let at = cpu as u64 * self.events_per_cpu + number % self.events_per_cpu;
        // SAFETY: within the mapping, and any bytes are figures.
        let stats = unsafe { self.stats.as_ref()?.at(at as usize).read_volatile() };
        fence(Ordering::Acquire);
        (self.written(cpu).events < number + self.events_per_cpu).then_some(stats)
    }

    fn look_up_path(&self, cpu: usize, number: u64, record: &mut LogRecord) {
        let at = (cpu as u64 * self.paths_per_cpu + number % self.paths_per_cpu) as usize;
        // SAFETY: within the mapping. Whether the kernel has overwritten it is checked below.
        let path = unsafe { self.paths.at(at).read_volatile() };
        if let Some(arguments) = &self.arguments {
            // SAFETY: as above.
            let bytes = unsafe { arguments.at(at).read_volatile() };
            record.arguments.extend_from_slice(&bytes[..(path.arguments_len as usize).min(bytes.len())]);
        }
        fence(Ordering::Acquire);
        if self.written(cpu).paths >= number + self.paths_per_cpu {
            return record.arguments.clear();
        }
        record.path.extend(path.bytes.iter().take_while(|&&byte| byte != 0));
    }
}
