//! A scenario at an instant: the energy that the GPUs have counted, the samples that the driver holds, the
//! devices and processes that are present. `devices.rs` and `readings.rs` export it as NVML's functions.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use crate::scenario::{Busy, Device, Process, Scenario};

/// Samples that the driver keeps.
const KEPT: u64 = 120;

/// The machine, from the first initialisation on.
pub(crate) struct Machine {
    pub(crate) scenario: Scenario,
    began: Instant,
    began_unix: f64,
    /// Initialisations of the library without a shutdown.
    pub(crate) users: u32,
    /// Counts the initialisations from zero users: handles of an earlier generation are not valid.
    pub(crate) generation: u32,
    /// When the last of these was.
    pub(crate) initialised: f64,
    /// The devices that were present then.
    pub(crate) visible: Vec<usize>,
}

/// Utilisation of one process over the samples of a span, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Use {
    /// Microseconds since the epoch of the last sample in which it did anything.
    pub(crate) timestamp: u64,
    pub(crate) sm: f64,
    pub(crate) enc: f64,
    pub(crate) dec: f64,
}

impl Machine {
    /// Reads the scenario; `None` if there is no valid one, as if there were no driver.
    pub(crate) fn load() -> Option<Self> {
        let path =
            env::var("WATTRACE_NVML_SCENARIO").ok().or_else(|| Some(format!("{}.toml", own_path()?)))?;
        let text = fs::read_to_string(&path).map_err(|e| e.to_string());
        match text.and_then(|text| toml::from_str::<Scenario>(&text).map_err(|e| e.to_string())) {
            Ok(scenario) => Some(Self::new(scenario)),
            Err(e) => {
                eprintln!("stand-in for NVML: {path}: {e}");
                None
            }
        }
    }

    pub(crate) fn new(scenario: Scenario) -> Self {
        let began_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        Self {
            scenario,
            began: Instant::now(),
            began_unix,
            users: 0,
            generation: 0,
            initialised: 0.0,
            visible: Vec::new(),
        }
    }

    /// The share of time, in percent, in which processes of a MIG instance used it between two seconds.
    pub(crate) fn instance_use(&self, device: &Device, instance: usize, from: f64, to: f64) -> f64 {
        let processes = device.mig.get(instance).map_or(&[][..], |mig| &mig.processes);
        let overlap = |b: &Busy| b.sm * (b.to.min(to) - b.from.max(from)).max(0.0);
        processes.iter().flat_map(|p| &p.busy).map(overlap).sum::<f64>() / (to - from)
    }

    /// A device is asked something: if it sleeps, it wakes up.
    pub(crate) fn wake(&self, device: &Device) {
        if self.scenario.sysfs.is_empty() || device.pci.is_empty() {
            return;
        }
        let path = format!("{}/bus/pci/devices/{}/power/runtime_status", self.scenario.sysfs, device.pci);
        if fs::read_to_string(&path).is_ok_and(|state| state.trim() == "suspended") {
            let _ = fs::write(&path, "active\n");
        }
    }

    /// Seconds of the scenario's clock.
    pub(crate) fn now(&self) -> f64 {
        if self.scenario.clock == "monotonic" {
            return self.began.elapsed().as_secs_f64();
        }
        let nanos = fs::read_to_string(&self.scenario.clock).ok().and_then(|t| t.trim().parse::<u64>().ok());
        nanos.unwrap_or(0) as f64 / 1e9
    }

    /// The driver's timestamp of `second`: microseconds since the epoch.
    fn stamp(&self, second: f64) -> u64 {
        let epoch = if self.scenario.clock == "monotonic" { self.began_unix } else { 0.0 };
        ((epoch + second) * 1e6).round() as u64
    }

    /// The instants of the samples with a stamp after `last`, in order.
    fn samples(&self, device: &Device, last: u64) -> impl Iterator<Item = f64> {
        let period = device.sample_ms.max(1) as f64 / 1e3;
        let newest = (self.now() / period + 1e-9).floor() as u64;
        let instants = (newest.saturating_sub(KEPT)..=newest).map(move |n| n as f64 * period);
        instants.filter(move |&at| self.stamp(at) > last)
    }

    /// Stamps and milliwatts.
    pub(crate) fn power_samples(&self, device: &Device, last: u64) -> Vec<(u64, u32)> {
        self.samples(device, last).map(|at| (self.stamp(at), milliwatts(device, at))).collect()
    }

    /// Stamps and percent of time in which any process used the device.
    pub(crate) fn busy_samples(&self, device: &Device, last: u64) -> Vec<(u64, u32)> {
        let busy = |at| device.processes.iter().map(|p| mean(p, device, at).sm).sum::<f64>().min(100.0);
        self.samples(device, last).map(|at| (self.stamp(at), busy(at).round() as u32)).collect()
    }

