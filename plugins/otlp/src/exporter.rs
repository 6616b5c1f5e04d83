//! The output: keeps the table of latest values up to date, and sends them every interval. At most one set of
//! requests is in flight; a task on the runtime sends it while the pipeline goes on. A set that did not
//! arrive is not kept: the next one is made of the values that are the latest then.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::runtime::Handle;
use wattrace_api::{Batch, Clock, Error, Output, Registry, Timestamp};

use crate::backoff::Backoff;
use crate::collector::Collector;
use crate::config::Settings;
use crate::encode::{Contents, LIMIT, Packer, Request};
use crate::resource;
use crate::table::Table;
use crate::transport::{Outcome, Transport};

/// Most ended streams that are kept until the collector has acknowledged their last values and ends.
const MOST_ENDED: usize = 100_000;
/// Longest that a flush may hold up the end of the agent.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// Time between the attempts of a flush, which has no time for a backoff.
const FLUSH_PAUSE: Duration = Duration::from_millis(250);

/// The output.
pub(crate) struct Exporter {
    table: Table,
    resource: Resource,
    clock: Clock,
    interval: Duration,
    timeout: Duration,
    transport: Arc<dyn Transport>,
    runtime: Handle,
    /// When to send next.
    next: Timestamp,
    in_flight: Option<InFlight>,
    backoff: Backoff,
    collector: Collector,
    losses: Vec<(&'static str, u64)>,
    /// Of the values that still wait, those that a failed flush has already counted as lost.
    given_up: u64,
    /// Set while so many ended streams wait that no more consumers should get streams of their own.
    crowded: Arc<AtomicBool>,
}

/// A set of requests that is being sent.
struct InFlight {
    /// The answers, in the order of the requests, up to the first that means "later".
    answers: Receiver<Vec<Outcome>>,
    contents: Vec<Contents>,
}

/// How a set of requests ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// Each request was accepted, or refused for good.
    Done,
    /// Some are to be sent again, not sooner than the collector asked for, if it did.
    Later(Option<Duration>),
}

impl Exporter {
    /// An exporter that sends through `transport`, and sets `crowded` while too many ended streams wait.
    pub(crate) fn new(
        settings: &Settings,
        transport: Arc<dyn Transport>,
        crowded: Arc<AtomicBool>,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: Handle,
    ) -> Self {
        Self {
            table: Table::new(registry, MOST_ENDED),
            resource: resource::describe(&settings.resource, Path::new("/")),
            interval: settings.interval,
            timeout: settings.timeout,
            transport,
            runtime,
            next: clock.now() + settings.interval,
            clock,
            in_flight: None,
            backoff: Backoff::default(),
            collector: Collector::new(settings),
            losses: Vec::new(),
            given_up: 0,
            crowded,
        }
    }

    /// Starts to send what the table has to report.
    fn export(&mut self) {
        let mut packer = Packer::new(&self.resource, &self.clock, LIMIT);
        self.table.collect(self.clock.now(), |point| packer.push(&point));
        self.next = self.clock.now() + self.interval;
        let requests = packer.finish();
        if requests.is_empty() {
            return;
        }
        let (messages, contents): (Vec<_>, _) =
            requests.into_iter().map(|Request { message, contents }| (message, contents)).unzip();
        let (answer, answers) = mpsc::channel();
        let (transport, timeout) = (self.transport.clone(), self.timeout);
        self.runtime.spawn(async move {
            let mut outcomes = Vec::with_capacity(messages.len());
            for message in messages {
                let outcome = tokio::time::timeout(timeout, transport.send(message)).await;
                outcomes.push(outcome.unwrap_or_else(|_| Outcome::Later {
                    cause: format!("no answer within {timeout:?}"),
                    after: None,
                }));
                if let Some(Outcome::Later { .. }) = outcomes.last() {
                    break;
                }
            }
            // An error means that the output was closed meanwhile.
            _ = answer.send(outcomes);
        });
        self.in_flight = Some(InFlight { answers, contents });
    }

