//! The pipeline element: reads every counter on each tick, keeps one bad counter from hurting the others, and
//! at its start hears what the other interfaces say. [`meter`] holds the counters.

mod meter;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Registry, SeriesId, Source, Tick, Timestamp, Window};

use crate::agree::{Testimony, Verdict, judge};
use crate::anomaly::{Anomaly, Opener};
use crate::config::{Interface, RaplConfig};
use crate::domain::Subject;
use crate::filtering::{Filtering, Flag};
use crate::probe::{self, Candidate};
use meter::Meter;

pub(crate) use meter::AGE;

/// The least span over which interfaces are compared: dozens of refreshes of the hardware.
const COMPARED: Duration = Duration::from_millis(50);

/// All counters of a machine.
pub(crate) struct RaplSource {
    clock: Clock,
    registry: Arc<Registry>,
    opener: Opener,
    flag: Flag,
    sysfs_root: String,
    interface: &'static str,
    meters: Vec<Meter>,
    /// Until the interfaces have been compared, which the first tick does that comes late enough.
    comparison: Option<Comparison>,
}

/// The other interfaces, read from the same moment on.
struct Comparison {
    since: Timestamp,
    /// Whether the configuration says which one to believe.
    decided: bool,
    others: Vec<(&'static str, Vec<Meter>)>,
}

impl RaplSource {
    /// Opens what `config` asks for and takes the first reading, from which the counters count.
    pub(crate) fn open(config: &RaplConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let mut candidates = probe::choose(config)?.into_iter();
        let Some(Candidate { interface, opened }) = candidates.next() else {
            return Err(Error::gone("no RAPL meter"));
        };
        let roots = (Path::new(&config.sysfs_root), Path::new(&config.dev_root));
        let real = opened.origin() == Some(wattrace_api::Origin::Measured);
        let flag = Flag::new(Filtering::open(roots.0, roots.1), registry.clone(), real)?;
        opened.caveats.iter().for_each(|caveat| tracing::warn!("{caveat}"));
        tracing::info!(interface, counters = opened.subjects().count(), "RAPL opened");

        let since = clock.now();
        let open =
            |groups: Vec<_>| -> Vec<_> { groups.into_iter().map(|g| Meter::open(g, &clock)).collect() };
        let mut meters = open(opened.groups);
        let others: Vec<_> = candidates.map(|other| (other.interface, open(other.opened.groups))).collect();
        for meter in &mut meters {
            meter.publish(&registry)?;
            meter.warn_of_missed_wraps(config.interval);
        }
        let decided = config.interface != Interface::Auto;
        let comparison = (!others.is_empty()).then_some(Comparison { since, decided, others });
        let opener = Opener::new(registry.clone(), since)?;
        let sysfs_root = config.sysfs_root.clone();
        Ok(Self { clock, registry, opener, flag, sysfs_root, interface, meters, comparison })
    }
}

impl Source for RaplSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        if let Some(comparison) = self.comparison.take() {
            let now = self.clock.now();
            // What is used meanwhile is in the first window of whichever is believed.
            if now.since(comparison.since) < COMPARED && !tick.last {
                self.comparison = Some(comparison);
                return Ok(());
            }
            self.compare(comparison, now, out)?;
        }
        self.flag.tell(tick.scheduled, out);
        let mut gone = 0;
        for meter in &mut self.meters {
            gone += usize::from(meter.poll(&self.clock, &self.opener, out));
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
    /// Hears what every interface says of the time since all were opened, and goes on with the one to
    /// believe.
    fn compare(&mut self, comparison: Comparison, now: Timestamp, out: &mut Batch) -> Result<(), Error> {
        let Comparison { since, decided, mut others } = comparison;
        let elapsed = now.since(since);
        let ours = std::iter::once((self.interface, &mut self.meters));
        let testimonies: Vec<Testimony> = ours
            .chain(others.iter_mut().map(|(interface, meters)| (*interface, meters)))
            .map(|(interface, meters)| Testimony {
                interface,
                energies: meters.iter_mut().flat_map(|meter| meter.preview(elapsed)).collect(),
            })
            .collect();
        let Verdict { believed, disputes } = judge(&testimonies, elapsed);
        if let Some(other) = believed.checked_sub(1).filter(|_| !decided) {
            let (interface, meters) = others.swap_remove(other);
            self.interface = interface;
            self.adopt(meters, out)?;
        }
        out.begin(Window::new(since, now));
        for (domain, figures) in disputes {
            let read = self.interface;
            tracing::warn!(
                domain,
                "RAPL's interfaces differ over {elapsed:.1?}: {figures}; {read} is read. \
                 plugins.rapl.interface chooses another"
            );
            let mut channels = self.meters.iter_mut().flat_map(|meter| &mut meter.channels);
            if let Some(channel) = channels.find(|channel| channel.subject.domain.name == domain) {
                channel.anomalies.count(Anomaly::Disagreement, &channel.subject, &self.opener, out);
            }
        }
        Ok(())
    }

    /// Goes on with other meters, and with the series of the same domains.
    fn adopt(&mut self, mut meters: Vec<Meter>, out: &mut Batch) -> Result<(), Error> {
        let old = self.meters.drain(..).flat_map(|meter| meter.channels);
        let mut open: Vec<(Subject, SeriesId)> = old.filter_map(|c| Some((c.subject, c.series?))).collect();
        for meter in &mut meters {
            for channel in &mut meter.channels {
                let same = open.iter().position(|(subject, _)| *subject == channel.subject);
                channel.series = same.map(|at| open.swap_remove(at).1);
            }
            meter.publish(&self.registry)?;
        }
        open.into_iter().for_each(|(_, series)| out.end(series));
        self.meters = meters;
        Ok(())
    }

    fn end(&mut self, out: &mut Batch) {
        for channel in self.meters.iter_mut().flat_map(|meter| &mut meter.channels) {
            channel.series.take().into_iter().for_each(|series| out.end(series));
            channel.anomalies.end(out);
        }
        self.meters.clear();
        self.flag.end(out);
    }
}

#[cfg(test)]
mod tests;
