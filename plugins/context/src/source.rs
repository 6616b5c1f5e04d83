//! The pipeline element: reads the CPUs' clocks and the thermometers on each tick, and follows them as they
//! come and go.

use std::path::PathBuf;
use std::sync::Arc;

use wattrace_api::{
    Attribute, Batch, Clock, Error, Metric, MetricId, Registry, ResultExt, SeriesId, SeriesSpec, Source,
    Tick, Timestamp, Unit, Value, Window,
};
use wattrace_meter::sysfs::read_number;

use crate::config::{ContextConfig, Frequency};
use crate::find::{Gauge, clocks, thermometers};

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
    "Temperature that a sensor tells",
);

/// What a kilohertz, and a thousandth of a degree, is in the metric's unit, and which values can be.
const KILOHERTZ: Scale = Scale { factor: 1e3, least: 1e6, most: 1e11 };
const MILLIDEGREE: Scale = Scale { factor: 1e-3, least: -100.0, most: 250.0 };
/// Ticks after which what there is is looked for again.
const LOOK_EVERY: u32 = 6;

#[derive(Clone, Copy)]
struct Scale {
    factor: f64,
    least: f64,
    most: f64,
}

/// All clocks and thermometers.
pub(crate) struct ContextSource {
    root: PathBuf,
    frequency: Frequency,
    temperature: bool,
    registry: Arc<Registry>,
    metrics: [MetricId; 2],
    clock: Clock,
    gauges: Vec<(Gauge, Scale, SeriesId)>,
    read_at: Timestamp,
    ticks: u32,
}

/// What gives clocks and thermometers where there are none.
pub(crate) const REMEDY: &str = "virtual machines have none as a rule; elsewhere the drivers are missing: `sudo modprobe coretemp` \
    (Intel) or `k10temp` (AMD) for temperatures, `acpi_cpufreq` for frequencies";

impl ContextSource {
    /// Looks for what there is.
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
        source.look(&mut Batch::default());
        if source.gauges.is_empty() { Err(source.gone()) } else { Ok(source) }
    }

    /// Opens series for what is new, and ends those of what is gone or has changed.
    fn look(&mut self, out: &mut Batch) {
        let mut found: Vec<(Gauge, Scale, MetricId)> = Vec::new();
        found.extend(clocks(&self.root, self.frequency).into_iter().map(|g| (g, KILOHERTZ, self.metrics[0])));
        if self.temperature {
            found.extend(thermometers(&self.root).into_iter().map(|g| (g, MILLIDEGREE, self.metrics[1])));
        }
        self.gauges.retain(|(gauge, _, series)| {
            let stays = found.iter().any(|(g, ..)| g == gauge);
            if !stays {
                out.end(*series);
            }
            stays
        });
        for (gauge, scale, metric) in found {
            if !self.gauges.iter().any(|(open, ..)| *open == gauge) {
                let start = self.clock.now();
                let attributes = attributes(&gauge);
                let spec =
                    SeriesSpec { attributes, ..SeriesSpec::new(metric, gauge.resource.clone(), start) };
                let series = self.registry.open(spec);
                self.gauges.push((gauge, scale, series));
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

/// The mean of the files that hold a number that can be; `None` if none does.
fn mean(gauge: &Gauge, scale: Scale) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for file in &gauge.files {
        match read_number(file).map(|n| n as f64 * scale.factor) {
            Ok(value) if (scale.least..=scale.most).contains(&value) => {
                sum += value;
                count += 1;
            }
            Ok(value) => tracing::debug!("{}: {value} cannot be, and is left out", file.display()),
            Err(fault) => tracing::debug!("{}", fault.what),
        }
    }
    (count > 0).then(|| sum / f64::from(count))
}

impl Source for ContextSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.ticks += 1;
        if self.ticks.is_multiple_of(LOOK_EVERY) {
            self.look(out);
        }
        if self.gauges.is_empty() {
            return Err(self.gone());
        }
        out.begin(Window::new(self.read_at, self.clock.now()));
        for (gauge, scale, series) in &self.gauges {
            if let Some(value) = mean(gauge, *scale) {
                out.push(*series, Value::of_gauge(value));
            }
        }
        self.read_at = self.clock.now();
        Ok(())
    }
}
