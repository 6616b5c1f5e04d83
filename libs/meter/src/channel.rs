//! One meter on its way into the pipeline: readings of power or of energy go in, points and counted anomalies
//! come out. What the numbers mean is for `integral.rs` and `counter.rs` to say, where they come from for the
//! plugins.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Domain, Error, Metric, Resource, ResultExt, SeriesId, SeriesSpec, Timestamp, Value, Window,
};

use crate::anomaly::{Anomalies, Anomaly, Opener};
use crate::counter::{Counter, Period, Step};
use crate::integral::{PowerIntegral, Sampled};

/// No meter of one machine reads more, in microwatts.
const MOST_MICROWATTS: u64 = 100_000_000_000;
/// A counter that stands still for so long is told of.
const STALL: Duration = Duration::from_secs(60);

/// What a meter's values are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// `hw.energy`, or `hw.host.energy` for a meter of the whole machine.
    pub metric: Metric,
    /// The hardware.
    pub resource: Resource,
    /// Its energy counter.
    pub domain: Domain,
}

/// How the joules are counted.
#[derive(Debug)]
enum Counts {
    Power(PowerIntegral),
    Energy { counter: Counter, last: Option<Timestamp>, still: Duration, interrupted: bool },
}

/// A meter with its series.
#[derive(Debug)]
pub struct Channel {
    subject: Subject,
    series: SeriesId,
    counts: Counts,
    opened: Timestamp,
    anomalies: Anomalies,
    warned: bool,
}

impl Channel {
    /// A meter that tells power at instants; two that are more than `longest` apart have a gap between them.
    ///
    /// # Errors
    /// Fatal if the metric cannot be declared.
    pub fn of_power(
        subject: Subject,
        longest: Duration,
        now: Timestamp,
        opener: &Opener,
    ) -> Result<Self, Error> {
        let integral = PowerIntegral::new(longest).at_most(MOST_MICROWATTS);
        Self::new(subject, Counts::Power(integral), now, opener)
    }

    /// A meter that counts microjoules.
    ///
    /// # Errors
    /// Fatal if the metric cannot be declared.
    pub fn of_energy(
        subject: Subject,
        period: Period,
        now: Timestamp,
        opener: &Opener,
    ) -> Result<Self, Error> {
        let (counter, still) = (Counter::new(period), Duration::ZERO);
        let counts = Counts::Energy { counter, last: None, still, interrupted: false };
        Self::new(subject, counts, now, opener)
    }

    fn new(subject: Subject, counts: Counts, now: Timestamp, opener: &Opener) -> Result<Self, Error> {
        let series = opener.registry().open(SeriesSpec {
            metric: opener.registry().metric(&subject.metric).or_fatal()?,
            resource: subject.resource.clone(),
            domain: Some(Arc::new(subject.domain.clone())),
            consumer: None,
            attributes: Vec::new(),
            start: now,
        });
        Ok(Self { subject, series, counts, opened: now, anomalies: Anomalies::default(), warned: false })
    }

    /// What it is about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Takes a reading made just before `at`: microwatts, or microjoules on the counter, as the meter was
    /// made for.
    pub fn take(&mut self, at: Timestamp, reading: i128, opener: &Opener, out: &mut Batch) {
        match self.counts {
            Counts::Power(_) => self.take_power(at, reading, opener, out),
            Counts::Energy { .. } => self.take_energy(at, reading, opener, out),
        }
    }

    fn take_power(&mut self, at: Timestamp, microwatts: i128, opener: &Opener, out: &mut Batch) {
        let Counts::Power(integral) = &mut self.counts else { return };
        let negative = microwatts < 0;
        let from = integral.last().unwrap_or(self.opened);
        // Beyond 64 bits is beyond what the integral believes, too.
        let sampled = integral.sample(at, u64::try_from(microwatts.max(0)).unwrap_or(u64::MAX));
        let microjoules = integral.microjoules();
        match sampled {
            Sampled::Based | Sampled::Stale => {}
            Sampled::Advanced(window) => {
                out.begin(window);
                out.push(self.series, Value::of_steps(microjoules));
                self.warned = false;
            }
            Sampled::Gap(window) => {
                out.begin(window);
                self.count(Anomaly::Gap, opener, out);
            }
            Sampled::Implausible => {
                self.warn(&format_args!("{microwatts} µW is more than a machine draws"));
                out.begin(Window::new(from, at));
                self.count(Anomaly::Implausible, opener, out);
                return;
            }
        }
        if negative && sampled != Sampled::Stale {
            if sampled == Sampled::Based {
                out.begin(Window::new(from, at));
            }
            self.count(Anomaly::Negative, opener, out);
        }
    }

