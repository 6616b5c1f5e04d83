//! One energy domain's books: takes the meter's windows, and closes each of them over consumers, idle and
//! unattributed. Who used how much stands in `usage.rs`, what that weighs in `model.rs`, how a window's
//! energy falls apart here; `ledger.rs` keeps what each consumer has got in all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use wattrace_api::{Batch, Consumer, Domain, Registry, Series, Timestamp, Window};

use crate::amounts::{Amounts, Quantity, features};
use crate::ledger::{Closed, Ledger, Metrics};
use crate::model::{Load, Model};
use crate::split::{Phases, split};
use crate::usage::{self, Timelines, Usage, User};
use crate::{AttributionConfig, GpuIdle, Idle};

/// Somebody who used something, and whose energy series are open until every domain is done with them.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) consumer: Arc<Consumer>,
    /// Usage series of this consumer that have not ended.
    pub(crate) open_usage: u32,
    /// For a thread, its process's slot.
    pub(crate) process: Option<usize>,
    /// It is this agent.
    pub(crate) is_agent: bool,
    /// Its energy series have ended. Should a meter yet report on its time, that energy is unattributed.
    pub(crate) left: bool,
}

/// What closing a window needs to know beside the account itself.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) timelines: &'a Timelines,
    pub(crate) tenants: &'a Slab<Tenant>,
    /// Who holds memory of which device, by timeline: slot and bytes.
    pub(crate) holders: &'a [(usize, usize, u64)],
    pub(crate) registry: &'a Registry,
}

/// One domain's books.
#[derive(Debug)]
pub(crate) struct Account {
    ledger: Ledger,
    /// The timeline that this domain's energy follows, and the place on it.
    timeline: usize,
    place: Option<u32>,
    /// Where static energy goes.
    goes: Goes,
    /// The meter's last value, in microjoules, once it has told one.
    meter: Option<u64>,
    /// When the meter stood at zero.
    start: Timestamp,
    /// Windows measured and not yet closed, with their energy in microjoules.
    pending: VecDeque<(Window, u64)>,
    closed_to: Timestamp,
    pub(crate) model: Model,
    phases: Phases,
    scratch: Scratch,
}

/// Where a domain's static energy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// To `idle`.
    Apart,
    /// With the dynamic energy, from which it is not told.
    Along,
    /// To whoever used something, as much as they did.
    ByUsage,
    /// To whoever used something, the same to each.
    Evenly,
    /// To whoever holds memory of the device, as much as they do.
    ByHolding,
}

/// What a window is worked out in; its memory stays.
#[derive(Debug, Default)]
struct Scratch {
    /// By slot, how much each used in the window being closed.
    used: Vec<Used>,
    /// Slots that take part.
    users: Vec<usize>,
    /// Slots of threads, whose parts are parts of their processes'.
    threads: Vec<usize>,
    weights: Vec<u64>,
    /// By position in `users`: dynamic and static microjoules.
    parts: Vec<(u64, u64)>,
    /// By position in `threads`.
    parts_of_threads: Vec<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// It is among the users, or the threads.
    takes_part: bool,
    /// Where among them.
    position: usize,
    amounts: Amounts,
}

/// How a window's energy falls apart before consumers come into it.
struct Parts {
    unattributed: u64,
    idle: u64,
    dynamic: u64,
}

impl Account {
    /// Opens the books of `domain`, which `meter` measures.
    pub(crate) fn open(
        meter: &Series,
        domain: &Arc<Domain>,
        metrics: Metrics,
        config: &AttributionConfig,
        model: Model,
        timelines: &mut Timelines,
        registry: &Registry,
    ) -> Self {
        let (timeline, place) = timelines.followed(&domain.follows);
        let is_device = timeline > usage::CORES;
        let goes = match config.idle {
            _ if is_device && config.gpu_idle == GpuIdle::Holder => Goes::ByHolding,
            Idle::Separate => Goes::Apart,
            Idle::ByUsage => Goes::ByUsage,
            Idle::Even => Goes::Evenly,
            Idle::None => Goes::Along,
        };
        Self {
            ledger: Ledger::open(
                domain.clone(),
                meter.resource.clone(),
                meter.start,
                metrics,
                &model,
                registry,
            ),
            timeline,
            place,
            goes,
            meter: None,
            start: meter.start,
            pending: VecDeque::new(),
            closed_to: meter.start,
            model,
            phases: Phases::default(),
            scratch: Scratch::default(),
        }
    }

    /// The domain's name and origin.
    pub(crate) fn domain(&self) -> &Domain {
        self.ledger.domain()
    }

    /// The meter read `microjoules` in all at the end of `window`.
    pub(crate) fn measured(&mut self, window: Window, microjoules: u64) {
        let before = match self.meter.replace(microjoules) {
            Some(before) => before,
            None if self.start >= window.start => 0,
            // The meter has a history from before these books were opened, in a reload: it is not this
            // window's.
            None => return self.closed_to = window.end,
        };
        self.pending.push_back((window, microjoules.saturating_sub(before)));
    }

