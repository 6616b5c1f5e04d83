//! The pipeline element: reads frequencies and temperatures on each tick, and opens and ends series as CPUs
//! and sensors are added and removed. `discover.rs` finds them.

use std::path::PathBuf;
use std::sync::Arc;

use wattrace_api::{
    Attribute, Batch, Clock, Error, Metric, MetricId, Registry, ResultExt, SeriesId, SeriesSpec, Source,
    Tick, Timestamp, Unit, Value, Window,
};
use wattrace_meter::sysfs::read_number;

use crate::config::{ContextConfig, Frequency};
use crate::discover::{Gauge, frequencies, temperature_sensors};

/// OpenTelemetry's `hw.cpu.speed`.
const SPEED: Metric = Metric::gauge(
    "hw.cpu.speed",
    Unit::Other(std::borrow::Cow::Borrowed("Hz")),
    "Current frequency, the mean over the CPUs of a package or core",
);
/// OpenTelemetry's `hw.temperature`.
const TEMPERATURE: Metric = Metric::gauge(
    "hw.temperature",
    Unit::Other(std::borrow::Cow::Borrowed("Cel")),
    "Temperature of a sensor",
);

/// A kilohertz and a thousandth of a degree in the metric's unit, and the plausible values.
const KILOHERTZ: FileUnit = FileUnit { factor: 1e3, min: 1e6, max: 1e11 };
const MILLIDEGREE: FileUnit = FileUnit { factor: 1e-3, min: -100.0, max: 250.0 };
/// Ticks between two searches for CPUs and sensors.
const TICKS_PER_SEARCH: u32 = 6;

/// The unit of a file's number.
#[derive(Clone, Copy)]
struct FileUnit {
    factor: f64,
    min: f64,
    max: f64,
}

/// All frequencies and temperatures.
pub(crate) struct ContextSource {
    root: PathBuf,
    frequency: Frequency,
    temperature: bool,
    registry: Arc<Registry>,
    metrics: [MetricId; 2],
    clock: Clock,
    gauges: Vec<(Gauge, FileUnit, SeriesId)>,
    read_at: Timestamp,
    ticks: u32,
}

/// The remedy if there are none.
pub(crate) const REMEDY: &str = "virtual machines usually have none; on other machines load the drivers: \
    `sudo modprobe coretemp` (Intel) or `k10temp` (AMD) for temperatures, `acpi_cpufreq` for frequencies";

impl ContextSource {
    /// Finds frequencies and sensors.
    pub(crate) fn open(config: &ContextConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let metrics = [registry.metric(&SPEED).or_fatal()?, registry.metric(&TEMPERATURE).or_fatal()?];
        let mut source = Self {
            root: PathBuf::from(&config.sysfs_root),
            frequency: config.frequency,
            temperature: config.temperature,
            registry,
            metrics,
            read_at: clock.now(),
            clock,
            gauges: Vec::new(),
            ticks: 0,
        };
        source.search(&mut Batch::default());
        if source.gauges.is_empty() { Err(source.gone()) } else { Ok(source) }
    }

    /// Opens series for new gauges, and ends those of gauges that are gone or have changed.
    fn search(&mut self, out: &mut Batch) {
        let mut found: Vec<(Gauge, FileUnit, MetricId)> = Vec::new();
        found.extend(
            frequencies(&self.root, self.frequency).into_iter().map(|g| (g, KILOHERTZ, self.metrics[0])),
        );
        if self.temperature {
            found.extend(
                temperature_sensors(&self.root).into_iter().map(|g| (g, MILLIDEGREE, self.metrics[1])),
            );
        }
        self.gauges.retain(|(gauge, _, series)| {
            let stays = found.iter().any(|(g, ..)| g == gauge);
            if !stays {
                out.end(*series);
            }
            stays
        });
        for (gauge, unit, metric) in found {
            if !self.gauges.iter().any(|(open, ..)| *open == gauge) {
                let start = self.clock.now();
                let attributes = attributes(&gauge);
                let spec =
                    SeriesSpec { attributes, ..SeriesSpec::new(metric, gauge.resource.clone(), start) };
                let series = self.registry.open(spec);
                self.gauges.push((gauge, unit, series));
            }
        }
    }

    fn gone(&self) -> Error {
        Error::gone(format!(
            "neither CPU frequencies nor temperatures under {}; {REMEDY}",
            self.root.display()
        ))
    }
}

fn attributes(gauge: &Gauge) -> Vec<Attribute> {
    let kind = if gauge.location.is_some() { "temperature" } else { "cpu" };
    let mut all = vec![
        Attribute::new("hw.id", &*gauge.id),
        Attribute::new("hw.name", &*gauge.name),
        Attribute::new("hw.type", kind),
    ];
    all.extend(gauge.parent.as_deref().map(|parent| Attribute::new("hw.parent", parent)));
    all.extend(gauge.location.as_deref().map(|location| Attribute::new("hw.sensor_location", location)));
    all
}

/// The mean of the files that hold a plausible number; `None` if none does.
fn mean(gauge: &Gauge, unit: FileUnit) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for file in &gauge.files {
        match read_number(file).map(|n| n as f64 * unit.factor) {
            Ok(value) if (unit.min..=unit.max).contains(&value) => {
                sum += value;
                count += 1;
            }
            Ok(value) => tracing::debug!("{}: {value} is not plausible, and is left out", file.display()),
            Err(fault) => tracing::debug!("{}", fault.what),
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

impl Source for ContextSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_SEARCH) {
            self.search(out);
        }
        if self.gauges.is_empty() {
            return Err(self.gone());
        }
        out.begin(Window::new(self.read_at, self.clock.now()));
        for (gauge, unit, series) in &self.gauges {
            if let Some(value) = mean(gauge, *unit) {
                out.push(*series, Value::of_gauge(value));
            }
        }
        self.read_at = self.clock.now();
        Ok(())
    }
}