    /// Utilisation by pid, averaged over all samples after `last`, of the processes that had any.
    pub(crate) fn uses(&self, device: &Device, last: u64) -> BTreeMap<u32, Use> {
        let samples: Vec<f64> = self.samples(device, last).collect();
        let mut uses = BTreeMap::<u32, Use>::new();
        for process in &device.processes {
            for &at in &samples {
                let busy = mean(process, device, at);
                if busy.sm + busy.enc + busy.dec > 0.0 {
                    let sum = uses.entry(process.pid).or_default();
                    sum.timestamp = sum.timestamp.max(self.stamp(at));
                    sum.sm += busy.sm / samples.len() as f64;
                    sum.enc += busy.enc / samples.len() as f64;
                    sum.dec += busy.dec / samples.len() as f64;
                }
            }
        }
        uses
    }
}

/// Whether `device` is off the bus, or was since the library was `initialised`: it stays lost until the
/// library is initialised again.
pub(crate) fn is_lost(device: &Device, initialised: f64, now: f64) -> bool {
    device.lost.iter().any(|&(from, to)| from <= now && (now < to || from > initialised))
}

/// Whether its energy cannot be read.
pub(crate) fn is_troubled(device: &Device, now: f64) -> bool {
    device.troubled.iter().any(|&(from, to)| (from..to).contains(&now))
}

/// The power at an instant.
pub(crate) fn milliwatts(device: &Device, at: f64) -> u32 {
    let entry = device.power.iter().rev().find(|(from, _)| *from <= at);
    entry.map_or(0, |(_, watts)| (watts * 1e3).round() as u32)
}

/// The value of its energy counter.
pub(crate) fn millijoules(device: &Device, now: f64) -> u64 {
    let refresh = device.refresh_ms.max(1) as f64 / 1e3;
    let to = (now / refresh + 1e-9).floor() * refresh;
    let begins = device.lost.iter().map(|lost| lost.1).chain(device.resets.iter().copied());
    let from = begins.filter(|begin| *begin <= now).fold(0.0, f64::max);
    let ends = device.power.iter().skip(1).map(|(at, _)| *at).chain([f64::INFINITY]);
    let energy = |((at, watts), end): (&(f64, f64), f64)| watts * (end.min(to) - at.max(from)).max(0.0);
    (device.power.iter().zip(ends).map(energy).sum::<f64>() * 1e3).round() as u64
}

/// The average utilisation by `process` in the sample that ends at `at`.
fn mean(process: &Process, device: &Device, at: f64) -> Busy {
    let period = device.sample_ms.max(1) as f64 / 1e3;
    let mut mean = Busy::default();
    for busy in &process.busy {
        let overlap =
            (busy.to.min(process.to).min(at) - busy.from.max(process.from).max(at - period)).max(0.0);
        mean.sm += busy.sm * overlap / period;
        mean.enc += busy.enc * overlap / period;
        mean.dec += busy.dec * overlap / period;
    }
    mean
}

/// The path that this library was loaded from.
fn own_path() -> Option<String> {
    // SAFETY: all fields are pointers, for which zero is a value.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    let address = own_path as fn() -> Option<String> as *const libc::c_void;
    // SAFETY: `found` is valid for a write; any address may be passed.
    if unsafe { libc::dladdr(address, &raw mut found) } == 0 || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so it is a string that lives as long as the library is loaded.
    Some(unsafe { CStr::from_ptr(found.dli_fname) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_is_the_integral_of_power_in_steps_and_starts_at_zero_after_a_loss() {
        let device =
            Device { power: vec![(0.0, 50.0), (2.0, 250.0)], lost: vec![(5.0, 6.0)], ..Device::default() };
        assert_eq!(millijoules(&device, 1.0), 50_000);
        assert_eq!(millijoules(&device, 1.019), 50_000, "not refreshed yet");
        assert_eq!(millijoules(&device, 4.0), 600_000);
        assert!(is_lost(&device, 0.0, 5.5) && is_lost(&device, 0.0, 6.0) && !is_lost(&device, 6.0, 6.0));
        assert_eq!(millijoules(&device, 7.0), 250_000);
    }

    #[test]
    fn utilisation_is_the_mean_over_the_requested_samples() {
        let busy = vec![Busy { from: 1.0, to: 1.5, sm: 80.0, ..Busy::default() }];
        let device =
            Device { processes: vec![Process { pid: 7, busy, ..Process::default() }], ..Device::default() };
        let clock = std::env::temp_dir().join(format!("stand-in-clock-{}", std::process::id()));
        fs::write(&clock, "2000000000").unwrap();
        let clock_name = clock.to_string_lossy().into_owned();
        let machine = Machine::new(Scenario { clock: clock_name, ..Scenario::default() });
        let used = machine.uses(&device, 1_000_000)[&7];
        assert_eq!((used.timestamp, used.sm.round()), (1_500_000, 40.0));
        assert!(machine.uses(&device, 1_500_000).is_empty());
        fs::remove_file(clock).unwrap();
    }
}
