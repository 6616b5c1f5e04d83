//! The account of one energy domain. It queues the windows that the meter reports until usage covers them,
//! and then closes each: energy that usage does not cover is unattributed, static energy goes where the
//! configuration says, and `division.rs` divides the rest among the consumers. `totals.rs` publishes the
//! sums.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Batch, Domain, Increments, Members, Registry, Series, Timestamp, Value, Window};

use super::closed_window::ClosedWindow;
use super::division::{Division, StaticPolicy};
use super::timeline::{CORES, Followed, User};
use super::totals::Totals;
use super::usage_records::UsageRecords;
use crate::amounts::{Amounts, Quantity};
use crate::config::{AttributionConfig, GpuIdle, Idle};
use crate::model::{Learner, ObservedWindow, PowerModel};

/// One domain's account.
#[derive(Debug)]
pub(crate) struct Account {
    totals: Totals,
    /// The usage that this domain's energy follows.
    followed: Followed,
    static_policy: StaticPolicy,
    meter: Increments,
    /// Windows measured and not yet closed, with their energy in microjoules.
    pending: VecDeque<(Window, u64)>,
    closed_to: Timestamp,
    model: PowerModel,
    /// What the model knew at the start has been published.
    is_published: bool,
    /// Working memory of a window's division, kept for the next one.
    division: Division,
}

/// How a window's energy is divided before consumers are considered, in microjoules.
struct Parts {
    unattributed: u64,
    at_idle: u64,
    dynamic: u64,
}

impl Account {
    /// Opens the account of the domain that `meter` measures, whose energy follows the usage in `followed`.
    pub(crate) fn open(
        meter: &Series,
        totals: Totals,
        model: PowerModel,
        followed: Followed,
        config: &AttributionConfig,
    ) -> Self {
        let static_policy = match config.idle {
            _ if is_device(followed.timeline) && config.gpu_idle == GpuIdle::Holder => {
                StaticPolicy::ByHeldMemory
            }
            Idle::Separate => StaticPolicy::Separate,
            Idle::ByUsage => StaticPolicy::ByUsage,
            Idle::Even => StaticPolicy::Even,
            Idle::None => StaticPolicy::Combined,
        };
        Self {
            totals,
            followed,
            static_policy,
            meter: Increments::within_windows(meter),
            pending: VecDeque::new(),
            closed_to: meter.start,
            model,
            is_published: false,
            division: Division::default(),
        }
    }

    /// Takes in a point of the meter.
    pub(crate) fn measure(&mut self, window: Window, value: Value) {
        match self.meter.checked_next(window, value) {
            Some(microjoules) => self.pending.push_back((window, microjoules)),
            // Not a window without energy, from which the model would learn a power of zero.
            None => self.closed_to = window.end,
        }
    }

    /// The processes whose energy this domain counts, if it is not everybody's.
    pub(crate) fn members(&self) -> Option<&Members> {
        self.followed.members.as_ref()
    }

    /// Up to when the books are closed.
    pub(crate) fn closed_to(&self) -> Timestamp {
        self.closed_to
    }

    /// The domain, and what its model has learnt.
    pub(crate) fn learnt(&self) -> (&Domain, &Learner) {
        (self.totals.domain(), self.model.learner())
    }

    /// Closes every window that usage covers to its end. Windows that have waited longer than `patience`, or
    /// all of them if there is none, are closed with the usage there is.
    pub(crate) fn close(
        &mut self,
        usage: &UsageRecords,
        registry: &Registry,
        patience: Option<Duration>,
        out: &mut Batch,
    ) {
        let newest = self.pending.back().map_or(Timestamp(0), |(w, _)| w.end);
        let known_to = usage.timelines.get(self.followed.timeline).end();
        while let Some(&(window, energy)) = self.pending.front() {
            let covered = known_to.is_some_and(|end| window.end <= end);
            let waited = newest.since(window.end);
            if !covered && patience.is_some_and(|patience| waited <= patience) {
                break;
            }
            self.pending.pop_front();
            self.close_window(window, energy, usage, registry, out);
            self.closed_to = self.closed_to.max(window.end);
        }
    }

