//! Whose energy is which machine's, and how much of it there has been.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use wattrace_api::{
    Batch, Clock, ConsumerKind, Error, MetricId, Registry, ResourceKind, ResultExt, Series, SeriesMap,
    Timestamp, metric,
};

use super::{GuestShareConfig, ProcessRule};
use crate::message::{DomainShare, SCHEMA, Share, directory_name};

/// All machines.
pub(super) struct Books {
    registry: Arc<Registry>,
    energy: MetricId,
    /// Whom to share with; empty: everybody.
    chosen: Vec<String>,
    processes: Vec<ProcessRule>,
    session: u64,
    machines: Vec<Machine>,
    /// Per series: `None` if it is no energy of a consumer that can be, or become, a machine.
    series: SeriesMap<Option<Tally>>,
}

/// One machine's energy.
pub(super) struct Machine {
    name: String,
    /// The consumer's, of whoever has the name now.
    id: String,
    pub(super) directory: String,
    session: u64,
    start_unix_nano: u64,
    as_of_unix_nano: u64,
    as_of: Timestamp,
    domains: Vec<DomainShare>,
    /// Open series.
    series: usize,
    /// When the last series ended.
    gone: Option<Timestamp>,
    /// Something has come since it was written.
    pub(super) is_new: bool,
    /// When it was written last, by this run.
    pub(super) written: Option<Timestamp>,
}

/// A series of energy.
struct Tally {
    series: Arc<Series>,
    /// The consumer's, when it was looked at whose machine it is.
    revision: u64,
    last: Option<u64>,
    /// Indices of the machine and of its domain.
    place: Option<(usize, usize)>,
}

impl Books {
    /// Books that go on where `kept` ends.
    pub(super) fn open(
        config: &GuestShareConfig,
        registry: Arc<Registry>,
        clock: &Clock,
        kept: Vec<(String, Share)>,
    ) -> Result<Self, Error> {
        let now = clock.now();
        let session = clock.unix_nanos(now);
        let machines = kept.into_iter().map(|(directory, share)| Machine {
            name: share.machine,
            id: String::new(),
            directory,
            session,
            start_unix_nano: share.start_unix_nano,
            as_of_unix_nano: share.as_of_unix_nano,
            as_of: now,
            domains: share.domains,
            series: 0,
            gone: Some(now),
            is_new: false,
            written: None,
        });
        Ok(Self {
            energy: registry.metric(&metric::CONSUMER_ENERGY).or_fatal()?,
            registry,
            chosen: config.machines.clone(),
            processes: config.processes.clone(),
            session,
            machines: machines.collect(),
            series: SeriesMap::default(),
        })
    }

    pub(super) fn machines(&mut self) -> impl Iterator<Item = &mut Machine> {
        self.machines.iter_mut().filter(|machine| !machine.directory.is_empty())
    }

