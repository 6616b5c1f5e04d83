//! One sender: what its OTLP resource says that it is, and its series. Two senders' series never merge,
//! because what tells the senders apart is among their series' attributes.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use wattrace_api::{
    Attribute, Clock, MetricId, Registry, Resource, ResourceKind, SeriesSpec, Timestamp, Value,
};
use wattrace_ingest::{
    DeclaredMetric, IncomingPoint, PointError, Recorded, SegmentWriter, SeriesTable, UnixTime,
};

use crate::convert::{self, Flow};

/// See the module.
#[derive(Debug)]
pub(crate) struct Sender {
    attributes: Vec<Attribute>,
    resource: Resource,
    table: SeriesTable,
}

/// What all senders share while a request is taken in.
pub(crate) struct Desk {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Clock,
    pub(crate) unix: UnixTime,
    /// Space for keys.
    pub(crate) key: Vec<u8>,
}

impl Sender {
    /// The sender with these resource attributes, and at most `series` open at a time.
    pub(crate) fn new(attributes: &[KeyValue], registry: Arc<Registry>, series: usize) -> Self {
        let attributes: Vec<_> = attributes.iter().map(convert::attribute).collect();
        let host = attributes.iter().find(|a| a.key == "host.name").map(|a| a.value.to_string());
        let resource = Resource { kind: ResourceKind::Host, id: host.unwrap_or_default().into() };
        Self { attributes, resource, table: SeriesTable::new(registry, series) }
    }

    /// Its open series.
    pub(crate) fn series(&self) -> usize {
        self.table.len()
    }

    /// The attributes by which a person knows it.
    pub(crate) fn label(&self) -> Vec<Attribute> {
        let known = |a: &&Attribute| matches!(&*a.key, "host.name" | "service.instance.id");
        self.attributes.iter().filter(known).cloned().collect()
    }

    /// Takes a point.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn take(
        &mut self,
        metric: (&str, DeclaredMetric, Flow),
        point: &mut NumberDataPoint,
        desk: &mut Desk,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<Recorded, PointError> {
        let (name, declared, flow) = metric;
        desk.key.clear();
        convert::part(name.as_bytes(), &mut desk.key);
        convert::key(&mut point.attributes, &mut desk.key);
        if convert::is_end(point) {
            self.table.end(&desk.key, writer);
            return Ok(Recorded::Appended);
        }
        let now = desk.clock.now();
        let time = match point.time_unix_nano {
            0 => now,
            unix => desk.unix.timestamp(unix),
        };
        let told = point.start_time_unix_nano;
        let start = if told == 0 { time } else { desk.unix.timestamp(told) };
        let mut incoming = IncomingPoint {
            kind: declared.kind,
            value: convert::value(point, declared)?,
            time,
            start_unix_nano: (flow == Flow::Cumulative && told != 0).then_some(told),
            now,
        };
        if flow == Flow::Delta {
            incoming.value = self.sum(&desk.key, incoming.value, start, told != 0)?;
        }
        let Self { attributes, resource, table } = self;
        let describe = || Ok(spec(declared.id, attributes, resource, &point.attributes, start));
        table.record(&desk.key, incoming, describe, writer)
    }

    /// What a counter stands at after `delta`, which began at `start`.
    fn sum(&self, key: &[u8], delta: Value, start: Timestamp, is_told: bool) -> Result<Value, PointError> {
        let Some((sum, until)) = self.table.last(key) else { return Ok(delta) };
        if is_told && start < until {
            return Err(PointError::Conflict("a delta over a span that was counted already".to_owned()));
        }
        Ok(Value::of_steps(sum.saturating_add(delta.steps())))
    }

    /// Ends the series of which nothing has come since `since`. Returns whether it has none any more.
    pub(crate) fn end_idle(&mut self, since: Timestamp, writer: &mut SegmentWriter<'_>) -> bool {
        self.table.end_idle(since, writer);
        self.table.is_empty()
    }
}

/// Neither domain nor consumer is set: those are this machine's, and what other machines used is not to be
/// split among its processes.
fn spec(
    metric: MetricId,
    sender: &[Attribute],
    resource: &Resource,
    point: &[KeyValue],
    start: Timestamp,
) -> SeriesSpec {
    let mut attributes: Vec<_> = point.iter().map(convert::attribute).collect();
    // What a point says of itself is nearer than what its resource says.
    let also = sender.iter().filter(|a| !point.iter().any(|own| own.key == a.key));
    attributes.extend(also.cloned());
    SeriesSpec { attributes, ..SeriesSpec::new(metric, resource.clone(), start) }
}
