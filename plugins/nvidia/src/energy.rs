//! A device's energy: from its energy counter if it has one (since Volta); else from its power, integrated
//! over the samples that the driver keeps, or over one reading a tick.

use std::time::Duration;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use wattrace_api::{Clock, Timestamp, Window};
use wattrace_gpu::{Progress, SteppedCounter};
use wattrace_meter::{Anomaly, PowerIntegral, Sampled};

use crate::driver_time::DriverTime;
use crate::session::{is_lost, is_unsupported};

/// The counter counts millijoules.
const MICROJOULES: u64 = 1_000;
/// Power is in milliwatts.
const MICROWATTS: u64 = 1_000;
/// Samples that are further apart leave a gap. Longer than the longest interval.
const MAX_GAP: Duration = Duration::from_secs(30);
/// No GPU draws more: 100 kW.
const MAX_MICROWATTS: u64 = 100_000_000_000;

/// Reads a device's energy.
#[derive(Debug)]
pub(crate) enum Meter {
    /// Its energy counter.
    Counter(SteppedCounter),
    /// The samples of its power that the driver keeps, up to the one stamped `last`.
    Samples { integral: PowerIntegral, last: u64 },
    /// Its power at each reading.
    Power(PowerIntegral),
    /// The device has no meter.
    None,
}

/// The energy of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WindowEnergy {
    /// Cumulative microjoules at the window's end.
    Known(u64),
    /// The window's energy is unknown and left out.
    Unknown(Anomaly),
}

impl Meter {
    /// Chooses the most exact meter of the device, and takes the first reading, from which energy is counted.
    ///
    /// # Errors
    /// If the device is lost.
    pub(crate) fn open(device: &Device<'_>, clock: &Clock) -> Result<Self, NvmlError> {
        match device.total_energy_consumption() {
            Ok(reading) => {
                let mut counter = SteppedCounter::new(MICROJOULES);
                counter.take(reading, clock.now());
                return Ok(Meter::Counter(counter));
            }
            Err(e) if is_lost(&e) => return Err(e),
            Err(e) if is_unsupported(&e) => {}
            // A temporary error: energy is counted from the first good reading.
            Err(_) => return Ok(Meter::Counter(SteppedCounter::new(MICROJOULES))),
        }
        let integral = PowerIntegral::new(MAX_GAP).at_most(MAX_MICROWATTS);
        let now = DriverTime::read(clock).stamp;
        match device.samples(Sampling::Power, now) {
            Ok(_) | Err(NvmlError::NotFound) => return Ok(Meter::Samples { integral, last: now }),
            Err(e) if is_lost(&e) => return Err(e),
            Err(_) => {}
        }
        match device.power_usage() {
            Err(e) if is_lost(&e) => Err(e),
            Err(e) if is_unsupported(&e) => Ok(Meter::None),
            _ => Ok(Meter::Power(integral)),
        }
    }

    /// The device sleeps, and has drawn nothing since the last reading; it is not asked. Returns the window
    /// up to now, and the energy counted so far.
    pub(crate) fn sleep(&mut self, time: &DriverTime) -> Option<(Window, WindowEnergy)> {
        match self {
            Meter::Counter(counter) => {
                let window = counter.sleep(time.now)?;
                Some((window, WindowEnergy::Known(counter.microjoules())))
            }
            Meter::Samples { integral, .. } | Meter::Power(integral) => {
                let sampled = integral.sample(time.now, 0);
                if let Meter::Samples { last, .. } = self {
                    *last = time.stamp;
                }
                let (Meter::Samples { integral, .. } | Meter::Power(integral)) = self else { return None };
                match sampled {
                    Sampled::Advanced(window) => Some((window, WindowEnergy::Known(integral.microjoules()))),
                    Sampled::Gap(window) => Some((window, WindowEnergy::Unknown(Anomaly::Gap))),
                    Sampled::Based | Sampled::Stale | Sampled::Implausible => None,
                }
            }
            Meter::None => None,
        }
    }

