//! The perf counters of one piece of hardware, in one group on one of its CPUs: opened, read with one system
//! call, and opened anew on another CPU when the one they were on has gone offline. `super` says which
//! counters there are.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use perf_event_open_sys as sys;
use sys::bindings::{PERF_FLAG_FD_CLOEXEC, PERF_FORMAT_GROUP, perf_event_attr};

use crate::meter::{Fault, Reader, Reading};
use crate::topology::{Reach, Topology, parse_cpus};

/// Time between attempts to open anew what has ended.
const RETRY: Duration = Duration::from_millis(200);
const WORD: usize = size_of::<u64>();

/// The counters of a piece of hardware.
#[derive(Debug)]
pub(super) struct CounterGroup {
    /// The first leads: reading it reads all. The others are kept open. None: it has ended.
    files: Vec<File>,
    /// What the kernel writes: the number of counters, then their values.
    buffer: Vec<u8>,
    cpu: u32,
    home: Home,
    retry_at: Option<Instant>,
}

/// What is needed to open a group anew.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// perf's number of the PMU, and of its events in their order.
    pub(super) kind: u32,
    pub(super) configs: Vec<u64>,
    /// The file in which the PMU says on which CPUs it counts now.
    pub(super) mask: PathBuf,
    pub(super) topology: Topology,
    /// The CPUs of which any will do.
    pub(super) reach: Reach,
}

impl Home {
    /// Where the PMU counts now; empty if it doesn't say.
    fn counted_on(&self) -> Vec<u32> {
        fs::read_to_string(&self.mask).ok().and_then(|mask| parse_cpus(&mask)).unwrap_or_default()
    }

    /// Opens all counters on the first CPU that will do.
    fn open(&self) -> io::Result<(u32, Vec<File>)> {
        let mut cpus = self.counted_on();
        let online = self.topology.online();
        // A kernel that fixes its mask at boot names CPUs that are offline now: any other of the same place
        // counts as well.
        cpus.retain(|cpu| online.contains(cpu));
        cpus.extend(online);
        let mut refused = io::Error::from_raw_os_error(libc::ENODEV);
        for cpu in cpus.into_iter().filter(|&cpu| self.topology.is_within(cpu, &self.reach)) {
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
            let file = open_event(self.kind, config, cpu, files.first())?;
            files.push(file);
        }
        Ok(files)
    }
}

/// Opens a counter that counts on one CPU, whoever runs there; in the group of `leader` if there is one.
pub(super) fn open_event(kind: u32, config: u64, cpu: u32, leader: Option<&File>) -> io::Result<File> {
    let mut attr = perf_event_attr {
        type_: kind,
        size: size_of::<perf_event_attr>() as u32,
        config,
        read_format: u64::from(PERF_FORMAT_GROUP),
        ..Default::default()
    };
    let cpu = i32::try_from(cpu).map_err(io::Error::other)?;
    let group = leader.map_or(-1, File::as_raw_fd);
    // SAFETY: `attr` is a valid description of the size it says; the other arguments are plain numbers.
    let fd = unsafe { sys::perf_event_open(&mut attr, -1, cpu, group, PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

impl CounterGroup {
    /// The group of `files`, which were opened on `cpu` as `home` says.
    pub(super) fn new(files: Vec<File>, cpu: u32, home: Home) -> Self {
        let buffer = vec![0; (1 + files.len()) * WORD];
        Self { files, buffer, cpu, home, retry_at: None }
    }

    /// Lets go of what has ended.
    fn ended(&mut self, how: &str) -> Fault {
        self.files.clear();
        Fault::gone(format!("perf group on CPU {}: {how}", self.cpu))
    }

    fn reopen(&mut self) -> Result<(), Fault> {
        // Only where something is amiss is the time asked for.
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(Fault::gone(format!("perf group on CPU {}: still gone", self.cpu)));
        }
        self.retry_at = Some(now + RETRY);
        let opened = self.home.open();
        let (cpu, files) = opened.map_err(|e| self.ended(&format!("cannot be opened on another: {e}")))?;
        tracing::info!(was_on = self.cpu, cpu, "perf group opened anew");
        (self.cpu, self.files, self.retry_at) = (cpu, files, None);
        Ok(())
    }
}

impl Reader for CounterGroup {
    fn read(&mut self, raw: &mut [u64]) -> Result<Reading, Fault> {
        let mut reading = Reading::Continued;
        if self.files.is_empty() {
            self.reopen()?;
            reading = Reading::Anew;
        }
        let Some(mut leader) = self.files.first() else { return Err(self.ended("is empty")) };
        match leader.read(&mut self.buffer) {
            Ok(length) if length == self.buffer.len() => {}
            Ok(0) => return Err(self.ended("the kernel ended it")),
            // A CPU that goes offline takes its groups apart: the leader is left alone.
            Ok(n) => return Err(self.ended(&format!("read {n} bytes"))),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => return Err(self.ended(&e.to_string())),
            Err(e) => return Err(Fault::bad(format!("perf group on CPU {}: {e}", self.cpu))),
        }
        let (words, _) = self.buffer.as_chunks::<WORD>();
        for (raw, word) in raw.iter_mut().zip(words.iter().skip(1)) {
            *raw = u64::from_ne_bytes(*word);
        }
        Ok(reading)
    }

    /// The kernel moves counters off a CPU that goes offline, unless it was the last one of its package or
    /// core: then they stay, and stand still even when the CPU is back.
    fn doubt(&mut self) -> bool {
        let counted_on = self.home.counted_on();
        let dead = !counted_on.is_empty() && !counted_on.contains(&self.cpu);
        if dead {
            self.files.clear();
        }
        dead
    }
}
