//! One energy counter and its series: readings with their windows go in, points and anomalies come out. The
//! caller decides what the windows are: `channel.rs` for one meter, RAPL for counters that are read together.

use std::time::Duration;

use wattrace_api::{Batch, Metric, Timestamp, Window};

use crate::anomaly::Anomaly;
use crate::counter::{Counter, Step};
use crate::series::{MeterSeries, Subject};

/// How readings of a kind of counter are judged.
#[derive(Debug)]
pub struct CounterProfile {
    /// The metric that counts anomalies.
    pub anomalies: Metric,
    /// The anomaly that a jump is counted as.
    pub jump: Anomaly,
    /// The anomaly that a counter which stands still is counted as, and for how long it must do so; `None`:
    /// it may.
    pub stall: Option<(Anomaly, Duration)>,
}

/// An energy counter and its series.
#[derive(Debug)]
pub struct CounterChannel {
    counter: Counter,
    /// Where the results go.
    pub series: MeterSeries,
    profile: &'static CounterProfile,
    moved_at: Timestamp,
    stalled: bool,
}

impl CounterChannel {
    /// A channel about `subject`, whose series are not published yet.
    pub fn new(subject: Subject, counter: Counter, profile: &'static CounterProfile) -> Self {
        let series = MeterSeries::new(subject);
        Self { counter, series, profile, moved_at: Timestamp(0), stalled: false }
    }

    /// What has been counted.
    pub fn counter(&self) -> &Counter {
        &self.counter
    }

    /// Takes the reading at the end of `window`, and pushes what follows from it into the segment of `out`
    /// begun last. `interruption`: the counter was not counting throughout the window, so its energy is
    /// unknown.
    pub fn take(&mut self, window: Window, reading: u64, interruption: Option<Anomaly>, out: &mut Batch) {
        let interruption = interruption.filter(|_| self.counter.rebase());
        let step = self.counter.take(reading, window.end.since(window.start));
        if step != Step::Still {
            (self.moved_at, self.stalled) = (window.end, false);
        }
        // Where the window's energy is unknown, no point is better than a false zero.
        if matches!(step, Step::Advanced | Step::Wrapped | Step::Still) {
            self.series.push_energy(self.counter.microjoules(), out);
        }
        let anomaly = match step {
            Step::Based => interruption,
            Step::Advanced => None,
            Step::Still => self.stall(window.end),
            Step::Wrapped => Some(Anomaly::Wrap),
            Step::Reset => {
                self.series.warn(&"the counter ran backwards: counting continues from there");
                Some(Anomaly::Reset)
            }
            Step::Jumped => {
                self.series.warn(
                    &"the counter grew by more than the hardware can use: counting continues from there",
                );
                Some(self.profile.jump)
            }
        };
        if let Some(anomaly) = anomaly {
            self.series.count(anomaly, out);
        }
    }

    /// The anomaly to count if the counter has stood still for too long now. Once, until it moves.
    fn stall(&mut self, now: Timestamp) -> Option<Anomaly> {
        let (anomaly, after) = self.profile.stall?;
        if self.stalled || now.since(self.moved_at) < after {
            return None;
        }
        self.stalled = true;
        let domain = &self.series.subject().domain.name;
        tracing::warn!(domain, "the counter has not moved for {after:?}");
        Some(anomaly)
    }
}
