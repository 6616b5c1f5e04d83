//! The agent's own ledger: what its jsonl output wrote beside, run by run, and what of it a collector lacks.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Which metrics are compared.
pub(crate) const METRICS: [&str; 3] = ["wattrace.consumer.energy", "hw.energy", "wattrace.domain.residual"];

/// The identity of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) metric: String,
    pub(crate) start: u64,
    pub(crate) domain: String,
    pub(crate) consumer: String,
    pub(crate) pid: String,
}

/// A value in microjoules, and when it was measured, in nanoseconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) time: u64,
    pub(crate) steps: u64,
    /// Whether the collector refused it for good.
    pub(crate) is_refused: bool,
}

/// Microjoules.
pub(crate) fn steps(joules: f64) -> u64 {
    (joules * 1e6).round() as u64
}

/// The values of a run: by stream, by time.
pub(crate) type Ledger = HashMap<Key, BTreeMap<u64, u64>>;

/// Reads a file of JSON lines, whose last line may be unfinished.
pub(crate) fn read(path: &Path) -> Ledger {
    let mut ledger = Ledger::new();
    let content = std::fs::read_to_string(path).unwrap_or_default();
    for line in content.lines() {
        let Ok(point) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let metric = point["metric"].as_str().unwrap_or_default();
        if !METRICS.contains(&metric) {
            continue;
        }
        let attribute = |name: &str| match &point["attributes"][name] {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let key = Key {
            metric: metric.to_owned(),
            start: point["start_unix_nano"].as_u64().unwrap(),
            domain: attribute("wattrace.domain"),
            consumer: attribute("wattrace.consumer.type"),
            pid: attribute("process.pid"),
        };
        let value = steps(point["value"].as_f64().unwrap());
        ledger.entry(key).or_default().insert(point["time_unix_nano"].as_u64().unwrap(), value);
    }
    ledger
}

/// A run of an agent.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) ledger: Ledger,
    pub(crate) due: Due,
}

/// What of a run has to arrive.
#[derive(Debug)]
pub(crate) enum Due {
    /// Everything: the agent has ended in order.
    All,
    /// At least these values: what an agent that was killed has spooled.
    Spooled(HashMap<Key, Value>),
}

impl Due {
    /// How much of a stream that ended at `last`, in microjoules.
    fn of(&self, key: &Key, last: u64) -> u64 {
        match self {
            Due::All => last,
            Due::Spooled(values) => values.get(key).map_or(0, |value| value.steps),
        }
    }
}

/// What a collector lacks or has wrong of a run.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Streams that are complete: their newest value is that of the ledger.
    pub(crate) complete: usize,
    /// Those of them whose newest value the collector refused for good.
    pub(crate) refused: usize,
    /// Streams of which only values are missing that a kill came before they were spooled, these values in
    /// microjoules, and the longest time of such values in nanoseconds.
    pub(crate) cut: usize,
    pub(crate) cut_steps: u64,
    pub(crate) cut_nanos: u64,
    /// Streams of which more is missing, and those with another value than the ledger's at that time.
    pub(crate) missing: Vec<String>,
    pub(crate) wrong: Vec<String>,
}

impl Difference {
    /// Whether all that the ledger says is known.
    pub(crate) fn is_whole(&self) -> bool {
        self.complete > 0 && self.cut_steps == 0 && self.failures() == 0
    }

    /// Streams that are missing or wrong.
    pub(crate) fn failures(&self) -> usize {
        self.missing.len() + self.wrong.len()
    }

    pub(crate) fn add(&mut self, more: Difference) {
        self.complete += more.complete;
        self.refused += more.refused;
        self.cut += more.cut;
        self.cut_steps += more.cut_steps;
        self.cut_nanos = self.cut_nanos.max(more.cut_nanos);
        self.missing.extend(more.missing);
        self.wrong.extend(more.wrong);
    }
}

/// Compares a run with what the collector knows.
pub(crate) fn compare(run: &Run, seen: &HashMap<Key, Value>) -> Difference {
    let mut difference = Difference::default();
    for (key, values) in &run.ledger {
        let Some((&last_time, &last)) = values.iter().next_back() else { continue };
        let due = run.due.of(key, last);
        let first_time = values.keys().next().copied().unwrap_or(last_time);
        let known = seen.get(key).copied();
        let Value { time, steps, is_refused } =
            known.unwrap_or(Value { time: first_time, steps: 0, is_refused: false });
        let expected = values.range(..=time).next_back().map_or(0, |(_, steps)| *steps);
        if time >= last_time && steps > last {
            // The kill has cut the ledger.
            difference.complete += 1;
        } else if known.is_some() && steps != expected {
            difference.wrong.push(format!("{key:?}: {known:?}, and {expected} µJ in the ledger"));
        } else if steps == last {
            difference.complete += 1;
            difference.refused += usize::from(is_refused);
        } else if steps >= due {
            difference.cut += 1;
            difference.cut_steps += last - steps;
            difference.cut_nanos = difference.cut_nanos.max(last_time.saturating_sub(time));
        } else {
            difference.missing.push(format!("{key:?}: {known:?} of {last} µJ at {last_time}, {due} µJ due"));
        }
    }
    difference
}
