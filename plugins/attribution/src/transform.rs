//! The transform: sorts points into usage and energy, lets every account close what can be closed, and ends
//! what is done.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;
use tracing::debug;
use wattrace_api::{
    Batch, Consumer, ConsumerKind, Error, Identity, MetricId, Registry, ResourceKind, ResultExt, Series,
    SeriesId, SeriesMap, Timestamp, Transform, metric,
};

use crate::AttributionConfig;
use crate::account::{Account, Context, Tenant};
use crate::amounts::Quantity;
use crate::ledger::Metrics;
use crate::model::Model;
use crate::state::State;
use crate::usage::{CORES, PACKAGES, Timelines, Use, User};

/// Joins usage (`wattrace.consumer.cpu.time`, …) and energy (`hw.energy`) into `wattrace.consumer.energy`.
pub struct Transformer {
    registry: Arc<Registry>,
    config: AttributionConfig,
    metrics: Metrics,
    energy_metrics: [MetricId; 2],
    roles: SeriesMap<Role>,
    timelines: Timelines,
    tenants: Slab<Tenant>,
    /// Slot by the consumer's address, which the slot keeps from being reused.
    slots: FxHashMap<usize, usize>,
    /// Slot of a process by its pid and start, for its threads to find it.
    processes: FxHashMap<(u32, u64), usize>,
    /// Tenants whose usage has ended, and when; their energy series are still open.
    leaving: Vec<(usize, Timestamp)>,
    /// Tenants whose series have ended; remembered usage may still name their slot.
    left: Vec<(usize, Timestamp)>,
    /// Who holds memory of which device: timeline, slot, bytes.
    holders: Vec<(usize, usize, u64)>,
    accounts: Slab<Account>,
    state: State,
    /// When what was learnt was last written down.
    written: Timestamp,
}

/// How long usage is remembered for a meter that nobody knows of yet.
const GRACE: Duration = Duration::from_secs(10);
/// How often what was learnt is written down.
const WRITING: Duration = Duration::from_secs(600);

/// Of a process.
fn pid_and_start(identity: &Identity) -> Option<(u32, u64)> {
    let pid = identity.id.parse().ok().filter(|_| identity.kind == ConsumerKind::Process)?;
    Some((pid, identity.start_unix_nano))
}

/// The slot of a thread's process.
fn of_process(consumer: &Consumer, processes: &FxHashMap<(u32, u64), usize>) -> Option<usize> {
    let process = consumer.parent().filter(|_| consumer.kind() == ConsumerKind::Thread)?;
    processes.get(&pid_and_start(process)?).copied()
}

fn is_this_process(identity: &Identity) -> bool {
    identity.kind == ConsumerKind::Process && identity.id.parse() == Ok(std::process::id())
}

/// What a series is to attribution.
enum Role {
    Usage { timeline: usize, place: u32, quantity: Quantity, user: User, start: Timestamp, last: Option<u64> },
    Holding { timeline: usize, slot: usize },
    Meter { account: usize },
    Other,
}

impl Transformer {
    /// A transform with empty books.
    ///
    /// # Errors
    /// Fatal if another plugin declares one of its metrics differently.
    pub fn open(config: &AttributionConfig, registry: Arc<Registry>) -> Result<Self, Error> {
        let id = |m| registry.metric(m).or_fatal();
        let mut transformer = Self {
            metrics: Metrics::declare(&registry)?,
            energy_metrics: [id(&metric::HW_ENERGY)?, id(&metric::HW_HOST_ENERGY)?],
            config: config.clone(),
            registry: registry.clone(),
            roles: SeriesMap::default(),
            timelines: Timelines::default(),
            tenants: Slab::new(),
            slots: FxHashMap::default(),
            processes: FxHashMap::default(),
            leaving: Vec::new(),
            left: Vec::new(),
            holders: Vec::new(),
            accounts: Slab::new(),
            state: State::open(config.state_file().as_deref()),
            written: Timestamp::default(),
        };
        // Books are opened for the meters that are there, so that usage is kept for a slow one from the
        // start.
        for (id, series) in registry.series() {
            if series.domain.is_some() {
                let role = transformer.cast(id);
                transformer.roles.insert(id, role);
            }
        }
        Ok(transformer)
    }