    /// Adds a batch's energy. The same batch again adds nothing.
    pub(super) fn take(&mut self, batch: &Batch, clock: &Clock) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.series.get(id).is_none() {
                    let tally = self.tally(id, segment.window.start);
                    self.series.insert(id, tally);
                }
                let Some(Some(tally)) = self.series.get_mut(id) else { continue };
                let revision = tally.series.consumer.as_ref().map_or(0, |consumer| consumer.revision());
                if revision != tally.revision {
                    // An exec may have made a machine of it, or another one.
                    tally.revision = revision;
                    let series = tally.series.clone();
                    let place = self.place(&series, segment.window.start, clock);
                    if let Some(Some(tally)) = self.series.get_mut(id) {
                        let before = std::mem::replace(&mut tally.place, place);
                        self.moved(before, place, segment.window.end);
                    }
                }
                let Some(Some(tally)) = self.series.get_mut(id) else { continue };
                let before = tally.last.replace(value.steps());
                let (Some((machine, domain)), Some(before)) = (tally.place, before) else { continue };
                let machine = &mut self.machines[machine];
                let total = &mut machine.domains[domain].microjoules;
                *total = total.saturating_add(value.steps().saturating_sub(before));
                machine.as_of = machine.as_of.max(segment.window.end);
                machine.as_of_unix_nano = machine.as_of_unix_nano.max(clock.unix_nanos(segment.window.end));
                machine.session = self.session;
                machine.is_new = true;
            }
        }
        for &id in batch.ended() {
            if let Some(Some(tally)) = self.series.remove(id) {
                self.moved(tally.place, None, clock.now());
            }
        }
    }

    /// What is kept of machines that have been gone for `keep` is forgotten. Returns their directories.
    pub(super) fn forget(&mut self, now: Timestamp, keep: Duration) -> Vec<String> {
        let over = |m: &Machine| m.gone.is_some_and(|gone| now.since(gone) > keep) && !m.directory.is_empty();
        // Others' indices stay: the entry is emptied, and found again by nobody.
        let gone = self.machines.iter_mut().filter(|machine| over(machine));
        gone.map(|machine| {
            machine.name.clear();
            machine.domains = Vec::new();
            std::mem::take(&mut machine.directory)
        })
        .collect()
    }

    fn tally(&mut self, id: wattrace_api::SeriesId, at: Timestamp) -> Option<Tally> {
        let series = self.registry.get(id).filter(|series| series.metric_id == self.energy)?;
        let consumer = series.consumer.as_ref()?;
        let may_be = match consumer.kind() {
            ConsumerKind::Machine => true,
            ConsumerKind::Process => !self.processes.is_empty(),
            _ => false,
        };
        // Not yet looked at: no revision is that high. The value of a series with a past is not all of this
        // window's.
        may_be.then(|| Tally {
            revision: u64::MAX,
            last: (series.start >= at).then_some(0),
            place: None,
            series,
        })
    }

    /// The machine and the domain whose energy `series` is.
    fn place(&mut self, series: &Series, at: Timestamp, clock: &Clock) -> Option<(usize, usize)> {
        // What is in no machine is told, too, as a machine without a name.
        let (mut name, id) = self.name_of(series).filter(|(name, _)| !name.is_empty())?;
        let domain = series.domain.as_ref()?;
        let find = |name: &str| self.machines.iter().position(|machine| machine.name == name);
        let mut known = find(&name);
        // Names can be cut, so that two machines seem to have one: the second goes by its id.
        if known.is_some_and(|at| self.machines[at].series > 0 && self.machines[at].id != id) {
            name.clone_from(&id);
            known = find(&name);
        }
        let at_machine = match known {
            Some(at_machine) => at_machine,
            None => self.add(name, at, clock)?,
        };
        self.machines[at_machine].id = id;
        let domains = &mut self.machines[at_machine].domains;
        let origin = domain.origin.as_str();
        let known = domains.iter_mut().position(|known| known.domain == domain.name);
        let at_domain = known.unwrap_or_else(|| {
            let whole_host = matches!(series.resource.kind, ResourceKind::Psys | ResourceKind::Host);
            let part = domain.within.is_none() && !whole_host;
            let (domain, origin) = (domain.name.clone(), origin.to_owned());
            domains.push(DomainShare { domain, origin, part, microjoules: 0 });
            domains.len() - 1
        });
        origin.clone_into(&mut domains[at_domain].origin);
        Some((at_machine, at_domain))
    }

    fn add(&mut self, name: String, at: Timestamp, clock: &Clock) -> Option<usize> {
        let Some(directory) = directory_name(&name) else {
            warn!(
                "guest-share: a machine's name makes no directory's name, so that it is not told: \"{name}\""
            );
            return None;
        };
        info!("guest-share: tells {name} its share");
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
            series: 0,
            gone: None,
            is_new: true,
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

    /// The machine's name, and what tells it from another of that name.
    fn name_of(&self, series: &Series) -> Option<(String, String)> {
        let consumer = series.consumer.as_ref()?;
        let identity = consumer.identity();
        if consumer.kind() == ConsumerKind::Machine {
            let id = identity.id.clone().into_owned();
            let name =
                consumer.attribute("wattrace.machine.name").map_or_else(|| id.clone(), |n| n.to_string());
            // A process that was named as this machine is that machine: its energy is not told twice.
            let is_process = self.processes.iter().any(|rule| rule.machine == name);
            let is_chosen =
                self.chosen.is_empty() || self.chosen.contains(&name) || self.chosen.contains(&id);
            return (is_chosen && !is_process).then_some((name, id));
        }
        let executable = consumer.attribute("process.executable.name").map(|name| name.to_string());
        let fits = |rule: &&ProcessRule| {
            (rule.pid == 0 || identity.id.parse() == Ok(rule.pid))
                && (rule.name.is_empty() || executable.as_deref() == Some(&rule.name))
        };
        // Several processes can be one machine.
        self.processes.iter().find(fits).map(|rule| (rule.machine.clone(), String::new()))
    }

    /// A series has left the machine in `before` and joined that in `after`.
    fn moved(&mut self, before: Option<(usize, usize)>, after: Option<(usize, usize)>, at: Timestamp) {
        if let Some((machine, _)) = after {
            self.machines[machine].series += 1;
            self.machines[machine].gone = None;
        }
        if let Some((machine, _)) = before {
            let machine = &mut self.machines[machine];
            machine.series = machine.series.saturating_sub(1);
            if machine.series == 0 {
                machine.gone = Some(at);
            }
        }
    }
}

impl Machine {
    /// Whether its last series has ended, so that what is new is its last.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// What is said of it now.
    pub(super) fn message(&self, clock: &Clock) -> Message {
        let share = Share {
            schema: SCHEMA.to_owned(),
            machine: self.name.clone(),
            session: self.session,
            start_unix_nano: self.start_unix_nano,
            as_of_unix_nano: self.as_of_unix_nano,
            age_nano: 0,
            domains: self.domains.clone(),
        };
        Message { share, as_of: self.as_of }.aged(clock)
    }
}

/// A message, and as of when it is by the host's monotonic clock.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) share: Share,
    as_of: Timestamp,
}

impl Message {
    /// The same, with its age now.
    pub(super) fn aged(mut self, clock: &Clock) -> Self {
        self.share.age_nano = u64::try_from(clock.now().since(self.as_of).as_nanos()).unwrap_or(u64::MAX);
        self
    }
}
