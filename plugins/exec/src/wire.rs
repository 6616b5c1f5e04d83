//! The lines of the protocol in docs/exec-plugins.md: their kinds and fields. `source.rs`, `output.rs` and
//! `recorder.rs` check their contents.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wattrace_api::Error;

/// The protocol and its version.
pub(crate) const PROTOCOL: &str = "exec/1";

/// The agent's first line.
#[derive(Debug, Serialize)]
pub(crate) struct Hello<'a> {
    pub(crate) wattrace: &'a str,
    /// `source` or `output`.
    pub(crate) role: &'a str,
    /// The element's name.
    pub(crate) name: &'a str,
    /// For sources, `polled` or `own`; empty for outputs.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) pace: &'a str,
    /// The agent's version.
    pub(crate) agent: &'a str,
}

/// Asks for points.
#[derive(Debug, Serialize)]
pub(crate) struct Poll {
    pub(crate) poll: PollWindow,
}

/// The window that a poll asks about.
#[derive(Debug, Serialize)]
pub(crate) struct PollWindow {
    /// Numbers the polls from 1.
    pub(crate) number: u64,
    /// When the previous poll was, or the child's start.
    pub(crate) start_unix_nano: u64,
    /// Now.
    pub(crate) end_unix_nano: u64,
    /// Ticks missed since the previous poll. This window includes them.
    pub(crate) missed: u64,
    /// Whether it is the last poll.
    pub(crate) last: bool,
}

/// A request to write everything out.
#[derive(Debug, Serialize)]
pub(crate) struct Flush {
    pub(crate) flush: u64,
}

/// A line of a program.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// `{"wattrace": "exec/1"}`
    Hello(Cow<'a, str>),
    /// `{"metric": {…}}`
    Metric(MetricLine<'a>),
    /// `{"metric": "…", …}`: a line as the jsonl output writes them.
    Point(Box<PointLine<'a>>),
    /// `{"points": […], "end": […]}`
    Points(PointsLine<'a>),
    /// `{"error": {…}}`
    Error(ErrorLine<'a>),
    /// `{"ack": 7}`
    Ack(u64),
    /// `{"lost": 7}`
    Lost(u64),
    /// `{"flushed": 7}`
    Flushed(u64),
}

/// Enough of a line to know its kind.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow)]
    wattrace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    metric: Option<&'a RawValue>,
    points: Option<IgnoredAny>,
    end: Option<IgnoredAny>,
    #[serde(borrow)]
    error: Option<ErrorLine<'a>>,
    ack: Option<u64>,
    lost: Option<u64>,
    flushed: Option<u64>,
}

/// A metric's declaration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricLine<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) unit: Cow<'a, str>,
    pub(crate) kind: WireKind,
    #[serde(borrow, default)]
    pub(crate) description: Cow<'a, str>,
}

/// `counter` or `gauge`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireKind {
    Counter,
    Gauge,
}

/// Values and ends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointsLine<'a> {
    #[serde(borrow, default)]
    pub(crate) points: Vec<PointLine<'a>>,
    #[serde(borrow, default)]
    pub(crate) end: Vec<SeriesName<'a>>,
    /// Whether the answer continues on the next line.
    #[serde(default)]
    pub(crate) more: bool,
}

/// A value, in the jsonl output's shape.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointLine<'a> {
    #[serde(borrow)]
    pub(crate) metric: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) unit: Option<Cow<'a, str>>,
    pub(crate) kind: Option<WireKind>,
    pub(crate) start_unix_nano: Option<u64>,
    pub(crate) time_unix_nano: Option<u64>,
    /// As it was written: a float cannot hold every counter exactly.
    #[serde(borrow)]
    pub(crate) value: &'a RawValue,
    #[serde(borrow, default)]
    pub(crate) resource: ResourceName<'a>,
    #[serde(borrow)]
    pub(crate) consumer: Option<ConsumerName<'a>>,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, Scalar>,
}

/// What names a series.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesName<'a> {
    #[serde(borrow)]
    pub(crate) metric: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) resource: ResourceName<'a>,
    #[serde(borrow)]
    pub(crate) consumer: Option<ConsumerName<'a>>,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, Scalar>,
}

/// A piece of hardware; by default the host.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceName<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) id: Cow<'a, str>,
}

