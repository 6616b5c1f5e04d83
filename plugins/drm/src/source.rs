//! The pipeline element: at each reading all meters, then all clients of all GPUs; now and then, which GPUs
//! there are.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp, Window};
use wattrace_gpu::Who;

use crate::cards;
use crate::config::DrmConfig;
use crate::fdinfo;
use crate::gpu::Gpu;
use crate::holders::Holders;

/// All GPUs with a DRM driver.
pub(crate) struct DrmSource {
    config: DrmConfig,
    registry: Arc<Registry>,
    clock: Clock,
    who: Who,
    gpus: Vec<Gpu>,
    holders: Holders,
    /// When the GPUs were last listed.
    listed_at: Timestamp,
    /// When the clients were last looked at.
    looked_at: Timestamp,
    text: String,
}

impl DrmSource {
    /// Finds the GPUs and who holds them, and takes the first readings, from which everything counts.
    pub(crate) fn open(config: &DrmConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let now = clock.now();
        let cards = cards::find(Path::new(&config.sysfs_root));
        if cards.is_empty() {
            return Err(nothing(config));
        }
        let open = |card| Gpu::open(card, &registry, &clock);
        let gpus = cards.into_iter().map(open).collect::<Result<Vec<_>, Error>>()?;
        let proc_root = PathBuf::from(&config.proc_root);
        let holders = Holders::open(proc_root.clone(), config.sweep, registry.events(), now);
        let who = Who::new(registry.directory().clone(), clock.clone(), proc_root);
        let mut source = Self {
            config: config.clone(),
            registry,
            clock,
            who,
            gpus,
            holders,
            listed_at: now,
            looked_at: now,
            text: String::new(),
        };
        source.look();
        source.tell(false, &mut Batch::default());
        Ok(source)
    }

    /// Looks at all clients of all GPUs.
    fn look(&mut self) {
        self.gpus.iter_mut().for_each(Gpu::begin_clients);
        let mut changed = Vec::new();
        for (pid, descriptors) in self.holders.known() {
            for descriptor in descriptors {
                let path = format!("{}/{pid}/fdinfo/{descriptor}", self.config.proc_root);
                if read(&path, &mut self.text) {
                    take(pid, &self.text, &mut self.gpus, &self.clock);
                } else {
                    // It was closed, or its process has ended: what else has changed there is worth a look.
                    changed.push(pid);
                    break;
                }
            }
        }
        for pid in changed {
            self.holders.look_at(pid);
        }
    }

    /// Tells what the look saw.
    fn tell(&mut self, last: bool, out: &mut Batch) {
        let window = Window::new(self.looked_at, self.clock.now());
        self.looked_at = window.end;
        for gpu in &mut self.gpus {
            if last {
                gpu.users.hurry();
            }
            gpu.tell_clients(window, &mut self.who, out);
        }
    }

    /// Looks which GPUs there are: those that went, end; those that came, begin; one that came back is a new
    /// one.
    fn list(&mut self, now: Timestamp, out: &mut Batch) -> Result<(), Error> {
        self.listed_at = now;
        let mut before = std::mem::take(&mut self.gpus);
        for card in cards::find(Path::new(&self.config.sysfs_root)) {
            match before.iter().position(|gpu| gpu.card == card) {
                Some(at) => self.gpus.push(before.remove(at)),
                None => self.gpus.push(Gpu::open(card, &self.registry, &self.clock)?),
            }
        }
        for gpu in before {
            let (id, driver) = (&gpu.card.id, &gpu.card.driver);
            tracing::warn!(id, driver, "a GPU is gone, or came back as another: look at `dmesg`");
            gpu.end(out);
        }
        Ok(())
    }
}

impl Source for DrmSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        if now <= self.looked_at {
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
            return Err(nothing(&self.config));
        }
        self.holders.advance(now);
        self.look();
        // What was used before what it cost, so that the one is known when the other is split.
        self.tell(tick.last, out);
        self.gpus.iter_mut().for_each(|gpu| gpu.tell_meters(out));
        Ok(())
    }
}

fn nothing(config: &DrmConfig) -> Error {
    let class = Path::new(&config.sysfs_root).join("class/drm");
    Error::gone(format!(
        "{}: no GPU that tells energy or use; if there is one, load its driver (`sudo modprobe amdgpu`, or i915, or xe)",
        class.display()
    ))
}

fn read(path: &str, text: &mut String) -> bool {
    text.clear();
    File::open(path).and_then(|mut file| file.read_to_string(text)).is_ok()
}

/// Hands what a descriptor of `pid` told to its GPU, if it is a client of one that we know.
fn take(pid: u32, text: &str, gpus: &mut [Gpu], clock: &Clock) {
    let mut cycles = Vec::new();
    let Some(found) = fdinfo::parse(text, &mut cycles) else { return };
    if let Some(gpu) = gpus.iter_mut().find(|gpu| gpu.card.is_of(found.address, found.driver)) {
        gpu.take_client(pid, &found, &cycles, clock.now());
    }
}
