//! The pipeline element: adds a series of carbon, or cost, beside every series of energy.
//!
//! Each increment of energy is multiplied by the rate that is in force when it is reported, or, where prices
//! depend on the time of day, by those that held in its window; as integers: microjoules by millionths per
//! kilowatt hour. The products are summed without rounding, and the counter shows their sum's whole
//! billionths. So it never drifts: it is off by less than a nanogram, however many windows went into it. What
//! a series has beyond that when it ends goes to the next one of its kind: a thousand processes of a
//! millisecond each would otherwise cost less than one that runs for a second.

use std::mem;
use std::sync::Arc;

use tracing::info;
use wattrace_api::{
    Batch, Clock, ConsumerKind, Domain, Error, Kind, Metric, MetricId, Registry, Resource, ResultExt, Series,
    SeriesId, SeriesMap, SeriesSpec, Timestamp, Transform, Unit, Value, Window, metric,
};

use crate::CarbonConfig;
use crate::countries::{self, Country};
use crate::rate::{Quantity, Rate};

/// Units per step: a nanogram, or a billionth of a currency.
const BILLIONTH: f64 = 1e-9;
/// Microjoules times millionths per kilowatt hour that make a step.
const PRODUCT_PER_STEP: u128 = 3_600_000_000_000 / 1000;

/// The element.
pub(crate) struct Transformer {
    registry: Arc<Registry>,
    clock: Clock,
    counts: Vec<Count>,
    /// Per series, looked up once; `None`: it is no energy.
    meters: SeriesMap<Option<Meter>>,
    /// The points being made, and the series that are over; empty between calls.
    out: Batch,
    over: Vec<SeriesId>,
}

/// One quantity, derived from energy.
struct Count {
    rate: Rate,
    /// Each metric of energy, and what it becomes.
    metrics: [(MetricId, MetricId); 3],
    /// The rate itself, as a gauge, and the failures to read it.
    rate_series: SeriesId,
    failures_series: SeriesId,
    rests: Vec<Rest>,
}

/// What series that are over had beyond whole steps, until the next one of the same kind begins.
struct Rest {
    metric: MetricId,
    kind: Option<ConsumerKind>,
    domain: Option<Arc<Domain>>,
    product: u128,
}

/// A series of energy.
struct Meter {
    /// In microjoules.
    last: u64,
    /// By quantity.
    sums: Vec<Sum>,
}

struct Sum {
    series: SeriesId,
    /// Microjoules times millionths per kilowatt hour.
    product: u128,
    /// The number of its rest.
    rest: usize,
}

impl Transformer {
    /// Reads the rates and declares the metrics.
    ///
    /// # Errors
    /// Retry, if the only source of a rate is a file that can't be read. Fatal, if another plugin took a
    /// metric's name.
    pub(crate) fn open(config: &CarbonConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let now = clock.now();
        if let Some(Country { grams_per_kwh, year, .. }) = countries::find(&config.country) {
            info!("carbon intensity of {}: {grams_per_kwh} g/kWh, the average of {year}", config.country);
        }
        let rates: Vec<_> = config.sources()?.into_iter().map(Rate::open).collect::<Result<_, Error>>()?;
        let counts = rates.into_iter().map(|rate| Count::open(rate, now, &registry));
        let counts = counts.collect::<Result<_, Error>>()?;
        let (meters, out, over) = (SeriesMap::default(), Batch::default(), Vec::new());
        Ok(Self { registry, clock, counts, meters, out, over })
    }

    fn meter(counts: &mut [Count], registry: &Registry, id: SeriesId) -> Option<Meter> {
        let series = registry.get(id)?;
        let sums: Vec<_> = counts.iter_mut().filter_map(|count| count.sum(&series, registry)).collect();
        (!sums.is_empty()).then_some(Meter { last: 0, sums })
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Self { registry, clock, counts, meters, out, over } = self;
        for segment in batch.segments() {
            let mut begun = false;
            for (id, value) in segment.points() {
                let meter = meters.get_or_insert_with(id, || Self::meter(counts, registry, id));
                let Some(meter) = meter else { continue };
                if !mem::replace(&mut begun, true) {
                    out.begin(segment.window);
                    let end = clock.unix_nanos(segment.window.end);
                    counts.iter_mut().for_each(|count| count.check(segment.window, end, out));
                }
                let energy = value.steps().saturating_sub(mem::replace(&mut meter.last, value.steps()));
                for (sum, count) in meter.sums.iter_mut().zip(&*counts) {
                    sum.product += count.rate.product(energy);
                    let whole = sum.product / PRODUCT_PER_STEP;
                    out.push(sum.series, Value::of_steps(u64::try_from(whole).unwrap_or(u64::MAX)));
                }
            }
        }
        if !out.is_empty() {
            batch.append(out);
            out.clear();
        }
        for meter in batch.ended().iter().filter_map(|&id| meters.remove(id).flatten()) {
            for (sum, count) in meter.sums.into_iter().zip(&mut *counts) {
                count.rests[sum.rest].product += sum.product % PRODUCT_PER_STEP;
                over.push(sum.series);
            }
        }
        over.drain(..).for_each(|series| batch.end(series));
        Ok(())
    }
}

