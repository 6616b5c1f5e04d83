//! Dividing the energy of one window: the dynamic part by the model's weights, the static part by policy, and
//! each process's share among its threads. All shares are whole microjoules that sum to what was divided.

use super::consumers::Consumers;
use super::split::{Phases, split};
use super::usage_records::HeldMemory;
use crate::amounts::{Amounts, Quantity};
use crate::code::{Code, Ran};
use crate::model::{ByKind, Own, Weigher, Weight};

/// Where a domain's static energy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaticPolicy {
    /// To `idle`.
    Separate,
    /// It is not separated from the dynamic energy.
    Combined,
    /// To the consumers that used something, in proportion.
    ByUsage,
    /// To the consumers that used something, in equal parts.
    Even,
    /// To the consumers that hold memory of the device, in proportion.
    ByHeldMemory,
}

/// A consumer's part of a window's energy, in microjoules, the code that it ran meanwhile, and its own effect
/// on what that costs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    pub(crate) dynamic: u64,
    pub(crate) at_idle: u64,
    pub(crate) code: Option<Code>,
    pub(crate) own: Option<Own>,
    /// The part of the dynamic energy, 0 to 1, that it has because it kept the package awake.
    pub(crate) awake: f32,
    /// The part of it that it has because its clock was higher than usual; below 0 if it was lower.
    pub(crate) clock: f32,
}

impl Share {
    pub(crate) fn sum(self) -> u64 {
        self.dynamic + self.at_idle
    }
}

/// The consumers of one window, and their shares. Its memory is kept from window to window.
#[derive(Debug, Default)]
pub(crate) struct Division {
    /// By slot, how much each consumer used in the window.
    used: Vec<Used>,
    /// Slots of the consumers that take part.
    consumers: Vec<usize>,
    /// Slots of threads, whose shares are parts of their processes'.
    threads: Vec<usize>,
    weights: Vec<u64>,
    /// By position in `consumers`.
    shares: Vec<Share>,
    /// By position in `threads`.
    thread_shares: Vec<Share>,
    /// What each kind of code used.
    kinds: ByKind,
    phases: Phases,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    /// It is in `consumers` or `threads`.
    takes_part: bool,
    /// Its index there.
    position: usize,
    amounts: Amounts,
    /// What it ran.
    ran: Option<Ran>,
    /// The code that it ran in the last window in which it did.
    before: Option<Code>,
}

impl Division {
    /// The amounts of the consumer in `slot`, which takes part from now on.
    pub(crate) fn consumer(&mut self, slot: usize) -> &mut Amounts {
        amounts_of(&mut self.used, &mut self.consumers, slot)
    }

    /// The amounts of the thread in `slot`, which takes part from now on.
    pub(crate) fn thread(&mut self, slot: usize) -> &mut Amounts {
        amounts_of(&mut self.used, &mut self.threads, slot)
    }

    /// Recognises the code of each consumer, once all amounts are known.
    pub(crate) fn recognise_codes(&mut self) {
        let Self { used, consumers, .. } = self;
        for &slot in &*consumers {
            let used = &mut used[slot];
            used.ran = Ran::of(&used.amounts, used.before);
        }
    }

