//! The output: lets the table make spans, decides when they are sent (`delivery`), and keeps what the
//! collector does not take: in the spool, or without one in the queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::runtime::Handle;
use tracing::{info, warn};
use wattrace_api::trace::{CommandEnded, CommandStarted};
use wattrace_api::{Batch, Clock, Error, Output, Received, Registry, Subscription, Timestamp};
use wattrace_backoff::Backoff;
use wattrace_otlp_client::endpoint::shown;
use wattrace_otlp_client::{Outcome, Transport};
use wattrace_spool::{Class, Entry, Spool};

use crate::carrier::Carriers;
use crate::config::Settings;
use crate::delivery::{Answer, Delivery, Origin, Request};
use crate::ids::Ids;
use crate::losses::Losses;
use crate::queue::SpanQueue;
use crate::request::Envelope;
use crate::resource;
use crate::table::Table;
use crate::trees::Trees;

/// Most bytes of spans that wait in memory: some 15,000.
const MOST_QUEUED: usize = 16 * 1024 * 1024;
/// About how many bytes a request has: below the 4 MiB that gRPC servers take.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// Most requests that are sent one after the other.
const MOST_REQUESTS: usize = 16;
/// The longest wait between two attempts, and the longest that a collector may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Longest that a flush may hold up the end of the agent.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// Time between the attempts of a flush, which has no time for a backoff.
const FLUSH_PAUSE: Duration = Duration::from_millis(250);

/// The events about commands.
pub(crate) struct Commands {
    pub(crate) started: Subscription<CommandStarted>,
    pub(crate) ended: Subscription<CommandEnded>,
}

/// The output.
pub(crate) struct Exporter {
    table: Table,
    commands: Commands,
    queue: SpanQueue,
    spool: Option<Spool>,
    losses: Losses,
    envelope: Envelope,
    transport: Arc<dyn Transport>,
    runtime: Handle,
    clock: Clock,
    delay: Duration,
    timeout: Duration,
    endpoint: String,
    /// When to send next.
    next: Timestamp,
    delivery: Option<Delivery>,
    /// Most spans in a request; fewer once the collector has refused one as too large.
    most: usize,
    backoff: Backoff,
    /// Whether the last request was not answered, so that the next one is a probe.
    is_away: bool,
    /// What is wrong with the last request.
    trouble: Option<String>,
    has_worked: bool,
    /// No more batches come.
    is_finished: bool,
}

impl Exporter {
    /// An output that sends through `transport`.
    pub(crate) fn new(
        settings: &Settings,
        transport: Arc<dyn Transport>,
        commands: Commands,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: Handle,
    ) -> Self {
        let policy = settings.policy.clone();
        let (period, limits, carriers) = (policy.period, policy.limits.clone(), Carriers::open(policy.join));
        let trees = Trees::new(policy, carriers, Ids::of_this_boot(), clock.clone());
        Self {
            table: Table::new(registry, clock.clone(), period, limits, trees),
            commands,
            queue: SpanQueue::new(MOST_QUEUED),
            spool: settings.spool.clone().map(|spool| Spool::new(spool, clock.clone())),
            losses: Losses::default(),
            envelope: Envelope::new(&resource::describe()),
            transport,
            runtime,
            delay: settings.delay,
            timeout: settings.client.timeout,
            endpoint: shown(&settings.client.endpoint),
            next: clock.now() + settings.delay,
            clock,
            delivery: None,
            most: settings.most_spans,
            backoff: Backoff::new(Duration::from_secs(1), LONGEST_WAIT),
            is_away: false,
            trouble: None,
            has_worked: false,
            is_finished: false,
        }
    }

    fn take_commands(&mut self) {
        while let Some(received) = self.commands.started.try_next() {
            match received {
                Received::Event(command) => self.table.command_started(command),
                Received::Missed(commands) => self.losses.add("commands", commands),
            }
        }
        while let Some(received) = self.commands.ended.try_next() {
            match received {
                Received::Event(command) => self.table.command_ended(&command, &mut self.queue),
                Received::Missed(commands) => self.losses.add("commands", commands),
            }
        }
    }

