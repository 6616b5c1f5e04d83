//! A slot for each consumer that used something, kept until every account is done with it. Numbers of slots
//! are what `timeline.rs` and `totals.rs` refer to consumers by. Short processes come by the thousand a
//! second, so what is kept of them is bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{Consumer, ConsumerKind, Identity, ProcessKey, Timestamp};

/// A consumer whose energy series may be open.
#[derive(Debug)]
pub(crate) struct ConsumerSlot {
    pub(crate) consumer: Arc<Consumer>,
    /// Usage series of this consumer that have not ended.
    open_usage: u32,
    /// For a thread, its process's slot.
    pub(crate) process: Option<usize>,
    /// For a process, what identifies it.
    key: Option<ProcessKey>,
    /// The consumer is this agent.
    pub(crate) is_agent: bool,
}

/// Consumers whose usage has ended while an account is not closed. Where there are more, the oldest end
/// early, and their part of energy that a slow meter reports later is unattributed.
const MOST_LEAVING: usize = 8192;

/// Numbers of ended consumers that remembered usage may still name, at least: forgetting them costs a look at
/// all of it.
const MOST_ENDED: usize = 1024;

/// All slots.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// `None`: its energy series have ended, and remembered usage may still name it. If a meter reports on
    /// the time before, that energy is unattributed.
    slots: Slab<Option<ConsumerSlot>>,
    /// Slot by the consumer's address, which the slot keeps from being reused.
    by_address: FxHashMap<usize, usize>,
    /// Slot of a process by its pid and start, for its threads.
    by_process: FxHashMap<ProcessKey, usize>,
    /// Processes that were forked since they were last asked for, with their parents.
    born: Vec<(ProcessKey, ProcessKey)>,
    /// Slots whose usage has ended, and when; their energy series are still open.
    leaving: VecDeque<(usize, Timestamp)>,
    /// Slots whose energy series have ended; remembered usage may still name them.
    ended: Vec<(usize, Timestamp)>,
}

impl Consumers {
    /// The consumer in `slot`; `None` if its energy series have ended.
    pub(crate) fn get(&self, slot: usize) -> Option<&ConsumerSlot> {
        self.slots.get(slot)?.as_ref()
    }

    /// What identifies the process in `slot`, or that of the thread in it.
    pub(crate) fn process_of(&self, slot: usize) -> Option<ProcessKey> {
        let consumer = self.get(slot)?;
        consumer.process.map_or(consumer.key, |process| self.get(process)?.key)
    }

    /// The processes that were forked since the last call, with their parents, in the order in which they
    /// began.
    pub(crate) fn take_born(&mut self) -> Vec<(ProcessKey, ProcessKey)> {
        self.born.sort_unstable_by_key(|&((_, start), _)| start);
        std::mem::take(&mut self.born)
    }

    /// The slot of `consumer`, about which one more series of usage has begun.
    pub(crate) fn acquire(&mut self, consumer: &Arc<Consumer>) -> usize {
        let address = Arc::as_ptr(consumer) as usize;
        let mut is_new = false;
        let number = *self.by_address.entry(address).or_insert_with(|| {
            is_new = true;
            let identity = consumer.identity();
            let key = process_key(identity);
            let number = self.slots.insert(Some(ConsumerSlot {
                consumer: consumer.clone(),
                open_usage: 0,
                process: process_of_thread(consumer, &self.by_process),
                key,
                is_agent: is_this_process(identity),
            }));
            if let Some(process) = key {
                self.by_process.insert(process, number);
                self.born.extend(consumer.parent().and_then(process_key).map(|parent| (process, parent)));
            }
            number
        });
        if let Some(slot) = &mut self.slots[number] {
            slot.open_usage += 1;
            // A consumer may return on another package after its first series ended. The list is long where
            // processes are short, so it is searched for such a consumer only.
            if slot.open_usage == 1 && !is_new {
                self.leaving.retain(|(leaving, _)| *leaving != number);
            }
        }
        number
    }

    /// A series of usage about the consumer in `slot` has ended; its usage is known up to `end`.
    pub(crate) fn release(&mut self, slot: usize, end: Timestamp) {
        let Some(Some(consumer)) = self.slots.get_mut(slot) else { return };
        consumer.open_usage -= 1;
        if consumer.open_usage == 0 {
            self.leaving.push_back((slot, end));
        }
    }

