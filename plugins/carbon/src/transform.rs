//! The pipeline element: adds a series of carbon, or cost, for every series of energy.
//!
//! Each increment of energy is multiplied by the rate in force when it is reported, or, where prices depend
//! on the time of day, by the rates in its window. The arithmetic is exact: microjoules times millionths per
//! kilowatt hour, summed as integers; the counter shows the sum's whole billionths. So the error is below one
//! nanogram however many windows were summed. When a series ends, the next one of its kind takes over the
//! remainder: otherwise a thousand processes of a millisecond each would cost less than one that runs for a
//! second.

use std::mem;
use std::sync::Arc;

use tracing::info;
use wattrace_api::{
    Batch, Clock, ConsumerKind, Domain, Error, Increments, Kind, Metric, MetricId, Registry, Resource,
    ResultExt, Series, SeriesId, SeriesSpec, Timestamp, Transform, Unit, Value, Window, metric,
};
use wattrace_select::Decisions;
use wattrace_select::derived::{derived_spec, derived_start};

use crate::config::CarbonConfig;
use crate::countries::{self, Country};
use crate::rate::{Quantity, Rate};

/// Units per step: a nanogram, or a billionth of a currency.
const BILLIONTH: f64 = 1e-9;
/// Microjoules times millionths per kilowatt hour in one step.
const PRODUCT_PER_STEP: u128 = 3_600_000_000_000 / 1000;

/// The element.
pub(crate) struct Transformer {
    clock: Clock,
    context: Context,
    quantities: Vec<DerivedQuantity>,
    /// `None`: not a series of energy.
    energies: Decisions<Option<EnergySeries>>,
    /// The points and ends to add to the batch; empty between calls.
    out: Batch,
}

/// What derived series are opened with.
struct Context {
    registry: Arc<Registry>,
    /// When the transform was opened.
    since: Timestamp,
}

/// Carbon or cost.
struct DerivedQuantity {
    rate: Rate,
    /// Each metric of energy, and the metric derived from it.
    metrics: [(MetricId, MetricId); 3],
    /// The rate, as a gauge.
    rate_series: SeriesId,
    /// The failures to read the rate's file.
    failures_series: SeriesId,
    remainders: Vec<Remainder>,
}

/// What ended series of one kind had beyond whole steps, until the next one of that kind begins.
struct Remainder {
    metric: MetricId,
    kind: Option<ConsumerKind>,
    domain: Option<Arc<Domain>>,
    product: u128,
}

/// A series of energy.
struct EnergySeries {
    increments: Increments,
    /// One per quantity.
    derived: Vec<DerivedSeries>,
}

/// A series of carbon or cost.
struct DerivedSeries {
    id: SeriesId,
    /// Microjoules times millionths per kilowatt hour.
    product: u128,
    /// Index into [`DerivedQuantity::remainders`].
    remainder: usize,
}

impl Transformer {
    /// Reads the rates and declares the metrics.
    ///
    /// # Errors
    /// Retry, if the only source of a rate is a file that cannot be read. Fatal, if another plugin has
    /// declared a metric of the same name.
    pub(crate) fn open(config: &CarbonConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        if let Some(Country { grams_per_kwh, year, .. }) = countries::find(&config.country) {
            info!("carbon intensity of {}: {grams_per_kwh} g/kWh, the average of {year}", config.country);
        }
        let context = Context { since: clock.now(), registry };
        let open = |source| DerivedQuantity::open(Rate::open(source)?, &context);
        let quantities = config.resolve()?.into_iter().map(open).collect::<Result<_, Error>>()?;
        let energies = Decisions::new(context.registry.clone(), false);
        Ok(Self { clock, context, quantities, energies, out: Batch::default() })
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Self { clock, context, quantities, energies, out } = self;
        for segment in batch.segments() {
            let window = segment.window;
            let mut begun = false;
            for (id, value) in segment.points() {
                let decide =
                    |series: &Arc<Series>, _| EnergySeries::open(quantities, context, series, window);
                let Some(Some(energy)) = energies.of(id, decide) else { continue };
                if !mem::replace(&mut begun, true) {
                    out.begin(window);
                    let end = clock.unix_nanos(window.end);
                    quantities.iter_mut().for_each(|quantity| quantity.update_rate(window, end, out));
                }
                let increment = energy.increments.next(window, value);
                for (derived, quantity) in energy.derived.iter_mut().zip(&*quantities) {
                    derived.product += quantity.rate.product(increment);
                    let steps = derived.product / PRODUCT_PER_STEP;
                    out.push(derived.id, Value::of_steps(u64::try_from(steps).unwrap_or(u64::MAX)));
                }
            }
        }
        for energy in batch.ended().iter().filter_map(|&id| energies.remove(id).flatten()) {
            for (derived, quantity) in energy.derived.into_iter().zip(&mut *quantities) {
                quantity.remainders[derived.remainder].product += derived.product % PRODUCT_PER_STEP;
                out.end(derived.id);
            }
        }
        if !out.is_empty() {
            batch.append(out);
            out.clear();
        }
        Ok(())
    }
}

impl EnergySeries {
    /// Opens the derived series of `series`; `None` if it is not energy.
    fn open(
        quantities: &mut [DerivedQuantity],
        context: &Context,
        series: &Series,
        window: Window,
    ) -> Option<Self> {
        let start = derived_start(series, context.since, window);
        let derived = quantities.iter_mut().filter_map(|quantity| quantity.derive(series, start, context));
        let derived: Vec<_> = derived.collect();
        (!derived.is_empty()).then(|| Self { increments: Increments::new(series, context.since), derived })
    }
}

impl DerivedQuantity {
    fn open(rate: Rate, context: &Context) -> Result<Self, Error> {
        let Context { registry, since } = context;
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
            Ok(registry.open(SeriesSpec::new(metric, Resource::HOST, *since)))
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
            description: format!("How often {} could not be read or was invalid", source.key).into(),
        })?;
        Ok(Self { rate, metrics, rate_series, failures_series, remainders: Vec::new() })
    }

    /// Checks the rate's file if it is due, determines the rates in `window`, and reports the rate at its
    /// end.
    fn update_rate(&mut self, window: Window, end: u64, out: &mut Batch) {
        let was_due = self.rate.check(window.end);
        self.rate.cover(window, end);
        if was_due {
            out.push(self.rate_series, Value::of_gauge(self.rate.value()));
            if !self.rate.source().file.as_os_str().is_empty() {
                out.push(self.failures_series, Value::of_steps(self.rate.failures()));
            }
        }
    }

    /// Opens the derived series of `series`; `None` if that is not energy.
    fn derive(&mut self, series: &Series, start: Timestamp, context: &Context) -> Option<DerivedSeries> {
        let (_, metric) = *self.metrics.iter().find(|(energy, _)| *energy == series.metric_id)?;
        let remainder = self.remainder(metric, series);
        let id = context.registry.open(derived_spec(series, metric, start));
        Some(DerivedSeries { id, product: mem::take(&mut self.remainders[remainder].product), remainder })
    }

    /// The index of the remainder of series like `series`.
    fn remainder(&mut self, metric: MetricId, series: &Series) -> usize {
        let kind = series.consumer.as_ref().map(|consumer| consumer.kind());
        let matches = |r: &Remainder| (r.metric, r.kind, &r.domain) == (metric, kind, &series.domain);
        self.remainders.iter().position(matches).unwrap_or_else(|| {
            self.remainders.push(Remainder { metric, kind, domain: series.domain.clone(), product: 0 });
            self.remainders.len() - 1
        })
    }
}

#[cfg(test)]
mod tests;