    /// The next spans of the queue as a request; `None`: it is empty.
    fn live_request(&mut self) -> Option<Request> {
        let spans = self.queue.take(self.most, MOST_BYTES);
        (!spans.is_empty()).then(|| {
            let body = self.envelope.request(&spans).into();
            Request { body, spans: spans.len() as u64, origin: Origin::Live(spans) }
        })
    }

    /// Starts to send what waits: first what is in the spool. A collector that was away gets one request.
    fn send(&mut self) {
        let most = if self.is_away { 1 } else { MOST_REQUESTS };
        let kept = self.spool.as_mut().map(|spool| spool.oldest(None, MOST_BYTES)).unwrap_or_default();
        let mut requests: Vec<_> = kept
            .into_iter()
            .take(most)
            .map(|waiting| {
                let (spans, origin) = (waiting.entry.points, Origin::Kept(waiting.id));
                Request { body: waiting.entry.payload.into(), spans, origin }
            })
            .collect();
        while requests.len() < most
            && let Some(request) = self.live_request()
        {
            requests.push(request);
        }
        if !requests.is_empty() {
            self.delivery = Some(Delivery::start(requests, &self.transport, &self.runtime));
        }
    }

    /// Moves what is in the queue to the spool, if there is one.
    fn keep_queued(&mut self) {
        while self.spool.is_some()
            && let Some(request) = self.live_request()
        {
            self.keep(request);
        }
    }

    /// Moves to the spool what is being sent, and may have arrived or not: a span that arrives twice is the
    /// same span.
    fn keep_in_flight(&mut self) {
        if let (Some(spool), Some(delivery)) = (&mut self.spool, &mut self.delivery) {
            let entry =
                |(body, points): (Bytes, u64)| Entry { class: Class::Last, points, payload: body.into() };
            spool.push(delivery.live.drain(..).map(entry).collect());
        }
    }

    /// Keeps a request that is to be sent again.
    fn keep(&mut self, Request { body, spans: points, origin }: Request) {
        match (origin, &mut self.spool) {
            (Origin::Kept(_), _) => {}
            (Origin::Live(_), Some(spool)) => {
                spool.push(vec![Entry { class: Class::Last, points, payload: body.into() }]);
            }
            (Origin::Live(spans), None) => self.queue.put_back(spans),
        }
    }

    /// A request is settled.
    fn done(&mut self, origin: &Origin) {
        if let (Origin::Kept(id), Some(spool)) = (origin, &mut self.spool) {
            spool.done(&[*id]);
        }
    }

    /// Takes the answers, if they have come within `patience`. Returns how long the collector wants no
    /// request; `None`: it may get one.
    fn poll_answers(&mut self, patience: Duration) -> Option<Duration> {
        let delivery = self.delivery.take()?;
        let mut missing = delivery.spans;
        let answers = match delivery.answers(patience) {
            Ok(answers) => answers,
            Err(delivery) => {
                self.delivery = Some(delivery);
                return None;
            }
        };
        self.is_away = false;
        let mut wait = None;
        for answer in answers {
            missing -= answer.0.spans;
            wait = self.settle(answer).or(wait);
        }
        self.losses.add("abandoned", missing);
        if !self.is_away {
            self.backoff.reset();
            self.next = self.clock.now() + self.delay;
        }
        wait
    }

    /// Applies an answer. Returns how long to wait, if the request is to be sent again.
    fn settle(&mut self, (request, outcome): Answer) -> Option<Duration> {
        let count = request.spans;
        match outcome {
            None => self.keep(request),
            Some(Outcome::Accepted { rejected, message }) => {
                self.losses.add("rejected", rejected.min(count));
                let all = rejected >= count;
                self.works(all.then(|| format!("{} rejects all spans: {message}", self.endpoint)));
                self.done(&request.origin);
            }
            Some(Outcome::TooLarge { .. }) if count > 1 => {
                self.most = usize::try_from(count / 2).unwrap_or(1);
                self.done(&request.origin);
                self.queue.put_back(request.into_spans());
            }
            Some(Outcome::TooLarge { .. }) => {
                self.losses.add("too_large", count);
                self.done(&request.origin);
            }
            Some(Outcome::Refused { cause }) => {
                self.losses.add("refused", count);
                let cause = format!("{} refuses: {cause}", self.endpoint);
                self.works(Some(format!("{cause}; check plugins.traces.endpoint, protocol and headers")));
                self.done(&request.origin);
            }
            Some(Outcome::Later { cause, after }) => return Some(self.fails(request, &cause, after)),
            Some(Outcome::Unreached { cause, .. }) => return Some(self.fails(request, &cause, None)),
        }
        None
    }