    fn take_energy(&mut self, at: Timestamp, microjoules: i128, opener: &Opener, out: &mut Batch) {
        let Ok(reading) = u64::try_from(microjoules) else {
            return self.miss(at, &format_args!("{microjoules} µJ cannot be on a counter"), opener, out);
        };
        let Counts::Energy { counter, last, still, interrupted } = &mut self.counts else { return };
        let from = last.unwrap_or(self.opened);
        // Nothing can be said about an empty window; the next one is longer.
        if last.is_some() && at <= from {
            return;
        }
        let window = Window::new(from, at);
        if std::mem::take(interrupted) {
            counter.forget();
            (*last, *still) = (Some(at), Duration::ZERO);
            counter.take(reading, Duration::ZERO);
            out.begin(window);
            return self.count(Anomaly::Gap, opener, out);
        }
        let step = counter.take(reading, at.since(from));
        *last = Some(at);
        let was = *still;
        *still = match step {
            Step::Advanced if counter.stands_still() => was + at.since(from),
            _ => Duration::ZERO,
        };
        let stalled = was < STALL && *still >= STALL;
        let total = counter.microjoules();
        match step {
            Step::Based => {}
            Step::Advanced | Step::Wrapped => {
                out.begin(window);
                out.push(self.series, Value::of_steps(total));
                self.warned = false;
            }
            // What the window used is unknown: no point is better than a false zero.
            Step::Reset => {
                self.warn(&"the counter ran backwards or jumped: counting on from there");
                out.begin(window);
                self.count(Anomaly::Reset, opener, out);
            }
        }
        if step == Step::Wrapped {
            self.count(Anomaly::Wrap, opener, out);
        }
        if stalled {
            self.count(Anomaly::Stalled, opener, out);
        }
    }

    /// Counts a reading that failed. The window stays open: the next good reading covers it.
    pub fn miss(&mut self, at: Timestamp, why: &dyn std::fmt::Display, opener: &Opener, out: &mut Batch) {
        self.warn(why);
        out.begin(Window::new(self.last().unwrap_or(self.opened), at));
        self.count(Anomaly::BadReading, opener, out);
    }

    /// Counts an anomaly that only the plugin can see, about the time since the last reading.
    pub fn note(&mut self, at: Timestamp, anomaly: Anomaly, opener: &Opener, out: &mut Batch) {
        out.begin(Window::new(self.last().unwrap_or(self.opened), at));
        self.count(anomaly, opener, out);
    }

    /// The meter has nothing to tell for now: what lies between the last reading and the next is nobody's,
    /// and a gap.
    pub fn interrupt(&mut self) {
        match &mut self.counts {
            Counts::Power(integral) => integral.interrupt(),
            Counts::Energy { last, interrupted, .. } => *interrupted = last.is_some(),
        }
    }

    /// When the last reading was taken that counted.
    pub fn last(&self) -> Option<Timestamp> {
        match &self.counts {
            Counts::Power(integral) => integral.last(),
            Counts::Energy { last, .. } => *last,
        }
    }

    /// Ends its series.
    pub fn end(&mut self, out: &mut Batch) {
        out.end(self.series);
        self.anomalies.end(out);
    }

    fn count(&mut self, anomaly: Anomaly, opener: &Opener, out: &mut Batch) {
        let Subject { resource, domain, .. } = &self.subject;
        self.anomalies.count(anomaly, resource, &domain.name, opener, out);
    }

    /// Says it once, until a good reading has come.
    fn warn(&mut self, why: &dyn std::fmt::Display) {
        let domain = &self.subject.domain.name;
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!(domain, "bad reading: {why}");
        } else {
            tracing::warn!(domain, "bad reading, those that follow it are logged as debug: {why}");
        }
    }
}

#[cfg(test)]
mod tests;