impl Count {
    fn open(rate: Rate, now: Timestamp, registry: &Registry) -> Result<Self, Error> {
        let source = rate.source();
        let (name, what) = match source.quantity {
            Quantity::Carbon => ("carbon", "Greenhouse gases, in grams of CO2 equivalent,"),
            Quantity::Cost => ("cost", "Price"),
        };
        let unit = Unit::Other(source.unit.clone().into());
        let derived = |energy: &Metric| {
            let description = format!("{what} of {}", energy.name);
            let derived = Metric {
                name: energy.name.replace("energy", name).into(),
                unit: unit.clone(),
                step: BILLIONTH,
                description: description.into(),
                ..energy.clone()
            };
            Ok((registry.metric(energy).or_fatal()?, registry.metric(&derived).or_fatal()?))
        };
        let metrics = [
            derived(&metric::CONSUMER_ENERGY)?,
            derived(&metric::HW_ENERGY)?,
            derived(&metric::HW_HOST_ENERGY)?,
        ];
        let series = |metric: &Metric| {
            let metric = registry.metric(metric).or_fatal()?;
            Ok(registry.open(SeriesSpec::new(metric, Resource::HOST, now)))
        };
        let rate_series = series(&Metric {
            name: format!("wattrace.{name}.rate").into(),
            unit: Unit::Other(format!("{}/(kW.h)", source.unit).into()),
            kind: Kind::Gauge,
            step: 1.0,
            description: format!("{what} of a kilowatt hour, as used now").into(),
        })?;
        let failures_series = series(&Metric {
            name: format!("wattrace.{name}.failures").into(),
            unit: Unit::Count("{failure}"),
            kind: Kind::Counter,
            step: 1.0,
            description: format!("How often {} could not be read, or made no sense", source.key).into(),
        })?;
        Ok(Self { rate, metrics, rate_series, failures_series, rests: Vec::new() })
    }

    /// Looks at the file if it is time to, finds out what holds in `window`, and tells what is in force at
    /// its end.
    fn check(&mut self, window: Window, end: u64, out: &mut Batch) {
        let looked = self.rate.check(window.end);
        self.rate.cover(window, end);
        if looked {
            out.push(self.rate_series, Value::of_gauge(self.rate.value()));
            if !self.rate.source().file.as_os_str().is_empty() {
                out.push(self.failures_series, Value::of_steps(self.rate.failures()));
            }
        }
    }

    /// Opens the sum beside `series`, if that is energy.
    fn sum(&mut self, series: &Series, registry: &Registry) -> Option<Sum> {
        let (_, metric) = *self.metrics.iter().find(|(energy, _)| *energy == series.metric_id)?;
        let rest = self.rest(metric, series);
        let series = registry.open(SeriesSpec {
            metric,
            resource: series.resource.clone(),
            domain: series.domain.clone(),
            consumer: series.consumer.clone(),
            attributes: series.attributes.clone(),
            start: series.start,
        });
        Some(Sum { series, product: mem::take(&mut self.rests[rest].product), rest })
    }

    /// The number of the rest of those like `series`.
    fn rest(&mut self, metric: MetricId, series: &Series) -> usize {
        let kind = series.consumer.as_ref().map(|consumer| consumer.kind());
        let is_it = |rest: &Rest| (rest.metric, rest.kind, &rest.domain) == (metric, kind, &series.domain);
        self.rests.iter().position(is_it).unwrap_or_else(|| {
            self.rests.push(Rest { metric, kind, domain: series.domain.clone(), product: 0 });
            self.rests.len() - 1
        })
    }
}

#[cfg(test)]
mod tests;
