//! The output: lets the table make spans, and sends them. At most one request is in flight; a task on the
//! runtime sends it while the pipeline goes on. Its spans are kept until the collector has taken or refused
//! them.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::{info, warn};
use wattrace_api::trace::{CommandEnded, CommandStarted};
use wattrace_api::{Batch, Clock, Error, Output, Received, Registry, Subscription, Timestamp};
use wattrace_backoff::Backoff;
use wattrace_otlp_client::endpoint::shown;
use wattrace_otlp_client::{Outcome, Transport};

use crate::carrier::Carriers;
use crate::config::Settings;
use crate::ids::Ids;
use crate::losses::Losses;
use crate::queue::{QueuedSpan, SpanQueue};
use crate::request::Envelope;
use crate::resource;
use crate::table::Table;
use crate::trees::Trees;

/// Most bytes of spans that wait for the collector: some 15,000.
const MOST_QUEUED: usize = 16 * 1024 * 1024;
/// Most spans in a request, as the SDK's batch processor has it, and about how many bytes: below the 4 MiB
/// that gRPC servers take.
const MOST_SPANS: usize = 512;
const MOST_BYTES: usize = 2 * 1024 * 1024;
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
    in_flight: Option<InFlight>,
    /// Most spans in a request; fewer once the collector has refused one as too large.
    most: usize,
    backoff: Backoff,
    /// Why nothing arrives; `None`: it does, or nothing is known yet.
    trouble: Option<String>,
    has_worked: bool,
}

/// A request that is being sent.
struct InFlight {
    spans: Vec<QueuedSpan>,
    outcome: Receiver<Outcome>,
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
            losses: Losses::default(),
            envelope: Envelope::new(&resource::describe()),
            transport,
            runtime,
            delay: settings.delay,
            timeout: settings.client.timeout,
            endpoint: shown(&settings.client.endpoint),
            next: clock.now() + settings.delay,
            clock,
            in_flight: None,
            most: MOST_SPANS,
            backoff: Backoff::new(Duration::from_secs(1), LONGEST_WAIT),
            trouble: None,
            has_worked: false,
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

    /// Starts to send the oldest spans.
    fn send(&mut self) {
        let spans = self.queue.take(self.most, MOST_BYTES);
        if spans.is_empty() {
            return;
        }
        let request = self.envelope.request(&spans).into();
        let (answer, outcome) = mpsc::channel();
        let transport = self.transport.clone();
        self.runtime.spawn(async move {
            // An error means that the output was closed meanwhile.
            _ = answer.send(transport.send(request).await);
        });
        self.in_flight = Some(InFlight { spans, outcome });
    }

    /// Takes the answer if it has come.
    fn poll_answer(&mut self) {
        let Some(InFlight { spans, outcome }) = self.in_flight.take() else { return };
        match outcome.try_recv() {
            Err(TryRecvError::Empty) => self.in_flight = Some(InFlight { spans, outcome }),
            answer => _ = self.settle(spans, answer.ok()),
        }
    }

    /// Applies an answer. `None`: the task that sends has ended without any. Returns how long to wait until
    /// the next request.
    fn settle(&mut self, spans: Vec<QueuedSpan>, outcome: Option<Outcome>) -> Option<Duration> {
        let count = spans.len() as u64;
        match outcome {
            Some(Outcome::Accepted { rejected, message }) => {
                self.losses.add("rejected", rejected.min(count));
                let all = rejected >= count;
                self.works(all.then(|| format!("{} rejects all spans: {message}", self.endpoint)));
                None
            }
            Some(Outcome::TooLarge { .. }) if count > 1 => {
                self.most = (spans.len() / 2).max(1);
                self.queue.put_back(spans);
                None
            }
            Some(Outcome::TooLarge { .. }) => {
                self.losses.add("too_large", 1);
                None
            }
            Some(Outcome::Refused { cause }) => {
                self.losses.add("refused", count);
                let cause = format!("{} refuses: {cause}", self.endpoint);
                self.works(Some(format!("{cause}; check plugins.traces.endpoint, protocol and headers")));
                None
            }
            Some(Outcome::Later { cause, after }) => Some(self.fails(spans, &cause, after)),
            Some(Outcome::Unreached { cause, .. }) => Some(self.fails(spans, &cause, None)),
            None => Some(self.fails(spans, "the request was abandoned", None)),
        }
    }

    /// A request was answered for good. `trouble` is what is wrong nevertheless.
    fn works(&mut self, trouble: Option<String>) {
        self.backoff.reset();
        self.next = self.clock.now() + self.delay;
        match (&trouble, &self.trouble) {
            (Some(why), None) => warn!("{why}; the spans are counted as lost"),
            (None, Some(_)) => info!("{} accepts spans again", self.endpoint),
            (None, None) if !self.has_worked => info!("spans go to {}", self.endpoint),
            _ => {}
        }
        self.has_worked |= trouble.is_none();
        self.trouble = trouble;
    }

    /// A request has to be sent again. Returns how long to wait.
    fn fails(&mut self, spans: Vec<QueuedSpan>, cause: &str, after: Option<Duration>) -> Duration {
        self.queue.put_back(spans);
        let after = after.unwrap_or_default().min(LONGEST_WAIT);
        self.next = self.clock.now() + self.backoff.next_wait().max(after);
        let why = format!("nothing arrives at {}: {cause}", self.endpoint);
        if self.trouble.is_none() {
            warn!("{why}; trying again. Is a collector listening there? Else set plugins.traces.endpoint");
        }
        self.trouble = Some(why);
        after
    }

    /// Sends all that is over, until nothing is left or time is up.
    fn drain(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            if let Some(InFlight { spans, outcome }) = self.in_flight.take() {
                let answer = match outcome.recv_timeout(left()) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.in_flight = Some(InFlight { spans, outcome });
                        return;
                    }
                    answer => answer.ok(),
                };
                if let Some(wait) = self.settle(spans, answer) {
                    let pause = wait.max(FLUSH_PAUSE);
                    if pause >= left() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
            }
            if self.queue.len() == 0 || left().is_zero() {
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
        self.poll_answer();
        let is_full = self.queue.len() >= self.most && self.trouble.is_none();
        if self.in_flight.is_none() && (is_full || self.clock.now() >= self.next) {
            self.send();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.take_commands();
        self.table.finish(&mut self.queue, &mut self.losses);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.take_commands();
        let patience = self.timeout.min(FLUSH_LIMIT);
        self.drain(Instant::now() + patience);
        let left = self.undelivered();
        if left == 0 {
            return self.trouble().map_or(Ok(()), |why| Err(Error::retry(why)));
        }
        let endpoint = &self.endpoint;
        Err(Error::retry(format!("{endpoint}: {left} spans could not be delivered within {patience:?}")))
    }

    fn undelivered(&self) -> u64 {
        let in_flight = self.in_flight.as_ref().map_or(0, |request| request.spans.len());
        (self.queue.len() + in_flight) as u64
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
        self.losses.take()
    }
}
