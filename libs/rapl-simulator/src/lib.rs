//! For tests and benchmarks of plugins that read RAPL: a tree with the kernel's file names whose counters
//! follow a known curve. Pass its root as `plugins.rapl.sysfs_root`; everything that is read there is
//! labelled `simulated`. `processor.rs` simulates registers and PMUs.
//!
//! ```
//! use std::time::Duration;
//! use wattrace_rapl_simulator::{Tree, Zone};
//!
//! let root = std::env::temp_dir().join(format!("wattrace-rapl-simulator-{}", std::process::id()));
//! let package = Zone::new("intel-rapl:0", "package-0", 20.0).range(999_999);
//! let tree = Tree::create(&root, vec![package, Zone::new("intel-rapl:0:0", "dram", 3.0)])?;
//! tree.write(Duration::from_millis(1_500))?;
//! let text = std::fs::read_to_string(root.join("class/powercap/intel-rapl:0/energy_uj"))?;
//! assert_eq!(text.trim().parse(), Ok(30_000_000 % 1_000_000));
//! std::fs::remove_dir_all(&root)?;
//! # Ok::<(), std::io::Error>(())
//! ```

mod processor;

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wattrace_meter::powercap_period;

pub use processor::{Registers, cpus, perf_clock, perf_core_clock};

/// Microjoules used since the start, as a function of time.
type Curve = Box<dyn Fn(Duration) -> u64 + Send + Sync>;

/// One counter.
pub struct Zone {
    directory: String,
    name: String,
    curve: Curve,
    first: u64,
    max: u64,
}

impl Zone {
    /// A counter in `class/powercap/DIRECTORY` with the name `name` and a constant power of `watts`. Like
    /// that of an Intel client it wraps after 262 kJ. It begins at zero.
    pub fn new(directory: &str, name: &str, watts: f64) -> Self {
        // In whole microwatts, so that the curve is exact over any span.
        let microwatts = (watts * 1e6).round() as u128;
        let curve = move |t: Duration| (microwatts * t.as_nanos() / 1_000_000_000) as u64;
        let (directory, name) = (directory.to_owned(), name.to_owned());
        Self { directory, name, curve: Box::new(curve), first: 0, max: 262_143_328_850 }
    }

    /// With another curve: the microjoules used by a time since the start.
    #[must_use]
    pub fn along(mut self, curve: impl Fn(Duration) -> u64 + Send + Sync + 'static) -> Self {
        self.curve = Box::new(curve);
        self
    }

    /// With `max` as the largest value, `max_energy_range_uj`; it wraps after [`powercap_period`]`(max)`.
    #[must_use]
    pub fn range(mut self, max: u64) -> Self {
        self.max = max;
        self
    }

    /// With `microjoules` on the counter at the start.
    #[must_use]
    pub fn starting_at(mut self, microjoules: u64) -> Self {
        self.first = microjoules;
        self
    }

    /// The true value: microjoules used until `elapsed` after the start.
    pub fn used(&self, elapsed: Duration) -> u64 {
        (self.curve)(elapsed)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({}: {})", self.directory, self.name)
    }
}

/// Counters in files.
#[derive(Debug)]
pub struct Tree {
    zones: Vec<(Zone, File)>,
}

impl Tree {
    /// Creates the files of `zones` below `sysfs_root`, with their values at time zero.
    ///
    /// # Errors
    /// If a file cannot be created.
    pub fn create(sysfs_root: &Path, zones: Vec<Zone>) -> io::Result<Self> {
        let class = sysfs_root.join("class/powercap");
        let mut tree = Self { zones: Vec::new() };
        for zone in zones {
            let directory = class.join(&zone.directory);
            fs::create_dir_all(&directory)?;
            fs::write(directory.join("name"), format!("{}\n", zone.name))?;
            fs::write(directory.join("max_energy_range_uj"), format!("{}\n", zone.max))?;
            let file = File::create(directory.join("energy_uj"))?;
            tree.zones.push((zone, file));
        }
        tree.write(Duration::ZERO)?;
        Ok(tree)
    }

    /// Sets every counter to its value at `elapsed` after the start. Numbers have leading zeros: each is
    /// replaced by one of the same width in one call, so that a reader never sees an incomplete number. A
    /// reader during the call may see digits of both numbers, which cannot happen with the kernel's files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, elapsed: Duration) -> io::Result<()> {
        for (zone, file) in &self.zones {
            let value = (zone.first + zone.used(elapsed)) % powercap_period(zone.max);
            file.write_all_at(format!("{value:020}\n").as_bytes(), 0)?;
        }
        Ok(())
    }

    /// The zones, in the order in which they were given.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter().map(|(zone, _)| zone)
    }

    /// Starts the time: a thread writes the counters every `step`.
    pub fn run(self, step: Duration) -> Running {
        let started = Instant::now();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            // A write fails after the tree was removed.
            while stopped.recv_timeout(step) == Err(RecvTimeoutError::Timeout)
                && self.write(started.elapsed()).is_ok()
            {}
        });
        Running { started, stop, thread: Some(thread) }
    }
}

/// A tree whose time runs until it is dropped.
#[derive(Debug)]
pub struct Running {
    started: Instant,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Time zero of the curves.
    pub fn started(&self) -> Instant {
        self.started
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_runs_until_the_drop() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("class/powercap/intel-rapl:0/energy_uj");
        let read = || fs::read_to_string(&path).unwrap().trim().parse::<u64>().unwrap();
        let zone = Zone::new("intel-rapl:0", "package-0", 1_000.0);
        let running = Tree::create(root.path(), vec![zone]).unwrap().run(Duration::from_millis(1));
        let deadline = Instant::now() + Duration::from_secs(20);
        while read() == 0 {
            assert!(Instant::now() < deadline, "the counter stands still");
        }
        let started = running.started();
        drop(running);
        let last = read();
        assert!(last > 0 && u128::from(last) <= started.elapsed().as_micros() * 1_000);
        thread::sleep(Duration::from_millis(5));
        assert_eq!(read(), last);
    }
}
