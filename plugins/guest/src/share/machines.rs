//! Finds which series of energy belong to which machine, and adds up the energy of each machine by domain.
//! `store.rs` keeps the totals over restarts; `share.rs` decides when they are written.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wattrace_api::{
    Batch, Clock, Consumer, ConsumerKind, Increments, Registry, Role, Series, SeriesId, SeriesMap, Timestamp,
};

use super::machine::Machine;
use super::{GuestShareConfig, ProcessRule};
use crate::message::{DomainShare, Share, directory_name};

/// All machines.
pub(super) struct Machines {
    registry: Arc<Registry>,
    /// The machines to share with; empty: all.
    selected: Vec<String>,
    processes: Vec<ProcessRule>,
    /// When counting began.
    since: Timestamp,
    /// The same on the wall clock: it differs from that of every earlier run.
    session: u64,
    machines: Vec<Machine>,
    /// `None`: not the energy of a consumer that is, or may become, a machine.
    series: SeriesMap<Option<TrackedSeries>>,
}

/// A series of a consumer's energy.
struct TrackedSeries {
    series: Arc<Series>,
    increments: Increments,
    /// The consumer's revision that `total` is of.
    revision: Option<u64>,
    /// The total that its energy is added to; `None`: its consumer is not a machine now.
    total: Option<TotalIndex>,
}

/// The index of a machine, and of one of its domains.
#[derive(Clone, Copy)]
struct TotalIndex {
    machine: usize,
    domain: usize,
}

