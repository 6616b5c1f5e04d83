//! One energy domain's books: takes the meter's windows, and closes each of them over consumers, idle and unattributed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use wattrace_api::metric::MICROJOULE;
use wattrace_api::{
    Batch, Consumer, ConsumerKind, Domain, Follows, MetricId, Registry, Resource, Series, SeriesId,
    SeriesSpec, Timestamp, Value, Window,
};

use crate::baseline::Baseline;
use crate::split::{Phases, split};
use crate::usage::{Usage, User};

/// Somebody who used CPU time, and whose energy series are open until every domain is done with them.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) consumer: Arc<Consumer>,
    /// Usage series of this consumer that have not ended.
    pub(crate) open_usage: u32,
    /// It is this agent.
    pub(crate) is_agent: bool,
    /// Its energy series have ended. Should a meter yet report on its time, that energy is unattributed.
    pub(crate) left: bool,
}

/// The metrics that attribution declares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metrics {
    pub(crate) energy: MetricId,
    pub(crate) residual: MetricId,
    pub(crate) agent: MetricId,
}

/// One domain's books.
#[derive(Debug)]
pub(crate) struct Account {
    domain: Arc<Domain>,
    resource: Resource,
    /// The meter's last value, in microjoules, once it has told one.
    meter: Option<u64>,
    /// When the meter stood at zero.
    start: Timestamp,
    /// Windows measured and not yet closed, with their energy in microjoules.
    pending: VecDeque<(Window, u64)>,
    closed_to: Timestamp,
    /// By slot of the tenant.
    shares: Vec<Share>,
    /// Slots with a weight in the window being closed, and those weights; emptied after each window.
    users: Vec<usize>,
    weights: Vec<u64>,
    idle: (SeriesId, u64),
    unattributed: (SeriesId, u64),
    residual: SeriesId,
    /// The agent's own part once more, so that it is told even where the agent is not among the top consumers.
    agent: Option<SeriesId>,
    /// Static power in watts where it was given.
    idle_watts: Option<f64>,
    baseline: Baseline,
    phases: Phases,
    metrics: Metrics,
}

/// A tenant's part in one domain.
#[derive(Clone, Debug, Default)]
struct Share {
    series: Option<SeriesId>,
    microjoules: u64,
    /// CPU time in the window being closed; 0 between windows.
    weight: u64,
}

/// How a window's energy falls apart before consumers come into it.
struct Parts {
    unattributed: u64,
    idle: u64,
    dynamic: u64,
}

impl Account {
    /// Opens the books of the domain that `meter` measures; `None` if it measures no domain.
    pub(crate) fn open(
        meter: &Series,
        metrics: Metrics,
        idle_watts: Option<f64>,
        registry: &Registry,
    ) -> Option<Self> {
        let domain = meter.domain.clone()?;
        let series = |metric, kind: Option<ConsumerKind>| {
            registry.open(SeriesSpec {
                domain: Some(domain.clone()),
                consumer: kind.map(|k| Arc::new(Consumer::closing(k))),
                ..SeriesSpec::new(metric, meter.resource.clone(), meter.start)
            })
        };
        Some(Self {
            resource: meter.resource.clone(),
            meter: None,
            start: meter.start,
            pending: VecDeque::new(),
            closed_to: meter.start,
            shares: Vec::new(),
            users: Vec::new(),
            weights: Vec::new(),
            idle: (series(metrics.energy, Some(ConsumerKind::Idle)), 0),
            unattributed: (series(metrics.energy, Some(ConsumerKind::Unattributed)), 0),
            residual: series(metrics.residual, None),
            agent: None,
            idle_watts: idle_watts.or(domain.idle_microwatts.map(|w| w as f64 * 1e-6)),
            baseline: Baseline::default(),
            phases: Phases::default(),
            domain,
            metrics,
        })
    }

    /// The meter read `microjoules` in all at the end of `window`.
    pub(crate) fn measured(&mut self, window: Window, microjoules: u64) {
        let before = match self.meter.replace(microjoules) {
            Some(before) => before,
            None if self.start >= window.start => 0,
            // The meter has a history from before these books were opened, in a reload: it is not this window's.
            None => return self.closed_to = window.end,
        };
        self.pending.push_back((window, microjoules.saturating_sub(before)));
    }

    /// Up to when the books are closed.
    pub(crate) fn closed_to(&self) -> Timestamp {
        self.closed_to
    }

    /// Closes every window that usage covers to its end; and those that have waited for `patience`, or all at the `last`,
    /// with what there is.
    pub(crate) fn close(
        &mut self,
        usage: &Usage,
        tenants: &Slab<Tenant>,
        registry: &Registry,
        patience: Option<Duration>,
        out: &mut Batch,
    ) {
        let newest = self.pending.back().map_or(Timestamp(0), |(w, _)| w.end);
        while let Some(&(window, energy)) = self.pending.front() {
            let covered = usage.end().is_some_and(|end| window.end <= end);
            let waited = newest.since(window.end);
            if !covered && patience.is_some_and(|patience| waited <= patience) {
                break;
            }
            self.pending.pop_front();
            self.close_window(window, energy, usage, tenants, registry, out);
            self.closed_to = self.closed_to.max(window.end);
        }
    }

