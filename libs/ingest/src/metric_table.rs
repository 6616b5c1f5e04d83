//! The metrics that a sender declares. Declarations are checked against each other and against the agent's
//! own metrics, and get the agent's step: a joule from outside is counted in microjoules too.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use wattrace_api::{Kind, Metric, MetricId, Registry, Unit};

use crate::error::PointError;

/// The steps of counters: 10⁻ⁿ units, as literals because powers of floats are not exact.
const STEPS: [f64; 19] = [
    1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
    1e-16, 1e-17, 1e-18,
];

/// Most bytes of a metric's name and of its unit, as OpenTelemetry has them.
const MOST_NAME: usize = 255;
const MOST_UNIT: usize = 63;
/// Most bytes of a description; the rest is left out.
const MOST_DESCRIPTION: usize = 1024;

/// A declared metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredMetric {
    /// Its id in the registry.
    pub id: MetricId,
    /// Counter or gauge.
    pub kind: Kind,
    /// A counter's step is 10⁻`digits` units; 0 for gauges.
    pub digits: u32,
}

/// A declaration of a metric, as received.
#[derive(Clone, Copy, Debug)]
pub struct MetricDeclaration<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its unit's UCUM code.
    pub unit: &'a str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One sentence; may be empty.
    pub description: &'a str,
}

/// The metrics of one sender.
#[derive(Debug)]
pub struct MetricTable {
    registry: Arc<Registry>,
    known: HashMap<String, (DeclaredMetric, String)>,
    limit: usize,
}

impl MetricTable {
    /// An empty table for at most `limit` metrics. A declared metric stays until the agent ends.
    pub fn new(registry: Arc<Registry>, limit: usize) -> Self {
        Self { registry, known: HashMap::new(), limit }
    }

    /// The metric `name`, if it is declared.
    pub fn get(&self, name: &str) -> Option<DeclaredMetric> {
        Some(self.known.get(name)?.0)
    }

    /// Adds a metric. The same declaration again returns the same metric.
    ///
    /// # Errors
    /// [`PointError::Conflict`] if it contradicts another declaration, or if the table is full.
    pub fn declare(&mut self, new: MetricDeclaration<'_>) -> Result<DeclaredMetric, PointError> {
        if let Some((known, unit)) = self.known.get(new.name) {
            if (known.kind, unit.as_str()) == (new.kind, new.unit) {
                return Ok(*known);
            }
            return Err(PointError::Conflict(format!(
                "metric {} is declared twice: as {} in {unit} and as {} in {}",
                new.name,
                known.kind.as_str(),
                new.kind.as_str(),
                new.unit,
            )));
        }
        if new.name.len() > MOST_NAME || new.unit.len() > MOST_UNIT {
            return Err(PointError::Conflict(format!(
                "a metric's name has at most {MOST_NAME} bytes, and its unit {MOST_UNIT}"
            )));
        }
        if new.name.is_empty() {
            return Err(PointError::Conflict("a metric without a name".to_owned()));
        }
        if self.known.len() >= self.limit {
            let message = format!("there are {} metrics of this sender already: the limit", self.limit);
            return Err(PointError::Conflict(message));
        }
        let unit = unit(new.unit);
        let digits = if new.kind == Kind::Counter { digits(&unit) } else { 0 };
        let step = STEPS.get(digits as usize).copied().unwrap_or(1.0);
        let description = &new.description[..new.description.floor_char_boundary(MOST_DESCRIPTION)];
        let (name, description) = (new.name.to_owned().into(), description.to_owned().into());
        let metric = Metric { name, unit, kind: new.kind, step, description };
        let id =
            self.registry.metric(&metric).map_err(|conflict| PointError::Conflict(conflict.to_string()))?;
        let declared = DeclaredMetric { id, kind: new.kind, digits };
        self.known.insert(new.name.to_owned(), (declared, new.unit.to_owned()));
        Ok(declared)
    }
}

/// Decimal digits of a counter's step: the same as for the agent's own counters of that unit (grams and
/// money: those of the plugin `carbon`), 0 for counts of things, 6 for everything else.
fn digits(unit: &Unit) -> u32 {
    match unit {
        Unit::Second => 9,
        Unit::Byte | Unit::Count(_) => 0,
        Unit::Other(code) if code == "g" || is_currency(code) => 9,
        _ => 6,
    }
}

fn unit(code: &str) -> Unit {
    match code {
        "J" => Unit::Joule,
        "W" => Unit::Watt,
        "s" => Unit::Second,
        "By" => Unit::Byte,
        "" | "1" => Unit::Count("1"),
        "%" => Unit::Count("%"),
        _ if is_currency(code) => other(code),
        _ if code.starts_with('{') && code.ends_with('}') => {
            interned(code).map_or_else(|| other(code), Unit::Count)
        }
        _ => other(code),
    }
}

