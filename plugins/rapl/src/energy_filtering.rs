//! Whether the processor adds noise to RAPL's values. Against attacks that read secrets from power, Intel's
//! processors can do so ("energy filtering"): when a bit in a register asks for it, and wherever SGX is
//! enabled. Energy over seconds stays right, energy over milliseconds does not, so the state is published.
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

use crate::cpu_model::{CpuModel, Vendor};
use crate::meter_cpus::MeterCpus;
use crate::msr::device::Device;

/// The state of energy filtering.
const FILTERING: Metric = Metric::gauge(
    "wattrace.rapl.filtering",
    Unit::Count("1"),
    "1 for the state of the processor's energy filtering, which adds noise to RAPL's values over short times",
);

const ARCH_CAPABILITIES: u32 = 0x10a;
const ENERGY_FILTERING_CTL: u64 = 1 << 11;
const MISC_PACKAGE_CTLS: u32 = 0xbc;
const ENERGY_FILTERING_ENABLE: u64 = 1;
const FEATURE_CONTROL: u32 = 0x3a;
const SGX_ENABLE: u64 = 1 << 18;

/// How often the state is read. Filtering can be switched on at any time, and stays on until the next boot.
const READ_INTERVAL: Duration = Duration::from_secs(60);

/// The state of energy filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilteringState {
    /// No noise is added.
    Off,
    /// It is switched on.
    On,
    /// SGX is enabled, which switches it on, on processors that have it.
    Sgx,
    /// The registers cannot be read.
    Unknown,
}

impl FilteringState {
    fn as_str(self) -> &'static str {
        match self {
            FilteringState::Off => "off",
            FilteringState::On => "on",
            FilteringState::Sgx => "sgx",
            FilteringState::Unknown => "unknown",
        }
    }
}

/// Reads the state.
pub(crate) struct EnergyFiltering {
    vendor: Option<Vendor>,
    device: Option<Device>,
}

impl EnergyFiltering {
    /// Opens the registers of the first CPU below these roots.
    pub(crate) fn open(sysfs_root: &Path, dev_root: &Path) -> Self {
        let vendor = CpuModel::of(sysfs_root).map(|cpu| cpu.vendor);
        let first = MeterCpus::below(sysfs_root).online().into_iter().min().unwrap_or(0);
        let device = Some(Vendor::Intel).filter(|_| vendor == Some(Vendor::Intel));
        Self { vendor, device: device.and_then(|_| Device::open(dev_root, first).ok()) }
    }

    /// The state now.
    pub(crate) fn state(&self) -> FilteringState {
        match (self.vendor, &self.device) {
            // AMD restricts who may read RAPL, and adds no noise.
            (Some(Vendor::Amd), _) => FilteringState::Off,
            (Some(Vendor::Intel), Some(device)) => Self::state_of(|register| device.read(register).ok()),
            _ => FilteringState::Unknown,
        }
    }

    /// The state according to the registers. A missing register means no, unless all are missing.
    fn state_of(read: impl Fn(u32) -> Option<u64>) -> FilteringState {
        if [ARCH_CAPABILITIES, MISC_PACKAGE_CTLS, FEATURE_CONTROL].iter().all(|&at| read(at).is_none()) {
            return FilteringState::Unknown;
        }
        let has = |register, bits| read(register).is_some_and(|value| value & bits != 0);
        if has(ARCH_CAPABILITIES, ENERGY_FILTERING_CTL) && has(MISC_PACKAGE_CTLS, ENERGY_FILTERING_ENABLE) {
            FilteringState::On
        } else if has(FEATURE_CONTROL, SGX_ENABLE) {
            FilteringState::Sgx
        } else {
            FilteringState::Off
        }
    }

    /// The row of `wattrace doctor`.
    pub(crate) fn finding(&self) -> Finding {
        let (verdict, found, remedy) = match self.state() {
            FilteringState::Off => (Verdict::Ok, "off", ""),
            FilteringState::On => {
                (Verdict::Optional, "on: energy over less than about a second is noisy", "")
            }
            FilteringState::Sgx => (
                Verdict::Optional,
                "SGX is enabled, which switches it on: energy over less than about a second is noisy",
                "disable SGX in the firmware's setup if nothing needs it",
            ),
            FilteringState::Unknown => {
                (Verdict::Optional, "unknown: the registers cannot be read", "sudo modprobe msr")
            }
        };
        let what = "RAPL without energy filtering".to_owned();
        Finding { what, verdict, found: found.to_owned(), remedy: remedy.to_owned() }
    }
}

/// Publishes the state at the first tick and then every minute.
pub(crate) struct FilteringGauge {
    filtering: EnergyFiltering,
    registry: Arc<Registry>,
    metric: MetricId,
    published: Option<(FilteringState, SeriesId)>,
    next: Timestamp,
    /// Whether the meter is a real one. Of a simulated one the state is not published if it is unknown.
    real: bool,
}

impl FilteringGauge {
    /// Declares the metric.
    pub(crate) fn new(
        filtering: EnergyFiltering,
        registry: Arc<Registry>,
        real: bool,
    ) -> Result<Self, Error> {
        let metric = registry.metric(&FILTERING).or_fatal()?;
        Ok(Self { filtering, registry, metric, published: None, next: Timestamp(0), real })
    }

    /// Reads and publishes the state, if it is time to.
    pub(crate) fn poll(&mut self, now: Timestamp, out: &mut Batch) {
        if now < self.next {
            return;
        }
        self.next = now + READ_INTERVAL;
        let state = self.filtering.state();
        if state == FilteringState::Unknown && !self.real {
            return;
        }
        let series = match self.published {
            Some((published, series)) if published == state => series,
            _ => {
                self.end(out);
                if matches!(state, FilteringState::On | FilteringState::Sgx) {
                    let state = state.as_str();
                    tracing::warn!(state, "energy filtering: energy over less than about a second is noisy");
                }
                self.registry.open(SeriesSpec {
                    attributes: vec![Attribute::new("wattrace.state", state.as_str())],
                    ..SeriesSpec::new(self.metric, Resource::HOST, now)
                })
            }
        };
        self.published = Some((state, series));
        out.begin(Window::new(now, now));
        out.push(series, Value::of_gauge(1.0));
    }

    /// Ends the series.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        if let Some((_, series)) = self.published.take() {
            out.end(series);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(registers: &[(u32, u64)]) -> FilteringState {
        EnergyFiltering::state_of(|wanted| {
            registers.iter().find(|(at, _)| *at == wanted).map(|(_, value)| *value)
        })
    }

    #[test]
    fn bits_decide_the_state_and_missing_registers_mean_off() {
        assert_eq!(state(&[]), FilteringState::Unknown);
        assert_eq!(state(&[(0x3a, 0)]), FilteringState::Off);
        assert_eq!(state(&[(0x10a, 1 << 11), (0xbc, 0)]), FilteringState::Off);
        assert_eq!(state(&[(0x10a, 1 << 11), (0xbc, 1)]), FilteringState::On);
        assert_eq!(state(&[(0x10a, 1 << 10), (0xbc, 1)]), FilteringState::Off, "another bit");
        assert_eq!(state(&[(0x3a, 1 << 18 | 1)]), FilteringState::Sgx);
        assert_eq!(state(&[(0x3a, 1)]), FilteringState::Off);
    }
}