impl Machines {
    /// Continues the totals that are `stored`.
    pub(super) fn open(
        config: &GuestShareConfig,
        registry: Arc<Registry>,
        clock: &Clock,
        stored: Vec<(String, Share)>,
    ) -> Self {
        let since = clock.now();
        let session = clock.unix_nanos(since);
        let machines = stored.into_iter().map(|(directory, share)| Machine {
            name: share.machine,
            id: String::new(),
            directory,
            session,
            start_unix_nano: share.start_unix_nano,
            as_of_unix_nano: share.as_of_unix_nano,
            as_of: since,
            domains: share.domains,
            open_series: 0,
            gone: Some(since),
            is_changed: false,
            written: None,
        });
        Self {
            registry,
            selected: config.machines.clone(),
            processes: config.processes.clone(),
            since,
            session,
            machines: machines.collect(),
            series: SeriesMap::default(),
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Machine> {
        self.machines.iter_mut().filter(|machine| !machine.directory.is_empty())
    }

    /// Adds the energy of a batch.
    pub(super) fn add(&mut self, batch: &Batch, clock: &Clock) {
        for segment in batch.segments() {
            let end_unix_nano = clock.unix_nanos(segment.window.end);
            for (id, value) in segment.points() {
                if self.series.get(id).is_none() {
                    let tracked = self.track(id);
                    self.series.insert(id, tracked);
                }
                let Some(Some(tracked)) = self.series.get_mut(id) else { continue };
                let increment = tracked.increments.next(segment.window, value);
                let revision = tracked.series.consumer.as_ref().map(|consumer| consumer.revision());
                if revision != tracked.revision {
                    tracked.revision = revision;
                    self.assign(id, segment.window.start, segment.window.end, clock);
                }
                let Some(Some(TrackedSeries { total: Some(total), .. })) = self.series.get(id) else {
                    continue;
                };
                let machine = &mut self.machines[total.machine];
                let microjoules = &mut machine.domains[total.domain].microjoules;
                *microjoules = microjoules.saturating_add(increment);
                machine.as_of = machine.as_of.max(segment.window.end);
                machine.as_of_unix_nano = machine.as_of_unix_nano.max(end_unix_nano);
                machine.session = self.session;
                machine.is_changed = true;
            }
        }
        for &id in batch.ended() {
            if let Some(Some(tracked)) = self.series.remove(id) {
                self.moved(tracked.total, None, clock.now());
            }
        }
    }

    /// Removes machines that have been gone for longer than `keep`. Returns their directories.
    pub(super) fn remove_gone(&mut self, now: Timestamp, keep: Duration) -> Vec<String> {
        let is_over =
            |m: &Machine| m.gone.is_some_and(|gone| now.since(gone) > keep) && !m.directory.is_empty();
        // The entry stays, free for another machine, so that the other machines keep their indices.
        let gone = self.machines.iter_mut().filter(|machine| is_over(machine));
        gone.map(|machine| {
            machine.name.clear();
            machine.domains = Vec::new();
            std::mem::take(&mut machine.directory)
        })
        .collect()
    }

    fn track(&self, id: SeriesId) -> Option<TrackedSeries> {
        let series = self.registry.get(id).filter(|series| series.role == Role::Energy)?;
        let may_be_machine = match series.consumer.as_ref()?.kind() {
            ConsumerKind::Machine => true,
            ConsumerKind::Process => !self.processes.is_empty(),
            _ => false,
        };
        let increments = Increments::new(&series, self.since);
        may_be_machine.then_some(TrackedSeries { series, increments, revision: None, total: None })
    }

    /// Finds the total of a series, after its consumer has changed: an exec may make a process a machine, or
    /// another one.
    fn assign(&mut self, id: SeriesId, start: Timestamp, end: Timestamp, clock: &Clock) {
        let Some(Some(tracked)) = self.series.get(id) else { return };
        let series = tracked.series.clone();
        let after = self.total(&series, start, clock);
        if let Some(Some(tracked)) = self.series.get_mut(id) {
            let before = std::mem::replace(&mut tracked.total, after);
            self.moved(before, after, end);
        }
    }

    /// The total that the energy of `series` is added to.
    fn total(&mut self, series: &Series, at: Timestamp, clock: &Clock) -> Option<TotalIndex> {
        // A machine without a name stands for what is in no machine.
        let (mut name, id) = self.name_of(series.consumer.as_ref()?).filter(|(name, _)| !name.is_empty())?;
        let domain = series.domain.as_ref()?;
        let find = |name: &str| self.machines.iter().position(|machine| machine.name == name);
        let mut known = find(&name);
        // Names may be cut off, so that two machines have the same: the second is named by its id.
        if known.is_some_and(|at| self.machines[at].open_series > 0 && self.machines[at].id != id) {
            name.clone_from(&id);
            known = find(&name);
        }
        let machine = match known {
            Some(machine) => machine,
            None => self.insert(name, at, clock)?,
        };
        self.machines[machine].id = id;
        let domains = &mut self.machines[machine].domains;
        let known = domains.iter().position(|known| known.domain == domain.name);
        let at = known.unwrap_or_else(|| {
            domains.push(DomainShare {
                domain: domain.name.clone(),
                origin: String::new(),
                part: series.counts_in_totals(),
                microjoules: 0,
            });
            domains.len() - 1
        });
        domain.origin.as_str().clone_into(&mut domains[at].origin);
        Some(TotalIndex { machine, domain: at })
    }

    fn insert(&mut self, name: String, at: Timestamp, clock: &Clock) -> Option<usize> {
        let Some(directory) = directory_name(&name) else {
            warn!(
                "guest-share: the machine \"{name}\" gets no file: its name does not fit a directory's name"
            );
            return None;
        };
        info!("guest-share: shares energy with {name}");
        let start_unix_nano = clock.unix_nanos(at);
        let machine = Machine {
            name,
            id: String::new(),
            directory,
            session: self.session,
            start_unix_nano,
            as_of_unix_nano: start_unix_nano,
            as_of: at,
            domains: Vec::new(),
            open_series: 0,
            gone: None,
            is_changed: true,
            written: None,
        };
        match self.machines.iter().position(|machine| machine.directory.is_empty()) {
            Some(free) => {
                self.machines[free] = machine;
                Some(free)
            }
            None => {
                self.machines.push(machine);
                Some(self.machines.len() - 1)
            }
        }
    }

    /// The machine that `consumer` is: its name, and its id.
    fn name_of(&self, consumer: &Consumer) -> Option<(String, String)> {
        let identity = consumer.identity();
        if consumer.kind() == ConsumerKind::Machine {
            let id = identity.id.clone().into_owned();
            let name =
                consumer.attribute("wattrace.machine.name").map_or_else(|| id.clone(), |n| n.to_string());
            // If a process is configured as this machine, the energy of the process counts instead.
            let is_process = self.processes.iter().any(|rule| rule.machine == name);
            let is_selected =
                self.selected.is_empty() || self.selected.contains(&name) || self.selected.contains(&id);
            return (is_selected && !is_process).then_some((name, id));
        }
        let executable = consumer.attribute("process.executable.name").map(|name| name.to_string());
        let matches = |rule: &&ProcessRule| {
            (rule.pid == 0 || identity.id.parse() == Ok(rule.pid))
                && (rule.name.is_empty() || executable.as_deref() == Some(&rule.name))
        };
        // Several processes may be one machine, so they have no id.
        self.processes.iter().find(matches).map(|rule| (rule.machine.clone(), String::new()))
    }

    /// Counts a series that moved from one machine to another.
    fn moved(&mut self, before: Option<TotalIndex>, after: Option<TotalIndex>, at: Timestamp) {
        if let Some(after) = after {
            self.machines[after.machine].open_series += 1;
            self.machines[after.machine].gone = None;
        }
        if let Some(before) = before {
            let machine = &mut self.machines[before.machine];
            machine.open_series = machine.open_series.saturating_sub(1);
            if machine.open_series == 0 {
                machine.gone = Some(at);
            }
        }
    }
}
