//! The pipeline element: reads every counter on each tick, gives each reading the window since the last good one, and
//! keeps one bad counter from hurting the others.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Error, Registry, ResultExt, SeriesId, SeriesSpec, Source, Tick, Timestamp, Value, Window,
};

use crate::anomaly::{Anomalies, Anomaly, Opener};
use crate::config::RaplConfig;
use crate::counter::{Counter, Step};
use crate::domain::Subject;
use crate::meter::{Fault, Group, Reader};
use crate::probe;

/// All counters of a machine.
pub(crate) struct RaplSource {
    clock: Clock,
    opener: Opener,
    sysfs_root: String,
    meters: Vec<Meter>,
}

/// Counters that are read together.
struct Meter {
    reader: Box<dyn Reader>,
    channels: Vec<Channel>,
    /// The numbers of a reading, one per channel.
    raw: Vec<u64>,
    /// When the last good reading was taken: just after its read returned, so that no window claims time that the meter
    /// has not seen yet.
    read_at: Timestamp,
    warned: bool,
}

/// One counter on its way into the pipeline.
struct Channel {
    subject: Subject,
    counter: Counter,
    series: SeriesId,
    anomalies: Anomalies,
}

impl RaplSource {
    /// Opens what `config` asks for and takes the first reading, from which the counters count.
    pub(crate) fn open(config: &RaplConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let groups = probe::choose(config)?;
        let opener = Opener::new(registry.clone(), clock.now())?;
        let mut meters = Vec::with_capacity(groups.len());
        for group in groups {
            warn_of_missed_wraps(&group, config.interval);
            meters.push(Meter::open(group, &registry, &clock)?);
        }
        Ok(Self { clock, opener, sysfs_root: config.sysfs_root.clone(), meters })
    }
}

/// A counter that wraps twice between two readings has lost a period, and nobody can tell afterwards.
fn warn_of_missed_wraps(group: &Group, interval: Duration) {
    const WATTS: u64 = 1_000;
    for (subject, counter) in &group.counters {
        if let Some(lap) = counter.lap(WATTS).filter(|&lap| lap < interval) {
            let domain = &subject.domain.name;
            tracing::warn!(
                domain,
                "plugins.rapl.interval: at {WATTS} W this counter wraps every {lap:?}; read it oftener"
            );
        }
    }
}

impl Source for RaplSource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let mut gone = 0;
        for meter in &mut self.meters {
            let read = meter.reader.read(&mut meter.raw);
            let now = self.clock.now();
            // Nothing can be said about an empty window; the next tick has a longer one.
            if now <= meter.read_at {
                continue;
            }
            let window = Window::new(meter.read_at, now);
            match read {
                Ok(()) => meter.advance(window, &self.opener, out),
                Err(fault) => {
                    gone += usize::from(fault.gone);
                    meter.miss(fault, window, &self.opener, out);
                }
            }
        }
        if gone < self.meters.len() {
            return Ok(());
        }
        self.end(out);
        let root = Path::new(&self.sysfs_root).display();
        Err(Error::gone(format!(
            "every RAPL counter under {root} has vanished (a driver was unloaded?); \
             bring it back with `sudo modprobe -a intel_rapl_msr rapl`, then reload"
        )))
    }
}

impl RaplSource {
    fn end(&mut self, out: &mut Batch) {
        for channel in self.meters.iter_mut().flat_map(|meter| &mut meter.channels) {
            out.end(channel.series);
            channel.anomalies.end(out);
        }
        self.meters.clear();
    }
}

impl Meter {
    fn open(group: Group, registry: &Registry, clock: &Clock) -> Result<Self, Error> {
        let Group { mut reader, mut counters } = group;
        let mut raw = vec![0; counters.len()];
        let first = reader.read(&mut raw);
        let read_at = clock.now();
        match &first {
            Ok(()) => {
                for ((_, counter), &raw) in counters.iter_mut().zip(&raw) {
                    counter.take(raw, Duration::ZERO);
                }
            }
            // Its counter begins with the first good reading.
            Err(fault) => tracing::warn!("no first reading: {}", fault.what),
        }
        let mut channels = Vec::with_capacity(counters.len());
        for (subject, counter) in counters {
            let series = registry.open(SeriesSpec {
                metric: registry.metric(&subject.metric).or_fatal()?,
                resource: subject.resource.clone(),
                domain: Some(Arc::new(subject.domain.clone())),
                consumer: None,
                attributes: Vec::new(),
                start: read_at,
            });
            channels.push(Channel { subject, counter, series, anomalies: Anomalies::default() });
        }
        Ok(Self { reader, channels, raw, read_at, warned: first.is_err() })
    }

    /// Takes the reading in `raw`, which closes `window`.
    fn advance(&mut self, window: Window, opener: &Opener, out: &mut Batch) {
        out.begin(window);
        let elapsed = window.end.since(window.start);
        for (channel, &raw) in self.channels.iter_mut().zip(&self.raw) {
            let Channel { subject, counter, series, anomalies } = channel;
            let step = counter.take(raw, elapsed);
            match step {
                Step::Advanced | Step::Wrapped => out.push(*series, Value::of_steps(counter.microjoules())),
                // What the window used is unknown: no point is better than a false zero.
                Step::Based | Step::Reset => {}
            }
            match step {
                Step::Wrapped => anomalies.count(Anomaly::Wrap, subject, opener, out),
                Step::Reset => {
                    tracing::warn!(
                        domain = subject.domain.name,
                        "counter ran backwards: counting on from there"
                    );
                    anomalies.count(Anomaly::Reset, subject, opener, out);
                }
                Step::Based | Step::Advanced => {}
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

#[cfg(test)]
mod tests;