    fn close_window(
        &mut self,
        window: Window,
        energy: u64,
        usage: &UsageRecords,
        registry: &Registry,
        out: &mut Batch,
    ) {
        let (observed, unknown_ns) = self.collect(window, energy, usage);
        let covered = observed.ns;
        // Before the energy is divided: at the start of a run, the window's own power shows more than what
        // was expected of it.
        let has_news = covered == window.nanos() && self.model.observe(&observed);
        let parts = self.parts(window, energy, &observed);

        let times = self.division.consumers().map(|(_, amounts, _)| amounts[Quantity::Time as usize]);
        let weigher = self.model.weigher(covered, times.chain([unknown_ns]));
        let division = &mut self.division;
        let unknown = division.divide_dynamic(parts.dynamic, unknown_ns, observed.busy_ns, &weigher);
        let held = || usage.held_on(self.followed.timeline);
        let idle = division.divide_static(parts.at_idle, self.static_policy, held);
        division.divide_among_threads(&usage.consumers, &weigher);

        out.begin(window);
        let unattributed = parts.unattributed + unknown;
        let mut uncertainty = self.model.uncertainty(&observed);
        if self.static_policy == StaticPolicy::Combined {
            uncertainty.static_energy = 0.0;
        }
        let divided = [parts.dynamic, parts.at_idle];
        let codes = self.model.codes();
        let closed = ClosedWindow { window, energy, idle, unattributed, divided, uncertainty, codes };
        self.totals.charge(&closed, division, &usage.consumers, registry, out);
        if has_news || !std::mem::replace(&mut self.is_published, true) {
            self.totals.publish_model(&self.model, out);
        }
        division.clear();
    }

    /// Collects in `division` who used how much in `window`. Returns the window for the model, and the time
    /// that unknown consumers used.
    fn collect(&mut self, window: Window, energy: u64, usage: &UsageRecords) -> (ObservedWindow, u64) {
        let Self { division, followed, model, .. } = self;
        let (mut idle_ns, mut unknown) = (0, Amounts::default());
        let covered = usage.within(followed, window, |user, quantity, amount| match user {
            User::Idle => idle_ns += amount,
            User::Consumer(slot) if usage.consumers.get(slot as usize).is_some() => {
                division.consumer(slot as usize)[quantity as usize] += amount;
            }
            User::Thread(slot) if usage.consumers.get(slot as usize).is_some() => {
                division.thread(slot as usize)[quantity as usize] += amount;
            }
            // The amounts of a thread are its process's, too.
            User::Thread(_) => {}
            User::Unattributed | User::Consumer(_) => unknown[quantity as usize] += amount,
        });
        let mut observed = ObservedWindow::new(energy, covered, idle_ns);
        observed.add(&unknown);
        division.recognise_codes();
        division.consumers().for_each(|(slot, amounts, ran)| model.count(&mut observed, slot, amounts, ran));
        // No source reports when a device is idle: it is idle while no consumer uses it.
        if is_device(followed.timeline) {
            observed.idle_ns = observed.idle_ns.max(covered.saturating_sub(observed.busy_ns));
        }
        (observed, unknown[Quantity::Time as usize])
    }

    /// Separates what usage does not cover and the static energy from the energy to divide.
    fn parts(&self, window: Window, energy: u64, observed: &ObservedWindow) -> Parts {
        let known = part_of(energy, observed.ns, window.nanos());
        let all_ns = observed.idle_ns + observed.busy_ns;
        if all_ns == 0 {
            return Parts { unattributed: energy, at_idle: 0, dynamic: 0 };
        }
        let at_idle = match self.model.static_energy(observed) {
            _ if observed.busy_ns == 0 => known,
            _ if self.static_policy == StaticPolicy::Combined => 0,
            microjoules => (microjoules as u64).min(known),
        };
        Parts { unattributed: energy - known, at_idle, dynamic: known - at_idle }
    }

    /// The consumer in `slot` has ended, and all its windows are closed.
    pub(crate) fn end_consumer(&mut self, slot: usize, registry: &Registry, out: &mut Batch) {
        self.model.end_consumer(slot);
        self.division.end_consumer(slot);
        self.totals.end_consumer(slot, registry, out);
    }

    /// Publishes the interval of every consumer's energy as it is now.
    pub(crate) fn publish_intervals(&mut self, registry: &Registry, out: &mut Batch) {
        self.totals.publish_intervals(registry, out);
    }

    /// The meter has ended: ends all series of this account. Returns the domain, and what its model has
    /// learnt.
    pub(crate) fn end(mut self, registry: &Registry, out: &mut Batch) -> (Arc<Domain>, Learner) {
        self.totals.end(registry, out);
        (self.totals.into_domain(), self.model.into_learner())
    }
}

/// Whether `timeline` is that of a device, rather than of packages or cores.
fn is_device(timeline: usize) -> bool {
    timeline > CORES
}

/// `amount · part / whole`, rounded down; 0 if `whole` is 0.
fn part_of(amount: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    (u128::from(amount) * u128::from(part.min(whole)) / u128::from(whole)) as u64
}
