//! The pipeline element: polls every device, ends one that falls off the bus while the others go on, and
//! looks for those that come (back).

use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp};
use wattrace_gpu::Who;

use crate::config::NvidiaConfig;
use crate::gpu::Gpu;
use crate::session::Session;

/// All NVIDIA GPUs of a machine.
pub(crate) struct NvidiaSource {
    config: NvidiaConfig,
    registry: Arc<Registry>,
    clock: Clock,
    who: Who,
    /// `None` between two of them.
    session: Option<Session>,
    gpus: Vec<Gpu>,
    looked_at: Timestamp,
    /// Devices that were lost and are worth looking for, by their UUIDs.
    missed: Vec<String>,
}

impl NvidiaSource {
    /// Opens the library and all devices that answer.
    pub(crate) fn open(config: &NvidiaConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let who = Who::new(registry.directory().clone(), clock.clone(), "/proc");
        let looked_at = clock.now();
        let mut source = Self {
            config: config.clone(),
            registry,
            clock,
            who,
            session: None,
            gpus: Vec::new(),
            looked_at,
            missed: Vec::new(),
        };
        source.look(&mut Batch::default())?;
        Ok(source)
    }

    /// Initialises the library anew. Devices that are still there go on, new ones begin, those that are not
    /// shown end.
    fn look(&mut self, out: &mut Batch) -> Result<(), Error> {
        // The old one has to be shut down first, or the library shows what it showed before.
        self.session = None;
        let session = match Session::open(&self.config.library) {
            Ok(session) => session,
            Err(e) => {
                self.end(out);
                return Err(e);
            }
        };
        let mut before = std::mem::take(&mut self.gpus);
        for shown @ (place, uuid, _) in session.devices() {
            if let Some(at) = before.iter().position(|gpu| gpu.uuid == uuid) {
                let mut gpu = before.swap_remove(at);
                gpu.place = place;
                self.gpus.push(gpu);
            } else if let Some(gpu) = Gpu::open(&session, shown, &self.registry, &self.clock)? {
                self.missed.retain(|missed| *missed != gpu.uuid);
                self.gpus.push(gpu);
            }
        }
        for gpu in before {
            self.lose(gpu, "it is not shown any more", out);
        }
        self.session = Some(session);
        if self.gpus.is_empty() { Err(self.nothing()) } else { Ok(()) }
    }

    fn nothing(&self) -> Error {
        let library = &self.config.library;
        Error::gone(format!("{library}: no GPU answers; look at `nvidia-smi` and `dmesg`"))
    }

    fn lose(&mut self, gpu: Gpu, why: &str, out: &mut Batch) {
        let uuid = &gpu.uuid;
        tracing::warn!(
            uuid,
            "a GPU is lost: {why}; look at `dmesg`, and reset it (`nvidia-smi --gpu-reset`) or reboot"
        );
        self.missed.push(uuid.clone());
        gpu.end(out);
    }

    fn end(&mut self, out: &mut Batch) {
        self.gpus.drain(..).for_each(|gpu| gpu.end(out));
    }
}

impl Source for NvidiaSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let (now, rescan) = (self.clock.now(), self.config.rescan);
        if !rescan.is_zero() && now.since(self.looked_at) >= rescan {
            self.looked_at = now;
            if !self.missed.is_empty() || self.session.as_ref().is_some_and(Session::is_stale) {
                self.look(out)?;
            }
        }
        let Some(session) = &self.session else { return Err(self.nothing()) };
        let mut lost_now = Vec::new();
        for mut gpu in std::mem::take(&mut self.gpus) {
            if tick.last {
                gpu.users.hurry();
            }
            match gpu.poll(session, &self.clock, &mut self.who, out) {
                Ok(()) => self.gpus.push(gpu),
                Err(lost) => lost_now.push((gpu, lost)),
            }
        }
        for (gpu, lost) in lost_now {
            self.lose(gpu, &lost.0.to_string(), out);
        }
        if self.gpus.is_empty() { Err(self.nothing()) } else { Ok(()) }
    }
}
