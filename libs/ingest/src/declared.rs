//! Metrics that others declare: checked against each other and against the agent's own, and given the agent's
//! step, so that a joule from outside is counted in microjoules like any other.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use wattrace_api::{Kind, Metric, MetricId, Registry, Unit};

use crate::fault::Fault;

/// The steps of counters: 10⁻ⁿ units, spelt out because powers of floats are not exact.
const STEPS: [f64; 19] = [
    1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
    1e-16, 1e-17, 1e-18,
];

/// What is remembered of a declared metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its number in the registry.
    pub id: MetricId,
    /// Counter or gauge.
    pub kind: Kind,
    /// A counter's steps are 10⁻`digits` units; 0 for gauges.
    pub digits: u32,
}

/// What somebody says of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Declaring<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its unit's UCUM code.
    pub unit: &'a str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One sentence, or nothing.
    pub description: &'a str,
}

/// All metrics that came from one place outside.
#[derive(Debug)]
pub struct Declarations {
    registry: Arc<Registry>,
    known: HashMap<String, (Declared, String)>,
    limit: usize,
}

impl Declarations {
    /// None yet, and at most `limit`: a declared metric stays for as long as the agent runs.
    pub fn new(registry: Arc<Registry>, limit: usize) -> Self {
        Self { registry, known: HashMap::new(), limit }
    }

    /// What is known of the metric `name`.
    pub fn get(&self, name: &str) -> Option<Declared> {
        Some(self.known.get(name)?.0)
    }

    /// Takes a declaration, the first or the same again.
    ///
    /// # Errors
    /// [`Fault::Conflict`] with another declaration, or if there are too many.
    pub fn declare(&mut self, new: Declaring<'_>) -> Result<Declared, Fault> {
        if let Some((known, unit)) = self.known.get(new.name) {
            if (known.kind, unit.as_str()) == (new.kind, new.unit) {
                return Ok(*known);
            }
            return Err(Fault::Conflict(format!(
                "metric {} is declared twice: as {} in {unit} and as {} in {}",
                new.name,
                known.kind.as_str(),
                new.kind.as_str(),
                new.unit,
            )));
        }
        if new.name.is_empty() {
            return Err(Fault::Conflict("a metric without a name".to_owned()));
        }
        if self.known.len() >= self.limit {
            let limit = self.limit;
            return Err(Fault::Conflict(format!("there are {limit} metrics from here already: the limit")));
        }
        let unit = unit(new.unit);
        let digits = if new.kind == Kind::Counter { digits(&unit) } else { 0 };
        let step = STEPS.get(digits as usize).copied().unwrap_or(1.0);
        let (name, description) = (new.name.to_owned().into(), new.description.to_owned().into());
        let metric = Metric { name, unit, kind: new.kind, step, description };
        let id = self.registry.metric(&metric).map_err(|conflict| Fault::Conflict(conflict.to_string()))?;
        let declared = Declared { id, kind: new.kind, digits };
        self.known.insert(new.name.to_owned(), (declared, new.unit.to_owned()));
        Ok(declared)
    }
}

/// Decimal digits of a counter's step: those that the agent's own counters of that unit have (grams and money
/// are `carbon`'s); whole pieces are counted whole; a millionth for everything else.
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

/// `{EUR}`: money is no piece of something.
fn is_currency(code: &str) -> bool {
    let letters = code.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    letters.is_some_and(|letters| letters.len() == 3 && letters.bytes().all(|b| b.is_ascii_uppercase()))
}

fn other(code: &str) -> Unit {
    Unit::Other(code.to_owned().into())
}

/// Most annotated units (`{point}`) that are kept for ever.
const MOST_UNITS: usize = 1000;

/// `code` for ever: [`Unit::Count`] holds what is written in programs, and these are the same units told from
/// outside.
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

    fn declaring<'a>(name: &'a str, unit: &'a str, kind: Kind) -> Declaring<'a> {
        Declaring { name, unit, kind, description: "" }
    }

    #[test]
    fn the_agents_own_metrics_are_the_same_from_outside() {
        let registry = Registry::new();
        let points = Metric::counter("p", Unit::Count("{point}"), 1.0, "");
        // As the plugin `carbon` declares them.
        let carbon = Metric::counter("hw.carbon", Unit::Other("g".into()), 1e-9, "");
        let cost = Metric::counter("hw.cost", Unit::Other("{EUR}".into()), 1e-9, "");
        let ids = [&metric::HW_ENERGY, &metric::CONSUMER_CPU_TIME, &points, &carbon, &cost]
            .map(|m| registry.metric(m).unwrap());
        let mut declarations = Declarations::new(registry, 10);
        let names = [
            ("hw.energy", "J", 6),
            ("wattrace.consumer.cpu.time", "s", 9),
            ("p", "{point}", 0),
            ("hw.carbon", "g", 9),
            ("hw.cost", "{EUR}", 9),
        ];
        for (id, (name, unit, digits)) in ids.into_iter().zip(names) {
            let declared = declarations.declare(declaring(name, unit, Kind::Counter)).unwrap();
            assert_eq!(declared, Declared { id, kind: Kind::Counter, digits });
        }
    }

    #[test]
    fn contradictions_are_refused_whoever_spoke_first() {
        let registry = Registry::new();
        registry.metric(&metric::HW_ENERGY).unwrap();
        let mut declarations = Declarations::new(registry, 10);
        let error = declarations.declare(declaring("hw.energy", "W", Kind::Gauge)).unwrap_err().to_string();
        assert!(error.contains("hw.energy") && error.contains("gauge in W"), "{error}");
        declarations.declare(declaring("x", "W", Kind::Gauge)).unwrap();
        declarations.declare(declaring("x", "W", Kind::Gauge)).unwrap();
        let error = declarations.declare(declaring("x", "J", Kind::Counter)).unwrap_err();
        assert_eq!(error.reason(), "conflict");
        assert!(declarations.declare(declaring("", "W", Kind::Gauge)).is_err());
    }

    #[test]
    fn their_number_is_limited() {
        let mut declarations = Declarations::new(Registry::new(), 1);
        declarations.declare(declaring("a", "W", Kind::Gauge)).unwrap();
        assert!(declarations.declare(declaring("b", "W", Kind::Gauge)).is_err());
        declarations.declare(declaring("a", "W", Kind::Gauge)).unwrap();
    }
}
