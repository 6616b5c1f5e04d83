//! Spans that wait for the collector, encoded. They take a limited number of bytes; beyond that the oldest
//! are dropped, and counted.

use std::collections::VecDeque;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;

/// A span that waits.
#[derive(Clone, Debug)]
pub(crate) struct QueuedSpan {
    /// An encoded `Span`.
    pub(crate) encoded: Box<[u8]>,
    /// The energy in it.
    pub(crate) microjoules: u64,
}

impl QueuedSpan {
    /// Encodes a span with this energy.
    pub(crate) fn new(span: SpanData, microjoules: u64) -> Self {
        Self { encoded: Span::from(span).encode_to_vec().into(), microjoules }
    }

    /// The memory it takes: itself, and its bytes with what their allocation takes.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.encoded.len() + 16
    }
}

/// The queue, oldest first.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    capacity: usize,
    spans: VecDeque<QueuedSpan>,
    bytes: usize,
    dropped: u64,
    dropped_microjoules: u64,
}

impl SpanQueue {
    /// An empty queue for at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, spans: VecDeque::new(), bytes: 0, dropped: 0, dropped_microjoules: 0 }
    }

    /// Adds a span.
    pub(crate) fn push(&mut self, span: QueuedSpan) {
        self.bytes += span.bytes();
        self.spans.push_back(span);
        self.shrink();
    }

    /// Takes the oldest spans, at most `most`, and not many more bytes than `bytes`.
    pub(crate) fn take(&mut self, most: usize, bytes: usize) -> Vec<QueuedSpan> {
        let mut sum = 0;
        let fits = |span: &&QueuedSpan| {
            let is_first = sum == 0;
            sum += span.encoded.len();
            is_first || sum <= bytes
        };
        let count = self.spans.iter().take(most).take_while(fits).count();
        let taken: Vec<_> = self.spans.drain(..count).collect();
        self.bytes -= taken.iter().map(QueuedSpan::bytes).sum::<usize>();
        // A long queue gives its memory back.
        if self.spans.capacity() > 4 * self.spans.len().max(1024) {
            self.spans.shrink_to(2 * self.spans.len());
        }
        taken
    }

    /// Puts back what [`SpanQueue::take`] took last.
    pub(crate) fn put_back(&mut self, taken: Vec<QueuedSpan>) {
        for span in taken.into_iter().rev() {
            self.bytes += span.bytes();
            self.spans.push_front(span);
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        while self.bytes > self.capacity
            && let Some(oldest) = self.spans.pop_front()
        {
            self.bytes -= oldest.bytes();
            self.dropped += 1;
            self.dropped_microjoules += oldest.microjoules;
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// How many were dropped since the last call, and the joules in them.
    pub(crate) fn take_dropped(&mut self) -> (u64, f64) {
        let microjoules = std::mem::take(&mut self.dropped_microjoules);
        (std::mem::take(&mut self.dropped), microjoules as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(microjoules: u64) -> QueuedSpan {
        QueuedSpan { encoded: vec![0; 100].into(), microjoules }
    }

    fn numbers(spans: &[QueuedSpan]) -> Vec<u64> {
        spans.iter().map(|span| span.microjoules).collect()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts_their_energy() {
        let mut queue = SpanQueue::new(3 * span(0).bytes());
        (1..=5).for_each(|number| queue.push(span(number)));
        assert_eq!((queue.take_dropped(), queue.take_dropped()), ((2, 3e-6), (0, 0.0)));
        assert_eq!(numbers(&queue.take(9, 1000)), [3, 4, 5]);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
    }

    #[test]
    fn what_was_taken_and_not_delivered_comes_back_before_what_came_meanwhile() {
        let mut queue = SpanQueue::new(4 * span(0).bytes());
        (1..=3).for_each(|number| queue.push(span(number)));
        let taken = queue.take(2, 1000);
        (4..=5).for_each(|number| queue.push(span(number)));
        queue.put_back(taken);
        assert_eq!(queue.take_dropped(), (1, 1e-6), "the oldest");
        assert_eq!(numbers(&queue.take(9, 1000)), [2, 3, 4, 5]);
    }

    #[test]
    fn a_request_has_limited_bytes_but_at_least_one_span() {
        let mut queue = SpanQueue::new(1 << 20);
        (1..=4).for_each(|number| queue.push(span(number)));
        assert_eq!(numbers(&queue.take(9, 250)), [1, 2]);
        assert_eq!(numbers(&queue.take(9, 1)), [3]);
        assert_eq!(queue.len(), 1);
    }
}