/// `{EUR}`: an annotation that is a currency, which has fractions, and not a thing to count.
fn is_currency(code: &str) -> bool {
    let letters = code.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    letters.is_some_and(|letters| letters.len() == 3 && letters.bytes().all(|b| b.is_ascii_uppercase()))
}

fn other(code: &str) -> Unit {
    Unit::Other(code.to_owned().into())
}

/// Most annotated units (`{point}`) that are interned: they are never freed.
const MOST_UNITS: usize = 1000;

/// `code` as a `&'static str`, which [`Unit::Count`] needs. `None` if [`MOST_UNITS`] are interned already.
fn interned(code: &str) -> Option<&'static str> {
    static UNITS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut units = UNITS.lock().unwrap_or_else(PoisonError::into_inner);
    let units = units.get_or_insert_default();
    if let Some(known) = units.get(code) {
        return Some(known);
    }
    if units.len() >= MOST_UNITS {
        return None;
    }
    let code: &'static str = Box::leak(code.to_owned().into_boxed_str());
    units.insert(code);
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::metric;

    fn declaration<'a>(name: &'a str, unit: &'a str, kind: Kind) -> MetricDeclaration<'a> {
        MetricDeclaration { name, unit, kind, description: "" }
    }

    #[test]
    fn the_agents_own_metrics_keep_their_ids_and_steps() {
        let registry = Registry::new();
        let points = Metric::counter("p", Unit::Count("{point}"), 1.0, "");
        // As the plugin `carbon` declares them.
        let carbon = Metric::counter("hw.carbon", Unit::Other("g".into()), 1e-9, "");
        let cost = Metric::counter("hw.cost", Unit::Other("{EUR}".into()), 1e-9, "");
        let ids = [&metric::HW_ENERGY, &metric::CONSUMER_CPU_TIME, &points, &carbon, &cost]
            .map(|m| registry.metric(m).unwrap());
        let mut metrics = MetricTable::new(registry, 10);
        let names = [
            ("hw.energy", "J", 6),
            ("wattrace.consumer.cpu.time", "s", 9),
            ("p", "{point}", 0),
            ("hw.carbon", "g", 9),
            ("hw.cost", "{EUR}", 9),
        ];
        for (id, (name, unit, digits)) in ids.into_iter().zip(names) {
            let declared = metrics.declare(declaration(name, unit, Kind::Counter)).unwrap();
            assert_eq!(declared, DeclaredMetric { id, kind: Kind::Counter, digits });
        }
    }

    #[test]
    fn a_declaration_that_contradicts_an_earlier_one_is_refused() {
        let registry = Registry::new();
        registry.metric(&metric::HW_ENERGY).unwrap();
        let mut metrics = MetricTable::new(registry, 10);
        let error = metrics.declare(declaration("hw.energy", "W", Kind::Gauge)).unwrap_err().to_string();
        assert!(error.contains("hw.energy") && error.contains("gauge in W"), "{error}");
        metrics.declare(declaration("x", "W", Kind::Gauge)).unwrap();
        metrics.declare(declaration("x", "W", Kind::Gauge)).unwrap();
        let error = metrics.declare(declaration("x", "J", Kind::Counter)).unwrap_err();
        assert_eq!(error.reason(), "conflict");
        assert!(metrics.declare(declaration("", "W", Kind::Gauge)).is_err());
    }

    #[test]
    fn the_texts_of_a_metric_are_limited() {
        let registry = Registry::new();
        let mut metrics = MetricTable::new(registry.clone(), 10);
        let (name, unit, text) = ("n".repeat(255), "u".repeat(63), "é".repeat(100_000));
        let whole = MetricDeclaration { name: &name, unit: &unit, kind: Kind::Gauge, description: &text };
        let id = metrics.declare(whole).unwrap().id;
        let series = registry.open(wattrace_api::SeriesSpec::new(
            id,
            wattrace_api::Resource::HOST,
            wattrace_api::Timestamp(0),
        ));
        assert_eq!(registry.get(series).unwrap().metric.description.len(), 1024);
        let (name, unit) = ("n".repeat(256), "u".repeat(64));
        assert!(metrics.declare(MetricDeclaration { name: &name, ..whole }).is_err());
        assert!(metrics.declare(MetricDeclaration { name: "m", unit: &unit, ..whole }).is_err());
    }

    #[test]
    fn the_number_of_metrics_is_limited() {
        let mut metrics = MetricTable::new(Registry::new(), 1);
        metrics.declare(declaration("a", "W", Kind::Gauge)).unwrap();
        assert!(metrics.declare(declaration("b", "W", Kind::Gauge)).is_err());
        metrics.declare(declaration("a", "W", Kind::Gauge)).unwrap();
    }
}
