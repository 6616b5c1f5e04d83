//! A slot for each consumer that used something, kept until every account is done with it. Numbers of slots
//! are what `timeline.rs` and `totals.rs` refer to consumers by.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{Consumer, ConsumerKind, Identity, Timestamp};

/// A consumer whose energy series may be open.
#[derive(Debug)]
pub(crate) struct ConsumerSlot {
    pub(crate) consumer: Arc<Consumer>,
    /// Usage series of this consumer that have not ended.
    open_usage: u32,
    /// For a thread, its process's slot.
    pub(crate) process: Option<usize>,
    /// The consumer is this agent.
    pub(crate) is_agent: bool,
    /// Its energy series have ended. If a meter still reports on the time before, that energy is
    /// unattributed.
    pub(crate) has_ended: bool,
}

/// All slots.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    slots: Slab<ConsumerSlot>,
    /// Slot by the consumer's address, which the slot keeps from being reused.
    by_address: FxHashMap<usize, usize>,
    /// Slot of a process by its pid and start, for its threads.
    by_process: FxHashMap<(u32, u64), usize>,
    /// Slots whose usage has ended, and when; their energy series are still open.
    leaving: Vec<(usize, Timestamp)>,
    /// Slots whose energy series have ended; remembered usage may still name them.
    ended: Vec<(usize, Timestamp)>,
}

impl Consumers {
    /// The consumer in `slot`.
    pub(crate) fn get(&self, slot: usize) -> Option<&ConsumerSlot> {
        self.slots.get(slot)
    }

    /// The slot of `consumer`, about which one more series of usage has begun.
    pub(crate) fn acquire(&mut self, consumer: &Arc<Consumer>) -> usize {
        let address = Arc::as_ptr(consumer) as usize;
        let mut is_new = false;
        let number = *self.by_address.entry(address).or_insert_with(|| {
            is_new = true;
            let identity = consumer.identity();
            let number = self.slots.insert(ConsumerSlot {
                consumer: consumer.clone(),
                open_usage: 0,
                process: process_of_thread(consumer, &self.by_process),
                is_agent: is_this_process(identity),
                has_ended: false,
            });
            if let Some(process) = pid_and_start(identity) {
                self.by_process.insert(process, number);
            }
            number
        });
        let slot = &mut self.slots[number];
        slot.open_usage += 1;
        // A consumer may return on another package after its first series ended. Both lists are long where
        // processes are short, so they are searched for such a consumer only.
        if slot.open_usage == 1 && !is_new {
            slot.has_ended = false;
            self.leaving.retain(|(leaving, _)| *leaving != number);
            self.ended.retain(|(ended, _)| *ended != number);
        }
        number
    }

    /// A series of usage about the consumer in `slot` has ended; its usage is known up to `end`.
    pub(crate) fn release(&mut self, slot: usize, end: Timestamp) {
        let Some(consumer) = self.slots.get_mut(slot) else { return };
        consumer.open_usage -= 1;
        if consumer.open_usage == 0 {
            self.leaving.push((slot, end));
        }
    }

    /// Calls `end` for every slot whose usage ended by `closed`: no account charges it any more.
    pub(crate) fn end_series(&mut self, closed: Timestamp, mut end: impl FnMut(usize)) {
        for (number, ended) in self.leaving.extract_if(.., |(_, ended)| *ended <= closed) {
            end(number);
            if let Some(slot) = self.slots.get_mut(number) {
                slot.has_ended = true;
            }
            self.ended.push((number, ended));
        }
    }

    /// Frees the ended slots that no usage after `remembered` names.
    pub(crate) fn free_slots(&mut self, remembered: Timestamp) {
        for (number, _) in self.ended.extract_if(.., |(_, ended)| *ended <= remembered) {
            let slot = self.slots.remove(number);
            self.by_address.remove(&(Arc::as_ptr(&slot.consumer) as usize));
            if let Some(process) = pid_and_start(slot.consumer.identity())
                && self.by_process.get(&process) == Some(&number)
            {
                self.by_process.remove(&process);
            }
        }
    }
}

/// What identifies a process; `None` for other consumers.
fn pid_and_start(identity: &Identity) -> Option<(u32, u64)> {
    let pid = identity.id.parse().ok().filter(|_| identity.kind == ConsumerKind::Process)?;
    Some((pid, identity.start_unix_nano))
}

/// The slot of a thread's process.
fn process_of_thread(consumer: &Consumer, by_process: &FxHashMap<(u32, u64), usize>) -> Option<usize> {
    let process = consumer.parent().filter(|_| consumer.kind() == ConsumerKind::Thread)?;
    by_process.get(&pid_and_start(process)?).copied()
}

fn is_this_process(identity: &Identity) -> bool {
    identity.kind == ConsumerKind::Process && identity.id.parse() == Ok(std::process::id())
}