    /// Up to when the books are closed.
    pub(crate) fn closed_to(&self) -> Timestamp {
        self.closed_to
    }

    /// Closes every window that usage covers to its end; and those that have waited for `patience`, or all at
    /// the `last`, with what there is.
    pub(crate) fn close(&mut self, context: Context<'_>, patience: Option<Duration>, out: &mut Batch) {
        let newest = self.pending.back().map_or(Timestamp(0), |(w, _)| w.end);
        let usage = context.timelines.get(self.timeline);
        while let Some(&(window, energy)) = self.pending.front() {
            let covered = usage.end().is_some_and(|end| window.end <= end);
            let waited = newest.since(window.end);
            if !covered && patience.is_some_and(|patience| waited <= patience) {
                break;
            }
            self.pending.pop_front();
            self.close_window(window, energy, usage, context, out);
            self.closed_to = self.closed_to.max(window.end);
        }
    }

    fn close_window(
        &mut self,
        window: Window,
        energy: u64,
        usage: &Usage,
        context: Context<'_>,
        out: &mut Batch,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let (mut idle_ns, mut unknown) = (0, Amounts::default());
        let covered = usage.within(window, self.place, |user, quantity, amount| match user {
            User::Idle => idle_ns += amount,
            User::Consumer(slot) if context.tenants.get(slot).is_some_and(|t| !t.left) => {
                scratch.used(slot)[quantity as usize] += amount;
            }
            User::Thread(slot) => scratch.thread(slot)[quantity as usize] += amount,
            User::Unattributed | User::Consumer(_) => unknown[quantity as usize] += amount,
        });
        let mut load = Load {
            features: features(&unknown),
            microjoules: energy,
            ns: covered,
            busy_ns: unknown[Quantity::Time as usize],
            idle_ns,
        };
        for &slot in &scratch.users {
            let amounts = &scratch.used[slot].amounts;
            load.busy_ns += amounts[Quantity::Time as usize];
            load.features.iter_mut().zip(features(amounts)).for_each(|(sum, f)| *sum += f);
        }
        // Nobody says when a device is idle: it is whenever nobody uses it.
        if self.timeline > usage::CORES {
            load.idle_ns = load.idle_ns.max(covered.saturating_sub(load.busy_ns));
        }
        let parts = self.parts(window, energy, covered, &load);
        let told = covered == window.nanos() && self.model.learn(&load);

        let unattributed = parts.unattributed + self.divide(parts.dynamic, unknown, &load, &mut scratch);
        let idle = self.divide_static(parts.idle, context.holders, &mut scratch);
        out.begin(window);
        self.divide_among_threads(context.tenants, &mut scratch);
        let parts = scratch.users.iter().copied().zip(scratch.parts.iter().copied());
        let of_which = scratch.threads.iter().copied().zip(scratch.parts_of_threads.iter().copied());
        self.ledger.charge(&Closed { window, energy, idle, unattributed }, parts, of_which, context, out);
        if told {
            self.ledger.tell_model(&self.model, out);
        }
        scratch.clear();
        self.scratch = scratch;
    }

    /// Divides dynamic energy among the users by weight. Returns what falls to users unknown.
    fn divide(&mut self, energy: u64, unknown: Amounts, load: &Load, scratch: &mut Scratch) -> u64 {
        let Scratch { used, users, weights, parts, .. } = scratch;
        parts.resize(users.len(), (0, 0));
        weights.extend(users.iter().map(|&slot| self.model.weight(&used[slot].amounts)));
        let known: u64 = weights.iter().fold(0, |sum, w| sum.saturating_add(*w));
        // Of users unknown only time is counted: it weighs as the others' does on average.
        let unknown_ns = unknown[Quantity::Time as usize];
        let known_ns = load.busy_ns - unknown_ns;
        if known == 0 {
            // Nothing of what counts was used. Time was.
            weights.clear();
            weights.extend(users.iter().map(|&slot| used[slot].amounts[Quantity::Time as usize]));
            weights.push(unknown_ns);
        } else {
            let weight = u128::from(unknown_ns) * u128::from(known) / u128::from(known_ns.max(1));
            weights.push(u64::try_from(weight).unwrap_or(u64::MAX));
        }
        let mut unattributed = 0;
        split(energy, weights, self.phases.next(), |i, part| match parts.get_mut(i) {
            Some((dynamic, _)) => *dynamic = part,
            None => unattributed = part,
        });
        unattributed
    }

