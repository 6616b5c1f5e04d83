//! A stream: what OTLP tells apart, a metric and its attributes. Here is decided when it has something to
//! say.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Attribute, Kind, Series, Timestamp, Value};

use crate::top::Account;

/// After how long a consumer's unchanged counter is sent again. Cumulative streams may have gaps, so an idle
/// process costs nothing until then; but Prometheus takes a stream for gone after five minutes.
pub(crate) const REFRESH: Duration = Duration::from_secs(60);

/// A stream that lives.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) attributes: Arc<[Attribute]>,
    /// The consumer's revision that the attributes show.
    pub(crate) revision: u64,
    pub(crate) told: Option<Told>,
}

/// When a stream was last collected: by the clock, in which round, and the time of its point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    at: Timestamp,
    pub(crate) round: u64,
    time: Timestamp,
}

/// A point to send.
#[derive(Debug)]
pub(crate) struct Point<'a> {
    pub(crate) series: &'a Series,
    pub(crate) attributes: &'a [Attribute],
    pub(crate) since: Timestamp,
    pub(crate) time: Timestamp,
    /// `None`: the stream has ended.
    pub(crate) value: Option<Value>,
    /// The ended stream's number in the queue.
    pub(crate) ended: Option<u64>,
}

/// When a collection takes place.
pub(crate) struct Moment {
    /// By the clock.
    pub(crate) now: Timestamp,
    /// End of the latest window seen.
    pub(crate) newest: Timestamp,
    /// Which collection it is.
    pub(crate) round: u64,
}

impl Stream {
    /// The stream of `series` under its consumer's present attributes.
    pub(crate) fn of(series: &Series) -> Self {
        // The revision first: if the facts change in between, the next point notices.
        let revision = series.consumer.as_ref().map_or(0, |consumer| consumer.revision());
        Self { attributes: series.all_attributes().into(), revision, told: None }
    }

    /// Emits what `account` holds, if it is new or due; a consumer's only then, the hardware's always.
    pub(crate) fn collect(
        &mut self,
        series: &Series,
        account: &Account,
        changed: &mut bool,
        moment: &Moment,
        emit: &mut impl FnMut(Point<'_>),
    ) {
        let hardware = series.consumer.is_none();
        let stale = series.metric.kind == Kind::Counter
            && self.told.is_some_and(|told| moment.now.since(told.at) >= REFRESH);
        if !(*changed || hardware || stale) {
            return;
        }
        let last = account.open();
        // A consumer without points used nothing, so its counter's value still holds.
        let time = if *changed || hardware { last.time } else { moment.newest };
        let time = self.told.map_or(time, |told| told.time.max(time));
        let (attributes, since, value) = (&*self.attributes, last.since, Some(Value::of_steps(last.value)));
        emit(Point { series, attributes, since, time, value, ended: None });
        self.told = Some(Told { at: moment.now, round: moment.round, time });
        *changed = false;
    }
}
