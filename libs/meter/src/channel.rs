//! One meter from its readings to its series: readings of power or of energy go in with the time they were
//! taken, points and anomalies come out. Each reading closes a window that begins at the previous good one.
//! The plugins know where the readings come from.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Error, Registry, Timestamp, Window};

use crate::anomaly::{Anomaly, METER_ANOMALIES};
use crate::counter::{Counter, Period};
use crate::counter_channel::{CounterChannel, CounterProfile};
use crate::integral::{PowerIntegral, Sampled};
use crate::scale::Scale;
use crate::series::{MeterSeries, Subject};

/// No meter of one machine measures more. A sample of power above it is implausible, and a counter that grows
/// faster has jumped.
const MAX_WATTS: u64 = 100_000;

static PROFILE: CounterProfile = CounterProfile {
    anomalies: METER_ANOMALIES,
    jump: Anomaly::Reset,
    stall: Some((Anomaly::Stalled, Duration::from_secs(60))),
};

/// A meter and its series.
#[derive(Debug)]
pub struct Channel {
    input: Input,
    opened: Timestamp,
}

/// What the meter reports.
#[derive(Debug)]
enum Input {
    Power { integral: PowerIntegral, series: MeterSeries },
    Energy { counter: CounterChannel, last: Option<Timestamp>, interrupted: Option<Anomaly> },
}

impl Channel {
    /// A meter that reports power at instants. Two readings that are more than `max_gap` apart have a gap
    /// between them.
    ///
    /// # Errors
    /// Fatal if a metric cannot be declared.
    pub fn of_power(
        subject: Subject,
        max_gap: Duration,
        now: Timestamp,
        registry: &Arc<Registry>,
    ) -> Result<Self, Error> {
        let integral = PowerIntegral::new(max_gap).at_most(MAX_WATTS * 1_000_000);
        Self::new(Input::Power { integral, series: MeterSeries::new(subject) }, now, registry)
    }

    /// A meter that counts microjoules.
    ///
    /// # Errors
    /// Fatal if a metric cannot be declared.
    pub fn of_energy(subject: Subject, now: Timestamp, registry: &Arc<Registry>) -> Result<Self, Error> {
        let counter = Counter::new(Scale::MICROJOULE, Period::Unknown, MAX_WATTS);
        let counter = CounterChannel::new(subject, counter, &PROFILE);
        Self::new(Input::Energy { counter, last: None, interrupted: None }, now, registry)
    }

    fn new(input: Input, now: Timestamp, registry: &Arc<Registry>) -> Result<Self, Error> {
        let mut channel = Self { input, opened: now };
        channel.series().publish(&METER_ANOMALIES, registry, now)?;
        Ok(channel)
    }

    fn series(&mut self) -> &mut MeterSeries {
        match &mut self.input {
            Input::Power { series, .. } => series,
            Input::Energy { counter, .. } => &mut counter.series,
        }
    }

    /// Whether a machine can draw this power. A meter whose first reading it cannot is no meter.
    pub fn is_plausible_power(microwatts: i128) -> bool {
        microwatts <= i128::from(MAX_WATTS) * 1_000_000
    }

    /// What it is about.
    pub fn subject(&self) -> &Subject {
        match &self.input {
            Input::Power { series, .. } => series.subject(),
            Input::Energy { counter, .. } => counter.series.subject(),
        }
    }

    /// Takes a reading made just before `at`: microwatts, or microjoules on the counter.
    pub fn take(&mut self, at: Timestamp, reading: i128, out: &mut Batch) {
        match self.input {
            Input::Power { .. } => self.take_power(at, reading, out),
            Input::Energy { .. } => self.take_energy(at, reading, out),
        }
    }

    fn take_power(&mut self, at: Timestamp, microwatts: i128, out: &mut Batch) {
        let Input::Power { integral, series } = &mut self.input else { return };
        let negative = microwatts < 0;
        let from = integral.last().unwrap_or(self.opened);
        // What does not fit into 64 bits is implausible as well.
        let sampled = integral.sample(at, u64::try_from(microwatts.max(0)).unwrap_or(u64::MAX));
        match sampled {
            Sampled::Stale => return,
            Sampled::Based => out.begin(Window::new(from, at)),
            Sampled::Advanced(window) => {
                out.begin(window);
                series.push_energy(integral.microjoules(), out);
            }
            Sampled::Gap(window) => {
                out.begin(window);
                series.count(Anomaly::Gap, out);
            }
            Sampled::Implausible => {
                series.warn(&format_args!("{microwatts} µW is more than a machine draws"));
                out.begin(Window::new(from, at));
                series.count(Anomaly::Implausible, out);
                return;
            }
        }
        if negative {
            series.count(Anomaly::Negative, out);
        }
    }

    fn take_energy(&mut self, at: Timestamp, microjoules: i128, out: &mut Batch) {
        let Ok(reading) = u64::try_from(microjoules) else {
            return self.miss(at, &format_args!("{microjoules} µJ is not a value of a counter"), out);
        };
        let Input::Energy { counter, last, interrupted } = &mut self.input else { return };
        let from = last.unwrap_or(self.opened);
        // An empty window cannot be judged; the next one is longer.
        if last.is_some() && at <= from {
            return;
        }
        let window = Window::new(from, at);
        out.begin(window);
        counter.take(window, reading, interrupted.take(), out);
        *last = Some(at);
    }

    /// Counts a reading that failed. The window stays open: the next good reading covers it.
    pub fn miss(&mut self, at: Timestamp, why: &dyn fmt::Display, out: &mut Batch) {
        self.series().warn(why);
        self.note(at, Anomaly::BadReading, out);
    }

    /// Counts an anomaly that only the plugin can detect, about the time since the last good reading.
    pub fn note(&mut self, at: Timestamp, anomaly: Anomaly, out: &mut Batch) {
        out.begin(Window::new(self.last().unwrap_or(self.opened), at));
        self.series().count(anomaly, out);
    }

    /// The meter does not measure for now: the time between the last reading and the next one is a gap.
    pub fn interrupt(&mut self) {
        match &mut self.input {
            Input::Power { integral, .. } => integral.interrupt(),
            Input::Energy { last, interrupted, .. } => *interrupted = last.map(|_| Anomaly::Gap),
        }
    }

    /// The meter has said that it started again: the energy between the last reading and the next one is
    /// unknown, whatever the counter shows.
    pub fn restarted(&mut self) {
        self.interrupt();
        if let Input::Energy { interrupted: Some(anomaly), .. } = &mut self.input {
            *anomaly = Anomaly::Reset;
        }
    }

    /// When the last good reading was taken.
    pub fn last(&self) -> Option<Timestamp> {
        match &self.input {
            Input::Power { integral, .. } => integral.last(),
            Input::Energy { last, .. } => *last,
        }
    }

    /// Ends its series.
    pub fn end(&mut self, out: &mut Batch) {
        self.series().end(out);
    }
}

#[cfg(test)]
mod tests;
