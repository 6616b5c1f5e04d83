//! A device's engine time by process. The driver gives percentages: over its samples since a stamp, the share
//! of each engine's time that each process had. The time that they are shares of follows from the samples'
//! stamps.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessUtilizationSample;
use wattrace_api::{Timestamp, Window};
use wattrace_gpu::ProcessUsage;

use crate::driver_time::DriverTime;
use crate::session::{is_lost, is_unsupported};

/// Microseconds after which no sample of a moment can come any more: the longest sampling period that NVIDIA
/// documents.
const LATENESS: u64 = 1_000_000;

/// Reads a device's utilisation.
#[derive(Debug)]
pub(crate) struct Utilization {
    /// Whether the device gives utilisation by process.
    by_process: bool,
    /// Whether it gives utilisation of the whole device.
    whole_device: bool,
    /// The stamp up to which samples were read.
    last: u64,
    /// The same on the agent's clock.
    end: Timestamp,
    /// The end of the last window in which anything worked.
    worked_at: Timestamp,
}

impl Utilization {
    /// Reads samples from `time` on.
    pub(crate) fn new(time: &DriverTime) -> Self {
        let worked_at = time.now;
        Self { by_process: true, whole_device: true, last: time.stamp, end: time.now, worked_at }
    }

    /// When an engine last worked; `None`: the device does not report it.
    pub(crate) fn worked_at(&self) -> Option<Timestamp> {
        (self.by_process || self.whole_device).then_some(self.worked_at)
    }

    /// The device sleeps: no engine has worked since the last call. Returns the window up to now. What wakes
    /// it makes it work, so that counts as work.
    pub(crate) fn sleep(&mut self, time: &DriverTime) -> Option<Window> {
        let window = Window::new(self.end, time.now);
        (self.last, self.end, self.worked_at) = (time.stamp, time.now, time.now);
        (window.nanos() > 0 && (self.by_process || self.whole_device)).then_some(window)
    }

    /// Adds the engine times since the last call to `usage`. Returns the window that they cover; `None`:
    /// nothing new is known.
    ///
    /// # Errors
    /// The library's. A temporary error loses nothing: the next window is longer.
    pub(crate) fn read(
        &mut self,
        device: &Device<'_>,
        time: &DriverTime,
        usage: &mut ProcessUsage,
    ) -> Result<Option<Window>, NvmlError> {
        if time.stamp.saturating_add(LATENESS) < self.last {
            tracing::debug!("the wall clock was set back: a GPU's samples are counted from now on");
            self.last = time.stamp;
            return Ok(None);
        }
        // The samples of the whole device first: they include idle ones, so their stamps are the latest.
        let whole = if self.whole_device { self.whole(device, time)? } else { Vec::new() };
        let uses = if self.by_process { self.uses(device, time)? } else { Vec::new() };
        if !self.by_process && !self.whole_device {
            return Ok(None);
        }
        let stamps = whole.iter().map(|s| s.0).chain(uses.iter().map(|u| u.timestamp));
        let Some(edge) = stamps.max().or_else(|| overdue(self.last, time.stamp)) else { return Ok(None) };
        let window = Window::new(self.end, time.at(edge));
        if window.nanos() == 0 {
            return Ok(None);
        }
        let works = |percent: u32| percent > 0;
        if whole.iter().any(|s| s.1 > 0)
            || uses.iter().any(|u| [u.sm_util, u.enc_util, u.dec_util].into_iter().any(works))
        {
            self.worked_at = window.end;
        }
        let span = (edge - self.last).saturating_mul(1_000);
        if self.by_process {
            shares(&uses, span, |pid, nanos| usage.add_time(pid, nanos, time.now));
        } else if !whole.is_empty() {
            let percent: u64 = whole.iter().map(|s| s.1).sum();
            let busy = (u128::from(span) * u128::from(percent) / (100 * whole.len() as u128)) as u64;
            match usage.sole_holder() {
                Some(pid) => usage.add_time(pid, busy, time.now),
                None => usage.add_unattributed_time(busy),
            }
        }
        (self.last, self.end) = (edge, window.end);
        Ok(Some(window))
    }

