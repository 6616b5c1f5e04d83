//! Reading what the kernel programs log of processes and cgroups: each CPU's ring of events, merged by time.
//! `common/` describes the rings, `ebpf/src/log.rs` writes them.

use std::sync::atomic::{Ordering, fence};

use aya::Ebpf;
use wattrace_common::log::{Arguments, Event, EventKind, Logged, Path};

use super::KernelError;
use super::mapped::Mapped;
use super::sizes::Sizes;

/// An event and what it names.
#[derive(Clone, Debug)]
pub struct Told {
    /// What happened.
    pub event: Event,
    /// The path it names, without its terminating zero; empty if it names none or the path was overwritten.
    pub path: Vec<u8>,
    /// The command line, if that is read: each argument ended by a zero.
    pub arguments: Vec<u8>,
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct Log {
    events: Mapped<Event>,
    paths: Mapped<Path>,
    arguments: Option<Mapped<Arguments>>,
    logged: Mapped<Logged>,
    events_per_cpu: u64,
    paths_per_cpu: u64,
    /// How many of each CPU's events were read.
    read: Vec<u64>,
    lost: u64,
    /// Event, CPU; kept for its memory.
    merged: Vec<(Event, usize)>,
}

impl Log {
    pub(super) fn take(ebpf: &mut Ebpf, sizes: &Sizes, arguments: bool) -> Result<Self, KernelError> {
        let cpus = sizes.cpus;
        let paths = cpus * sizes.paths_per_cpu;
        Ok(Self {
            events: Mapped::take(ebpf, "EVENTS", cpus * sizes.events_per_cpu)?,
            paths: Mapped::take(ebpf, "PATHS", paths)?,
            arguments: arguments.then(|| Mapped::take(ebpf, "ARGUMENTS", paths)).transpose()?,
            logged: Mapped::take(ebpf, "LOGGED", cpus)?,
            events_per_cpu: sizes.events_per_cpu as u64,
            paths_per_cpu: sizes.paths_per_cpu as u64,
            read: vec![0; cpus],
            lost: 0,
            merged: Vec::new(),
        })
    }

    /// Events that were overwritten before they were read, since loading.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Hands what happened until `until` (`CLOCK_MONOTONIC`, ns; not in the future) to `tell`, in order.
    ///
    /// Whatever caused an event was logged before it, on whichever CPU, and `until` has passed: so no effect
    /// is told before its cause.
    pub(super) fn drain(&mut self, until: u64, mut tell: impl FnMut(&Told)) {
        for cpu in 0..self.read.len() {
            self.gather(cpu, until);
        }
        self.merged.sort_by_key(|(event, _)| event.at_ns);
        let mut told = None;
        for (event, cpu) in std::mem::take(&mut self.merged).drain(..) {
            let told = told.get_or_insert_with(|| Told { event, path: Vec::new(), arguments: Vec::new() });
            told.event = event;
            told.path.clear();
            told.arguments.clear();
            if event.kind == EventKind::Exec as u32 || event.kind == EventKind::Cgroup as u32 {
                self.look_up(cpu, event.path, told);
            }
            tell(told);
        }
    }

    fn written(&self, cpu: usize) -> Logged {
        // SAFETY: within the mapping; two aligned words, which the kernel may be writing.
        let logged = unsafe { self.logged.at(cpu).read_volatile() };
        fence(Ordering::Acquire);
        logged
    }

    fn gather(&mut self, cpu: usize, until: u64) {
        let written = self.written(cpu).events;
        while self.read[cpu] < written {
            let number = self.read[cpu];
            let place = cpu as u64 * self.events_per_cpu + number % self.events_per_cpu;
            // SAFETY: within the mapping. The kernel may be overwriting it, which is looked at next.
            let event = unsafe { self.events.at(place as usize).read_volatile() };
            fence(Ordering::Acquire);
            // The event that goes to the same place is being written from when it is the next on.
            let oldest = (self.written(cpu).events + 1).saturating_sub(self.events_per_cpu);
            if number < oldest {
                self.lost += oldest - number;
                self.read[cpu] = oldest;
            } else if event.at_ns > until {
                break;
            } else {
                self.merged.push((event, cpu));
                self.read[cpu] = number + 1;
            }
        }
    }

    fn look_up(&self, cpu: usize, number: u64, told: &mut Told) {
        let place = (cpu as u64 * self.paths_per_cpu + number % self.paths_per_cpu) as usize;
        // SAFETY: within the mapping. The kernel may be overwriting it, which is looked at below.
        let path = unsafe { self.paths.at(place).read_volatile() };
        if let Some(arguments) = &self.arguments {
            // SAFETY: as above.
            let bytes = unsafe { arguments.at(place).read_volatile() };
            told.arguments.extend_from_slice(&bytes[..(path.arguments_len as usize).min(bytes.len())]);
        }
        fence(Ordering::Acquire);
        if self.written(cpu).paths >= number + self.paths_per_cpu {
            return told.arguments.clear();
        }
        told.path.extend(path.bytes.iter().take_while(|&&byte| byte != 0));
    }
}
