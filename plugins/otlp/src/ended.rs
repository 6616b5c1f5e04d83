//! Streams that have ended. Their last values are the points that must not be lost, so they are kept here
//! until the collector has acknowledged a request that carried them. Then the end itself is sent once, in the
//! same way. Of a stream only what is sent is kept, not the series with its consumer, and all streams
//! together take a limited number of bytes. Ends are dropped first, then the oldest last values, which are
//! counted.

use std::collections::VecDeque;
use std::sync::Arc;

use wattrace_api::{Kind, Metric, MetricId, Series, Timestamp, Unit, Value};

use crate::stream::LatestValue;

/// A stream that gets no more values.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its number in the queue; later ones have greater numbers.
    pub(crate) number: u64,
    pub(crate) metric: Arc<Metric>,
    pub(crate) metric_id: MetricId,
    /// As they are sent.
    pub(crate) attributes: Arc<[u8]>,
    pub(crate) last: LatestValue,
    /// Whether the collector is to know that there are no more values.
    has_end: bool,
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

    /// The memory it takes: itself, and the attributes with what their allocation takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.attributes.len() + 32
    }
}

/// The queue, oldest first.
#[derive(Debug)]
pub(crate) struct EndedQueue {
    capacity: usize,
    queue: VecDeque<Ended>,
    /// The memory that its streams take, and how many of them wait for their end only.
    bytes: usize,
    ends: usize,
    pushed: u64,
    dropped: u64,
    /// The energy in the values that were dropped, in joules.
    dropped_joules: f64,
}