    /// Takes the answers if they have come.
    fn poll_answers(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        match in_flight.answers.try_recv() {
            Err(TryRecvError::Empty) => self.in_flight = Some(in_flight),
            answers => _ = self.settle(&in_flight.contents, answers.unwrap_or_default()),
        }
    }

    /// Applies a set's answers. Requests without one were not sent.
    fn settle(&mut self, contents: &[Contents], outcomes: Vec<Outcome>) -> Delivery {
        let mut delivery = Delivery::Done;
        let outcomes = outcomes.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (contents, outcome) in contents.iter().zip(outcomes) {
            if let Some(notice) = outcome.as_ref().and_then(|outcome| self.collector.observe(outcome)) {
                notice.log();
            }
            match outcome {
                Some(Outcome::Accepted { rejected, .. }) => {
                    self.table.ended.delivered(&contents.ended);
                    self.lose("rejected", rejected);
                    self.given_up = 0;
                }
                Some(Outcome::Refused { .. }) => {
                    self.table.ended.refused(&contents.ended);
                    self.lose("refused", contents.values);
                }
                Some(Outcome::Later { after, .. }) => delivery = Delivery::Later(after),
                None if delivery == Delivery::Done => delivery = Delivery::Later(None),
                None => {}
            }
        }
        match delivery {
            Delivery::Done => self.backoff.succeeded(),
            Delivery::Later(after) => {
                self.table.mark_unsent();
                self.next = self.backoff.failed(&self.clock, after);
            }
        }
        delivery
    }

    /// Counts lost points. Reasons: `refused` (the collector refuses the request for good), `rejected`
    /// (points of a request that it accepted), `unsent` (left at a flush), `overflow` (too many ended
    /// streams), `unknown_series`.
    fn lose(&mut self, reason: &'static str, points: u64) {
        if points == 0 {
            return;
        }
        match self.losses.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, count)) => *count += points,
            None => self.losses.push((reason, points)),
        }
    }

    /// Waits for the answers in flight and sends what is left, until nothing is left or time is up.
    fn drain(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            if let Some(in_flight) = self.in_flight.take() {
                let answers = match in_flight.answers.recv_timeout(left()) {
                    Ok(answers) => answers,
                    Err(RecvTimeoutError::Disconnected) => Vec::new(),
                    Err(RecvTimeoutError::Timeout) => {
                        self.in_flight = Some(in_flight);
                        return;
                    }
                };
                if let Delivery::Later(after) = self.settle(&in_flight.contents, answers) {
                    let pause = after.unwrap_or_default().max(FLUSH_PAUSE);
                    if pause >= left() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
            }
            if !self.table.is_pending() || self.backoff.quiet(&self.clock) > left() || left().is_zero() {
                return;
            }
            self.export();
        }
    }
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.table.write(batch);
        self.crowded.store(self.table.ended.is_half_full(), Ordering::Relaxed);
        self.poll_answers();
        if self.in_flight.is_none() && self.clock.now() >= self.next {
            self.export();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let patience = self.timeout.min(FLUSH_LIMIT);
        self.drain(Instant::now() + patience);
        // What is in flight may have arrived or not. It counts as lost: losses are never understated.
        if self.in_flight.is_some() {
            self.table.mark_unsent();
        }
        let left = self.table.undelivered() as u64;
        if left == 0 {
            return Ok(());
        }
        // This need not be the agent's end. If it is not, these values stay and go with the next request.
        self.lose("unsent", left.saturating_sub(self.given_up));
        self.given_up = self.given_up.max(left);
        let endpoint = self.collector.endpoint();
        Err(Error::retry(format!("{endpoint}: {left} values could not be delivered within {patience:?}")))
    }

    fn trouble(&self) -> Option<&str> {
        self.collector.trouble()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let (dropped, unknown) = (self.table.ended.take_dropped(), self.table.take_unknown());
        self.lose("overflow", dropped);
        self.lose("unknown_series", unknown);
        std::mem::take(&mut self.losses)
    }
}

#[cfg(test)]
mod tests;
