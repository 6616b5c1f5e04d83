//! A device's engine time by process. The driver tells percentages: of the samples that it took since a
//! stamp, how many percent of each engine's time went to which process. Percent of what is known by the
//! stamps of the samples themselves.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessUtilizationSample;
use wattrace_api::{Timestamp, Window};
use wattrace_gpu::Users;

use crate::driver_time::DriverTime;
use crate::session::{is_lost, is_unsupported};

/// Microseconds after which a sample that has not come will not come: the longest period of sampling that
/// NVIDIA names.
const LATENESS: u64 = 1_000_000;

/// What a device tells about its use, and up to when it was told.
#[derive(Debug)]
pub(crate) struct Usage {
    by_process: bool,
    as_a_whole: bool,
    /// The stamp up to which samples were taken in.
    last: u64,
    /// The same on the agent's clock.
    end: Timestamp,
}

impl Usage {
    /// From `time` on.
    pub(crate) fn new(time: &DriverTime) -> Self {
        Self { by_process: true, as_a_whole: true, last: time.stamp, end: time.now }
    }

    /// Reads what was used since the last time into `users`. Returns the window that this covers; `None`:
    /// nothing new is known.
    ///
    /// # Errors
    /// The library's; nothing is lost by a passing one, the next window is longer.
    pub(crate) fn read(
        &mut self,
        device: &Device<'_>,
        time: &DriverTime,
        users: &mut Users,
    ) -> Result<Option<Window>, NvmlError> {
        if time.stamp.saturating_add(LATENESS) < self.last {
            tracing::debug!("the wall clock was set back: a GPU's samples are counted from here on");
            self.last = time.stamp;
            return Ok(None);
        }
        // First those of the whole device: their stamps say how far the samples reach, idle ones included.
        let whole = if self.as_a_whole { self.whole(device, time)? } else { Vec::new() };
        let uses = if self.by_process { self.uses(device, time)? } else { Vec::new() };
        if !self.by_process && !self.as_a_whole {
            return Ok(None);
        }
        let stamps = whole.iter().map(|s| s.0).chain(uses.iter().map(|u| u.timestamp));
        let Some(edge) = stamps.max().or_else(|| overdue(self.last, time.stamp)) else { return Ok(None) };
        let window = Window::new(self.end, time.at(edge));
        if window.nanos() == 0 {
            return Ok(None);
        }
        let span = (edge - self.last).saturating_mul(1_000);
        if self.by_process {
            shares(&uses, span, |pid, nanos| users.used(pid, nanos, time.now));
        } else if !whole.is_empty() {
            let percent: u64 = whole.iter().map(|s| s.1).sum();
            let busy = (u128::from(span) * u128::from(percent) / (100 * whole.len() as u128)) as u64;
            match users.sole_holder() {
                Some(pid) => users.used(pid, busy, time.now),
                None => users.used_by_somebody(busy),
            }
        }
        (self.last, self.end) = (edge, window.end);
        Ok(Some(window))
    }

    /// Samples of the whole device that are new: stamp, percent.
    fn whole(&mut self, device: &Device<'_>, time: &DriverTime) -> Result<Vec<(u64, u64)>, NvmlError> {
        let samples = match device.samples(Sampling::GpuUtilization, self.last) {
            Ok(samples) => samples,
            Err(NvmlError::NotFound) => Vec::new(),
            Err(e) if is_lost(&e) => return Err(e),
            Err(e) => {
                self.as_a_whole = !is_unsupported(&e);
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

    /// New utilisation by process. The driver has been seen to fill its list with rubbish.
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

/// The stamp up to which there was no use if no sample came after `last` until `now`.
fn overdue(last: u64, now: u64) -> Option<u64> {
    now.checked_sub(LATENESS).filter(|&edge| edge > last)
}

/// Calls `each` with the nanoseconds that every process used of a span: engines add up, and no engine works
/// for longer than the span.
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
    fn percent_of_a_span_is_time_and_engines_are_told_apart() {
        let uses = [used(7, 60, 0, 10), used(8, 30, 20, 0)];
        assert_eq!(of(&uses, 1_000), [(7, 600), (8, 300), (8, 200), (7, 100)]);
    }

    #[test]
    fn no_engine_works_for_longer_than_there_was_time() {
        let uses = [used(7, 100, 0, 0), used(8, 100, 0, 0)];
        assert_eq!(of(&uses, 1_000), [(7, 500), (8, 500)]);
    }

    #[test]
    fn silence_is_idleness_once_no_sample_can_come_any_more() {
        assert_eq!(overdue(5_000_000, 5_900_000), None);
        assert_eq!(overdue(5_000_000, 6_000_000), None);
        assert_eq!(overdue(5_000_000, 6_200_000), Some(5_200_000));
    }
}