    /// Its description for logs and `wattrace doctor`.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Meter::Counter(_) => "energy counter",
            Meter::Samples { .. } => "samples of power, integrated",
            Meter::Power(_) => "power, integrated",
            Meter::None => "no energy",
        }
    }

    /// Reads it, and calls `each` with every new window.
    ///
    /// # Errors
    /// The library's. A temporary error loses nothing: the next window is longer.
    pub(crate) fn read(
        &mut self,
        device: &Device<'_>,
        clock: &Clock,
        mut each: impl FnMut(Window, WindowEnergy),
    ) -> Result<(), NvmlError> {
        match self {
            Meter::Counter(counter) => {
                let reading = device.total_energy_consumption()?;
                match counter.take(reading, clock.now()) {
                    Progress::Advanced(window) => each(window, WindowEnergy::Known(counter.microjoules())),
                    Progress::Reset(window) => {
                        tracing::warn!(
                            "a GPU's energy counter went back; it is counted from the new value on"
                        );
                        each(window, WindowEnergy::Unknown(Anomaly::Reset));
                    }
                    Progress::First | Progress::Unchanged => {}
                }
            }
            Meter::Samples { integral, last } => {
                let samples = match device.samples(Sampling::Power, *last) {
                    Err(NvmlError::NotFound) => return Ok(()),
                    samples => samples?,
                };
                let time = DriverTime::read(clock);
                let samples = samples.iter().filter(|s| s.timestamp > *last && s.timestamp <= time.stamp);
                let samples = samples.filter_map(|s| Some((s.timestamp, milliwatts(&s.value)?)));
                *last = integrate(integral, &time, samples, each).unwrap_or(*last);
            }
            Meter::Power(integral) => {
                let power = u64::from(device.power_usage()?) * MICROWATTS;
                match integral.sample(clock.now(), power) {
                    Sampled::Advanced(window) => each(window, WindowEnergy::Known(integral.microjoules())),
                    Sampled::Gap(window) => each(window, WindowEnergy::Unknown(Anomaly::Gap)),
                    Sampled::Based | Sampled::Stale | Sampled::Implausible => {}
                }
            }
            Meter::None => {}
        }
        Ok(())
    }
}

/// Integrates samples (stamp, milliwatts). Calls `each` with each span without a gap, and with each gap.
/// Returns the last stamp.
fn integrate(
    integral: &mut PowerIntegral,
    time: &DriverTime,
    samples: impl Iterator<Item = (u64, u64)>,
    mut each: impl FnMut(Window, WindowEnergy),
) -> Option<u64> {
    let mut last = None;
    let mut open: Option<Timestamp> = None;
    for (stamp, milliwatts) in samples {
        last = last.max(Some(stamp));
        let before = integral.microjoules();
        match integral.sample(time.at(stamp), milliwatts.saturating_mul(MICROWATTS)) {
            Sampled::Advanced(window) => {
                open.get_or_insert(window.start);
            }
            Sampled::Gap(gap) => {
                if let Some(start) = open.take() {
                    each(Window::new(start, gap.start), WindowEnergy::Known(before));
                }
                each(gap, WindowEnergy::Unknown(Anomaly::Gap));
            }
            Sampled::Based | Sampled::Stale | Sampled::Implausible => {}
        }
    }
    if let (Some(start), Some(end)) = (open, integral.last()) {
        each(Window::new(start, end), WindowEnergy::Known(integral.microjoules()));
    }
    last
}

fn milliwatts(value: &SampleValue) -> Option<u64> {
    match *value {
        SampleValue::U32(v) => Some(v.into()),
        SampleValue::U64(v) => Some(v),
        SampleValue::I64(v) => u64::try_from(v).ok(),
        SampleValue::F64(v) if v.is_finite() && v >= 0.0 => Some(v as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_samples_become_windows_without_gaps_and_the_energy_in_them() {
        let time = DriverTime { now: Timestamp(100_000_000_000), stamp: 100_000_000 };
        let mut integral = PowerIntegral::new(MAX_GAP);
        let mut seen = Vec::new();
        let stamps = [1, 2, 4, 50, 51].map(|second| (second * 1_000_000, 10_000));
        let last = integrate(&mut integral, &time, stamps.into_iter(), |w, energy| seen.push((w, energy)));
        let second = |n: u64| Timestamp(n * 1_000_000_000);
        let window = |from, to| Window::new(second(from), second(to));
        let energy = |from, to, joules: u64| (window(from, to), WindowEnergy::Known(joules * 1_000_000));
        let gap = (window(4, 50), WindowEnergy::Unknown(Anomaly::Gap));
        assert_eq!(seen, [energy(1, 4, 30), gap, energy(50, 51, 40)]);
        assert_eq!(last, Some(51_000_000));
    }
}
