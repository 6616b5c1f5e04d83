//! The feed of a viewer: an output that exists while the viewer listens, and turns batches into messages
//! (`wattrace_viewer::message`). It never waits for its viewer: what that does not take in time is lost, is
//! counted, and is followed by new descriptions of everything. `describe.rs` has the descriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wattrace_api::{Batch, Clock, Error, Output, Registry, Setup};
use wattrace_viewer::{Message, Points};

use super::describe::Descriptions;

/// Points that may wait for a viewer, and descriptions, each of which weighs as many points as `DESCRIPTION`.
/// A single message may be larger, as the first one of a large machine is.
const MOST_WAITING: usize = 500_000;
const DESCRIPTION: usize = 32;

/// The end of a feed that the pipeline writes to.
#[derive(Clone, Debug)]
pub(crate) struct FeedSender {
    messages: UnboundedSender<Message>,
    waiting: Arc<AtomicUsize>,
}

/// The end that a viewer reads from. Dropping it makes the feed do nothing.
#[derive(Debug)]
pub(crate) struct FeedReceiver {
    messages: UnboundedReceiver<Message>,
    waiting: Arc<AtomicUsize>,
}

/// A feed: both of its ends.
pub(crate) fn feed() -> (FeedSender, FeedReceiver) {
    let (sender, receiver) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let sender = FeedSender { messages: sender, waiting: waiting.clone() };
    (sender, FeedReceiver { messages: receiver, waiting })
}

fn weight(message: &Message) -> usize {
    message.points() + DESCRIPTION * (message.consumers.len() + message.series.len())
}

impl FeedSender {
    /// Whether there is room for `points` more, and somebody who reads them.
    fn has_room(&self, points: usize) -> bool {
        let waiting = self.waiting.load(Relaxed);
        waiting == 0 || waiting + points <= MOST_WAITING
    }

    fn send(&self, message: Message) {
        self.waiting.fetch_add(weight(&message), Relaxed);
        // An error means that the viewer has gone: nobody is to be served.
        let _ = self.messages.send(message);
    }
}

impl FeedReceiver {
    /// The next message; `None` once the output has gone.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let message = self.messages.recv().await?;
        self.waiting.fetch_sub(weight(&message), Relaxed);
        Some(message)
    }

    /// The same, for a thread outside of the async runtime.
    pub(crate) fn blocking_next(&mut self) -> Option<Message> {
        let message = self.messages.blocking_recv()?;
        self.waiting.fetch_sub(weight(&message), Relaxed);
        Some(message)
    }
}

/// Adds the output that writes to `sender`.
pub(crate) fn add_output(setup: &mut Setup, sender: FeedSender) {
    let (registry, clock) = (setup.registry(), setup.clock());
    setup.output("feed", move || Ok(FeedOutput::new(registry.clone(), clock.clone(), sender.clone())));
}

struct FeedOutput {
    clock: Clock,
    sender: FeedSender,
    descriptions: Descriptions,
    /// Whether what was described is to be described again.
    reset: bool,
    /// Points that were lost, and how many of them are not reported to the runner yet.
    lost: u64,
    unreported: u64,
}

impl FeedOutput {
    fn new(registry: Arc<Registry>, clock: Clock, sender: FeedSender) -> Self {
        let descriptions = Descriptions::new(registry, clock.clone());
        // When the output is reopened, its predecessor may have lost points.
        Self { clock, sender, descriptions, reset: true, lost: 0, unreported: 0 }
    }

    fn message(&mut self, batch: &Batch) -> Message {
        let mut message = Message { reset: self.reset, lost: self.lost, ..Message::default() };
        for segment in batch.segments() {
            let [start, end] = [segment.window.start, segment.window.end].map(|t| self.clock.unix_nanos(t));
            let mut points = Points::of(start, end);
            for (id, value) in segment.points() {
                // Ids are numbers of 32 bits.
                let number = id.index() as u32;
                match self.descriptions.is_gauge(id, &mut message) {
                    Some(false) => points.count(number, value.steps()),
                    Some(true) => points.gauges.push((number, value.gauge())),
                    None => {}
                }
            }
            if !points.ids.is_empty() || !points.gauges.is_empty() {
                message.windows.push(points);
            }
        }
        // With the first points, so that a viewer's first message is one that it can show.
        if self.reset && !message.windows.is_empty() {
            self.descriptions.describe_sleepers(&mut message);
        }
        for &id in batch.ended() {
            if self.descriptions.end(id) {
                message.ended.push(id.index() as u32);
            }
        }
        message
    }
}