    /// The slots of all consumers, what each used, and what it ran.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = (usize, &Amounts, Option<Ran>)> {
        self.consumers.iter().map(|&slot| (slot, &self.used[slot].amounts, self.used[slot].ran))
    }

    /// The consumer in `slot` has ended: another may get its number.
    pub(crate) fn end_consumer(&mut self, slot: usize) {
        if let Some(used) = self.used.get_mut(slot) {
            used.before = None;
        }
    }

    /// Each consumer's slot and share.
    pub(crate) fn shares(&self) -> impl Iterator<Item = (usize, Share)> {
        self.consumers.iter().copied().zip(self.shares.iter().copied())
    }

    /// What each kind of code used, once dynamic energy is divided.
    pub(crate) fn kinds(&self) -> &ByKind {
        &self.kinds
    }

    /// Each thread's slot and share.
    pub(crate) fn thread_shares(&self) -> impl Iterator<Item = (usize, Share)> {
        self.threads.iter().copied().zip(self.thread_shares.iter().copied())
    }

    /// Divides dynamic energy among the consumers by weight. Returns the share of unknown consumers, which
    /// used `unknown_ns` of the busy time `busy_ns`.
    pub(crate) fn divide_dynamic(
        &mut self,
        energy: u64,
        unknown_ns: u64,
        busy_ns: u64,
        weigher: &Weigher<'_>,
    ) -> u64 {
        let Self { used, consumers, weights, shares, phases, kinds, .. } = self;
        for &slot in &*consumers {
            let Used { amounts, ran, .. } = &used[slot];
            let (code, own) = (ran.map(|ran| ran.code), weigher.own(slot));
            let Weight { weight, awake, clock } = weigher.weigh(amounts, code, own, Some(kinds));
            shares.push(Share { code, own, awake, clock, ..Share::default() });
            weights.push(weight);
        }
        let known: u64 = weights.iter().fold(0, |sum, w| sum.saturating_add(*w));
        let known_ns = busy_ns - unknown_ns;
        if known == 0 {
            // None of the quantities that have a weight was used, but time was.
            weights.clear();
            weights.extend(consumers.iter().map(|&slot| used[slot].amounts[Quantity::Time as usize]));
            weights.push(unknown_ns);
        } else {
            // Only time is known of unknown consumers. It weighs as much as the others' does on average.
            let weight = u128::from(unknown_ns) * u128::from(known) / u128::from(known_ns.max(1));
            weights.push(u64::try_from(weight).unwrap_or(u64::MAX));
        }
        let mut unknown = 0;
        split(energy, weights, phases.next(), |i, part| match shares.get_mut(i) {
            Some(share) => share.dynamic = part,
            None => unknown = part,
        });
        unknown
    }

    /// Divides static energy as the policy says; `held` gives the memory of the device that is held. Returns
    /// what stays with `idle`. Comes after [`Division::divide_dynamic`], whose weights it may use again.
    pub(crate) fn divide_static<'a, I: Iterator<Item = &'a HeldMemory>>(
        &mut self,
        energy: u64,
        policy: StaticPolicy,
        held: impl Fn() -> I,
    ) -> u64 {
        match policy {
            StaticPolicy::Separate | StaticPolicy::Combined => return energy,
            // Without the last weight, that of unknown consumers: they get no static energy.
            StaticPolicy::ByUsage => self.weights.truncate(self.consumers.len()),
            StaticPolicy::Even => {
                self.weights.clear();
                self.weights.resize(self.consumers.len(), 1);
            }
            StaticPolicy::ByHeldMemory => {
                held().for_each(|held| _ = self.consumer(held.slot));
                self.shares.resize(self.consumers.len(), Share::default());
                self.weights.clear();
                let bytes = |slot: &usize| held().filter(|h| h.slot == *slot).map(|h| h.bytes).sum::<u64>();
                self.weights.extend(self.consumers.iter().map(bytes));
            }
        }
        if self.weights.iter().all(|&weight| weight == 0) {
            return energy;
        }
        let shares = &mut self.shares;
        split(energy, &self.weights, self.phases.next(), |i, part| shares[i].at_idle = part);
        0
    }

    /// Divides each process's share among its threads by the weights that divide energy among processes.
    pub(crate) fn divide_among_threads(&mut self, consumers: &Consumers, weigher: &Weigher<'_>) {
        let Self { used, threads, weights, shares, thread_shares, phases, .. } = self;
        let process = |&slot: &usize| consumers.get(slot).and_then(|thread| thread.process);
        threads.sort_unstable_by_key(process);
        for siblings in threads.chunk_by(|a, b| process(a) == process(b)) {
            let of_process =
                process(&siblings[0]).and_then(|slot| used.get(slot)).filter(|used| used.takes_part);
            let share = of_process.and_then(|used| shares.get(used.position)).copied().unwrap_or_default();
            weights.clear();
            weights.extend(
                siblings
                    .iter()
                    .map(|&slot| weigher.weigh(&used[slot].amounts, share.code, share.own, None).weight),
            );
            if weights.iter().all(|&weight| weight == 0) {
                weights.clear();
                weights.extend(siblings.iter().map(|&slot| used[slot].amounts[Quantity::Time as usize]));
            }
            let first = thread_shares.len();
            let nothing = Share { dynamic: 0, at_idle: 0, ..share };
            thread_shares.resize(first + siblings.len(), nothing);
            let phase = phases.next();
            split(share.dynamic, weights, phase, |i, part| thread_shares[first + i].dynamic = part);
            split(share.at_idle, weights, phase, |i, part| thread_shares[first + i].at_idle = part);
        }
    }

    /// Makes it ready for the next window.
    pub(crate) fn clear(&mut self) {
        for slot in self.consumers.drain(..).chain(self.threads.drain(..)) {
            let Used { ran, before, .. } = self.used[slot];
            self.used[slot] = Used { before: ran.map(|ran| ran.code).or(before), ..Used::default() };
        }
        self.weights.clear();
        self.shares.clear();
        self.thread_shares.clear();
        self.kinds.clear();
    }
}

/// The amounts of `slot`, which is in `list` from now on.
fn amounts_of<'a>(used: &'a mut Vec<Used>, list: &mut Vec<usize>, slot: usize) -> &'a mut Amounts {
    if used.len() <= slot {
        used.resize(slot + 1, Used::default());
    }
    let used = &mut used[slot];
    if !std::mem::replace(&mut used.takes_part, true) {
        used.position = list.len();
        list.push(slot);
    }
    &mut used.amounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_may_run_a_mixture_if_its_code_is_not_that_of_when_it_ran_last() {
        let mut division = Division::default();
        let mut is_mixed = |instructions: u64| {
            division.consumer(3)[..4].copy_from_slice(&[1_000, 0, 1_000, instructions]);
            division.recognise_codes();
            let ran = division.consumers().find_map(|(_, _, ran)| ran.map(|ran| ran.is_mixed));
            division.clear();
            // In the next window another runs, and of this one only its time is known.
            division.consumer(0)[0] = 1_000;
            division.consumer(3)[0] = 1_000;
            division.recognise_codes();
            division.clear();
            ran
        };
        assert_eq!([1_000, 1_100, 4_000, 4_000].map(&mut is_mixed), [false, false, true, false].map(Some));
        division.end_consumer(3);
        division.consumer(3)[..4].copy_from_slice(&[1_000, 0, 1_000, 1_000]);
        division.recognise_codes();
        assert!(division.consumers().all(|(_, _, ran)| ran.is_some_and(|ran| !ran.is_mixed)), "another one");
    }
}
