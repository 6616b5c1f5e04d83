//! The perf counters of one package, die or core, in one group on one of its CPUs. They are read with one
//! system call, and opened again on another CPU when theirs goes offline. `super` decides which counters
//! there are.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use perf_event_open_sys as sys;
use rustix::io::Errno;
use sys::bindings::{PERF_FLAG_FD_CLOEXEC, PERF_FORMAT_GROUP, perf_event_attr};

use wattrace_meter::sysfs::{Fault, read_text};
use wattrace_topology::parse_list;

use crate::meter::{Continuity, Meter};
use crate::meter_cpus::{CounterScope, MeterCpus};

/// The time between attempts to open the counters again.
const RETRY: Duration = Duration::from_millis(200);
const WORD: usize = size_of::<u64>();

/// The counters of one package, die or core.
#[derive(Debug)]
pub(super) struct PerfMeter {
    /// The first leads the group: reading it reads all. Empty after the group has ended.
    files: Vec<File>,
    /// The kernel writes the number of counters, then their values.
    buffer: Vec<u8>,
    cpu: u32,
    spec: PerfGroupSpec,
    retry_at: Option<Instant>,
}

/// What is needed to open the group again.
#[derive(Clone, Debug)]
pub(super) struct PerfGroupSpec {
    /// `perf_event_attr::type` of the PMU, and `config` of each event.
    pub(super) pmu_type: u32,
    pub(super) configs: Vec<u64>,
    /// The PMU's file that names the CPUs on which it counts now.
    pub(super) cpumask: PathBuf,
    pub(super) topology: MeterCpus,
    /// The CPUs on any of which the counters are the same.
    pub(super) scope: CounterScope,
}

impl PerfGroupSpec {
    /// The CPUs on which the PMU counts now; empty if the kernel does not say.
    fn counting_cpus(&self) -> Vec<u32> {
        read_text(&self.cpumask).ok().and_then(|mask| parse_list(&mask)).unwrap_or_default()
    }

    /// Opens all counters on the first CPU on which that works.
    fn open(&self) -> io::Result<(u32, Vec<File>)> {
        let mut cpus = self.counting_cpus();
        let online = self.topology.online();
        // A kernel that sets the mask only at boot names CPUs that are offline now: any other CPU of the same
        // package, die or core counts as well.
        cpus.retain(|cpu| online.contains(cpu));
        cpus.extend(online);
        let mut refused = io::Error::from(Errno::NODEV);
        for cpu in cpus.into_iter().filter(|&cpu| self.topology.is_within(cpu, &self.scope)) {
            match self.open_on(cpu) {
                Ok(files) => return Ok((cpu, files)),
                Err(e) => refused = e,
            }
        }
        Err(refused)
    }

    fn open_on(&self, cpu: u32) -> io::Result<Vec<File>> {
        let mut files = Vec::with_capacity(self.configs.len());
        for &config in &self.configs {
            let file = open_event(self.pmu_type, config, cpu, files.first())?;
            files.push(file);
        }
        Ok(files)
    }
}

/// Opens a counter on one CPU for all tasks, in the group of `leader` if there is one.
pub(super) fn open_event(pmu_type: u32, config: u64, cpu: u32, leader: Option<&File>) -> io::Result<File> {
    let mut attr = perf_event_attr {
        type_: pmu_type,
        size: size_of::<perf_event_attr>() as u32,
        config,
        read_format: u64::from(PERF_FORMAT_GROUP),
        ..Default::default()
    };
    let cpu = i32::try_from(cpu).map_err(io::Error::other)?;
    let group = leader.map_or(-1, File::as_raw_fd);
    // SAFETY: `attr` is valid and has the size that it states; the other arguments are plain numbers.
    let fd = unsafe { sys::perf_event_open(&mut attr, -1, cpu, group, PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that has no other owner.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl PerfMeter {
    /// The group of `files`, which were opened on `cpu` according to `spec`.
    pub(super) fn new(files: Vec<File>, cpu: u32, spec: PerfGroupSpec) -> Self {
        let buffer = vec![0; (1 + files.len()) * WORD];
        Self { files, buffer, cpu, spec, retry_at: None }
    }

    /// Closes the group, which has ended.
    fn close(&mut self, why: &str) -> Fault {
        self.files.clear();
        Fault::gone(format!("perf group on CPU {}: {why}", self.cpu))
    }

    fn reopen(&mut self) -> Result<(), Fault> {
        // The clock is read only after a failure.
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(Fault::gone(format!("perf group on CPU {}: still gone", self.cpu)));
        }
        self.retry_at = Some(now + RETRY);
        let opened = self.spec.open();
        let (cpu, files) = opened.map_err(|e| self.close(&format!("cannot be opened on another: {e}")))?;
        tracing::warn!(
            was_on = self.cpu,
            cpu,
            "perf counters opened again: the energy in between is unknown"
        );
        (self.cpu, self.files, self.retry_at) = (cpu, files, None);
        Ok(())
    }
}

impl Meter for PerfMeter {
    fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault> {
        let mut continuity = Continuity::Continued;
        if self.files.is_empty() {
            self.reopen()?;
            continuity = Continuity::Restarted;
        }
        let Some(mut leader) = self.files.first() else { return Err(self.close("is empty")) };
        match leader.read(&mut self.buffer) {
            Ok(length) if length == self.buffer.len() => {}
            Ok(0) => return Err(self.close("the kernel ended it")),
            // When a CPU goes offline, the kernel splits its groups: the leader is left alone.
            Ok(n) => return Err(self.close(&format!("read {n} bytes"))),
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NODEV) => {
                return Err(self.close(&e.to_string()));
            }
            Err(e) => return Err(Fault::bad(format!("perf group on CPU {}: {e}", self.cpu))),
        }
        let (words, _) = self.buffer.as_chunks::<WORD>();
        for (reading, word) in readings.iter_mut().zip(words.iter().skip(1)) {
            *reading = u64::from_ne_bytes(*word);
        }
        Ok(continuity)
    }

    /// The kernel moves counters from a CPU that goes offline, unless it was the last one of its package or
    /// core: then they stay there, and stand still even after the CPU is back.
    fn close_if_dead(&mut self) -> bool {
        let counting = self.spec.counting_cpus();
        let dead = !counting.is_empty() && !counting.contains(&self.cpu);
        if dead {
            self.files.clear();
        }
        dead
    }
}
