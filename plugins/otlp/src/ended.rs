//! Streams that have ended. Their last values are the points that must not be lost, so they are kept here
//! until the collector has acknowledged a request that carried them. Then the end itself is sent once, in the
//! same way.

use std::collections::VecDeque;
use std::sync::Arc;

use wattrace_api::{Attribute, Series, Timestamp};

use crate::stream::LatestValue;

/// A stream that gets no more values.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its number in the queue; later ones have greater numbers.
    pub(crate) number: u64,
    pub(crate) series: Arc<Series>,
    pub(crate) attributes: Arc<[Attribute]>,
    pub(crate) last: LatestValue,
    /// What the collector has not acknowledged yet.
    pub(crate) phase: Phase,
}

/// What the collector has not acknowledged of an ended stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its last value.
    Value,
    /// That there are no more.
    End,
    /// Everything is acknowledged, or was refused.
    Done,
}

impl Ended {
    /// The time of the mark of the end: a millisecond after the last value, since back ends that count in
    /// milliseconds would otherwise take it for a second value of the same time.
    pub(crate) fn end_time(&self) -> Timestamp {
        self.last.time + std::time::Duration::from_millis(1)
    }
}

/// The queue, oldest first.
#[derive(Debug)]
pub(crate) struct EndedQueue {
    capacity: usize,
    queue: VecDeque<Ended>,
    pushed: u64,
    dropped: u64,
}

impl EndedQueue {
    /// An empty queue that drops its oldest streams rather than hold more than `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, queue: VecDeque::new(), pushed: 0, dropped: 0 }
    }

    /// Takes a stream's last value.
    pub(crate) fn push(&mut self, series: Arc<Series>, attributes: Arc<[Attribute]>, last: LatestValue) {
        if self.queue.len() >= self.capacity
            && let Some(oldest) = self.queue.pop_front()
            && oldest.phase == Phase::Value
        {
            self.dropped += 1;
        }
        self.pushed += 1;
        self.queue.push_back(Ended { number: self.pushed, series, attributes, last, phase: Phase::Value });
    }

    /// Whether more than half of its capacity is taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.queue.len() > self.capacity / 2
    }

    /// The streams that wait, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ended> {
        self.queue.iter()
    }

    /// A request that carried the values or ends of these streams was acknowledged.
    pub(crate) fn delivered(&mut self, numbers: &[u64]) {
        self.advance(numbers, |phase| match phase {
            Phase::Value => Phase::End,
            Phase::End | Phase::Done => Phase::Done,
        });
    }

    /// A request that carried the values or ends of these streams was refused for good.
    pub(crate) fn refused(&mut self, numbers: &[u64]) {
        self.advance(numbers, |_| Phase::Done);
    }

    fn advance(&mut self, numbers: &[u64], next: impl Fn(Phase) -> Phase) {
        for number in numbers {
            // A stream that was dropped meanwhile is not found.
            if let Ok(at) = self.queue.binary_search_by_key(number, |ended| ended.number) {
                self.queue[at].phase = next(self.queue[at].phase);
            }
        }
        self.queue.retain(|ended| ended.phase != Phase::Done);
    }

    /// Streams that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Streams whose last value waits.
    pub(crate) fn values(&self) -> usize {
        self.queue.iter().filter(|ended| ended.phase == Phase::Value).count()
    }

    /// Last values dropped because the queue was full, since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Registry, Resource, SeriesSpec, metric};

    use super::*;

    fn queue(capacity: usize, streams: u64) -> EndedQueue {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let (domain, consumer, attributes) = (None, None, Vec::new());
        let start = Timestamp(0);
        let id = registry.open(SeriesSpec {
            metric,
            resource: Resource::HOST,
            domain,
            consumer,
            attributes,
            start,
        });
        let mut queue = EndedQueue::new(capacity);
        for value in 1..=streams {
            let last = LatestValue { value, start, time: start };
            queue.push(registry.get(id).unwrap(), [].into(), last);
        }
        queue
    }

    fn phases(queue: &EndedQueue) -> Vec<(u64, Phase)> {
        queue.iter().map(|e| (e.last.value, e.phase)).collect()
    }

    #[test]
    fn the_value_waits_until_it_is_acknowledged_then_the_end_does() {
        let mut queue = queue(10, 2);
        assert_eq!(phases(&queue), [(1, Phase::Value), (2, Phase::Value)]);
        queue.delivered(&[1]);
        assert_eq!(phases(&queue), [(1, Phase::End), (2, Phase::Value)]);
        assert_eq!((queue.len(), queue.values()), (2, 1));
        queue.delivered(&[1, 2]);
        assert_eq!(phases(&queue), [(2, Phase::End)]);
        queue.refused(&[2]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn it_is_half_full_above_half_of_its_capacity() {
        assert!(!queue(4, 2).is_half_full() && queue(4, 3).is_half_full());
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts_values_only() {
        let mut queue = queue(2, 2);
        queue.delivered(&[1]);
        let (series, last) = (queue.queue[0].series.clone(), queue.queue[0].last);
        queue.push(series.clone(), [].into(), LatestValue { value: 3, ..last });
        assert_eq!((queue.take_dropped(), phases(&queue)), (0, vec![(2, Phase::Value), (3, Phase::Value)]));
        queue.push(series, [].into(), LatestValue { value: 4, ..last });
        assert_eq!((queue.take_dropped(), phases(&queue)), (1, vec![(3, Phase::Value), (4, Phase::Value)]));
        // The acknowledgement of streams that were dropped meanwhile changes nothing.
        queue.delivered(&[1, 2]);
        assert_eq!(queue.values(), 2);
    }
}
