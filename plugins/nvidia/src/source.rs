//! The pipeline element: polls every device. A device that is lost ends its series while the others go on.
//! Lost and new devices are looked for now and then. Devices that sleep are left alone (`asleep.rs`).

use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp};
use wattrace_gpu::ProcessResolver;
use wattrace_procfs::Procfs;

use crate::asleep::Sleepers;
use crate::config::NvidiaConfig;
use crate::gpu::Gpu;
use crate::session::{Session, ShownDevice};
use crate::sleep::PciBus;

/// All NVIDIA GPUs of a machine.
pub(crate) struct NvidiaSource {
    config: NvidiaConfig,
    registry: Arc<Registry>,
    clock: Clock,
    resolver: ProcessResolver,
    bus: PciBus,
    /// `None`: the library could not be initialised again, or all devices sleep or may fall asleep.
    session: Option<Session>,
    gpus: Vec<Gpu>,
    /// Devices that this session has left alone.
    sleepers: Sleepers,
    scanned_at: Timestamp,
    /// The UUIDs of lost devices.
    lost: Vec<String>,
}

impl NvidiaSource {
    /// Opens the library and all devices that are awake and answer.
    pub(crate) fn open(config: &NvidiaConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let resolver = ProcessResolver::new(registry.directory().clone(), clock.clone(), Procfs::default());
        let scanned_at = clock.now();
        let mut source = Self {
            config: config.clone(),
            sleepers: Sleepers::new(registry.clone()),
            registry,
            clock,
            resolver,
            bus: PciBus::new(&config.sysfs_root),
            session: None,
            gpus: Vec::new(),
            scanned_at,
            lost: Vec::new(),
        };
        source.scan(&mut Batch::default())?;
        Ok(source)
    }

    /// Initialises the library again. Devices that it still shows go on, new ones begin, all others end,
    /// except for those that sleep: they are left alone.
    fn scan(&mut self, out: &mut Batch) -> Result<(), Error> {
        // The old session has to be shut down first, or else the library shows the same devices as before.
        self.close_session();
        let (asleep, awake): (Vec<_>, Vec<_>) =
            self.bus.gpus().into_iter().partition(|address| self.bus.is_asleep(address));
        let known: Vec<_> = self.gpus.iter().filter_map(|gpu| gpu.address.as_deref()).collect();
        self.sleepers.replace(&asleep, &known, &self.clock, &self.config, out)?;
        if !asleep.is_empty() && awake.is_empty() {
            return Ok(());
        }
        let only = (!asleep.is_empty()).then_some(&*awake);
        let session = match Session::open(&self.config.library, only) {
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
            } else if let Some(gpu) = self.open_gpu(&session, &shown)? {
                self.lost.retain(|uuid| *uuid != gpu.uuid);
                self.gpus.push(gpu);
            }
        }
        for gpu in before {
            if gpu.address.as_ref().is_some_and(|address| asleep.contains(address)) {
                self.gpus.push(gpu);
            } else {
                self.lose(gpu, "the library does not show it any more", out);
            }
        }
        let nameless = session.nameless.join(", ");
        self.session = Some(session);
        match self.is_empty() {
            false => Ok(()),
            true if nameless.is_empty() => Err(self.no_gpu()),
            true => Err(nothing_measured(&self.config.library, &nameless)),
        }
    }

    fn open_gpu(&self, session: &Session, shown: &ShownDevice<'_>) -> Result<Option<Gpu>, Error> {
        Gpu::open(session, shown, &self.registry, &self.clock, self.config.context)
    }

    fn is_empty(&self) -> bool {
        self.gpus.is_empty() && self.sleepers.is_empty()
    }

    /// Initialises the library again if a device has woken up that the session has left alone, or if lost and
    /// new devices have not been looked for for long.
    fn rescan(&mut self, now: Timestamp, out: &mut Batch) -> Result<(), Error> {
        let is_due = |gpu: &Gpu| !gpu.is_asleep(&self.bus) && !gpu.rests(now);
        let woken =
            self.sleepers.any_awake(&self.bus) || self.session.is_none() && self.gpus.iter().any(is_due);
        let rescan = self.config.rescan;
        if !woken && (rescan.is_zero() || now.since(self.scanned_at) < rescan) {
            return Ok(());
        }
        self.scanned_at = now;
        // Looking would wake those that sleep.
        let any_asleep = !self.sleepers.is_empty()
            || self.gpus.iter().any(|gpu| gpu.is_asleep(&self.bus) || gpu.rests(now));
        let stale = || self.session.as_ref().is_some_and(Session::is_stale);
        if woken || !any_asleep && (!self.lost.is_empty() || stale()) { self.scan(out) } else { Ok(()) }
    }

    fn no_gpu(&self) -> Error {
        let library = &self.config.library;
        Error::gone(format!("{library}: no GPU answers; look at `nvidia-smi` and `dmesg`"))
    }

    fn lose(&mut self, mut gpu: Gpu, why: &str, out: &mut Batch) {
        self.session.iter().for_each(|session| gpu.leave(session));
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

    /// Shuts the library down while there is nothing to read: as long as it is in use, devices may not fall
    /// asleep.
    fn rest(&mut self, now: Timestamp) {
        self.gpus.iter_mut().filter(|gpu| !gpu.rests(now)).for_each(|gpu| gpu.rest(&self.bus, now));
        let asleep = |gpu: &Gpu| gpu.is_asleep(&self.bus);
        // A call to shut down would wake a device that sleeps with the library in use.
        if self.gpus.iter().all(|gpu| gpu.rests(now) && !asleep(gpu)) && !self.gpus.is_empty() {
            self.close_session();
        }
    }

    /// Shuts the library down, after everything has been given back to it.
    fn close_session(&mut self) {
        if let Some(session) = self.session.take() {
            self.gpus.iter_mut().for_each(|gpu| gpu.leave(&session));
        }
    }
}

impl Drop for NvidiaSource {
    fn drop(&mut self) {
        self.close_session();
    }
}

/// What to say of devices that the library shows and cannot read, as on a Jetson.
pub(crate) fn nothing_measured(library: &str, names: &str) -> Error {
    Error::gone(format!(
        "{library}: measures nothing of {names}; on a Jetson, the plugin `hwmon` reads the power of its GPU"
    ))
}

impl Source for NvidiaSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        self.rescan(now, out)?;
        let mut lost = Vec::new();
        for mut gpu in std::mem::take(&mut self.gpus) {
            if tick.last {
                gpu.usage.stop_waiting();
            }
            if gpu.is_asleep(&self.bus) {
                gpu.sleep(&self.clock, &mut self.resolver, out);
                self.gpus.push(gpu);
                continue;
            }
            match &self.session {
                Some(session) if tick.last || !gpu.rests(now) => {
                    match gpu.poll(session, &self.clock, &mut self.resolver, out) {
                        Ok(()) => self.gpus.push(gpu),
                        Err(why) => lost.push((gpu, why)),
                    }
                }
                _ => self.gpus.push(gpu),
            }
        }
        for (gpu, why) in lost {
            self.lose(gpu, &why.0.to_string(), out);
        }
        self.sleepers.emit(self.clock.now(), out);
        if self.is_empty() {
            return Err(self.no_gpu());
        }
        self.rest(now);
        Ok(())
    }
}