    /// Divides each process's part among its threads, as it was divided among processes.
    fn divide_among_threads(&mut self, tenants: &Slab<Tenant>, scratch: &mut Scratch) {
        let Scratch { used, threads, weights, parts, parts_of_threads, .. } = scratch;
        let process = |&slot: &usize| tenants.get(slot).and_then(|thread| thread.process);
        threads.sort_unstable_by_key(process);
        for siblings in threads.chunk_by(|a, b| process(a) == process(b)) {
            let known = process(&siblings[0]).and_then(|slot| used.get(slot)).filter(|used| used.takes_part);
            let (dynamic, fixed) =
                known.and_then(|used| parts.get(used.position)).copied().unwrap_or_default();
            weights.clear();
            weights.extend(siblings.iter().map(|&slot| self.model.weight(&used[slot].amounts)));
            if weights.iter().all(|&weight| weight == 0) {
                weights.clear();
                weights.extend(siblings.iter().map(|&slot| used[slot].amounts[Quantity::Time as usize]));
            }
            let first = parts_of_threads.len();
            parts_of_threads.resize(first + siblings.len(), (0, 0));
            let phase = self.phases.next();
            split(dynamic, weights, phase, |i, part| parts_of_threads[first + i].0 = part);
            split(fixed, weights, phase, |i, part| parts_of_threads[first + i].1 = part);
        }
    }

    /// Divides static energy as the policy says. Returns what stays with `idle`.
    fn divide_static(&mut self, energy: u64, holders: &[(usize, usize, u64)], scratch: &mut Scratch) -> u64 {
        let timeline = self.timeline;
        let holding = || holders.iter().filter(|(held, _, bytes)| *held == timeline && *bytes > 0);
        match self.goes {
            Goes::Apart | Goes::Along => return energy,
            // The weights are still those of the dynamic part, the unknown's last: it gets no static energy.
            Goes::ByUsage => scratch.weights.truncate(scratch.users.len()),
            Goes::Evenly => {
                scratch.weights.clear();
                scratch.weights.resize(scratch.users.len(), 1);
            }
            Goes::ByHolding => {
                holding().for_each(|&(_, slot, _)| {
                    scratch.used(slot);
                });
                scratch.parts.resize(scratch.users.len(), (0, 0));
                scratch.weights.clear();
                let bytes =
                    |slot: &usize| holding().filter(|(_, s, _)| s == slot).map(|(_, _, b)| b).sum::<u64>();
                scratch.weights.extend(scratch.users.iter().map(bytes));
            }
        }
        if scratch.weights.iter().all(|&w| w == 0) {
            return energy;
        }
        let parts = &mut scratch.parts;
        split(energy, &scratch.weights, self.phases.next(), |i, part| parts[i].1 = part);
        0
    }

    /// Static energy goes to idle, what usage does not cover to unattributed, and the rest is up for sharing.
    fn parts(&self, window: Window, energy: u64, covered: u64, load: &Load) -> Parts {
        let known = part_of(energy, covered, window.nanos());
        let all_ns = load.idle_ns + load.busy_ns;
        if all_ns == 0 {
            return Parts { unattributed: energy, idle: 0, dynamic: 0 };
        }
        let idle = match self.model.static_energy(load) {
            _ if load.busy_ns == 0 => known,
            _ if self.goes == Goes::Along => 0,
            Some(microjoules) => (microjoules as u64).min(known),
            // Not known yet: an idle CPU weighs as much as a busy one.
            None => part_of(known, load.idle_ns, all_ns),
        };
        Parts { unattributed: energy - known, idle, dynamic: known - idle }
    }

    /// The tenant in `slot` has ended and all its windows are closed.
    pub(crate) fn evict(&mut self, slot: usize, out: &mut Batch) {
        self.ledger.evict(slot, out);
    }

    /// The meter has ended, and so do all series of its books.
    pub(crate) fn end(&mut self, out: &mut Batch) {
        self.ledger.end(out);
    }
}

impl Scratch {
    /// What `slot` used in the window; makes it a user.
    fn used(&mut self, slot: usize) -> &mut Amounts {
        noted(&mut self.used, &mut self.users, slot)
    }

    /// What the thread in `slot` used in the window.
    fn thread(&mut self, slot: usize) -> &mut Amounts {
        noted(&mut self.used, &mut self.threads, slot)
    }

    fn clear(&mut self) {
        for slot in self.users.drain(..).chain(self.threads.drain(..)) {
            self.used[slot] = Used::default();
        }
        self.weights.clear();
        self.parts.clear();
        self.parts_of_threads.clear();
    }
}

/// What `slot` used, which is among `those` from now on.
fn noted<'a>(used: &'a mut Vec<Used>, those: &mut Vec<usize>, slot: usize) -> &'a mut Amounts {
    if used.len() <= slot {
        used.resize(slot + 1, Used::default());
    }
    let used = &mut used[slot];
    if !std::mem::replace(&mut used.takes_part, true) {
        used.position = those.len();
        those.push(slot);
    }
    &mut used.amounts
}

/// `amount · part / whole`, rounded down; nothing of nothing.
fn part_of(amount: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    (u128::from(amount) * u128::from(part.min(whole)) / u128::from(whole)) as u64
}
