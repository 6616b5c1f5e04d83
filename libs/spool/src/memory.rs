//! What waits in memory while the disk does not work, with a limit on bytes. `disk` has the same rules.

use std::collections::VecDeque;

use wattrace_api::Timestamp;

use crate::{Amount, Class, Entry, Id, Place, Waiting};

/// Payloads, oldest first.
#[derive(Debug)]
pub(crate) struct Memory {
    max_bytes: usize,
    queue: VecDeque<Held>,
    bytes: usize,
    last_id: i64,
    pub(crate) amount: Amount,
}

/// A payload, and when it was pushed.
#[derive(Debug)]
pub(crate) struct Held {
    id: i64,
    pub(crate) pushed: Timestamp,
    pub(crate) entry: Entry,
}

impl Memory {
    /// An empty one that holds at most `max_bytes`.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, queue: VecDeque::new(), bytes: 0, last_id: 0, amount: Amount::default() }
    }

    /// Adds `entries`, however large.
    pub(crate) fn push(&mut self, pushed: Timestamp, entries: Vec<Entry>) {
        for entry in entries {
            self.last_id += 1;
            self.bytes += entry.payload.len();
            self.amount.add(entry.points);
            self.queue.push_back(Held { id: self.last_id, pushed, entry });
        }
    }

    /// Removes what is beyond the limit on bytes. Returns how many points that was.
    pub(crate) fn shrink(&mut self) -> u64 {
        let mut removed = 0;
        while self.bytes > self.max_bytes {
            let of_class = |class| self.queue.iter().position(|held| held.entry.class == class);
            let Some(at) = of_class(Class::Intermediate).or_else(|| of_class(Class::Last)) else { break };
            removed += self.remove_at(at);
        }
        removed
    }

    /// Takes out everything, oldest first.
    pub(crate) fn take(&mut self) -> VecDeque<Held> {
        (self.bytes, self.amount) = (0, Amount::default());
        std::mem::take(&mut self.queue)
    }

    /// Puts back what [`Memory::take`] took out.
    pub(crate) fn put_back(&mut self, held: VecDeque<Held>) {
        for held in &held {
            self.bytes += held.entry.payload.len();
            self.amount.add(held.entry.points);
        }
        self.queue = held;
    }

    /// The oldest payloads after `after`: one, and as many more as `bytes` have room for.
    pub(crate) fn oldest(&self, after: i64, bytes: usize) -> Vec<Waiting> {
        let (mut found, mut size) = (Vec::new(), 0);
        for held in self.queue.iter().filter(|held| held.id > after) {
            size += held.entry.payload.len();
            if size > bytes && !found.is_empty() {
                break;
            }
            found.push(Waiting { id: Id(Place::Memory, held.id), entry: held.entry.clone() });
        }
        found
    }

    /// Removes the payload `id` if it is still there.
    pub(crate) fn remove(&mut self, id: i64) {
        if let Ok(at) = self.queue.binary_search_by_key(&id, |held| held.id) {
            self.remove_at(at);
        }
    }

    /// Removes what was pushed before `oldest`. Returns how many points that was.
    pub(crate) fn expire(&mut self, oldest: Timestamp) -> u64 {
        let mut removed = 0;
        while self.queue.front().is_some_and(|held| held.pushed < oldest) {
            removed += self.remove_at(0);
        }
        removed
    }

    fn remove_at(&mut self, at: usize) -> u64 {
        let Some(held) = self.queue.remove(at) else { return 0 };
        self.bytes -= held.entry.payload.len();
        self.amount.remove(held.entry.points);
        held.entry.points
    }
}