    /// A request was answered for good. `trouble` is what is wrong nevertheless.
    fn works(&mut self, trouble: Option<String>) {
        match (&trouble, &self.trouble) {
            (Some(why), None) => warn!("{why}; the spans are counted as lost"),
            (None, Some(_)) => info!("{} accepts spans again", self.endpoint),
            (None, None) if !self.has_worked => info!("spans go to {}", self.endpoint),
            _ => {}
        }
        self.has_worked |= trouble.is_none();
        self.trouble = trouble;
    }

    /// A request has to be sent again. Returns how long the collector wants none.
    fn fails(&mut self, request: Request, cause: &str, after: Option<Duration>) -> Duration {
        self.keep(request);
        let after = after.unwrap_or_default().min(LONGEST_WAIT);
        self.next = self.clock.now() + self.backoff.next_wait().max(after);
        let why = format!("nothing arrives at {}: {cause}", self.endpoint);
        if self.trouble.is_none() {
            warn!("{why}; trying again. Is a collector listening there? Else set plugins.traces.endpoint");
        }
        (self.is_away, self.trouble) = (true, Some(why));
        after
    }

    /// Spans that wait, also in the spool.
    fn waiting(&self) -> u64 {
        let kept = self.spool.as_ref().map_or(0, |spool| spool.amount().points);
        kept + self.queue.len() as u64
    }

    /// Sends all that is over, until nothing is left or time is up.
    fn drain(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        while !left().is_zero() {
            if self.delivery.is_some() {
                let wait = self.poll_answers(left());
                if let Some(wait) = wait {
                    let pause = wait.max(FLUSH_PAUSE);
                    if pause >= left() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
                continue;
            }
            if self.waiting() == 0 {
                return;
            }
            self.send();
        }
    }
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.take_commands();
        self.table.write(batch, &mut self.queue, &mut self.losses);
        self.poll_answers(Duration::ZERO);
        if self.delivery.is_some() {
            return Ok(());
        }
        let is_full = self.queue.len() >= self.most;
        let is_kept = self.spool.as_ref().is_some_and(|spool| !spool.is_empty());
        if self.clock.now() >= self.next || (!self.is_away && (is_full || is_kept)) {
            self.send();
        } else if is_full {
            self.keep_queued();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.take_commands();
        self.table.finish(&mut self.queue, &mut self.losses);
        self.is_finished = true;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.take_commands();
        let patience = self.timeout.min(FLUSH_LIMIT);
        self.drain(Instant::now() + patience);
        self.keep_queued();
        if self.is_finished {
            self.keep_in_flight();
        }
        if self.waiting() == 0 && self.delivery.is_none() {
            return self.trouble().map_or(Ok(()), |why| Err(Error::retry(why)));
        }
        let (endpoint, left) = (&self.endpoint, self.waiting());
        let kept = self.spool.as_ref().map(|spool| format!("; they wait in {}", spool.file().display()));
        let kept = kept.unwrap_or_default();
        Err(Error::retry(format!(
            "{endpoint}: {left} spans could not be delivered within {patience:?}{kept}"
        )))
    }

    fn undelivered(&self) -> u64 {
        let live = |delivery: &Delivery| delivery.live.iter().map(|(_, spans)| spans).sum();
        let in_flight: u64 = self.delivery.as_ref().map_or(0, live);
        let in_memory = self.spool.as_ref().map_or(0, |spool| spool.amount_in_memory().points);
        self.queue.len() as u64 + in_flight + in_memory
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let (dropped, joules) = self.queue.take_dropped();
        if dropped > 0 {
            let endpoint = &self.endpoint;
            warn!(
                "{endpoint} has taken nothing for too long: {dropped} spans with {joules:.3} J are dropped"
            );
        }
        self.losses.add("overflow", dropped);
        let of_spool = self.spool.as_mut().map(Spool::take_losses).unwrap_or_default();
        of_spool.into_iter().for_each(|(reason, spans)| self.losses.add(reason, spans));
        self.losses.take()
    }
}

#[cfg(test)]
mod tests;
