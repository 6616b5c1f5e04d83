//! What the command has used so far: a transform that changes nothing, like the recorder, and knows up to
//! when each domain is accounted for. The report is made of the recording; this is for deciding in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Error, Identity, Increments, Registry, Role, Series, SeriesMap, Timestamp,
    Transform, Usage,
};

use super::prediction::Used;
use crate::cli::exec::child::Root;
use crate::cli::exec::selection::is_root;

/// The command's processes, and what they have used.
#[derive(Default)]
pub(in crate::cli::exec) struct Account {
    pub(super) used: Used,
    /// The command's first process, and when it was started, in nanoseconds since 1970.
    root: Option<(Root, u64)>,
    /// Every process that was seen since the command began.
    processes: HashMap<Identity, Arc<Consumer>>,
}

pub(super) fn lock(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Account {
    /// The command begins.
    pub(super) fn begin(&mut self, root: Root, since: u64) {
        self.root = Some((root, since));
    }

    /// The pids, in the initial namespace, of the command's processes that have not exited.
    pub(super) fn living(&self) -> Vec<u32> {
        let living = self.processes.values().filter(|process| process.end_unix_nano().is_none());
        let ours = living.filter(|process| self.is_of_command(process));
        ours.filter_map(|process| process.identity().id.parse().ok()).collect()
    }

    /// Whether a process is the command's first one or descends from it.
    fn is_of_command(&self, process: &Consumer) -> bool {
        let Some((root, since)) = self.root else { return false };
        let mut ancestor = process;
        loop {
            if is_root(ancestor, root, since) {
                return true;
            }
            match ancestor.parent().and_then(|parent| self.processes.get(parent)) {
                // A parent starts before its child, so this ends.
                Some(parent) if parent.identity() != ancestor.identity() => ancestor = parent,
                _ => return false,
            }
        }
    }
}

/// What the points of a series are used for.
enum Use {
    Nothing,
    /// Energy of a domain, by its number; only the command's is counted.
    Energy {
        domain: usize,
        of_command: Option<Increments>,
    },
}

/// Adds up what the command uses.
pub(super) struct Meter {
    account: Arc<Mutex<Account>>,
    registry: Arc<Registry>,
    since: Timestamp,
    uses: SeriesMap<Use>,
    domains: Vec<String>,
    /// What was used of each domain in the current segment; `None`: the segment has no point of it.
    segment: Vec<Option<u64>>,
}

impl Meter {
    pub(super) fn new(account: Arc<Mutex<Account>>, registry: Arc<Registry>, since: Timestamp) -> Self {
        let (uses, domains, segment) = (SeriesMap::default(), Vec::new(), Vec::new());
        Self { account, registry, since, uses, domains, segment }
    }

    fn take(&mut self, batch: &Batch) {
        let account = self.account.clone();
        let mut account = lock(&account);
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.uses.get(id).is_none() {
                    let series = self.registry.get(id);
                    let used = series.map_or(Some(Use::Nothing), |series| self.use_of(&series, &mut account));
                    let Some(used) = used else { continue };
                    self.uses.insert(id, used);
                }
                if let Some(Use::Energy { domain, of_command }) = self.uses.get_mut(id) {
                    let sum = self.segment[*domain].get_or_insert(0);
                    if let Some(increments) = of_command {
                        *sum += increments.next(segment.window, value);
                    }
                }
            }
            for (domain, sum) in self.segment.iter_mut().enumerate() {
                if let Some(microjoules) = sum.take() {
                    account.used.add(domain, segment.window, microjoules);
                }
            }
        }
        for &id in batch.ended() {
            self.uses.remove(id);
        }
    }

    /// What a series is used for. `None`: not known yet. The first window of the command may be attributed
    /// before it is known which process is the command; counters have it in their next points.
    fn use_of(&mut self, series: &Series, account: &mut Account) -> Option<Use> {
        let Some(consumer) = &series.consumer else { return Some(Use::Nothing) };
        let is_process = consumer.kind() == ConsumerKind::Process;
        match (series.role, &series.domain) {
            // Usage comes before the energy that follows from it, so parents are known by then.
            (Role::Usage(Usage::CpuTime), _) if is_process => {
                account.processes.insert(consumer.identity().clone(), consumer.clone());
                Some(Use::Nothing)
            }
            (Role::Energy, Some(domain)) if series.counts_in_totals() => {
                account.root?;
                let of_command = (is_process && account.is_of_command(consumer))
                    .then(|| Increments::new(series, self.since));
                let known = self.domains.iter().position(|name| *name == domain.name);
                let domain = known.unwrap_or_else(|| {
                    self.domains.push(domain.name.clone());
                    self.segment.push(None);
                    self.domains.len() - 1
                });
                Some(Use::Energy { domain, of_command })
            }
            _ => Some(Use::Nothing),
        }
    }
}