    /// New samples of the whole device: stamp and percent.
    fn whole(&mut self, device: &Device<'_>, time: &DriverTime) -> Result<Vec<(u64, u64)>, NvmlError> {
        let samples = match device.samples(Sampling::GpuUtilization, self.last) {
            Ok(samples) => samples,
            Err(NvmlError::NotFound) => Vec::new(),
            Err(e) if is_lost(&e) => return Err(e),
            Err(e) => {
                self.whole_device = !is_unsupported(&e);
                Vec::new()
            }
        };
        let percent = |value: &SampleValue| match *value {
            SampleValue::U32(v) => u64::from(v),
            SampleValue::U64(v) => v,
            _ => u64::MAX,
        };
        let samples = samples.iter().map(|s| (s.timestamp, percent(&s.value)));
        Ok(samples.filter(|&(stamp, percent)| self.is_new(stamp, time) && percent <= 100).collect())
    }

    /// New utilisation by process. Drivers are known to return entries with garbage, which are left out.
    fn uses(
        &mut self,
        device: &Device<'_>,
        time: &DriverTime,
    ) -> Result<Vec<ProcessUtilizationSample>, NvmlError> {
        let mut uses = match device.process_utilization_stats(self.last) {
            Ok(uses) => uses,
            Err(NvmlError::NotFound) => Vec::new(),
            Err(e) if is_unsupported(&e) => {
                self.by_process = false;
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        uses.retain(|u| {
            let percents = [u.sm_util, u.enc_util, u.dec_util];
            u.pid != 0 && self.is_new(u.timestamp, time) && percents.iter().all(|&p| p <= 100)
        });
        Ok(uses)
    }

    fn is_new(&self, stamp: u64, time: &DriverTime) -> bool {
        stamp > self.last && stamp <= time.stamp.saturating_add(LATENESS)
    }
}

/// The stamp up to which the device was idle, if no sample after `last` has come until `now`.
fn overdue(last: u64, now: u64) -> Option<u64> {
    now.checked_sub(LATENESS).filter(|&edge| edge > last)
}

/// Calls `each` with the nanoseconds of a span that each process used of each engine. No engine works for
/// longer than the span.
fn shares(uses: &[ProcessUtilizationSample], span: u64, mut each: impl FnMut(u32, u64)) {
    let engines: [fn(&ProcessUtilizationSample) -> u32; 3] = [|u| u.sm_util, |u| u.enc_util, |u| u.dec_util];
    for engine in engines {
        let percents = || uses.iter().map(|u| u64::from(engine(u)));
        let whole = percents().sum::<u64>().max(100);
        for (used, percent) in uses.iter().zip(percents()).filter(|(_, percent)| *percent > 0) {
            each(used.pid, (u128::from(span) * u128::from(percent) / u128::from(whole)) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(pid: u32, sm: u32, enc: u32, dec: u32) -> ProcessUtilizationSample {
        ProcessUtilizationSample { pid, timestamp: 1, sm_util: sm, mem_util: 0, enc_util: enc, dec_util: dec }
    }

    fn of(uses: &[ProcessUtilizationSample], span: u64) -> Vec<(u32, u64)> {
        let mut seen = Vec::new();
        shares(uses, span, |pid, nanos| seen.push((pid, nanos)));
        seen
    }

    #[test]
    fn percentages_of_a_span_become_time_by_engine() {
        let uses = [used(7, 60, 0, 10), used(8, 30, 20, 0)];
        assert_eq!(of(&uses, 1_000), [(7, 600), (8, 300), (8, 200), (7, 100)]);
    }

    #[test]
    fn no_engine_works_for_longer_than_the_span() {
        let uses = [used(7, 100, 0, 0), used(8, 100, 0, 0)];
        assert_eq!(of(&uses, 1_000), [(7, 500), (8, 500)]);
    }

    #[test]
    fn without_samples_the_device_is_idle_once_none_can_come_any_more() {
        assert_eq!(overdue(5_000_000, 5_900_000), None);
        assert_eq!(overdue(5_000_000, 6_000_000), None);
        assert_eq!(overdue(5_000_000, 6_200_000), Some(5_200_000));
    }
}