    /// Takes in a batch's points.
    fn take(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.roles.get(id).is_none() {
                    let role = self.cast(id);
                    self.roles.insert(id, role);
                }
                match self.roles.get_mut(id) {
                    Some(Role::Usage { timeline, place, quantity, user, start, last }) => {
                        // What was used before this window, and before these books were opened, is not this
                        // window's.
                        let unseen = if *start < segment.window.start { value.steps() } else { 0 };
                        let before = last.replace(value.steps()).unwrap_or(unseen);
                        let amount = value.steps().saturating_sub(before);
                        let used = Use { user: *user, place: *place, quantity: *quantity, amount };
                        self.timelines.get_mut(*timeline).stage(used);
                    }
                    Some(&mut Role::Holding { timeline, slot }) => {
                        self.holders.retain(|&(t, s, _)| (t, s) != (timeline, slot));
                        self.holders.push((timeline, slot, value.gauge() as u64));
                    }
                    Some(Role::Meter { account }) => {
                        if let Some(account) = self.accounts.get_mut(*account) {
                            account.measured(segment.window, value.steps());
                        }
                    }
                    _ => {}
                }
            }
            self.timelines.add(segment.window);
        }
    }

    /// Decides what a series is when it is first seen.
    fn cast(&mut self, id: SeriesId) -> Role {
        let Some(series) = self.registry.get(id) else { return Role::Other };
        match &series.consumer {
            Some(consumer) => self.cast_use(&series, consumer).unwrap_or(Role::Other),
            None if self.energy_metrics.contains(&series.metric_id) => self.cast_meter(&series),
            None => Role::Other,
        }
    }

    fn cast_use(&mut self, series: &Series, consumer: &Arc<Consumer>) -> Option<Role> {
        let (name, resource) = (&*series.metric.name, &series.resource);
        let (timeline, place, quantity) = match resource.kind {
            ResourceKind::Package => (PACKAGES, resource.id.parse().ok()?, Quantity::of(name)?),
            ResourceKind::Core if name == metric::CONSUMER_CORE_TIME.name => {
                (CORES, resource.id.strip_prefix("cpu-")?.parse().ok()?, Quantity::Time)
            }
            _ if name == metric::CONSUMER_GPU_TIME.name => {
                (self.timelines.of_device(resource), 0, Quantity::Time)
            }
            _ if name == metric::CONSUMER_GPU_MEMORY.name => {
                let timeline = self.timelines.of_device(resource);
                return Some(Role::Holding { timeline, slot: self.tenant(consumer) });
            }
            _ => return None,
        };
        let user = match consumer.kind() {
            ConsumerKind::Process | ConsumerKind::Irq | ConsumerKind::Other => {
                User::Consumer(self.tenant(consumer))
            }
            ConsumerKind::Thread if timeline == PACKAGES => User::Thread(self.tenant(consumer)),
            ConsumerKind::Idle => User::Idle,
            ConsumerKind::Unattributed => User::Unattributed,
            // A sum of processes: who has charged those has charged these.
            _ => return None,
        };
        Some(Role::Usage { timeline, place, quantity, user, start: series.start, last: None })
    }

    fn cast_meter(&mut self, meter: &Series) -> Role {
        let Some(domain) = &meter.domain else { return Role::Other };
        let given = self.config.idle_watts.get(&domain.name).copied();
        let fixed_watts = given.or(domain.idle_microwatts.map(|w| w as f64 * 1e-6));
        let learner = self.state.take(domain);
        let (weights, smt_factor) = (self.config.weights, self.config.smt_factor());
        let model = Model::new(weights, &meter.resource.kind, fixed_watts, smt_factor, learner);
        let (metrics, timelines) = (self.metrics, &mut self.timelines);
        let account = Account::open(meter, domain, metrics, &self.config, model, timelines, &self.registry);
        debug!(domain = domain.name, "opened its books");
        Role::Meter { account: self.accounts.insert(account) }
    }

    /// The slot of `consumer`, which one more usage series is about.
    fn tenant(&mut self, consumer: &Arc<Consumer>) -> usize {
        let address = Arc::as_ptr(consumer) as usize;
        let mut is_new = false;
        let slot = *self.slots.entry(address).or_insert_with(|| {
            is_new = true;
            let identity = consumer.identity();
            let slot = self.tenants.insert(Tenant {
                consumer: consumer.clone(),
                open_usage: 0,
                process: of_process(consumer, &self.processes),
                is_agent: is_this_process(identity),
                left: false,
            });
            if let Some(process) = pid_and_start(identity) {
                self.processes.insert(process, slot);
            }
            slot
        });
        let tenant = &mut self.tenants[slot];
        tenant.open_usage += 1;
        // A consumer may come back on another package after its first series had ended. Those who leave are
        // many where processes are short, and are not looked through for whoever is new or here.
        if tenant.open_usage == 1 && !is_new {
            tenant.left = false;
            self.leaving.retain(|(leaving, _)| *leaving != slot);
            self.left.retain(|(left, _)| *left != slot);
        }
        slot
    }

    /// Takes in the ends of series.
    fn take_ends(&mut self, ended: &[SeriesId], ends_of_books: &mut Batch) {
        for &id in ended {
            match self.roles.remove(id) {
                Some(Role::Usage { user: User::Consumer(slot) | User::Thread(slot), timeline, .. }) => {
                    self.give_back(slot, self.timelines.get(timeline).end());
                }
                Some(Role::Holding { timeline, slot }) => {
                    self.holders.retain(|&(t, s, _)| (t, s) != (timeline, slot));
                    self.give_back(slot, self.timelines.get(timeline).end());
                }
                Some(Role::Meter { account }) => {
                    let mut books = self.accounts.remove(account);
                    books.close(self.context(), None, ends_of_books);
                    books.end(ends_of_books);
                    let learnt = std::mem::take(&mut books.model.learner);
                    self.state.keep(books.domain(), learnt);
                }
                _ => {}
            }
        }
    }

    /// A series about the tenant in `slot` has ended.
    fn give_back(&mut self, slot: usize, end: Option<Timestamp>) {
        let tenant = &mut self.tenants[slot];
        tenant.open_usage -= 1;
        if tenant.open_usage == 0 {
            self.leaving.push((slot, end.unwrap_or_default()));
        }
    }

    /// Ends the tenants that no account will charge any more, and forgets usage that none will ask for.
    fn clear_out(&mut self, out: &mut Batch) {
        let known = self.timelines.end().unwrap_or_default();
        let closed = self.accounts.iter().map(|(_, a)| a.closed_to()).min().unwrap_or(known);
        let grace = self.config.history.min(GRACE).as_nanos() as u64;
        self.timelines.forget(closed.min(Timestamp(known.0.saturating_sub(grace))), self.config.history);
        let remembered = self.timelines.start().unwrap_or(known);
        for (slot, ended) in self.leaving.extract_if(.., |(_, ended)| *ended <= closed.max(remembered)) {
            for (_, account) in &mut self.accounts {
                account.evict(slot, out);
            }
            self.tenants[slot].left = true;
            self.left.push((slot, ended));
        }
        for (slot, _) in self.left.extract_if(.., |(_, ended)| *ended <= remembered) {
            let tenant = self.tenants.remove(slot);
            self.slots.remove(&(Arc::as_ptr(&tenant.consumer) as usize));
            if let Some(process) = pid_and_start(tenant.consumer.identity())
                && self.processes.get(&process) == Some(&slot)
            {
                self.processes.remove(&process);
            }
        }
    }

    fn context(&self) -> Context<'_> {
        context(&self.timelines, &self.tenants, &self.holders, &self.registry)
    }

    fn close(&mut self, patience: Option<Duration>, out: &mut Batch) {
        let context = context(&self.timelines, &self.tenants, &self.holders, &self.registry);
        for (_, account) in &mut self.accounts {
            account.close(context, patience, out);
        }
    }

    fn write_state(&mut self) {
        self.written = self.timelines.end().unwrap_or_default();
        self.state.write(self.accounts.iter().map(|(_, a)| (a.domain(), &a.model.learner)));
    }
}

fn context<'a>(
    timelines: &'a Timelines,
    tenants: &'a Slab<Tenant>,
    holders: &'a [(usize, usize, u64)],
    registry: &'a Registry,
) -> Context<'a> {
    Context { timelines, tenants, holders, registry }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.take(batch);
        let mut out = Batch::default();
        self.close(Some(self.config.history), batch);
        if !batch.ended().is_empty() {
            self.take_ends(batch.ended(), &mut out);
            batch.append(&out);
        }
        self.clear_out(batch);
        let now = self.timelines.end().unwrap_or_default();
        if self.written == Timestamp::default() {
            self.written = now;
        } else if now.since(self.written) >= WRITING {
            self.write_state();
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        self.close(None, out);
        self.clear_out(out);
        self.write_state();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
