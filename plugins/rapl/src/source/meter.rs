//! Counters that are read together, on their way into the pipeline: each reading gets the window since the
//! last good one, and what is irregular is counted. `super` polls them.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Error, Registry, ResultExt, SeriesId, SeriesSpec, Timestamp, Value, Window,
};

use crate::agree::Energy;
use crate::anomaly::{Anomalies, Anomaly, Opener};
use crate::counter::{Counter, Step};
use crate::domain::Subject;
use crate::meter::{Fault, Group, Reader, Reading};

/// Numbers that stand still for so long make one look whether their source is alive: many refreshes of the
/// hardware.
const DOUBTFUL: Duration = Duration::from_millis(20);
/// And then not oftener than so.
const DOUBT_AGAIN: Duration = Duration::from_secs(1);
/// A part that always draws power can't have used less than one step of its counter in so long.
const STILL: Duration = Duration::from_secs(5);

/// How old what a counter shows is, in the mean: half of the 976 µs after which RAPL updates it. A window
/// that ends so long before a reading covers the energy in it as well as can be known.
pub(crate) const AGE: Duration = Duration::from_micros(488);

/// Up to when a reading that was just taken covers energy.
fn covered(clock: &Clock) -> Timestamp {
    clock.now() - AGE
}

/// Counters that are read together.
pub(super) struct Meter {
    reader: Box<dyn Reader>,
    pub(super) channels: Vec<Channel>,
    /// The numbers of a reading, one per channel; and those of the reading before.
    raw: Vec<u64>,
    previous: Vec<u64>,
    /// Up to when the last good reading covers energy, which is told just after its read returned.
    pub(super) read_at: Timestamp,
    still_since: Option<Timestamp>,
    doubt_at: Timestamp,
    warned: bool,
}

/// One counter on its way into the pipeline.
pub(super) struct Channel {
    pub(super) subject: Subject,
    counter: Counter,
    /// `None` while it is only compared with others.
    pub(super) series: Option<SeriesId>,
    pub(super) anomalies: Anomalies,
    grew_at: Timestamp,
    /// Whether it has been told that it stands still.
    told_still: bool,
}

impl Meter {
    /// Takes the first reading, from which the counters count.
    pub(super) fn open(group: Group, clock: &Clock) -> Self {
        let Group { mut reader, mut counters } = group;
        let mut raw = vec![0; counters.len()];
        let first = reader.read(&mut raw);
        let read_at = covered(clock);
        match &first {
            Ok(_) => {
                for ((_, counter), &raw) in counters.iter_mut().zip(&raw) {
                    counter.take(raw, Duration::ZERO);
                }
            }
            // Its counter begins with the first good reading.
            Err(fault) => tracing::warn!("no first reading: {}", fault.what),
        }
        let channel = |(subject, counter)| Channel {
            subject,
            counter,
            series: None,
            anomalies: Anomalies::default(),
            grew_at: read_at,
            told_still: false,
        };
        let (channels, previous) = (counters.into_iter().map(channel).collect(), raw.clone());
        let warned = first.is_err();
        Self { reader, channels, raw, previous, read_at, still_since: None, doubt_at: read_at, warned }
    }

    /// Opens the series of those channels that have none.
    pub(super) fn publish(&mut self, registry: &Registry) -> Result<(), Error> {
        for channel in self.channels.iter_mut().filter(|channel| channel.series.is_none()) {
            let subject = &channel.subject;
            channel.series = Some(registry.open(SeriesSpec {
                metric: registry.metric(&subject.metric).or_fatal()?,
                resource: subject.resource.clone(),
                domain: Some(Arc::new(subject.domain.clone())),
                consumer: None,
                attributes: Vec::new(),
                start: self.read_at,
            }));
        }
        Ok(())
    }

    /// Warns of counters that would wrap twice between two readings: a period would be lost, and nobody could
    /// tell.
    pub(super) fn warn_of_missed_wraps(&self, interval: Duration) {
        const WATTS: u64 = 1_000;
        for Channel { subject, counter, .. } in &self.channels {
            if let Some(lap) = counter.lap(WATTS).filter(|&lap| lap < interval) {
                let domain = &subject.domain.name;
                tracing::warn!(
                    domain,
                    "plugins.rapl.interval: at {WATTS} W this counter wraps every {lap:?}; read it oftener"
                );
            }
        }
    }

