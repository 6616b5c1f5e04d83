//! A device's temperature, clocks and memory, as context for its energy. Off by default
//! (`plugins.nvidia.context`).

use std::borrow::Cow;
use std::sync::Arc;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use wattrace_api::{
    Attribute, Batch, Error, Metric, MetricId, Registry, Resource, ResultExt, SeriesId, SeriesSpec,
    Timestamp, Unit, Value, Window,
};

use crate::session::{is_lost, is_unsupported};

/// OpenTelemetry's `hw.temperature`, as the plugin `context` declares it.
const TEMPERATURE: Metric =
    Metric::gauge("hw.temperature", Unit::Other(Cow::Borrowed("Cel")), "Temperature of a sensor");
const CLOCK: Metric =
    Metric::gauge("wattrace.gpu.clock", Unit::Other(Cow::Borrowed("Hz")), "Frequency of a clock of a GPU");
/// OpenTelemetry's `hw.gpu.memory.usage` and `hw.gpu.memory.limit`.
const MEMORY_USAGE: Metric = Metric::gauge("hw.gpu.memory.usage", Unit::Byte, "Memory of a GPU in use");
const MEMORY_LIMIT: Metric = Metric::gauge("hw.gpu.memory.limit", Unit::Byte, "Memory that a GPU has");

/// What is read, and its attribute.
struct Quantity {
    metric: &'static Metric,
    attribute: Option<(&'static str, &'static str)>,
    read: fn(&Device<'_>) -> Result<f64, NvmlError>,
}

static QUANTITIES: [Quantity; 5] = [
    Quantity {
        metric: &TEMPERATURE,
        attribute: Some(("hw.sensor_location", "gpu")),
        read: |device| device.temperature(TemperatureSensor::Gpu).map(f64::from),
    },
    Quantity {
        metric: &CLOCK,
        attribute: Some(("wattrace.clock", "sm")),
        read: |device| device.clock_info(Clock::SM).map(|megahertz| f64::from(megahertz) * 1e6),
    },
    Quantity {
        metric: &CLOCK,
        attribute: Some(("wattrace.clock", "memory")),
        read: |device| device.clock_info(Clock::Memory).map(|megahertz| f64::from(megahertz) * 1e6),
    },
    Quantity {
        metric: &MEMORY_USAGE,
        attribute: None,
        read: |device| device.memory_info().map(|memory| memory.used as f64),
    },
    Quantity {
        metric: &MEMORY_LIMIT,
        attribute: None,
        read: |device| device.memory_info().map(|memory| memory.total as f64),
    },
];

/// The context of one device.
pub(crate) struct Context {
    registry: Arc<Registry>,
    resource: Resource,
    /// One for each of [`QUANTITIES`].
    gauges: Vec<Gauge>,
    read_at: Timestamp,
}

struct Gauge {
    metric: MetricId,
    /// Opened with the first value.
    series: Option<SeriesId>,
    supported: bool,
}

impl Context {
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub(crate) fn new(registry: &Arc<Registry>, resource: Resource, now: Timestamp) -> Result<Self, Error> {
        let open = |quantity: &Quantity| {
            let metric = registry.metric(quantity.metric).or_fatal()?;
            Ok(Gauge { metric, series: None, supported: true })
        };
        let gauges = QUANTITIES.iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Self { registry: registry.clone(), resource, gauges, read_at: now })
    }

    /// Reads and writes all that the device supports.
    ///
    /// # Errors
    /// The device is lost.
    pub(crate) fn poll(
        &mut self,
        device: &Device<'_>,
        now: Timestamp,
        out: &mut Batch,
    ) -> Result<(), NvmlError> {
        let window = Window::new(self.read_at, now);
        out.begin(window);
        for (quantity, gauge) in QUANTITIES.iter().zip(&mut self.gauges).filter(|(_, gauge)| gauge.supported)
        {
            match (quantity.read)(device) {
                Ok(value) => {
                    let (registry, resource, metric) = (&self.registry, &self.resource, gauge.metric);
                    let open = || open(registry, resource, quantity, metric, window.start);
                    out.push(*gauge.series.get_or_insert_with(open), Value::of_gauge(value));
                }
                Err(e) if is_lost(&e) => return Err(e),
                // The rest is temporary: the next reading has it.
                Err(e) => gauge.supported = !is_unsupported(&e),
            }
        }
        self.read_at = now;
        Ok(())
    }

    /// Ends its series.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        self.gauges.iter_mut().filter_map(|gauge| gauge.series.take()).for_each(|series| out.end(series));
    }
}

fn open(
    registry: &Registry,
    resource: &Resource,
    quantity: &Quantity,
    metric: MetricId,
    start: Timestamp,
) -> SeriesId {
    let id = format!("gpu-{}", resource.id);
    let mut attributes =
        vec![Attribute::new("hw.id", id), Attribute::new("hw.type", resource.kind.hw_type().to_owned())];
    attributes.extend(quantity.attribute.map(|(key, value)| Attribute::new(key, value)));
    registry.open(SeriesSpec { attributes, ..SeriesSpec::new(metric, resource.clone(), start) })
}
