//! Counters that are read together, from the meter to their series: each reading closes the window since the
//! previous good one. `super` polls the groups; `mirrors` decides which of them count.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Registry, Timestamp, Window};
use wattrace_meter::sysfs::Fault;
use wattrace_meter::{Anomaly, CounterChannel};

use crate::comparison::DomainEnergy;
use crate::meter::{Continuity, CounterGroup, Meter};
use crate::profile;
use crate::source::standing::Standing;

/// If the values stand still for so long, which is many refreshes of the hardware, the meter is checked.
const CHECK_AFTER: Duration = Duration::from_millis(20);
/// The time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The power at which counters are assumed to wrap.
const WRAP_WATTS: u64 = 1_000;

/// The mean age of what a counter shows: half of the 976 µs after which RAPL updates it. A window that ends
/// this long before a reading covers the energy in the reading as well as can be known.
pub(crate) const AGE: Duration = Duration::from_micros(488);

/// Until when a reading that was just taken covers energy.
fn covered_until(clock: &Clock) -> Timestamp {
    clock.now() - AGE
}

/// Counters that are read together.
pub(super) struct PolledGroup {
    meter: Box<dyn Meter>,
    pub(super) channels: Vec<CounterChannel>,
    pub(super) standing: Standing,
    /// Whether there has been a good reading. What has never been read is no meter: its series do not exist.
    is_based: bool,
    /// One raw value per channel, of this poll and of the previous one.
    readings: Vec<u64>,
    previous: Vec<u64>,
    /// Until when the last good reading covers energy.
    read_at: Timestamp,
    still_since: Option<Timestamp>,
    check_at: Timestamp,
    warned: bool,
}

impl PolledGroup {
    /// Takes the first reading, from which the counters count.
    pub(super) fn open(group: CounterGroup, clock: &Clock) -> Self {
        let CounterGroup { mut meter, counters } = group;
        let mut readings = vec![0; counters.len()];
        let first = meter.read(&mut readings);
        let read_at = covered_until(clock);
        let channel = |(subject, counter)| {
            let profile = profile::of(&subject);
            CounterChannel::new(subject, counter, profile)
        };
        let mut channels: Vec<_> = counters.into_iter().map(channel).collect();
        match &first {
            Ok(_) => {
                let (window, mut nothing) = (Window::new(read_at, read_at), Batch::default());
                for (channel, &reading) in channels.iter_mut().zip(&readings) {
                    channel.take(window, reading, None, &mut nothing);
                }
            }
            // The counters begin with the first good reading.
            Err(fault) => tracing::warn!("no first reading: {}", fault.what),
        }
        let (previous, is_based) = (readings.clone(), first.is_ok());
        Self {
            meter,
            channels,
            standing: Standing::Counts,
            is_based,
            readings,
            previous,
            read_at,
            still_since: None,
            check_at: read_at,
            warned: !is_based,
        }
    }

    /// Opens the series of the channels that have none, if the group counts and has been read.
    pub(super) fn publish(&mut self, registry: &Arc<Registry>) -> Result<(), Error> {
        if !self.is_based || !self.standing.counts() {
            return Ok(());
        }
        let start = self.read_at;
        self.channels
            .iter_mut()
            .try_for_each(|channel| channel.series.publish(&profile::ANOMALIES, registry, start))
    }

    /// Warns about counters that wrap twice between two readings: nobody can detect the lost period.
    pub(super) fn warn_about_missed_wraps(&self, interval: Duration) {
        for channel in &self.channels {
            let time = channel.counter().time_to_wrap(WRAP_WATTS);
            if let Some(time) = time.filter(|&time| time < interval) {
                let domain = &channel.series.subject().domain.name;
                tracing::warn!(
                    domain,
                    "plugins.rapl.interval: at {WRAP_WATTS} W this counter wraps every {time:?}; \
                     read it more often"
                );
            }
        }
    }