    /// Calls `end` for every slot whose usage ended by `closed`: no account charges it any more. And for the
    /// oldest of those beyond the bound.
    pub(crate) fn end_series(&mut self, closed: Timestamp, mut end: impl FnMut(usize)) {
        let mut beyond = self.leaving.len().saturating_sub(MOST_LEAVING);
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|&(number, ended)| {
            let is_over = ended <= closed || beyond > 0;
            beyond -= usize::from(beyond > 0);
            if is_over {
                end(number);
                self.end(number);
                self.ended.push((number, ended));
            }
            !is_over
        });
        self.leaving = leaving;
    }

    fn end(&mut self, number: usize) {
        let Some(slot) = self.slots.get_mut(number).and_then(Option::take) else { return };
        self.by_address.remove(&(Arc::as_ptr(&slot.consumer) as usize));
        if let Some(process) = slot.key
            && self.by_process.get(&process) == Some(&number)
        {
            self.by_process.remove(&process);
        }
    }

    /// Frees the ended slots that no usage after `remembered` names. If many stay, `forget` takes their names
    /// out of the usage, so that all are free.
    pub(crate) fn free_slots(&mut self, remembered: Timestamp, forget: impl FnOnce(&dyn Fn(usize) -> bool)) {
        let Self { slots, ended, .. } = self;
        ended.retain(|&(number, ended)| {
            let is_named = ended > remembered;
            if !is_named {
                slots.remove(number);
            }
            is_named
        });
        if ended.len() > MOST_ENDED.max(slots.len() - ended.len()) {
            forget(&|slot| slots.get(slot).is_some_and(Option::is_none));
            ended.drain(..).for_each(|(number, _)| _ = slots.remove(number));
        }
    }

    /// The number of slots, with those of ended consumers.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// What identifies a process; `None` for other consumers.
fn process_key(identity: &Identity) -> Option<ProcessKey> {
    let pid = identity.id.parse().ok().filter(|_| identity.kind == ConsumerKind::Process)?;
    Some((pid, identity.start_unix_nano))
}

/// The slot of a thread's process.
fn process_of_thread(consumer: &Consumer, by_process: &FxHashMap<ProcessKey, usize>) -> Option<usize> {
    let process = consumer.parent().filter(|_| consumer.kind() == ConsumerKind::Thread)?;
    by_process.get(&process_key(process)?).copied()
}

fn is_this_process(identity: &Identity) -> bool {
    identity.kind == ConsumerKind::Process && identity.id.parse() == Ok(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u64) -> Arc<Consumer> {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid };
        Arc::new(Consumer::new(identity, None, Vec::new()))
    }

    #[test]
    fn ended_consumers_are_dropped_at_once_and_their_numbers_are_bounded_while_usage_names_them() {
        let (mut consumers, mut forgotten) = (Consumers::default(), 0);
        let lives = process(0);
        let number = consumers.acquire(&lives);
        for pid in 1..=10 * MOST_ENDED as u64 {
            let consumer = process(pid);
            let slot = consumers.acquire(&consumer);
            consumers.release(slot, Timestamp(pid));
            consumers.end_series(Timestamp(pid), |_| {});
            assert_eq!(Arc::strong_count(&consumer), 1, "its attributes are not kept");
            assert!(consumers.get(slot).is_none());
            consumers.free_slots(Timestamp(0), |has_ended| {
                assert!(has_ended(slot) && !has_ended(number));
                forgotten += 1;
            });
            assert!(consumers.len() <= MOST_ENDED + 2, "{}", consumers.len());
        }
        assert_eq!(forgotten, 9);
        assert!(consumers.get(number).is_some());
    }

    #[test]
    fn of_too_many_that_wait_for_a_slow_meter_the_oldest_end_early() {
        let mut consumers = Consumers::default();
        for pid in 0..MOST_LEAVING as u64 + 2 {
            let slot = consumers.acquire(&process(pid));
            consumers.release(slot, Timestamp(10 + pid));
        }
        let mut ended = Vec::new();
        consumers.end_series(Timestamp(5), |slot| ended.push(slot));
        assert_eq!(ended, [0, 1]);
        consumers.end_series(Timestamp(12), |slot| ended.push(slot));
        assert_eq!(ended, [0, 1, 2]);
    }

    #[test]
    fn a_consumer_that_returns_before_its_series_ended_keeps_its_slot() {
        let (mut consumers, consumer) = (Consumers::default(), process(1));
        let slot = consumers.acquire(&consumer);
        consumers.release(slot, Timestamp(1));
        assert_eq!(consumers.acquire(&consumer), slot);
        consumers.end_series(Timestamp(9), |_| panic!("it is back"));
        consumers.release(slot, Timestamp(10));
        consumers.end_series(Timestamp(10), |_| {});
        consumers.free_slots(Timestamp(10), |_| {});
        assert_eq!(consumers.len(), 0);
    }
}
