//! The pipeline element. At each tick it reads all meters, then the clients of all GPUs. Once a sweep it
//! lists the GPUs again.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wattrace_api::privilege::for_kernel_file;
use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp, Window};
use wattrace_gpu::ProcessResolver;
use wattrace_procfs::Procfs;

use crate::cards::{self, Card};
use crate::clients::Taken;
use crate::config::DrmConfig;
use crate::dies;
use crate::fdinfo;
use crate::gpu::Gpu;
use crate::scanner::ClientScanner;

/// All GPUs with a DRM driver.
pub(crate) struct DrmSource {
    config: DrmConfig,
    registry: Arc<Registry>,
    clock: Clock,
    resolver: ProcessResolver,
    gpus: Vec<Gpu>,
    scanner: ClientScanner,
    /// When the GPUs were last listed.
    listed_at: Timestamp,
    /// When the clients were last read.
    read_at: Timestamp,
    text: String,
}

impl DrmSource {
    /// Finds the GPUs and their clients, and takes the first readings, from which everything is counted.
    pub(crate) fn open(config: &DrmConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let now = clock.now();
        let cards = cards::find(Path::new(&config.sysfs_root));
        if cards.is_empty() {
            return Err(no_gpu(config));
        }
        let open = |cards| Gpu::open(cards, &registry, &clock);
        let gpus = dies::by_meter(cards).into_iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let proc_root = PathBuf::from(&config.proc_root);
        let scanner = ClientScanner::open(proc_root.clone(), config.sweep, registry.events(), now);
        let resolver =
            ProcessResolver::new(registry.directory().clone(), clock.clone(), Procfs::at(proc_root));
        let mut source = Self {
            config: config.clone(),
            registry,
            clock,
            resolver,
            gpus,
            scanner,
            listed_at: now,
            read_at: now,
            text: String::new(),
        };
        source.read_clients();
        source.emit_clients(false, &mut Batch::default());
        Ok(source)
    }

    /// Reads the clients of all GPUs.
    fn read_clients(&mut self) {
        self.gpus.iter_mut().for_each(Gpu::begin_clients);
        let (mut changed, mut sharing) = (Vec::new(), Vec::new());
        for (pid, descriptors) in self.scanner.known(self.registry.directory(), &self.clock) {
            for descriptor in descriptors {
                let path = format!("{}/{pid}/fdinfo/{descriptor}", self.config.proc_root);
                if read(&path, &mut self.text) {
                    let taken = take(pid, &self.text, &mut self.gpus, &self.clock);
                    if let Some(Taken::HeldBy(other)) = taken {
                        sharing.extend([pid, other]);
                    }
                } else {
                    // The descriptor was closed or the process has ended: its others may have changed too.
                    changed.push(pid);
                    break;
                }
            }
        }
        for pid in sharing {
            self.scanner.shares(pid);
        }
        for pid in changed {
            self.scanner.scan(pid);
        }
    }

    /// Writes what [`DrmSource::read_clients`] has read.
    fn emit_clients(&mut self, last: bool, out: &mut Batch) {
        let window = Window::new(self.read_at, self.clock.now());
        self.read_at = window.end;
        for gpu in &mut self.gpus {
            if last {
                gpu.usage.stop_waiting();
            }
            gpu.emit_clients(window, &mut self.resolver, out);
        }
    }

    /// Lists the GPUs again. The series of those that are gone end, and new ones begin. A GPU that came back
    /// is a new one.
    fn list(&mut self, now: Timestamp, out: &mut Batch) -> Result<(), Error> {
        self.listed_at = now;
        let cards = cards::find(Path::new(&self.config.sysfs_root));
        let mut before = std::mem::take(&mut self.gpus);
        // Which cards have one meter is only looked at again if there are others than before: what they
        // report depends on what they do.
        let is_here = |gpu: &Gpu| gpu.dies.iter().all(|die| cards.iter().any(|card| die.card.is_same(card)));
        let (here, gone): (Vec<_>, Vec<_>) = before.drain(..).partition(is_here);
        let is_known = |card: &Card| here.iter().any(|gpu| gpu.dies.iter().any(|die| die.card.id == card.id));
        let new: Vec<Card> = cards.iter().filter(|card| !is_known(card)).cloned().collect();
        self.gpus = here;
        for cards in dies::by_meter(new) {
            self.gpus.push(Gpu::open(cards, &self.registry, &self.clock)?);
        }
        for gpu in gone {
            let card = &gpu.dies[0].card;
            let (id, driver) = (&card.id, &card.driver);
            tracing::warn!(id, driver, "a GPU is gone, or came back as another: look at `dmesg`");
            gpu.end(out);
        }
        Ok(())
    }
}

impl Source for DrmSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        if now <= self.read_at {
            return Ok(());
        }
        let mut gone = false;
        for gpu in &mut self.gpus {
            gone |= gpu.read_meters(&self.clock);
        }
        if gone || now.since(self.listed_at) >= self.config.sweep {
            self.list(now, out)?;
        }
        if self.gpus.is_empty() {
            return Err(no_gpu(&self.config));
        }
        self.scanner.advance(now);
        self.read_clients();
        // Usage goes before energy, so that it is known when attribution splits the energy.
        self.emit_clients(tick.last, out);
        self.gpus.iter_mut().for_each(|gpu| gpu.emit_meters(out));
        Ok(())
    }
}

fn no_gpu(config: &DrmConfig) -> Error {
    let class = Path::new(&config.sysfs_root).join("class/drm");
    Error::gone(format!(
        "{}: no GPU that shows energy or use; if there is one, load its driver (`sudo modprobe amdgpu`, or \
         i915, or xe)",
        class.display()
    ))
}

fn read(path: &str, text: &mut String) -> bool {
    text.clear();
    let mut read = || File::open(path).and_then(|mut file| file.read_to_string(text));
    for_kernel_file(Path::new(path), || read().is_ok())
}

/// Hands the client that a descriptor of `pid` shows to its GPU, if that is one of `gpus`.
fn take(pid: u32, text: &str, gpus: &mut [Gpu], clock: &Clock) -> Option<Taken> {
    let mut cycles = Vec::new();
    let found = fdinfo::parse(text, &mut cycles)?;
    gpus.iter_mut().find_map(|gpu| gpu.take_client(pid, &found, &cycles, clock.now()))
}