impl Default for ResourceName<'_> {
    fn default() -> Self {
        Self { kind: "host".into(), id: "".into() }
    }
}

/// A consumer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConsumerName<'a> {
    #[serde(borrow, rename = "type")]
    pub(crate) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) id: Cow<'a, str>,
    #[serde(default)]
    pub(crate) start_unix_nano: u64,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
}

/// Why a program cannot measure.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorLine<'a> {
    pub(crate) kind: WireErrorKind,
    #[serde(borrow)]
    pub(crate) message: Cow<'a, str>,
}

/// What the agent does about an error.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireErrorKind {
    Gone,
    Retry,
    Fatal,
}

/// Serializes `message` as a line.
///
/// # Errors
/// None in practice.
pub(crate) fn to_line(message: &impl Serialize) -> Result<Vec<u8>, Error> {
    let mut line = serde_json::to_vec(message).map_err(Error::fatal)?;
    line.push(b'\n');
    Ok(line)
}

impl<'a> Line<'a> {
    /// Parses a line.
    ///
    /// # Errors
    /// What is wrong with it, and in which column.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, String> {
        let probe: Probe<'a> = serde_json::from_slice(text).map_err(|e| message(&e))?;
        if let Some(version) = probe.wattrace {
            return Ok(Line::Hello(version));
        }
        if let Some(error) = probe.error {
            return Ok(Line::Error(error));
        }
        if probe.points.is_some() || probe.end.is_some() {
            return serde_json::from_slice(text).map(Line::Points).map_err(|e| message(&e));
        }
        if let Some(metric) = probe.metric {
            return if metric.get().starts_with('{') {
                serde_json::from_str(metric.get()).map(Line::Metric).map_err(|e| message(&e))
            } else {
                serde_json::from_slice(text).map(Line::Point).map_err(|e| message(&e))
            };
        }
        let numbers =
            [probe.ack.map(Line::Ack), probe.lost.map(Line::Lost), probe.flushed.map(Line::Flushed)];
        numbers.into_iter().flatten().next().ok_or_else(|| {
            "none of wattrace, metric, points, end, error, ack, lost and flushed is in it".to_owned()
        })
    }
}

/// The parser's message without the line number, which is always 1.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&position) {
        Some(what) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_line_follows_from_its_key() {
        let parse = |text: &'static str| Line::parse(text.as_bytes()).unwrap();
        assert!(matches!(parse(r#"{"wattrace":"exec/1"}"#), Line::Hello(v) if v == PROTOCOL));
        let metric = parse(r#"{"metric":{"name":"a","unit":"J","kind":"counter"}}"#);
        assert!(matches!(metric, Line::Metric(m) if m.name == "a"));
        let Line::Point(point) = parse(r#"{"metric":"a","value":1.50}"#) else { panic!() };
        assert_eq!((point.value.get(), &*point.resource.kind), ("1.50", "host"));
        assert!(matches!(parse(r#"{"points":[],"more":true}"#), Line::Points(p) if p.more));
        assert!(matches!(parse(r#"{"end":[{"metric":"a"}]}"#), Line::Points(p) if p.end.len() == 1));
        assert!(matches!(parse(r#"{"error":{"kind":"gone","message":"no UPS"}}"#), Line::Error(_)));
        assert!(matches!(parse(r#"{"ack":3}"#), Line::Ack(3)));
        assert!(matches!(parse(r#"{"lost":4}"#), Line::Lost(4)));
        assert!(matches!(parse(r#"{"flushed":5}"#), Line::Flushed(5)));
    }

    #[test]
    fn errors_name_the_column() {
        let error = |text: &'static str| Line::parse(text.as_bytes()).unwrap_err();
        assert!(error("{").contains("at column 1"), "{}", error("{"));
        assert!(error("{}").contains("none of"));
        assert!(error(r#"{"points":[{"metric":"a","vlaue":1}]}"#).contains("unknown field `vlaue`"));
        assert!(error(r#"{"metric":{"name":"a","unit":"J","kind":"sum"}}"#).contains("`sum`"));
        assert!(error(r#"{"metric":"a"}"#).contains("missing field `value`"));
        assert!(error("hello").contains("expected value"));
    }
}
