//! The use of a device's MIG instances, which the driver reports by instance only, on GPUs since Hopper (GPU
//! performance monitoring). An instance's use counts for the only process that holds memory of it; if there
//! are several, it is unattributed. `memory.rs` finds who holds what.

use std::collections::BTreeMap;

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::{Device, GpmSample, Nvml};
use nvml_wrapper_sys::bindings::nvmlGpmSample_t;
use wattrace_api::{Timestamp, Window};
use wattrace_gpu::ProcessUsage;

use crate::memory::Holders;
use crate::session::{Session, is_lost, is_unsupported};

/// The driver compares samples that are at least this far apart.
const SHORTEST: u64 = 100_000_000;

/// Reads the use of a device's instances.
#[derive(Debug)]
pub(crate) struct Instances {
    supported: bool,
    /// The device's parts, of which each instance has some.
    slices: u32,
    /// The last sample of each instance that somebody holds memory of.
    samples: BTreeMap<u32, Sample>,
    end: Timestamp,
}

/// A sample, which is valid in the session that took it.
#[derive(Debug)]
struct Sample {
    handle: nvmlGpmSample_t,
    session: u64,
}

// SAFETY: the handle is opaque, and used by one thread at a time.
unsafe impl Send for Sample {}

impl Instances {
    pub(crate) fn new(device: &Device<'_>, now: Timestamp) -> Self {
        let supported = device.gpm_support().unwrap_or(false);
        let slices = device.mig_device_count().unwrap_or(0).max(1);
        Self { supported, slices, samples: BTreeMap::new(), end: now }
    }

    /// Whether the device reports the use of its instances.
    pub(crate) fn are_supported(&self) -> bool {
        self.supported
    }

    /// Adds the time that instances worked since the last call to `usage`, as parts of the device's time.
    /// Returns the window that it covers; `None`: nothing new is known.
    ///
    /// # Errors
    /// The device is lost.
    pub(crate) fn read(
        &mut self,
        (session, device): (&Session, &Device<'_>),
        held: &[Holders],
        now: Timestamp,
        usage: &mut ProcessUsage,
    ) -> Result<Option<Window>, NvmlError> {
        let window = Window::new(self.end, now);
        if !self.supported || window.nanos() < SHORTEST {
            return Ok(None);
        }
        let nvml = session.nvml();
        let mut before = std::mem::take(&mut self.samples);
        for holders in held {
            let sample = match device.gpm_mig_sample(holders.instance) {
                Ok(sample) => sample,
                Err(e) if is_lost(&e) => return Err(e),
                Err(e) => {
                    self.supported &= !is_unsupported(&e);
                    tracing::debug!(instance = holders.instance, "the use of an instance: {e}");
                    continue;
                }
            };
            if let Some(last) = before.remove(&holders.instance).and_then(|last| last.restore(session)) {
                let share = busy(nvml, &last, &sample).unwrap_or(0.0);
                let part = f64::from(holders.slices) / f64::from(self.slices);
                let nanos = (window.nanos() as f64 * share * part.min(1.0)) as u64;
                match *holders.pids {
                    [pid] => usage.add_time(pid, nanos, now),
                    _ => usage.add_unattributed_time(nanos),
                }
            }
            let sample = Sample { handle: sample.into_handle(), session: session.id() };
            self.samples.insert(holders.instance, sample);
        }
        // Those of instances that nobody uses any more.
        free(before, session);
        self.end = now;
        Ok(Some(window))
    }

    /// Frees all samples, before `session` ends. The next reading has nothing to compare with.
    pub(crate) fn free_samples(&mut self, session: &Session) {
        free(std::mem::take(&mut self.samples), session);
    }
}

impl Sample {
    /// The sample in its own session; `None`: it is of an earlier one, which was shut down.
    fn restore(self, session: &Session) -> Option<GpmSample<'_>> {
        // SAFETY: the handle is from `into_handle` of a sample of this session, and is consumed here.
        (self.session == session.id()).then(|| unsafe { GpmSample::from_handle(session.nvml(), self.handle) })
    }
}

/// Frees samples of `session`; those of an earlier one are gone with it.
fn free(samples: BTreeMap<u32, Sample>, session: &Session) {
    samples.into_values().filter_map(|sample| sample.restore(session)).for_each(drop);
}

/// The share of the time between two samples in which an instance's multiprocessors worked. Drivers are known
/// to return more than all of it.
fn busy(nvml: &Nvml, last: &GpmSample<'_>, now: &GpmSample<'_>) -> Option<f64> {
    let metrics = gpm_metrics_get(nvml, last, now, &[GpmMetricId::SmUtil]).ok()?;
    let percent = metrics.into_iter().next()?.ok()?.value;
    percent.is_finite().then_some((percent / 100.0).clamp(0.0, 1.0))
}