    fn close_window(
        &mut self,
        window: Window,
        energy: u64,
        usage: &Usage,
        tenants: &Slab<Tenant>,
        registry: &Registry,
        out: &mut Batch,
    ) {
        let (mut idle_ns, mut unknown_ns) = (0, 0);
        let covered = usage.within(window, followed_package(&self.domain), |user, ns| match user {
            User::Idle => idle_ns += ns,
            User::Unattributed => unknown_ns += ns,
            User::Consumer(slot) if tenants.get(slot).is_none_or(|t| t.left) => unknown_ns += ns,
            User::Consumer(slot) => self.weigh(slot, ns),
        });
        self.weights.extend(self.users.iter().map(|&slot| self.shares[slot].weight));
        self.weights.push(unknown_ns);
        let busy_ns = self.weights.iter().sum();
        let parts = self.parts(window, energy, covered, idle_ns, busy_ns);

        out.begin(window);
        let mut unattributed = parts.unattributed;
        let mut attributed = 0;
        split(parts.dynamic, &self.weights, self.phases.next(), |i, part| match self.users.get(i) {
            None => unattributed += part,
            Some(_) if part == 0 => {}
            Some(&slot) => {
                let share = &mut self.shares[slot];
                let series = *share.series.get_or_insert_with(|| {
                    registry.open(SeriesSpec {
                        domain: Some(self.domain.clone()),
                        consumer: tenants.get(slot).map(|t| t.consumer.clone()),
                        ..SeriesSpec::new(self.metrics.energy, self.resource.clone(), window.start)
                    })
                });
                share.microjoules += part;
                attributed += part;
                out.push(series, Value::of_steps(share.microjoules));
                if tenants.get(slot).is_some_and(|tenant| tenant.is_agent) {
                    let series = *self.agent.get_or_insert_with(|| {
                        registry.open(SeriesSpec {
                            domain: Some(self.domain.clone()),
                            ..SeriesSpec::new(self.metrics.agent, self.resource.clone(), window.start)
                        })
                    });
                    out.push(series, Value::of_steps(share.microjoules));
                }
            }
        });
        self.idle.1 += parts.idle;
        self.unattributed.1 += unattributed;
        out.push(self.idle.0, Value::of_steps(self.idle.1));
        out.push(self.unattributed.0, Value::of_steps(self.unattributed.1));
        let residual = energy as i128 - (attributed as i128 + parts.idle as i128 + unattributed as i128);
        out.push(self.residual, Value::of_gauge(residual as f64 * MICROJOULE));

        for slot in self.users.drain(..) {
            self.shares[slot].weight = 0;
        }
        self.weights.clear();
    }

    fn weigh(&mut self, slot: usize, ns: u64) {
        if self.shares.len() <= slot {
            self.shares.resize_with(slot + 1, Share::default);
        }
        let share = &mut self.shares[slot];
        if share.weight == 0 {
            self.users.push(slot);
        }
        share.weight += ns;
    }

    /// Static energy goes to idle, what usage does not cover to unattributed, and the rest is up for sharing.
    fn parts(&mut self, window: Window, energy: u64, covered: u64, idle_ns: u64, busy_ns: u64) -> Parts {
        let known = part_of(energy, covered, window.nanos());
        let all_ns = idle_ns + busy_ns;
        if all_ns == 0 {
            return Parts { unattributed: energy, idle: 0, dynamic: 0 };
        }
        let idle = match self.idle_watts.or(self.baseline.watts()) {
            _ if busy_ns == 0 => known,
            Some(watts) => ((watts * covered as f64 / 1e3) as u64).min(known),
            // Not known yet: an idle CPU weighs as much as a busy one.
            None => part_of(known, idle_ns, all_ns),
        };
        if covered == window.nanos() {
            let watts = energy as f64 * 1e3 / covered as f64;
            self.baseline.learn(busy_ns as f64 / all_ns as f64, watts);
        }
        Parts { unattributed: energy - known, idle, dynamic: known - idle }
    }

    /// The tenant in `slot` has ended and all its windows are closed.
    pub(crate) fn evict(&mut self, slot: usize, out: &mut Batch) {
        if let Some(share) = self.shares.get_mut(slot)
            && let Some(series) = std::mem::take(share).series
        {
            out.end(series);
        }
    }

    /// The meter has ended, and so do all series of its books.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        for slot in 0..self.shares.len() {
            self.evict(slot, out);
        }
        let own = [self.idle.0, self.unattributed.0, self.residual];
        own.into_iter().chain(self.agent).for_each(|series| out.end(series));
    }
}

fn followed_package(domain: &Domain) -> Option<u32> {
    match domain.follows {
        Follows::Package(package) => Some(package),
        _ => None,
    }
}

/// `amount · part / whole`, rounded down; nothing of nothing.
fn part_of(amount: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    (u128::from(amount) * u128::from(part.min(whole)) / u128::from(whole)) as u64
}