/// A transform, and behind it the meter of a budget, if there is one.
pub(in crate::cli::exec) struct WithBudget<T> {
    inner: T,
    meter: Option<Meter>,
}

impl<T> WithBudget<T> {
    pub(in crate::cli::exec) fn new(
        inner: T,
        account: Option<Arc<Mutex<Account>>>,
        registry: Arc<Registry>,
        since: Timestamp,
    ) -> Self {
        Self { inner, meter: account.map(|account| Meter::new(account, registry, since)) }
    }
}

impl<T: Transform> Transform for WithBudget<T> {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.inner.apply(batch)?;
        if let Some(meter) = &mut self.meter {
            meter.take(batch);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;
    use wattrace_api::{
        Attribute, Domain, Follows, Metric, Origin, Resource, SeriesId, SeriesSpec, Window, metric,
    };

    use super::*;

    fn process(pid: &'static str, parent: u32) -> Arc<Consumer> {
        let identity = Identity { kind: ConsumerKind::Process, id: pid.into(), start_unix_nano: 50_000_000 };
        let attributes = vec![Attribute::new("process.parent_pid", i64::from(parent))];
        Arc::new(Consumer::new(identity, None, attributes))
    }

    fn open(rig: &Rig, metric: &Metric, consumer: &Arc<Consumer>) -> SeriesId {
        let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
        let follows = Follows::Package(0);
        let domain = Domain { name, origin, follows, within: None, idle_microwatts: None };
        let domain = (metric.name == metric::CONSUMER_ENERGY.name).then(|| Arc::new(domain));
        let metric = rig.registry.metric(metric).unwrap();
        let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(100));
        rig.registry.open(SeriesSpec { domain, consumer: Some(consumer.clone()), ..spec })
    }

    #[test]
    fn energy_that_was_attributed_before_the_command_was_known_counts() {
        let rig = Rig::new();
        let account = Arc::new(Mutex::new(Account::default()));
        let mut meter = Meter::new(account.clone(), rig.registry.clone(), Timestamp(100));
        let (command, neighbour) = (process("7", 3), process("8", 3));
        let time = open(&rig, &metric::CONSUMER_CPU_TIME, &command);
        let [used, others] = [&command, &neighbour].map(|of| open(&rig, &metric::CONSUMER_ENERGY, of));
        let window = |begin| Window::new(Timestamp(begin), Timestamp(begin + 10_000_000));
        meter.take(&rig.batch(window(100), &[(time, 5_000_000), (used, 500), (others, 90)]));
        assert_eq!(lock(&account).used.total(), 0);
        lock(&account).begin(Root { pid: 7, parent: Some(3) }, 50_000_000);
        meter.take(&rig.batch(window(10_000_100), &[(time, 9_000_000), (used, 900), (others, 180)]));
        assert_eq!(lock(&account).used.total(), 900);
        meter.take(&rig.batch(window(20_000_100), &[(used, 1_200), (others, 190)]));
        assert_eq!(lock(&account).used.total(), 1_200);
    }
}