impl Output for FeedOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if self.sender.messages.is_closed() {
            return Ok(());
        }
        if !self.sender.has_room(batch.len()) {
            self.lost += batch.len() as u64;
            self.unreported += batch.len() as u64;
            self.reset = true;
            self.descriptions.clear();
            return Ok(());
        }
        let message = self.message(batch);
        if !message.windows.is_empty() || !message.ended.is_empty() {
            self.reset = false;
            self.sender.send(message);
        }
        Ok(())
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let lost = std::mem::take(&mut self.unreported);
        if lost > 0 { vec![("the viewer reads too slowly", lost)] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;
    use wattrace_api::{
        Attribute, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesId, SeriesSpec,
        Timestamp, Value, Window, metric,
    };
    use wattrace_viewer::{Kind, Quantity};

    use super::*;

    fn process(name: &str) -> Arc<Consumer> {
        let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 5 };
        let attributes = vec![Attribute::new("process.executable.name", name)];
        Arc::new(Consumer::new(identity, None, attributes))
    }

    fn time_of(rig: &Rig, consumer: &Arc<Consumer>) -> SeriesId {
        let metric = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
        let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(3));
        rig.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec })
    }

    fn meter_of(rig: &Rig, name: &str, resource: Resource) -> SeriesId {
        let metric = rig.registry.metric(&metric::HW_ENERGY).unwrap();
        let (origin, follows) = (Origin::Simulated, Follows::Cpus);
        let (name, within) = (name.to_owned(), None);
        let domain = Arc::new(Domain { name, origin, follows, within, idle_microwatts: None });
        let spec = SeriesSpec::new(metric, resource, Timestamp(3));
        rig.registry.open(SeriesSpec { domain: Some(domain), ..spec })
    }

    fn window() -> Window {
        Window::new(Timestamp(10), Timestamp(20))
    }

    #[tokio::test]
    async fn what_is_used_is_described_once_and_what_no_viewer_needs_is_left_out() {
        let rig = Rig::new();
        let (sender, mut receiver) = feed();
        let mut output = FeedOutput::new(rig.registry.clone(), rig.clock.clone(), sender);
        let bash = process("bash");
        let (time, meter) = (time_of(&rig, &bash), meter_of(&rig, "psys", Resource::HOST));
        let other = rig.registry.metric(&metric::CONSUMER_COUNTS[0]).unwrap();
        let spec = SeriesSpec::new(other, Resource::package(0), Timestamp(3));
        let cycles = rig.registry.open(SeriesSpec { consumer: Some(bash.clone()), ..spec });
        let points = [(time, 100), (cycles, 5), (meter, 7)];
        output.write(&rig.batch(window(), &points)).unwrap();
        let first = receiver.next().await.unwrap();
        assert_eq!((first.reset, first.lost, first.points()), (true, 0, 2));
        assert_eq!((first.consumers.len(), &*first.consumers[0].name), (1, "bash"));
        assert_eq!((first.consumers[0].kind, &*first.consumers[0].id), (Kind::Process, "7"));
        assert_eq!((&*first.domains[0].name, first.domains[0].counted), ("psys", false));
        let quantities: Vec<_> = first.series.iter().map(|series| series.quantity).collect();
        assert_eq!(quantities, [Quantity::CpuTime, Quantity::Meter]);
        assert_eq!((first.windows[0].start, &*first.windows[0].values), (10, &[100, 7][..]));
        output.write(&rig.batch(window(), &points)).unwrap();
        let second = receiver.next().await.unwrap();
        assert!(!second.reset && second.consumers.is_empty() && second.series.is_empty());
        // It executes another program, and ends.
        bash.update(vec![Attribute::new("process.executable.name", "make")]);
        let mut last = rig.batch(window(), &[(time, 101)]);
        last.end(time);
        last.end(cycles);
        output.write(&last).unwrap();
        let third = receiver.next().await.unwrap();
        assert_eq!(
            (&*third.consumers[0].name, third.consumers[0].number),
            ("make", first.consumers[0].number)
        );
        assert_eq!(third.ended, [first.series[0].id]);
    }

    #[tokio::test]
    async fn a_slow_viewer_is_sent_the_count_and_everything_again_and_the_output_never_waits() {
        let rig = Rig::new();
        let (sender, mut receiver) = feed();
        let mut output = FeedOutput::new(rig.registry.clone(), rig.clock.clone(), sender.clone());
        let time = time_of(&rig, &process("bash"));
        output.write(&rig.batch(window(), &[(time, 1)])).unwrap();
        // So much waits that there is no room.
        sender.waiting.fetch_add(MOST_WAITING, Relaxed);
        output.write(&rig.batch(window(), &[(time, 2)])).unwrap();
        output.write(&rig.batch(window(), &[(time, 3)])).unwrap();
        assert_eq!(output.take_losses(), [("the viewer reads too slowly", 2)]);
        assert_eq!(output.take_losses(), []);
        sender.waiting.fetch_sub(MOST_WAITING, Relaxed);
        output.write(&rig.batch(window(), &[(time, 4)])).unwrap();
        assert_eq!(receiver.next().await.unwrap().windows[0].values, [1]);
        let next = receiver.next().await.unwrap();
        assert_eq!((next.reset, next.lost, &*next.windows[0].values), (true, 2, &[4][..]));
        assert_eq!((next.series.len(), next.consumers.len()), (1, 1));
        assert_eq!(sender.waiting.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn who_sleeps_when_a_viewer_joins_is_described_and_ends() {
        let rig = Rig::new();
        let (sender, mut receiver) = feed();
        let (bash, gone) = (process("bash"), process("gone"));
        gone.ended_at(9);
        let sleeper = time_of(&rig, &bash);
        time_of(&rig, &gone);
        let mut output = FeedOutput::new(rig.registry.clone(), rig.clock.clone(), sender);
        let meter = meter_of(&rig, "psys", Resource::HOST);
        // A batch without points is no message.
        output.write(&rig.batch(window(), &[])).unwrap();
        output.write(&rig.batch(window(), &[(meter, 7)])).unwrap();
        let first = receiver.next().await.unwrap();
        let names: Vec<_> = first.consumers.iter().map(|consumer| &*consumer.name).collect();
        assert_eq!((names, first.reset, first.points(), first.series.len()), (vec!["bash"], true, 1, 2));
        // It ends without us, and the number is given to another series.
        rig.registry.release(&[sleeper]);
        let make = process("make");
        let reused = time_of(&rig, &make);
        assert_eq!(reused, sleeper);
        output.write(&rig.batch(window(), &[(reused, 3), (meter, 8)])).unwrap();
        let second = receiver.next().await.unwrap();
        assert_eq!((&*second.consumers[0].name, second.reset), ("make", false));
        assert_eq!((second.series.len(), second.series[0].id), (1, first.series[1].id));
        let mut last = rig.batch(window(), &[(meter, 9)]);
        last.end(reused);
        output.write(&last).unwrap();
        assert_eq!(receiver.next().await.unwrap().ended, [first.series[1].id]);
    }

    #[test]
    fn nobody_listens_and_nothing_is_lost() {
        let rig = Rig::new();
        let (sender, receiver) = feed();
        drop(receiver);
        let mut output = FeedOutput::new(rig.registry.clone(), rig.clock.clone(), sender.clone());
        let time = time_of(&rig, &process("bash"));
        let mut batch = Batch::default();
        batch.push(time, Value::of_steps(1));
        output.write(&batch).unwrap();
        assert_eq!((output.take_losses(), sender.waiting.load(Relaxed)), (vec![], 0));
    }
}
