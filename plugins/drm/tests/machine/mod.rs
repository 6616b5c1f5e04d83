//! A machine that exists in directories.
#![allow(dead_code, reason = "each test file uses a part")]

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use wattrace_api::directory::Keeper;
use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Batch, Consumer, ConsumerKind, Error, Identity, Timestamp, Window};
use wattrace_drm::{Drm, DrmConfig};

pub(crate) const ENERGY: &str = "hw.energy";
pub(crate) const TIME: &str = "wattrace.consumer.gpu.time";
pub(crate) const MEMORY: &str = "wattrace.consumer.gpu.memory";

/// Directories in place of sysfs and /proc, and the source on a clock that the test sets.
pub(crate) struct Machine {
    pub rig: Rig,
    pub keeper: Keeper,
    pub root: TempDir,
    pub config: DrmConfig,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).to_string_lossy().into_owned();
        let config = DrmConfig { sysfs_root: path("sys"), proc_root: path("proc"), ..DrmConfig::default() };
        fs::create_dir_all(root.path().join("proc")).unwrap();
        let rig = Rig::new();
        let keeper = rig.registry.directory().keep();
        Self { rig, keeper, root, config }
    }

    pub(crate) fn start(&mut self) {
        self.rig.start::<Drm>(self.config.clone()).unwrap();
    }

    pub(crate) fn device(&self, address: &str) -> PathBuf {
        self.root.path().join("sys/devices").join(address)
    }

    /// A GPU, its hwmon chip named `chip`.
    pub(crate) fn card(&self, number: u32, address: &str, driver: &str, chip: &str) {
        let device = self.device(address);
        fs::create_dir_all(device.join("hwmon/hwmon1")).unwrap();
        fs::write(device.join("hwmon/hwmon1/name"), format!("{chip}\n")).unwrap();
        symlink(format!("/nowhere/drivers/{driver}"), device.join("driver")).unwrap();
        let card = self.root.path().join(format!("sys/class/drm/card{number}"));
        fs::create_dir_all(&card).unwrap();
        fs::create_dir_all(card.with_file_name(format!("card{number}-DP-1"))).unwrap();
        symlink(&device, card.join("device")).unwrap();
    }

    pub(crate) fn meter(&self, address: &str, file: &str, value: impl Display) {
        fs::write(self.device(address).join("hwmon/hwmon1").join(file), format!("{value}\n")).unwrap();
    }

    pub(crate) fn process(&self, pid: u32) -> Arc<Consumer> {
        self.process_since(pid, 1)
    }

    pub(crate) fn process_since(&self, pid: u32, start_unix_nano: u64) -> Arc<Consumer> {
        let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano };
        let consumer = Arc::new(Consumer::new(identity, None, Vec::new()));
        self.keeper.announce(pid, consumer.clone());
        consumer
    }

    /// `pid` has a GPU's file open as `descriptor`, with this `fdinfo`.
    pub(crate) fn client(&self, pid: u32, descriptor: u32, fdinfo: &str) {
        let process = self.root.path().join(format!("proc/{pid}"));
        for directory in ["fd", "fdinfo"] {
            fs::create_dir_all(process.join(directory)).unwrap();
        }
        // The link exists already if only its fdinfo changes.
        let _ = symlink("/dev/dri/renderD128", process.join(format!("fd/{descriptor}")));
        fs::write(process.join(format!("fdinfo/{descriptor}")), fdinfo).unwrap();
    }

    /// Writes a file of `pid` in /proc.
    pub(crate) fn proc_file(&self, pid: u32, file: &str, text: &str) {
        let directory = self.root.path().join(format!("proc/{pid}"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(file), text).unwrap();
    }

    /// Writes a file of the GPU at `address` in sysfs.
    pub(crate) fn device_file(&self, address: &str, file: &str, content: impl AsRef<[u8]>) {
        let path = self.device(address).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn exit(&self, pid: u32) {
        fs::remove_dir_all(self.root.path().join(format!("proc/{pid}"))).unwrap();
    }

    pub(crate) fn tick(&mut self, second: u64) -> Result<(Vec<Point>, Batch), Error> {
        let batch = self.rig.tick(at(second))?;
        Ok((self.rig.points(&batch), batch))
    }
}

pub(crate) fn at(second: u64) -> Timestamp {
    Timestamp(second * 1_000_000_000)
}

pub(crate) fn window(from: u64, to: u64) -> Window {
    Window::new(at(from), at(to))
}

pub(crate) fn amdgpu(client: u64, gfx: u64, kib: u64) -> String {
    format!(
        "drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t0000:03:00.0\n\
         drm-memory-vram:\t{kib} KiB\ndrm-engine-gfx:\t{gfx} ns\ndrm-engine-dec:\t{gfx} ns\n"
    )
}

pub(crate) fn values(points: &[Point], metric: &str) -> Vec<(String, f64)> {
    let id = |p: &Point| p.series.consumer.as_ref().map_or_else(String::new, |c| c.identity().id.to_string());
    points.iter().filter(|p| p.metric == metric).map(|p| (id(p), p.value)).collect()
}

pub(crate) const AMD: &str = "0000:03:00.0";
