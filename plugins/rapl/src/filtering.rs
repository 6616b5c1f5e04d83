//! Whether RAPL's numbers are blurred on purpose. Against attacks that read secrets from power, Intel's
//! processors can add noise to what they report ("energy filtering"): when a bit asks for it, and wherever
//! SGX is enabled. Joules over seconds stay right, those of milliseconds do not, so whoever looks closely
//! should know.
//!
//! Source: Intel, "Running Average Power Limit Energy Reporting" (INTEL-SA-00389, CVE-2020-8694 and -8695),
//! and the Software Developer's Manual, volume 4, for the registers.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Attribute, Batch, Error, Finding, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value, Verdict, Window,
};

use crate::msr::device::Device;
use crate::topology::Topology;
use crate::x86::{Cpu, Vendor};

/// The flag.
const FILTERING: Metric = Metric::gauge(
    "wattrace.rapl.filtering",
    Unit::Count("1"),
    "1 for the state in which the processor's energy filtering is, which blurs RAPL's numbers over short times",
);

const ARCH_CAPABILITIES: u32 = 0x10a;
const ENERGY_FILTERING_CTL: u64 = 1 << 11;
const MISC_PACKAGE_CTLS: u32 = 0xbc;
const ENERGY_FILTERING_ENABLE: u64 = 1;
const FEATURE_CONTROL: u32 = 0x3a;
const SGX_ENABLE: u64 = 1 << 18;

/// How often it is looked at again: once on, it stays so until the next boot, but it may be switched on at
/// any time.
const AGAIN: Duration = Duration::from_secs(60);

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The numbers are as they are.
    Off,
    /// Switched on.
    On,
    /// SGX is enabled, which brings it with it on the processors concerned.
    Sgx,
    /// The registers that tell can't be read.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Off => "off",
            State::On => "on",
            State::Sgx => "sgx",
            State::Unknown => "unknown",
        }
    }
}

/// The registers that tell.
pub(crate) struct Filtering {
    vendor: Option<Vendor>,
    device: Option<Device>,
}

impl Filtering {
    /// Those of the first CPU below these roots.
    pub(crate) fn open(sysfs_root: &Path, dev_root: &Path) -> Self {
        let vendor = Cpu::of(sysfs_root).map(|cpu| cpu.vendor);
        let first = Topology::below(sysfs_root).online().into_iter().min().unwrap_or(0);
        let device = Some(Vendor::Intel).filter(|_| vendor == Some(Vendor::Intel));
        Self { vendor, device: device.and_then(|_| Device::open(dev_root, first).ok()) }
    }

    /// How it stands now.
    pub(crate) fn state(&self) -> State {
        match (self.vendor, &self.device) {
            // AMD restricts who may read, and blurs nothing.
            (Some(Vendor::Amd), _) => State::Off,
            (Some(Vendor::Intel), Some(device)) => Self::told_by(|register| device.read(register).ok()),
            _ => State::Unknown,
        }
    }

    /// A register that isn't there says no, unless none is.
    fn told_by(read: impl Fn(u32) -> Option<u64>) -> State {
        if [ARCH_CAPABILITIES, MISC_PACKAGE_CTLS, FEATURE_CONTROL].iter().all(|&at| read(at).is_none()) {
            return State::Unknown;
        }
        let has = |register, bits| read(register).is_some_and(|value| value & bits != 0);
        if has(ARCH_CAPABILITIES, ENERGY_FILTERING_CTL) && has(MISC_PACKAGE_CTLS, ENERGY_FILTERING_ENABLE) {
            State::On
        } else if has(FEATURE_CONTROL, SGX_ENABLE) {
            State::Sgx
        } else {
            State::Off
        }
    }

    /// The row of `wattrace doctor`.
    pub(crate) fn finding(&self) -> Finding {
        let (verdict, found, remedy) = match self.state() {
            State::Off => (Verdict::Ok, "off", ""),
            State::On => (Verdict::Optional, "on: joules of less than a second or so are noisy", ""),
            State::Sgx => (
                Verdict::Optional,
                "SGX is enabled, and brings it with it: joules of less than a second or so are noisy",
                "disable SGX in the firmware's setup if nothing needs it",
            ),
            State::Unknown => {
                (Verdict::Optional, "unknown: the registers that tell cannot be read", "sudo modprobe msr")
            }
        };
        let what = "RAPL's numbers as they are, without energy filtering".to_owned();
        Finding { what, verdict, found: found.to_owned(), remedy: remedy.to_owned() }
    }
}

/// Publishes the flag: at the first tick and each minute.
pub(crate) struct Flag {
    filtering: Filtering,
    registry: Arc<Registry>,
    metric: MetricId,
    told: Option<(State, SeriesId)>,
    next: Timestamp,
    /// Whether not to know is worth telling: for a real meter.
    real: bool,
}

impl Flag {
    /// Declares the metric.
    pub(crate) fn new(filtering: Filtering, registry: Arc<Registry>, real: bool) -> Result<Self, Error> {
        let metric = registry.metric(&FILTERING).or_fatal()?;
        Ok(Self { filtering, registry, metric, told: None, next: Timestamp(0), real })
    }

    /// Says how it stands, if it is time to.
    pub(crate) fn tell(&mut self, now: Timestamp, out: &mut Batch) {
        if now < self.next {
            return;
        }
        self.next = now + AGAIN;
        let state = self.filtering.state();
        if state == State::Unknown && !self.real {
            return;
        }
        let series = match self.told {
            Some((told, series)) if told == state => series,
            _ => {
                self.end(out);
                if matches!(state, State::On | State::Sgx) {
                    let state = state.as_str();
                    tracing::warn!(state, "energy filtering: joules of less than a second or so are noisy");
                }
                self.registry.open(SeriesSpec {
                    attributes: vec![Attribute::new("wattrace.state", state.as_str())],
                    ..SeriesSpec::new(self.metric, Resource::HOST, now)
                })
            }
        };
        self.told = Some((state, series));
        out.begin(Window::new(now, now));
        out.push(series, Value::of_gauge(1.0));
    }

    /// Ends the series.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        if let Some((_, series)) = self.told.take() {
            out.end(series);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(registers: &[(u32, u64)]) -> State {
        Filtering::told_by(|wanted| registers.iter().find(|(at, _)| *at == wanted).map(|(_, value)| *value))
    }

    #[test]
    fn the_bits_say_it_and_absent_registers_say_no() {
        assert_eq!(told(&[]), State::Unknown);
        assert_eq!(told(&[(0x3a, 0)]), State::Off);
        assert_eq!(told(&[(0x10a, 1 << 11), (0xbc, 0)]), State::Off);
        assert_eq!(told(&[(0x10a, 1 << 11), (0xbc, 1)]), State::On);
        assert_eq!(told(&[(0x10a, 1 << 10), (0xbc, 1)]), State::Off, "the bit is something else there");
        assert_eq!(told(&[(0x3a, 1 << 18 | 1)]), State::Sgx);
        assert_eq!(told(&[(0x3a, 1)]), State::Off);
    }
}
