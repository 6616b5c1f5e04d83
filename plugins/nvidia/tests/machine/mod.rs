//! GPUs that exist in a file only.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use wattrace_api::directory::Keeper;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Batch, Consumer, ConsumerKind, Error, Identity, SeriesId, Timestamp};
use wattrace_nvidia::{Nvidia, NvidiaConfig};
use wattrace_nvml_stand_in::{Busy, Device, Scenario};

/// A machine of its own: a copy of the library with a scenario beside it, and a clock that the test sets.
pub(crate) struct Machine {
    pub rig: Rig,
    pub keeper: Keeper,
    pub config: NvidiaConfig,
    directory: TempDir,
}

impl Machine {
    pub(crate) fn new(devices: Vec<Device>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("libnvidia-ml.so.1");
        fs::copy(built(), &library).unwrap();
        let clock = directory.path().join("clock").to_string_lossy().into_owned();
        let sysfs = directory.path().join("sys").to_string_lossy().into_owned();
        let scenario = Scenario { clock, sysfs: sysfs.clone(), devices, ..Scenario::default() };
        let text = toml::to_string(&scenario).unwrap();
        fs::write(directory.path().join("libnvidia-ml.so.1.toml"), text).unwrap();
        let library = library.to_string_lossy().into_owned();
        let rescan = Duration::from_secs(5);
        let config = NvidiaConfig { library, rescan, sysfs_root: sysfs, ..NvidiaConfig::default() };
        let rig = Rig::new();
        let keeper = rig.registry.directory().keep();
        let machine = Self { rig, keeper, config, directory };
        machine.turn(0);
        machine
    }

    pub(crate) fn start(devices: Vec<Device>) -> Self {
        let mut machine = Self::new(devices);
        machine.rig.start::<Nvidia>(machine.config.clone()).unwrap();
        machine
    }

    pub(crate) fn turn(&self, ms: u64) {
        fs::write(self.directory.path().join("clock"), (ms * 1_000_000).to_string()).unwrap();
    }

    /// Writes a file of the PCI device at `address`.
    pub(crate) fn pci(&self, address: &str, file: &str, text: &str) {
        let path = self.directory.path().join("sys/bus/pci/devices").join(address).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The device at `address` falls asleep.
    pub(crate) fn sleep(&self, address: &str) {
        self.pci(address, "power/runtime_status", "suspended\n");
    }

    /// Whether the device at `address` has not been woken since it fell asleep.
    pub(crate) fn is_asleep(&self, address: &str) -> bool {
        let file = format!("sys/bus/pci/devices/{address}/power/runtime_status");
        fs::read_to_string(self.directory.path().join(file)).unwrap() == "suspended\n"
    }

    /// How many samples the library was not given back when it was last shut down.
    pub(crate) fn samples_left(&self) -> String {
        fs::read_to_string(self.directory.path().join("clock.samples")).unwrap()
    }

    pub(crate) fn process(&self, pid: u32) -> Arc<Consumer> {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        let consumer = Arc::new(Consumer::new(identity, None, Vec::new()));
        self.keeper.announce(pid, consumer.clone());
        consumer
    }

    pub(crate) fn tick(&mut self, ms: u64) -> Result<Batch, Error> {
        self.turn(ms);
        self.rig.tick(at(ms))
    }

    /// Ticks every second up to `to`, and returns all points and ends.
    pub(crate) fn seconds(&mut self, from: u64, to: u64) -> (Vec<Point>, Vec<SeriesId>) {
        let (mut points, mut ended) = (Vec::new(), Vec::new());
        for second in from..=to {
            let batch = self.tick(second * 1_000).unwrap();
            points.extend(self.rig.points(&batch));
            ended.extend_from_slice(batch.ended());
            self.rig.registry.release(batch.ended());
        }
        (points, ended)
    }
}

/// The library: cargo puts it beside the test.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let library = test.parent().unwrap().join("libwattrace_nvml_stand_in.so");
    assert!(library.exists(), "{} is missing", library.display());
    library
}

pub(crate) fn at(ms: u64) -> Timestamp {
    Timestamp(ms * 1_000_000)
}

pub(crate) fn busy(from: f64, to: f64, sm: f64) -> Busy {
    Busy { from, to, sm, ..Busy::default() }
}

pub(crate) fn of<'a>(points: &'a [Point], metric: &str, gpu: &str) -> Vec<&'a Point> {
    points.iter().filter(|p| p.metric == metric && p.series.resource.id == gpu).collect()
}

/// The last value of every consumer's series of `metric`, by the consumer's id.
pub(crate) fn last<'a>(points: &'a [Point], metric: &str) -> Vec<(&'a str, f64)> {
    let mut last = Vec::<(&str, f64)>::new();
    for point in points.iter().filter(|p| p.metric == metric) {
        let id = point.series.consumer.as_ref().map_or("", |c| &*c.identity().id);
        match last.iter_mut().find(|(known, _)| *known == id) {
            Some((_, value)) => *value = point.value,
            None => last.push((id, point.value)),
        }
    }
    last
}

pub(crate) fn windows_tile(points: &[&Point], from: u64) {
    let mut edge = at(from);
    for point in points {
        assert_eq!(point.window.start, edge);
        edge = point.window.end;
    }
}

pub(crate) const ENERGY: &str = "hw.energy";
pub(crate) const TIME: &str = "wattrace.consumer.gpu.time";
pub(crate) const MEMORY: &str = "wattrace.consumer.gpu.memory";
