//! The transform: sorts points into usage and energy, lets every account close what can be closed, and ends what is done.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;
use tracing::debug;
use wattrace_api::{
    Batch, Consumer, ConsumerKind, Error, Identity, Metric, MetricId, Registry, ResourceKind, ResultExt,
    SeriesId, SeriesMap, Timestamp, Transform, Unit, metric,
};

use crate::AttributionConfig;
use crate::account::{Account, Metrics, Tenant};
use crate::usage::{Usage, Use, User};

/// Joins `wattrace.consumer.cpu.time` and `hw.energy` into `wattrace.consumer.energy`.
pub struct Transformer {
    registry: Arc<Registry>,
    config: AttributionConfig,
    metrics: Metrics,
    usage_metric: MetricId,
    energy_metrics: [MetricId; 2],
    roles: SeriesMap<Role>,
    usage: Usage,
    tenants: Slab<Tenant>,
    /// Slot by the consumer's address, which the slot keeps from being reused.
    slots: FxHashMap<usize, usize>,
    /// Tenants whose usage has ended, and when; their energy series are still open.
    leaving: Vec<(usize, Timestamp)>,
    /// Tenants whose series have ended; remembered usage may still name their slot.
    left: Vec<(usize, Timestamp)>,
    accounts: Slab<Account>,
    uses: Vec<Use>,
}

/// How long usage is remembered for a meter that nobody knows of yet.
const GRACE: Duration = Duration::from_secs(10);

/// What tracing costs in energy.
const AGENT_ENERGY: Metric = Metric::counter(
    "wattrace.agent.energy",
    Unit::Joule,
    metric::MICROJOULE,
    "Energy attributed to the agent itself, per energy domain; part of wattrace.consumer.energy",
);

fn is_this_process(identity: &Identity) -> bool {
    identity.kind == ConsumerKind::Process && identity.id.parse() == Ok(std::process::id())
}

/// What a series is to attribution.
enum Role {
    Usage { user: User, package: u32, start: Timestamp, last: Option<u64> },
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
            metrics: Metrics {
                energy: id(&metric::CONSUMER_ENERGY)?,
                residual: id(&metric::DOMAIN_RESIDUAL)?,
                agent: id(&AGENT_ENERGY)?,
            },
            usage_metric: id(&metric::CONSUMER_CPU_TIME)?,
            energy_metrics: [id(&metric::HW_ENERGY)?, id(&metric::HW_HOST_ENERGY)?],
            config: config.clone(),
            registry: registry.clone(),
            roles: SeriesMap::default(),
            usage: Usage::default(),
            tenants: Slab::new(),
            slots: FxHashMap::default(),
            leaving: Vec::new(),
            left: Vec::new(),
            accounts: Slab::new(),
            uses: Vec::new(),
        };
        // Books are opened for the meters that are there, so that usage is kept for a slow one from the start.
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
                    Some(Role::Usage { user, package, start, last }) => {
                        // What was used before this window, and before these books were opened, is not this window's.
                        let unseen = if *start < segment.window.start { value.steps() } else { 0 };
                        let before = last.replace(value.steps()).unwrap_or(unseen);
                        let ns = value.steps().saturating_sub(before);
                        self.uses.push(Use { user: *user, package: *package, ns });
                    }
                    Some(Role::Meter { account }) => {
                        if let Some(account) = self.accounts.get_mut(*account) {
                            account.measured(segment.window, value.steps());
                        }
                    }
                    _ => {}
                }
            }
            if !self.uses.is_empty() {
                self.usage.add(segment.window, self.uses.drain(..));
            }
        }
    }

    /// Decides what a series is when it is first seen.
    fn cast(&mut self, id: SeriesId) -> Role {
        let Some(series) = self.registry.get(id) else { return Role::Other };
        if series.metric_id == self.usage_metric
            && let Some(consumer) = &series.consumer
            && series.resource.kind == ResourceKind::Package
            && let Ok(package) = series.resource.id.parse()
        {
            let user = match consumer.kind() {
                ConsumerKind::Idle => User::Idle,
                ConsumerKind::Unattributed => User::Unattributed,
                _ => User::Consumer(self.tenant(consumer)),
            };
            return Role::Usage { user, package, start: series.start, last: None };
        }
        // A GPU's joules follow the use of the GPU, which is another transform's to know.
        let follows_cpu_time = series.resource.kind != ResourceKind::Gpu;
        if self.energy_metrics.contains(&series.metric_id) && series.consumer.is_none() && follows_cpu_time {
            let idle_watts =
                series.domain.as_ref().and_then(|d| self.config.idle_watts.get(&d.name).copied());
            if let Some(account) = Account::open(&series, self.metrics, idle_watts, &self.registry) {
                debug!(domain = series.domain.as_ref().map(|d| &*d.name), "opened its books");
                return Role::Meter { account: self.accounts.insert(account) };
            }
        }
        Role::Other
    }

    /// The slot of `consumer`, which one more usage series is about.
    fn tenant(&mut self, consumer: &Arc<Consumer>) -> usize {
        let address = Arc::as_ptr(consumer) as usize;
        let slot = *self.slots.entry(address).or_insert_with(|| {
            let is_agent = is_this_process(consumer.identity());
            self.tenants.insert(Tenant { consumer: consumer.clone(), open_usage: 0, is_agent, left: false })
        });
        let tenant = &mut self.tenants[slot];
        tenant.open_usage += 1;
        // A consumer may come back on another package after its first series had ended.
        tenant.left = false;
        self.leaving.retain(|(leaving, _)| *leaving != slot);
        self.left.retain(|(left, _)| *left != slot);
        slot
    }

    /// Takes in the ends of series.
    fn take_ends(&mut self, ended: &[SeriesId], ends_of_books: &mut Batch) {
        for &id in ended {
            match self.roles.remove(id) {
                Some(Role::Usage { user: User::Consumer(slot), .. }) => {
                    let tenant = &mut self.tenants[slot];
                    tenant.open_usage -= 1;
                    if tenant.open_usage == 0 {
                        self.leaving.push((slot, self.usage.end().unwrap_or_default()));
                    }
                }
                Some(Role::Meter { account }) => {
                    let mut books = self.accounts.remove(account);
                    books.close(&self.usage, &self.tenants, &self.registry, None, ends_of_books);
                    books.end(ends_of_books);
                }
                _ => {}
            }
        }
    }

    /// Ends the tenants that no account will charge any more, and forgets usage that none will ask for.
    fn clear_out(&mut self, out: &mut Batch) {
        let known = self.usage.end().unwrap_or_default();
        let closed = self.accounts.iter().map(|(_, a)| a.closed_to()).min().unwrap_or(known);
        let grace = self.config.history.min(GRACE).as_nanos() as u64;
        self.usage.forget(closed.min(Timestamp(known.0.saturating_sub(grace))), self.config.history);
        let remembered = self.usage.start().unwrap_or(known);
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
        }
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.take(batch);
        let mut out = Batch::default();
        for (_, account) in &mut self.accounts {
            account.close(&self.usage, &self.tenants, &self.registry, Some(self.config.history), batch);
        }
        if !batch.ended().is_empty() {
            self.take_ends(batch.ended(), &mut out);
            batch.append(&out);
        }
        self.clear_out(batch);
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        for (_, account) in &mut self.accounts {
            account.close(&self.usage, &self.tenants, &self.registry, None, out);
        }
        self.clear_out(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
