//! The pipeline element: polls every device. A device that is lost ends its series while the others go on.
//! Lost and new devices are looked for now and then.

use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp};
use wattrace_gpu::ProcessResolver;
use wattrace_procfs::Procfs;

use crate::config::NvidiaConfig;
use crate::gpu::Gpu;
use crate::session::Session;

/// All NVIDIA GPUs of a machine.
pub(crate) struct NvidiaSource {
    config: NvidiaConfig,
    registry: Arc<Registry>,
    clock: Clock,
    resolver: ProcessResolver,
    /// `None` if the library could not be initialised again.
    session: Option<Session>,
    gpus: Vec<Gpu>,
    scanned_at: Timestamp,
    /// The UUIDs of lost devices.
    lost: Vec<String>,
}

impl NvidiaSource {
    /// Opens the library and all devices that answer.
    pub(crate) fn open(config: &NvidiaConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let resolver = ProcessResolver::new(registry.directory().clone(), clock.clone(), Procfs::default());
        let scanned_at = clock.now();
        let mut source = Self {
            config: config.clone(),
            registry,
            clock,
            resolver,
            session: None,
            gpus: Vec::new(),
            scanned_at,
            lost: Vec::new(),
        };
        source.scan(&mut Batch::default())?;
        Ok(source)
    }

    /// Initialises the library again. Devices that it still shows go on, new ones begin, all others end.
    fn scan(&mut self, out: &mut Batch) -> Result<(), Error> {
        // The old session has to be shut down first, or else the library shows the same devices as before.
        self.session = None;
        let session = match Session::open(&self.config.library) {
            Ok(session) => session,
            Err(e) => {
                self.end(out);
                return Err(e);
            }
        };
        let mut before = std::mem::take(&mut self.gpus);
        for shown in session.devices() {
            if let Some(at) = before.iter().position(|gpu| gpu.uuid == shown.uuid) {
                let mut gpu = before.swap_remove(at);
                gpu.index = shown.index;
                self.gpus.push(gpu);
            } else if let Some(gpu) = Gpu::open(&session, &shown, &self.registry, &self.clock)? {
                self.lost.retain(|uuid| *uuid != gpu.uuid);
                self.gpus.push(gpu);
            }
        }
        for gpu in before {
            self.lose(gpu, "the library does not show it any more", out);
        }
        self.session = Some(session);
        if self.gpus.is_empty() { Err(self.no_gpu()) } else { Ok(()) }
    }

    fn no_gpu(&self) -> Error {
        let library = &self.config.library;
        Error::gone(format!("{library}: no GPU answers; look at `nvidia-smi` and `dmesg`"))
    }

    fn lose(&mut self, gpu: Gpu, why: &str, out: &mut Batch) {
        let uuid = &gpu.uuid;
        tracing::warn!(
            uuid,
            "a GPU is lost: {why}; look at `dmesg`, and reset it (`nvidia-smi --gpu-reset`) or reboot"
        );
        self.lost.push(uuid.clone());
        gpu.end(out);
    }

    fn end(&mut self, out: &mut Batch) {
        self.gpus.drain(..).for_each(|gpu| gpu.end(out));
    }
}

impl Source for NvidiaSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let (now, rescan) = (self.clock.now(), self.config.rescan);
        if !rescan.is_zero() && now.since(self.scanned_at) >= rescan {
            self.scanned_at = now;
            if !self.lost.is_empty() || self.session.as_ref().is_some_and(Session::is_stale) {
                self.scan(out)?;
            }
        }
        let Some(session) = &self.session else { return Err(self.no_gpu()) };
        let mut lost = Vec::new();
        for mut gpu in std::mem::take(&mut self.gpus) {
            if tick.last {
                gpu.usage.stop_waiting();
            }
            match gpu.poll(session, &self.clock, &mut self.resolver, out) {
                Ok(()) => self.gpus.push(gpu),
                Err(why) => lost.push((gpu, why)),
            }
        }
        for (gpu, why) in lost {
            self.lose(gpu, &why.0.to_string(), out);
        }
        if self.gpus.is_empty() { Err(self.no_gpu()) } else { Ok(()) }
    }
}
