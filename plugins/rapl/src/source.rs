//! The pipeline element: reads every counter on each tick, so that a bad counter does not affect the others,
//! and compares RAPL's interfaces once after the start. [`group`] holds the counters, [`mirrors`] finds those
//! that are one and the same.

mod group;
mod mirrors;
mod standing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick, Timestamp, Window};
use wattrace_meter::{Anomaly, CounterChannel};

use crate::comparison::{Comparison, InterfaceReport, compare};
use crate::config::{Interface, RaplConfig};
use crate::energy_filtering::{EnergyFiltering, FilteringGauge};
use crate::probe::{self, Candidate};
use group::PolledGroup;

pub(crate) use group::AGE;

/// The shortest span over which interfaces are compared: dozens of refreshes of the hardware.
const COMPARED_SPAN: Duration = Duration::from_millis(50);

/// All counters of a machine.
pub(crate) struct RaplSource {
    clock: Clock,
    registry: Arc<Registry>,
    filtering: FilteringGauge,
    sysfs_root: String,
    interface: &'static str,
    groups: Vec<PolledGroup>,
    /// Until the interfaces are compared, at the first tick that is late enough.
    pending: Option<PendingComparison>,
}

/// The other interfaces, read from the same time on.
struct PendingComparison {
    since: Timestamp,
    /// Whether the configuration says which interface to read.
    configured: bool,
    others: Vec<(&'static str, Vec<PolledGroup>)>,
}

impl RaplSource {
    /// Opens what `config` asks for and takes the first reading, from which the counters count.
    pub(crate) fn open(config: &RaplConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let mut candidates = probe::candidates(config)?.into_iter();
        let Some(Candidate { interface, opened }) = candidates.next() else {
            return Err(Error::gone("no RAPL meter"));
        };
        let filtering = EnergyFiltering::open(Path::new(&config.sysfs_root), Path::new(&config.dev_root));
        let measured = opened.origin() == Some(wattrace_api::Origin::Measured);
        let filtering = FilteringGauge::new(filtering, registry.clone(), measured)?;
        opened.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        tracing::info!(interface, counters = opened.subjects().count(), "RAPL opened");

        let since = clock.now();
        let open = |groups: Vec<_>| -> Vec<_> {
            let mut opened: Vec<_> =
                groups.into_iter().map(|group| PolledGroup::open(group, &clock)).collect();
            mirrors::suspect(&mut opened, since);
            opened
        };
        let mut groups = open(opened.groups);
        let others: Vec<_> = candidates.map(|other| (other.interface, open(other.opened.groups))).collect();
        for group in &mut groups {
            group.publish(&registry)?;
            group.warn_about_missed_wraps(config.interval);
        }
        let configured = config.interface != Interface::Auto;
        let pending = (!others.is_empty()).then_some(PendingComparison { since, configured, others });
        let sysfs_root = config.sysfs_root.clone();
        Ok(Self { clock, registry, filtering, sysfs_root, interface, groups, pending })
    }
}

impl Source for RaplSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        if let Some(pending) = self.pending.take() {
            let now = self.clock.now();
            // The energy used until then is in the first window of the interface that is trusted.
            if now.since(pending.since) < COMPARED_SPAN && !tick.last {
                self.pending = Some(pending);
                return Ok(());
            }
            self.compare_interfaces(pending, now, out)?;
        }
        self.filtering.poll(tick.scheduled, out);
        mirrors::judge(&mut self.groups, &self.clock, &self.registry, out)?;
        let mut gone = 0;
        for group in &mut self.groups {
            gone += usize::from(group.poll(&self.clock, &self.registry, out)?);
        }
        if gone < self.groups.len() {
            return Ok(());
        }
        self.channels().for_each(|channel| channel.series.end(out));
        self.groups.clear();
        self.filtering.end(out);
        let root = Path::new(&self.sysfs_root).display();
        Err(Error::gone(format!(
            "all RAPL counters under {root} are gone (a driver was unloaded?); \
             load it with `sudo modprobe -a intel_rapl_msr rapl`, then reload"
        )))
    }
}

impl RaplSource {
    fn channels(&mut self) -> impl Iterator<Item = &mut CounterChannel> {
        self.groups.iter_mut().flat_map(|group| &mut group.channels)
    }

    /// Compares what all interfaces report for the time since they were opened, and continues with the one to
    /// trust.
    fn compare_interfaces(
        &mut self,
        pending: PendingComparison,
        now: Timestamp,
        out: &mut Batch,
    ) -> Result<(), Error> {
        let PendingComparison { since, configured, mut others } = pending;
        let elapsed = now.since(since);
        let ours = std::iter::once((self.interface, &mut self.groups));
        let reports: Vec<InterfaceReport> = ours
            .chain(others.iter_mut().map(|(interface, groups)| (*interface, groups)))
            .map(|(interface, groups)| InterfaceReport {
                interface,
                energies: groups.iter_mut().flat_map(|group| group.preview(elapsed)).collect(),
            })
            .collect();
        let Comparison { trusted, disagreements } = compare(&reports, elapsed);
        if let Some(other) = trusted.checked_sub(1).filter(|_| !configured) {
            let (interface, groups) = others.swap_remove(other);
            self.interface = interface;
            self.switch_to(groups, out)?;
        }
        out.begin(Window::new(since, now));
        for (domain, energies) in disagreements {
            let read = self.interface;
            tracing::warn!(
                domain,
                "RAPL's interfaces disagree over {elapsed:.1?}: {energies}; {read} is read. \
                 plugins.rapl.interface selects another"
            );
            if let Some(channel) = self.channels().find(|c| c.series.subject().domain.name == domain) {
                channel.series.count(Anomaly::Disagreement, out);
            }
        }
        Ok(())
    }

    /// Continues with the counters of another interface, and with the series of the same domains.
    fn switch_to(&mut self, groups: Vec<PolledGroup>, out: &mut Batch) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.groups, groups);
        let mut before: Vec<_> = before.into_iter().flat_map(|group| group.channels).collect();
        for channel in self.channels() {
            let same = |old: &CounterChannel| old.series.subject() == channel.series.subject();
            if let Some(at) = before.iter().position(same) {
                channel.series.take_over(&mut before.swap_remove(at).series);
            }
        }
        before.iter_mut().for_each(|channel| channel.series.end(out));
        self.groups.iter_mut().try_for_each(|group| group.publish(&self.registry))
    }
}

#[cfg(test)]
mod tests;
