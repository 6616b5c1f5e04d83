//! Processes and threads that have exited, until their series may end. The exit event comes before the last
//! slices: what exits gives its memory and files back first, and may wait for a CPU in between.
//! `processes.rs` and `threads.rs` hold one queue each.

use std::collections::VecDeque;
use std::time::Duration;

use wattrace_api::Timestamp;

/// How long after its last slice a consumer's series ends. It is longer than the pauses that the scheduler
/// makes for a cgroup whose CPU quota is used up, or for a thread of low priority on a busy CPU. A slice that
/// comes even later begins new series.
const GRACE: Duration = Duration::from_secs(1);

/// How many consumers are kept for the whole of [`GRACE`]. Where more exit, the oldest end earlier.
const MOST_KEPT: usize = 4096;

/// How many consumers may have exited since the last emission, which ends them, on a small machine. In a fork
/// storm beyond that, new ones are not followed: at some 4 kB each they would take all memory.
const MOST_EXITED: usize = 10_240;

/// The same for each CPU of a large machine, which starts more processes.
const MOST_EXITED_PER_CPU: usize = 1024;

/// Consumers that have exited, by their index in the table, the longest without a slice first.
#[derive(Debug)]
pub(crate) struct ExitedQueue {
    /// The index, and when a slice or the exit was last seen.
    queue: VecDeque<(usize, Timestamp)>,
    limit: usize,
}

impl ExitedQueue {
    /// An empty queue on a machine with so many CPUs.
    pub(crate) fn new(cpus: usize) -> Self {
        Self { queue: VecDeque::new(), limit: MOST_EXITED.max(cpus * MOST_EXITED_PER_CPU) }
    }

    /// Whether no more consumers may be followed until some have ended.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= self.limit
    }

    /// The consumer at `index` has exited; this was seen at `now`.
    pub(crate) fn push(&mut self, index: usize, now: Timestamp) {
        self.queue.push_back((index, now));
    }

    /// The next consumer that ends at `now`, the time of the last pass. `ran_at` says in which pass a
    /// consumer last had a slice.
    pub(crate) fn next(&mut self, now: Timestamp, ran_at: impl Fn(usize) -> Timestamp) -> Option<usize> {
        while let Some(&(index, seen)) = self.queue.front() {
            let ran_at = ran_at(index);
            if ran_at > seen {
                self.queue.pop_front();
                self.queue.push_back((index, ran_at));
                continue;
            }
            let quiet = now.since(seen);
            let is_over = quiet >= GRACE || (!quiet.is_zero() && self.queue.len() > MOST_KEPT);
            return is_over.then(|| self.queue.pop_front()).flatten().map(|(index, _)| index);
        }
        None
    }

    /// The next consumer, whether or not it may have another slice: no other pass follows.
    pub(crate) fn next_of_all(&mut self) -> Option<usize> {
        self.queue.pop_front().map(|(index, _)| index)
    }

    /// The consumer at `index` has been removed.
    pub(crate) fn remove(&mut self, index: usize) {
        self.queue.retain(|&(other, _)| other != index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp(millis * 1_000_000)
    }

    /// What ends at `now`; consumer 1 last ran at `first_ran`, all others at 0.
    fn ended(queue: &mut ExitedQueue, now: u64, first_ran: u64) -> Vec<usize> {
        let ran_at = |index| if index == 1 { at(first_ran) } else { at(0) };
        std::iter::from_fn(|| queue.next(at(now), ran_at)).collect()
    }

    #[test]
    fn a_consumer_ends_after_a_second_without_a_slice_and_keeps_no_other_from_it() {
        let mut queue = ExitedQueue::new(1);
        queue.push(1, at(0));
        queue.push(2, at(10));
        assert_eq!(ended(&mut queue, 900, 0), []);
        assert_eq!(ended(&mut queue, 1020, 800), [2]);
        assert_eq!(ended(&mut queue, 1790, 800), []);
        assert_eq!(ended(&mut queue, 1800, 800), [1]);
    }

    #[test]
    fn in_a_fork_storm_the_oldest_end_early_but_not_in_the_pass_in_which_they_were_seen() {
        let mut queue = ExitedQueue::new(1);
        (2..2 * MOST_KEPT).for_each(|index| queue.push(index, at(5)));
        assert_eq!(ended(&mut queue, 5, 0).len(), 0);
        assert_eq!(ended(&mut queue, 6, 0).len(), MOST_KEPT - 2);
    }

    #[test]
    fn after_the_last_pass_all_end() {
        let mut queue = ExitedQueue::new(1);
        (1..4).for_each(|index| queue.push(index, at(5)));
        queue.remove(2);
        assert_eq!(std::iter::from_fn(|| queue.next_of_all()).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_large_machine_may_have_more_of_them() {
        let mut queue = ExitedQueue::new(16);
        (0..16 * 1024 - 1).for_each(|index| queue.push(index, at(5)));
        assert!(!queue.is_full());
        queue.push(0, at(5));
        assert!(queue.is_full());
    }
}
