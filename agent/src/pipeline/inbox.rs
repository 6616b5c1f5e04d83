//! The channel from the sources to the transforms' thread: bounded in batches and in points, so that sources
//! wait while the transforms are busy. Messages that change the chain travel in the same order as the
//! batches.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wattrace_api::Batch;

use super::health::Health;
use super::queue::{LINGER, Queue, WAKE_AT_BATCHES};
use super::stage::Stage;

/// Bounds of what may wait for the transforms. As many batches as many fast sources produce while the
/// transforms' thread, which has no priority, is preempted; no more points than a CPU cache holds, since a
/// point that was evicted from it costs a third more.
const MAX_BATCHES: usize = 1024;
const MAX_POINTS: usize = 65_536;

/// A message to the transforms' thread.
pub(crate) enum Message {
    /// Points from a source.
    Batch(Batch),
    /// A transform joins the chain.
    Insert(Stage),
    /// A transform leaves: it is finished, its series end. Replied to when that is done.
    Remove(Arc<Health>, oneshot::Sender<()>),
    /// An output gets every batch from here on.
    Connect(Arc<Queue>),
    /// An output gets no more batches, and its queue is closed. Replied to when that is done.
    Disconnect(Arc<Queue>, oneshot::Sender<()>),
    /// Replied to when everything that was sent before has reached the outputs' queues.
    Barrier(oneshot::Sender<()>),
    /// No more messages are accepted; those that were sent are still processed.
    Finish,
}

/// The channel.
#[derive(Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    batches: usize,
    points: usize,
    /// Messages other than batches.
    urgent: usize,
    /// Senders that wait for room.
    waiting: usize,
    /// The receiver has just found the inbox empty, and is not woken for a few batches.
    lingering: bool,
    finished: bool,
    /// The receiver is gone.
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a batch. Waits while there is no room: a batch of more points than fit waits until it is the
    /// only one. Returns whether it was accepted.
    pub(crate) fn send(&self, batch: Batch) -> bool {
        let points = batch.len();
        let mut state = self.lock();
        if !state.has_room(points) {
            state.waiting += 1;
            self.filled.notify_one();
            let full = |s: &mut State| !s.has_room(points) && !s.finished && !s.closed;
            state = self.room.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        if state.finished || state.closed {
            return false;
        }
        state.messages.push_back(Message::Batch(batch));
        state.batches += 1;
        state.points += points;
        let wake = !state.lingering || state.is_enough();
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        true
    }

    /// Sends a message that is not a batch; never waits. After [`Message::Finish`] it is dropped, and with it
    /// the sender of its reply.
    pub(crate) fn tell(&self, message: Message) {
        let mut state = self.lock();
        if state.finished || state.closed {
            return;
        }
        state.finished = matches!(message, Message::Finish);
        state.messages.push_back(message);
        state.urgent += 1;
        drop(state);
        self.filled.notify_one();
        self.room.notify_all();
    }

    /// Waits for the next message; `None` after [`Message::Finish`], when all have been received.
    ///
    /// Waking a thread costs more than a batch of a few points is worth. A receiver that has found the inbox
    /// empty sleeps for [`LINGER`] unless much is waiting, so batches of fast sources are received together.
    pub(crate) fn receive(&self) -> Option<Message> {
        let mut state = self.lock();
        if state.messages.is_empty() && !state.finished {
            state.lingering = true;
            let idle = |s: &mut State| !s.is_enough();
            let lingered = self.filled.wait_timeout_while(state, LINGER, idle);
            state = lingered.unwrap_or_else(PoisonError::into_inner).0;
            state.lingering = false;
            let empty = |s: &mut State| s.messages.is_empty() && !s.finished;
            state = self.filled.wait_while(state, empty).unwrap_or_else(PoisonError::into_inner);
        }
        let message = state.messages.pop_front()?;
        match &message {
            Message::Batch(batch) => {
                state.batches -= 1;
                state.points -= batch.len();
                if state.waiting > 0 {
                    self.room.notify_all();
                }
            }
            _ => state.urgent -= 1,
        }
        Some(message)
    }

    /// Accepts nothing more and drops what waits: the receiver ends.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.messages.clear();
        drop(state);
        self.room.notify_all();
    }
}

impl State {
    fn has_room(&self, points: usize) -> bool {
        self.batches == 0 || (self.batches < MAX_BATCHES && self.points + points <= MAX_POINTS)
    }

    /// Whether so much waits that the receiver is woken for it.
    fn is_enough(&self) -> bool {
        self.urgent + self.waiting > 0 || self.batches >= WAKE_AT_BATCHES || self.points >= MAX_POINTS / 2
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use wattrace_api::{Registry, Resource, SeriesSpec, Timestamp, Value, metric};

    use super::*;

    /// How long a test watches that something does not happen.
    const SHORT: Duration = Duration::from_millis(5);

    fn batch(points: usize) -> Batch {
        let registry = Registry::new();
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let id = registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)));
        let mut batch = Batch::default();
        batch.extend(&vec![id; points], &vec![Value::of_steps(1); points]);
        batch
    }

    /// Sends batches of so many points from a thread; the receiver hears of each that was accepted.
    fn sending(inbox: &Arc<Inbox>, sizes: &'static [usize]) -> mpsc::Receiver<bool> {
        let (accepted, seen) = mpsc::channel();
        let inbox = inbox.clone();
        thread::spawn(move || {
            for &points in sizes {
                let _ = accepted.send(inbox.send(batch(points)));
            }
        });
        seen
    }

    fn received(inbox: &Inbox) -> usize {
        match inbox.receive() {
            Some(Message::Batch(batch)) => batch.len(),
            _ => 0,
        }
    }

    #[test]
    fn a_sender_waits_while_too_many_points_wait_and_a_batch_that_is_too_large_until_it_is_alone() {
        let inbox = Arc::new(Inbox::default());
        let seen = sending(&inbox, &[MAX_POINTS - 10, 10, 1, 2 * MAX_POINTS]);
        assert_eq!([seen.recv(), seen.recv()], [Ok(true), Ok(true)]);
        assert!(seen.recv_timeout(SHORT).is_err(), "there is no room");
        assert_eq!(received(&inbox), MAX_POINTS - 10);
        assert_eq!(seen.recv(), Ok(true));
        assert!(seen.recv_timeout(SHORT).is_err(), "others wait");
        assert_eq!([received(&inbox), received(&inbox)], [10, 1]);
        assert_eq!(seen.recv(), Ok(true));
        assert_eq!(received(&inbox), 2 * MAX_POINTS);
    }

    #[test]
    fn what_was_sent_before_the_finish_is_received_and_nothing_after_it() {
        let inbox = Arc::new(Inbox::default());
        assert!(inbox.send(batch(3)));
        inbox.tell(Message::Finish);
        assert!(!inbox.send(batch(4)));
        assert_eq!(received(&inbox), 3);
        assert!(matches!(inbox.receive(), Some(Message::Finish)));
        assert!(inbox.receive().is_none());
    }

    #[test]
    fn a_sender_that_waits_is_released_when_the_receiver_ends() {
        let inbox = Arc::new(Inbox::default());
        let seen = sending(&inbox, &[MAX_POINTS, 1]);
        assert_eq!(seen.recv(), Ok(true));
        assert!(seen.recv_timeout(SHORT).is_err());
        inbox.close();
        assert_eq!(seen.recv(), Ok(false));
    }
}
