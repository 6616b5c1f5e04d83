//! Spans in the SDK's terms, with the attributes that OpenTelemetry's conventions define for processes
//! (`process.*`, those of spans of command-line programs), and the energy under names of our own.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use wattrace_api::trace::CommandEnded;
use wattrace_api::{Attribute, AttributeValue};

use crate::process::{Finished, Parent};

/// The span of a process.
pub(crate) fn of_process(finished: &Finished) -> SpanData {
    let Finished { consumer, lineage, parent, amounts, .. } = finished;
    let known = consumer.attributes();
    let mut attributes: Vec<KeyValue> = known.iter().map(key_value).collect();
    let exit_code = match finished.is_running {
        true => None,
        false => known.iter().find(|a| a.key == "process.exit.code").map(|a| a.value.to_string()),
    };
    attributes.push(KeyValue::new("wattrace.cpu.time", amounts.cpu_nanos as f64 / 1e9));
    if !amounts.energy.is_empty() {
        attributes.push(KeyValue::new("wattrace.energy.total", joules(amounts.total())));
    }
    for (keys, microjoules) in &amounts.energy {
        attributes.push(KeyValue::new(keys.energy.clone(), joules(*microjoules)));
        attributes.push(KeyValue::new(keys.origin.clone(), keys.domain.origin.as_str()));
    }
    if amounts.folded > 0 {
        let folded = i64::try_from(amounts.folded).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new("wattrace.folded.processes", folded));
    }
    if finished.is_running {
        attributes.push(KeyValue::new("wattrace.process.running", true));
    }
    let name = known.iter().find(|a| a.key == "process.executable.name");
    let name = name.map_or(Cow::Borrowed("process"), |name| name.value.to_string().into());
    let status = status(exit_code.as_deref(), &mut attributes);
    let mut links = SpanLinks::default();
    if finished.previous != 0 {
        links.links.push(Link::with_context(context(lineage.trace_id, finished.previous, false)));
    }
    SpanData {
        links,
        status,
        ..span(name, (lineage.trace_id, lineage.span_id), *parent, finished.start..finished.end, attributes)
    }
}

/// The span of who started a command.
pub(crate) fn of_command(ended: &CommandEnded) -> SpanData {
    let mut attributes = vec![
        KeyValue::new("process.command", ended.command.clone()),
        KeyValue::new("process.exit.code", i64::from(ended.exit_code)),
    ];
    let status = status(Some(&ended.exit_code.to_string()), &mut attributes);
    let parent = ended.parent.map_or(0, |parent| parent.span_id);
    let parent = Parent { span_id: parent, is_remote: parent != 0 };
    let ids = (ended.context.trace_id, ended.context.span_id);
    let name = format!("wattrace exec {}", ended.command);
    let span = span(name.into(), ids, parent, ended.start_unix_nano..ended.end_unix_nano, attributes);
    SpanData { status, ..span }
}

fn span(
    name: Cow<'static, str>,
    (trace_id, span_id): (u128, u64),
    parent: Parent,
    time: std::ops::Range<u64>,
    attributes: Vec<KeyValue>,
) -> SpanData {
    SpanData {
        span_context: context(trace_id, span_id, false),
        parent_span_id: SpanId::from(parent.span_id),
        parent_span_is_remote: parent.is_remote,
        span_kind: SpanKind::Internal,
        name,
        start_time: at(time.start),
        end_time: at(time.end),
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

/// What the spans are made by.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("wattrace").with_version(env!("CARGO_PKG_VERSION")).build()
}

fn context(trace_id: u128, span_id: u64, is_remote: bool) -> SpanContext {
    let (trace_id, span_id) = (TraceId::from(trace_id), SpanId::from(span_id));
    SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, is_remote, TraceState::default())
}

/// As the conventions for command-line programs say: a program that fails has the status "error", and its
/// exit code as the type of the error.
fn status(exit_code: Option<&str>, attributes: &mut Vec<KeyValue>) -> Status {
    match exit_code {
        None | Some("0") => Status::Unset,
        Some(code) => {
            attributes.push(KeyValue::new("error.type", code.to_owned()));
            Status::error(format!("exit code {code}"))
        }
    }
}

/// Joules as a number whose nearest microjoule is the exact one.
fn joules(microjoules: u64) -> f64 {
    microjoules as f64 / 1e6
}

fn at(unix_nano: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(unix_nano)
}

fn key_value(attribute: &Attribute) -> KeyValue {
    let value: Value = match &attribute.value {
        AttributeValue::Str(text) => text.clone().into(),
        AttributeValue::Int(number) => (*number).into(),
        AttributeValue::Float(number) => (*number).into(),
        AttributeValue::Bool(is) => (*is).into(),
    };
    KeyValue::new(attribute.key.clone(), value)
}
