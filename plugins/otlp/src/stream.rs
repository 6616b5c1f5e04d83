//! A stream: what OTLP tells apart, a metric with its attributes. Here is decided when its value is due to be
//! sent.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Kind, Metric, MetricId, Series, Timestamp, Value};

use crate::attributes;

/// After how long a consumer's unchanged counter is sent again. Cumulative streams may have gaps, so an idle
/// process costs nothing until then; but Prometheus regards a stream as gone after five minutes.
pub(crate) const REFRESH: Duration = Duration::from_secs(60);

/// The latest value of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatestValue {
    /// Steps of a counter, or a gauge's bits.
    pub(crate) value: u64,
    /// When a counter stood at zero.
    pub(crate) start: Timestamp,
    /// When it stood at `value`.
    pub(crate) time: Timestamp,
}

/// A stream that is alive.
#[derive(Debug)]
pub(crate) struct Stream {
    /// As they are sent.
    pub(crate) attributes: Arc<[u8]>,
    /// The consumer's revision that the attributes show.
    pub(crate) revision: u64,
    pub(crate) sent: Option<Sent>,
}

/// When a stream was last collected: by the clock, in which round, and the time of its point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    at: Timestamp,
    pub(crate) round: u64,
}

/// A point to send.
#[derive(Debug)]
pub(crate) struct Point<'a> {
    pub(crate) metric: &'a Metric,
    pub(crate) metric_id: MetricId,
    /// As they are sent.
    pub(crate) attributes: &'a [u8],
    pub(crate) start: Timestamp,
    pub(crate) time: Timestamp,
    /// `None`: the stream has ended.
    pub(crate) value: Option<Value>,
    /// The ended stream's number in the queue.
    pub(crate) ended: Option<NonZeroU64>,
}

/// When a collection takes place.
pub(crate) struct Moment {
    /// By the clock.
    pub(crate) now: Timestamp,
    /// Which collection it is.
    pub(crate) round: u64,
    /// Whether unchanged counters are sent too.
    pub(crate) everything: bool,
}

impl Stream {
    /// The stream of `series` under its consumer's present attributes.
    pub(crate) fn of(series: &Series) -> Self {
        // The revision first: if the attributes change in between, the next point notices.
        let revision = series.consumer.as_ref().map_or(0, |consumer| consumer.revision());
        Self { attributes: attributes::encoded(&series.all_attributes()), revision, sent: None }
    }

    /// Emits `latest`: for hardware always, for a consumer if it has changed or was last sent a minute ago.
    pub(crate) fn collect(
        &mut self,
        series: &Series,
        latest: LatestValue,
        changed: &mut bool,
        moment: &Moment,
        emit: &mut impl FnMut(Point<'_>) -> bool,
    ) {
        let hardware = series.consumer.is_none();
        let stale = series.metric.kind == Kind::Counter
            && self.sent.is_some_and(|sent| moment.everything || moment.now.since(sent.at) >= REFRESH);
        if !(*changed || hardware || stale) {
            return;
        }
        let LatestValue { start, time, .. } = latest;
        let value = Some(Value::of_steps(latest.value));
        let (metric, metric_id, attributes) = (&*series.metric, series.metric_id, &*self.attributes);
        emit(Point { metric, metric_id, attributes, start, time, value, ended: None });
        self.sent = Some(Sent { at: moment.now, round: moment.round });
        *changed = false;
    }
}
