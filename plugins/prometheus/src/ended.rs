//! Series that ended: each is served until a scrape had it, and for as long after that as `keep_ended` says.
//! Their memory is bounded; the oldest go first.

use std::collections::VecDeque;
use std::time::Duration;

use wattrace_api::Timestamp;

use crate::sample::Sample;

/// The queue, oldest first.
#[derive(Debug)]
pub(crate) struct EndedQueue {
    capacity: usize,
    queue: VecDeque<Ended>,
    bytes: usize,
    /// How many were ever taken: the number of the last one.
    pushed: u64,
    /// Those up to this number were in a scrape.
    scraped: u64,
    /// Values that no scrape had.
    dropped: u64,
}

#[derive(Debug)]
struct Ended {
    number: u64,
    sample: Sample,
    /// When a scrape first had it.
    scraped_at: Option<Timestamp>,
}

/// Memory of an ended series beside its labels.
const FIXED: usize = size_of::<Ended>() + 32;

impl EndedQueue {
    /// An empty queue whose series take at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new(), bytes: 0, pushed: 0, scraped: 0, dropped: 0 }
    }

    /// Takes the last value of a series.
    pub(crate) fn push(&mut self, sample: Sample) {
        self.pushed += 1;
        self.bytes += FIXED + sample.labels.len();
        self.queue.push_back(Ended { number: self.pushed, sample, scraped_at: None });
        while self.bytes > self.capacity
            && let Some(oldest) = self.pop()
        {
            self.dropped += u64::from(oldest.scraped_at.is_none());
        }
    }

    fn pop(&mut self) -> Option<Ended> {
        let oldest = self.queue.pop_front()?;
        self.bytes -= FIXED + oldest.sample.labels.len();
        Some(oldest)
    }

    /// Their last values, oldest first.
    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.queue.iter().map(|ended| &ended.sample)
    }

    /// The number of the last series in it, to be passed to [`EndedQueue::scraped`] when a scrape had it.
    pub(crate) fn last(&self) -> u64 {
        self.pushed
    }

    /// A scrape at `now` had all series up to number `last`.
    pub(crate) fn scraped(&mut self, last: u64, now: Timestamp) {
        if last <= self.scraped {
            return;
        }
        self.scraped = last;
        let had = self.queue.iter_mut().take_while(|ended| ended.number <= last);
        had.filter(|ended| ended.scraped_at.is_none()).for_each(|ended| ended.scraped_at = Some(now));
    }

    /// Forgets what a scrape had `keep` or longer before `now`.
    pub(crate) fn forget(&mut self, now: Timestamp, keep: Duration) {
        while let Some(scraped_at) = self.queue.front().and_then(|oldest| oldest.scraped_at)
            && now.since(scraped_at) >= keep
        {
            self.pop();
        }
        // A long queue gives its memory back.
        if self.queue.capacity() > 4 * self.queue.len().max(1024) {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }

    /// How many no scrape had yet.
    pub(crate) fn unscraped(&self) -> u64 {
        self.queue.iter().rev().take_while(|ended| ended.scraped_at.is_none()).count() as u64
    }

    /// How many were dropped without ever being in a scrape, since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::Value;

    const SECOND: Duration = Duration::from_secs(1);

    fn push(queue: &mut EndedQueue, steps: u64) {
        let (value, start) = (Value::of_steps(steps), Timestamp(0));
        queue.push(Sample { family: 0, labels: "{a=\"b\"}".into(), value, start });
    }

    fn values(queue: &EndedQueue) -> Vec<u64> {
        queue.samples().map(|sample| sample.value.steps()).collect()
    }

    #[test]
    fn a_series_waits_for_a_scrape_and_is_kept_for_a_while_after_it() {
        let mut queue = EndedQueue::new(1 << 20);
        let at = |seconds: u64| Timestamp(seconds * 1_000_000_000);
        push(&mut queue, 1);
        let scrape = queue.last();
        push(&mut queue, 2);
        queue.forget(at(100), Duration::ZERO);
        assert_eq!((values(&queue), queue.unscraped()), (vec![1, 2], 2), "nobody scraped it");
        queue.scraped(scrape, at(100));
        queue.forget(at(101), 2 * SECOND);
        assert_eq!((values(&queue), queue.unscraped()), (vec![1, 2], 1));
        queue.forget(at(102), 2 * SECOND);
        assert_eq!(values(&queue), [2]);
        queue.scraped(queue.last(), at(103));
        queue.forget(at(103), Duration::ZERO);
        assert_eq!((values(&queue), queue.take_dropped()), (vec![], 0));
    }

    #[test]
    fn beyond_the_bound_the_oldest_go_and_count_as_lost_unless_they_were_scraped() {
        let mut queue = EndedQueue::new(3 * (FIXED + 7));
        push(&mut queue, 1);
        queue.scraped(queue.last(), Timestamp(1));
        (2..=6).for_each(|steps| push(&mut queue, steps));
        assert_eq!(values(&queue), [4, 5, 6]);
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (2, 0));
    }
}