impl EndedQueue {
    /// An empty queue whose streams take at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let (queue, bytes, ends, pushed, dropped) = (VecDeque::new(), 0, 0, 0, 0);
        Self { capacity, queue, bytes, ends, pushed, dropped, dropped_joules: 0.0 }
    }

    /// Takes a stream's last value, after which a mark of its end follows if `has_end`.
    pub(crate) fn push(&mut self, series: &Series, attributes: Arc<[u8]>, last: LatestValue, has_end: bool) {
        self.pushed += 1;
        let (metric, metric_id) = (series.metric.clone(), series.metric_id);
        let (number, phase) = (self.pushed, Phase::Value);
        let ended = Ended { number, metric, metric_id, attributes, last, has_end, phase };
        self.bytes += ended.bytes();
        self.queue.push_back(ended);
        if self.bytes > self.capacity && self.ends > 0 {
            self.keep(|ended| ended.phase == Phase::Value);
        }
        while self.bytes > self.capacity
            && let Some(oldest) = self.queue.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.dropped += 1;
            if oldest.metric.unit == Unit::Joule && oldest.metric.kind == Kind::Counter {
                self.dropped_joules += oldest.metric.in_units(Value::of_steps(oldest.last.value));
            }
        }
    }

    /// Whether more than half of its capacity is taken.
    pub(crate) fn is_half_full(&self) -> bool {
        self.bytes > self.capacity / 2
    }

    fn keep(&mut self, is_kept: impl Fn(&Ended) -> bool) {
        self.queue.retain(is_kept);
        self.bytes = self.queue.iter().map(Ended::bytes).sum();
        self.ends = self.queue.iter().filter(|ended| ended.phase == Phase::End).count();
        // A long queue gives its memory back.
        if self.queue.capacity() > 4 * self.queue.len().max(1024) {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }

    /// The streams that wait, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ended> {
        self.queue.iter()
    }

    /// A request that carried the values or ends of these streams was acknowledged.
    pub(crate) fn delivered(&mut self, numbers: impl Iterator<Item = u64>) {
        self.advance(numbers, |ended| match ended.phase {
            Phase::Value if ended.has_end => Phase::End,
            Phase::Value | Phase::End | Phase::Done => Phase::Done,
        });
    }

    /// A request that carried the values or ends of these streams was refused for good.
    pub(crate) fn refused(&mut self, numbers: impl Iterator<Item = u64>) {
        self.advance(numbers, |_| Phase::Done);
    }

    fn advance(&mut self, numbers: impl Iterator<Item = u64>, next: impl Fn(&Ended) -> Phase) {
        let mut numbers = numbers.peekable();
        if numbers.peek().is_none() {
            return;
        }
        for number in numbers {
            // A stream that was dropped meanwhile is not found.
            if let Ok(at) = self.queue.binary_search_by_key(&number, |ended| ended.number) {
                self.queue[at].phase = next(&self.queue[at]);
            }
        }
        self.keep(|ended| ended.phase != Phase::Done);
    }

    /// Streams that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Streams whose last value waits.
    pub(crate) fn values(&self) -> usize {
        self.queue.iter().filter(|ended| ended.phase == Phase::Value).count()
    }

    /// Last values dropped because the queue was full, and the joules in them, since the last call.
    pub(crate) fn take_dropped(&mut self) -> (u64, f64) {
        (std::mem::take(&mut self.dropped), std::mem::take(&mut self.dropped_joules))
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Registry, Resource, SeriesSpec, metric};

    use super::*;

    /// What a stream without attributes takes.
    const EACH: usize = size_of::<Ended>() + 32;

    /// A queue with room for `capacity` streams without attributes.
    fn queue(capacity: usize, streams: u64) -> (EndedQueue, Arc<Series>) {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let id = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
        let series = registry.get(id).unwrap();
        let mut queue = EndedQueue::new(capacity * EACH);
        (1..=streams).for_each(|value| push(&mut queue, &series, value));
        (queue, series)
    }

    fn push(queue: &mut EndedQueue, series: &Series, value: u64) {
        queue.push(series, [].into(), LatestValue { value, start: Timestamp(0), time: Timestamp(0) }, true);
    }

    fn phases(queue: &EndedQueue) -> Vec<(u64, Phase)> {
        queue.iter().map(|e| (e.last.value, e.phase)).collect()
    }

    #[test]
    fn the_value_waits_until_it_is_acknowledged_then_the_end_does() {
        let (mut queue, _) = queue(10, 2);
        assert_eq!(phases(&queue), [(1, Phase::Value), (2, Phase::Value)]);
        queue.delivered([1].into_iter());
        assert_eq!(phases(&queue), [(1, Phase::End), (2, Phase::Value)]);
        assert_eq!((queue.len(), queue.values()), (2, 1));
        queue.delivered([1, 2].into_iter());
        assert_eq!(phases(&queue), [(2, Phase::End)]);
        queue.refused([2].into_iter());
        assert_eq!((queue.len(), queue.bytes, queue.ends), (0, 0, 0));
    }

    #[test]
    fn it_is_half_full_above_half_of_its_capacity() {
        assert!(!queue(4, 2).0.is_half_full() && queue(4, 3).0.is_half_full());
    }

    #[test]
    fn a_full_queue_drops_ends_first_then_the_oldest_values_which_it_counts() {
        let (mut queue, series) = queue(3, 3);
        queue.delivered([2].into_iter());
        push(&mut queue, &series, 4_000_000);
        assert_eq!(queue.take_dropped(), (0, 0.0), "the end of the second");
        let all = |queue: &EndedQueue| queue.iter().map(|e| e.last.value).collect::<Vec<_>>();
        assert_eq!(all(&queue), [1, 3, 4_000_000]);
        push(&mut queue, &series, 5);
        push(&mut queue, &series, 6);
        push(&mut queue, &series, 7);
        assert_eq!((queue.take_dropped(), all(&queue)), ((3, 4.000_004), vec![5, 6, 7]));
        // The acknowledgement of streams that were dropped meanwhile changes nothing.
        queue.delivered([1, 2].into_iter());
        assert_eq!(queue.values(), 3);
    }

    #[test]
    fn attributes_count_in_bytes() {
        let (mut queue, series) = queue(100, 0);
        let last = LatestValue { value: 1, start: Timestamp(0), time: Timestamp(0) };
        (0..1000).for_each(|_| queue.push(&series, vec![0; 1000].into(), last, true));
        assert_eq!(queue.len(), 100 * EACH / (EACH + 1000));
        assert_eq!(queue.take_dropped().0, 1000 - queue.len() as u64);
    }
}