    /// What it has counted since its last reading, `elapsed` ago, without taking note of it: nothing of what
    /// can't be read now, nor of what may have wrapped more than once.
    pub(super) fn preview(&mut self, elapsed: Duration) -> Vec<Energy> {
        const WATTS: u64 = 1_000;
        if self.reader.read(&mut self.raw).is_err() {
            return Vec::new();
        }
        let energy = |(channel, &raw): (&Channel, &u64)| {
            let mut counter = channel.counter.clone();
            let before = counter.microjoules();
            counter.take(raw, elapsed);
            let known = counter.lap(WATTS).is_none_or(|lap| elapsed < lap);
            known.then(|| Energy {
                domain: channel.subject.domain.name.clone(),
                microjoules: counter.microjoules() - before,
                step: counter.step(),
                never_rests: channel.subject.never_rests,
            })
        };
        self.channels.iter().zip(&self.raw).filter_map(energy).collect()
    }

    /// Reads, and says what came of it. `true`: what is read isn't there any more.
    pub(super) fn poll(&mut self, clock: &Clock, opener: &Opener, out: &mut Batch) -> bool {
        let mut read = self.reader.read(&mut self.raw);
        let mut now = covered(clock);
        if read.is_ok() && self.is_doubtful(now) && self.reader.doubt() {
            read = self.reader.read(&mut self.raw);
            now = covered(clock);
        }
        // Nothing can be said about an empty window; the next tick has a longer one.
        if now <= self.read_at {
            return false;
        }
        let window = Window::new(self.read_at, now);
        match read {
            Ok(reading) => {
                self.advance(reading, window, opener, out);
                false
            }
            Err(fault) => {
                let gone = fault.gone;
                self.miss(fault, window, opener, out);
                gone
            }
        }
    }

    /// Whether the numbers have stood still so long that one should look whether their source is alive.
    fn is_doubtful(&mut self, now: Timestamp) -> bool {
        if self.raw != self.previous {
            self.previous.copy_from_slice(&self.raw);
            self.still_since = None;
            return false;
        }
        let since = *self.still_since.get_or_insert(self.read_at);
        if now.since(since) < DOUBTFUL || now < self.doubt_at {
            return false;
        }
        self.doubt_at = now + DOUBT_AGAIN;
        true
    }

    /// Takes the reading in `raw`, which closes `window`.
    fn advance(&mut self, reading: Reading, window: Window, opener: &Opener, out: &mut Batch) {
        out.begin(window);
        for (channel, &raw) in self.channels.iter_mut().zip(&self.raw) {
            if let Some(anomaly) = channel.take(reading, raw, window, out) {
                let Channel { subject, anomalies, .. } = channel;
                anomalies.count(anomaly, subject, opener, out);
            }
        }
        self.read_at = window.end;
    }

    /// Counts a reading that failed. The window stays open: the next good reading covers it.
    fn miss(&mut self, fault: Fault, window: Window, opener: &Opener, out: &mut Batch) {
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!("bad reading: {}", fault.what);
        } else {
            tracing::warn!("bad reading, further ones are logged as debug: {}", fault.what);
        }
        out.begin(window);
        for Channel { subject, anomalies, .. } in &mut self.channels {
            anomalies.count(Anomaly::BadReading, subject, opener, out);
        }
    }
}

impl Channel {
    /// Takes a reading; pushes what has been counted into the segment of `out` begun last, if the window's
    /// joules are known. Returns what was irregular.
    fn take(&mut self, reading: Reading, raw: u64, window: Window, out: &mut Batch) -> Option<Anomaly> {
        let domain = &self.subject.domain.name;
        let reopened = reading == Reading::Anew && self.counter.rebase();
        let step = self.counter.take(raw, window.end.since(window.start));
        if step != Step::Still {
            self.grew_at = window.end;
            self.told_still = false;
        }
        // Where the window's joules are unknown, no point is better than a false zero.
        if let (Step::Advanced | Step::Wrapped | Step::Still, Some(series)) = (step, self.series) {
            out.push(series, Value::of_steps(self.counter.microjoules()));
        }
        match step {
            Step::Wrapped => Some(Anomaly::Wrap),
            Step::Reset => {
                tracing::warn!(domain, "counter ran backwards: counting on from there");
                Some(Anomaly::Reset)
            }
            Step::Jumped => {
                tracing::warn!(
                    domain,
                    "counter jumped by more than any hardware uses: counting on from there"
                );
                Some(Anomaly::Jump)
            }
            Step::Based if reopened => {
                tracing::warn!(domain, "counter had ended and was opened anew: counting on from there");
                Some(Anomaly::Reopened)
            }
            Step::Still if self.subject.never_rests && !self.told_still => {
                self.told_still = window.end.since(self.grew_at) >= STILL;
                self.told_still.then(|| {
                    tracing::warn!(domain, "counter stands still: what it says is too little");
                    Anomaly::Still
                })
            }
            Step::Based | Step::Advanced | Step::Still => None,
        }
    }
}