    /// The energy that each channel has counted since its last reading, `elapsed` ago, without taking the
    /// reading. Leaves out counters that cannot be read now or may have wrapped more than once.
    pub(super) fn preview(&mut self, elapsed: Duration) -> Vec<DomainEnergy> {
        if self.meter.read(&mut self.readings).is_err() {
            return Vec::new();
        }
        let energy = |(channel, &reading): (&CounterChannel, &u64)| {
            let mut counter = channel.counter().clone();
            let before = counter.microjoules();
            counter.take(reading, elapsed);
            let known = counter.time_to_wrap(WRAP_WATTS).is_none_or(|time| elapsed < time);
            let subject = channel.series.subject();
            known.then(|| DomainEnergy {
                domain: subject.domain.name.clone(),
                microjoules: counter.microjoules() - before,
                resolution: counter.resolution(),
                always_draws_power: profile::always_draws_power(subject),
            })
        };
        self.channels.iter().zip(&self.readings).filter_map(energy).collect()
    }

    /// What each channel has counted since the group was opened, in microjoules, with the smallest growth of
    /// its counter. Does not take the reading. `None`: it cannot be read now, or never was.
    pub(super) fn totals(&mut self, now: Timestamp) -> Option<Vec<(u64, u64)>> {
        if !self.is_based {
            return None;
        }
        self.meter.read(&mut self.readings).ok()?;
        let elapsed = now.since(self.read_at);
        let total = |(channel, &reading): (&CounterChannel, &u64)| {
            let mut counter = channel.counter().clone();
            counter.take(reading, elapsed);
            (counter.microjoules(), counter.resolution())
        };
        Some(self.channels.iter().zip(&self.readings).map(total).collect())
    }

    /// The raw values of the last reading.
    pub(super) fn readings(&self) -> &[u64] {
        &self.readings
    }

    /// Ends the series of its channels; the group can be published again.
    pub(super) fn end(&mut self, out: &mut Batch) {
        self.channels.iter_mut().for_each(|channel| channel.series.end(out));
    }

    /// Reads all counters and pushes their points. Returns `true` if there is nothing to read: it is gone, or
    /// the group does not count.
    pub(super) fn poll(
        &mut self,
        clock: &Clock,
        registry: &Arc<Registry>,
        out: &mut Batch,
    ) -> Result<bool, Error> {
        if !self.standing.counts() {
            return Ok(true);
        }
        let mut read = self.meter.read(&mut self.readings);
        let mut now = covered_until(clock);
        if read.is_ok() && self.needs_check(now) && self.meter.close_if_dead() {
            read = self.meter.read(&mut self.readings);
            now = covered_until(clock);
        }
        // An empty window cannot be judged; the next one is longer.
        if now <= self.read_at {
            return Ok(false);
        }
        let window = Window::new(self.read_at, now);
        out.begin(window);
        match read {
            Ok(continuity) => {
                let interruption = (continuity == Continuity::Restarted).then_some(Anomaly::Reopened);
                for (channel, &reading) in self.channels.iter_mut().zip(&self.readings) {
                    channel.take(window, reading, interruption, out);
                }
                self.read_at = now;
                if !std::mem::replace(&mut self.is_based, true) {
                    self.publish(registry)?;
                }
                Ok(false)
            }
            Err(fault) => {
                self.count_failure(&fault, out);
                Ok(fault.gone)
            }
        }
    }

    /// Whether the values have stood still for so long that the meter may be dead.
    fn needs_check(&mut self, now: Timestamp) -> bool {
        if self.readings != self.previous {
            self.previous.copy_from_slice(&self.readings);
            self.still_since = None;
            return false;
        }
        let since = *self.still_since.get_or_insert(self.read_at);
        if now.since(since) < CHECK_AFTER || now < self.check_at {
            return false;
        }
        self.check_at = now + CHECK_INTERVAL;
        true
    }

    /// Counts a reading that failed. The window stays open: the next good reading covers it.
    fn count_failure(&mut self, fault: &Fault, out: &mut Batch) {
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!("bad reading: {}", fault.what);
        } else {
            tracing::warn!("bad reading (further ones are logged as debug): {}", fault.what);
        }
        self.channels.iter_mut().for_each(|channel| channel.series.count(Anomaly::BadReading, out));
    }
}
