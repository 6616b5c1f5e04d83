//! What a viewer is sent: what one batch of the pipeline says about energy and its use. Everything is
//! described once, before it is used; then only numbers follow. On the control socket a message is a line of
//! JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// What one batch says. Its parts take effect in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Points were lost, because the viewer did not read them in time. Whatever is needed is described again,
    /// under new numbers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// How many points this viewer has lost so far.
    #[serde(skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Consumers that are new, or whose names or attributes have changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<ConsumerDescription>,
    /// Domains that are new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainDescription>,
    /// Series that are new.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesDescription>,
    /// The points, by the window that they cover.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Points>,
    /// Series that get no more points. Their ids may be used again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<u32>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Message {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Points in all windows.
    pub fn points(&self) -> usize {
        self.windows.iter().map(|window| window.ids.len() + window.gauges.len()).sum()
    }
}

/// A consumer, or what has changed about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConsumerDescription {
    /// By which series refer to it.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// Which one: a process's pid; empty for closing entries and for what is in no group of the kind.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// When it began, in nanoseconds since the Unix epoch.
    #[serde(default)]
    pub start_unix_nano: u64,
    /// What people call it.
    pub name: String,
    /// Of a process: the root of its tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// What is known about it, under OpenTelemetry's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// The process at the root of a tree: below init, or the oldest one that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Root {
    /// Its pid.
    pub id: String,
    /// When it began, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// What people call it.
    pub name: String,
}

/// An energy counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainDescription {
    /// `package-0`, …: by which series refer to it.
    pub name: String,
    /// `measured`, `estimated` or `simulated`.
    pub origin: String,
    /// Whether a total over all domains counts it: it neither lies within another one, nor is it a meter of
    /// the whole machine.
    pub counted: bool,
}

/// What a series counts or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// Energy that a domain's meter counts, µJ.
    Meter,
    /// Energy of a domain that is attributed to a consumer, µJ.
    Energy,
    /// Half the width of the 95 % interval of that, J; a gauge.
    Uncertainty,
    /// A consumer's time on CPUs, ns.
    CpuTime,
    /// Time that a GPU's engines worked for a consumer, ns.
    GpuTime,
    /// Memory of a GPU that a consumer holds, bytes; a gauge.
    GpuMemory,
    /// Power that a domain draws at no load, W; a gauge.
    StaticPower,
}

/// A series of points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesDescription {
    /// By which points refer to it.
    pub id: u32,
    /// What its values are.
    pub quantity: Quantity,
    /// The number of its consumer, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<u64>,
    /// The name of its domain, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// When its counter stood at zero, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
}

/// The points of a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Points {
    /// Begin of the window, in nanoseconds since the Unix epoch.
    pub start: u64,
    /// Its end.
    pub end: u64,
    /// Series of counters.
    pub ids: Vec<u32>,
    /// Their values, as many: cumulative since the start of the series.
    pub values: Vec<u64>,
    /// Series of gauges, with their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gauges: Vec<(u32, f64)>,
}

impl Points {
    /// Without points yet.
    pub fn of(start: u64, end: u64) -> Self {
        Self { start, end, ..Self::default() }
    }

    /// Adds a counter's value.
    pub fn count(&mut self, id: u32, value: u64) {
        self.ids.push(id);
        self.values.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_short_and_is_read_as_it_was_written() {
        let mut points = Points::of(1, 2);
        points.count(7, 1_234_567);
        let message = Message { windows: vec![points], ended: vec![3], ..Message::default() };
        let text = serde_json::to_string(&message).unwrap();
        assert_eq!(text, r#"{"windows":[{"start":1,"end":2,"ids":[7],"values":[1234567]}],"ended":[3]}"#);
        assert_eq!(serde_json::from_str::<Message>(&text).unwrap(), message);
        assert_eq!((message.points(), Message::default().is_empty()), (1, true));
        // A later agent may say more.
        assert!(serde_json::from_str::<Message>(r#"{"more":1}"#).unwrap().is_empty());
    }
}
