//! The output: keeps the table of latest values up to date, and sends them every interval. At most one set of
//! requests is in flight; a task on the runtime sends it while the pipeline goes on. A set that did not
//! arrive is not kept: the next one is made of the values that are the latest then. A set has a limited size,
//! and the ended streams that do not fit follow in the next ones, at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::runtime::Handle;
use tracing::warn;
use wattrace_api::{Batch, Clock, Error, Output, Registry, Timestamp};

use crate::backoff::{Backoff, LONGEST};
use crate::collector::{Collector, Notice};
use crate::config::Settings;
use crate::delivery::{Report, deliver};
use crate::encode::Packer;
use crate::resource;
use crate::sizes::Sizes;
use crate::stream::Point;
use crate::table::Table;
use crate::transport::{Outcome, Transport};

/// Most bytes of ended streams that are kept until the collector has acknowledged their last values and ends:
/// about 30,000 streams. From half of it on, no more processes get streams of their own (`plugins.otlp.top`),
/// so that what they use is in `other`, and the rest is left to those that have.
const MOST_ENDED: usize = 16 * 1024 * 1024;
/// About how many bytes of ended streams a set of requests holds.
const SET: usize = 2 * 1024 * 1024;
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
    in_flight: Option<Receiver<Report>>,
    /// Whether ended streams are left that did not fit into the last set.
    has_more: bool,
    sizes: Sizes,
    backoff: Backoff,
    collector: Collector,
    losses: Vec<(&'static str, u64)>,
    /// Last values that were dropped, and the joules in them, since that was reported; and when to do so
    /// next.
    dropped: (u64, f64),
    report_dropped_at: Timestamp,
    /// Of the values that still wait, those that a failed flush has already counted as lost.
    given_up: u64,
    /// Set while so many ended streams wait that no more consumers should get streams of their own.
    crowded: Arc<AtomicBool>,
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
            has_more: false,
            sizes: Sizes::default(),
            backoff: Backoff::default(),
            collector: Collector::new(settings),
            losses: Vec::new(),
            dropped: (0, 0.0),
            report_dropped_at: Timestamp(0),
            given_up: 0,
            crowded,
        }
    }

    /// Starts to send what the table has to report; `rest`: only the ended streams that are left.
    fn export(&mut self, rest: bool) {
        let mut packer = Packer::new(&self.resource, &self.clock, self.sizes.limit());
        let now = self.clock.now();
        let most = SET.max(self.sizes.limit());
        let emit = |point: Point<'_>| {
            packer.push(&point);
            packer.size() < most
        };
        let is_all = if rest { self.table.collect_ended(emit) } else { self.table.collect(now, emit) };
        self.has_more = !is_all;
        if !rest {
            self.next = now + self.interval;
        }
        let requests = packer.finish();
        if requests.is_empty() {
            return;
        }
        let (answer, answers) = mpsc::channel();
        let (transport, timeout, sizes) = (self.transport.clone(), self.timeout, self.sizes);
        self.runtime.spawn(async move {
            // An error means that the output was closed meanwhile.
            _ = answer.send(deliver(&*transport, timeout, requests, sizes).await);
        });
        self.in_flight = Some(answers);
    }

    /// Takes the answers if they have come.
    fn poll_answers(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        match in_flight.try_recv() {
            Err(TryRecvError::Empty) => self.in_flight = Some(in_flight),
            report => _ = self.settle(report.ok()),
        }
    }

    /// Applies a set's answers. `None`: the task that sends has ended without any.
    fn settle(&mut self, report: Option<Report>) -> Delivery {
        let mut delivery = Delivery::Done;
        let Some(Report { answers, is_complete, sizes, split }) = report else {
            return self.settled(Delivery::Later(None));
        };
        self.sizes = sizes;
        let split = split.and_then(|(bytes, cause)| self.collector.split(bytes, &cause));
        split.into_iter().for_each(Notice::log);
        for (contents, outcome) in answers {
            self.collector.observe(&outcome, contents.values).into_iter().for_each(Notice::log);
            match outcome {
                Outcome::Accepted { rejected, .. } => {
                    self.table.ended.delivered(contents.ended());
                    self.lose("rejected", rejected.min(contents.values));
                    self.given_up = 0;
                }
                Outcome::TooLarge { .. } => {
                    self.table.ended.refused(contents.ended());
                    self.lose("too_large", contents.values);
                }
                Outcome::Refused { .. } => {
                    self.table.ended.refused(contents.ended());
                    self.lose("refused", contents.values);
                }
                Outcome::Later { after, .. } => delivery = Delivery::Later(after),
                Outcome::Unreached { .. } => delivery = Delivery::Later(None),
            }
        }
        if !is_complete && delivery == Delivery::Done {
            delivery = Delivery::Later(None);
        }
        self.settled(delivery)
    }

    /// Decides when to send next.
    fn settled(&mut self, delivery: Delivery) -> Delivery {
        match delivery {
            Delivery::Done => self.backoff.succeeded(),
            Delivery::Later(after) => {
                self.has_more = false;
                self.table.mark_unsent();
                let notice = after.and_then(|after| self.collector.asked_to_wait(after));
                notice.into_iter().for_each(Notice::log);
                self.next = self.backoff.failed(&self.clock, after);
            }
        }
        delivery
    }

    /// Counts lost points. Reasons: `refused` (the collector refuses the request for good), `rejected`
    /// (points of a request that it accepted), `too_large` (a point that it does not even take alone),
    /// `unsent` (left at a flush), `overflow` (too many ended streams), `unknown_series`.
    fn lose(&mut self, reason: &'static str, points: u64) {
        if points == 0 {
            return;
        }
        match self.losses.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, count)) => *count += points,
            None => self.losses.push((reason, points)),
        }
    }

    /// Reports last values that were dropped, at most once a minute.
    fn report_dropped(&mut self, values: u64, joules: f64) {
        self.dropped = (self.dropped.0 + values, self.dropped.1 + joules);
        let now = self.clock.now();
        if self.dropped.0 == 0 || now < self.report_dropped_at {
            return;
        }
        self.report_dropped_at = now + LONGEST;
        let (values, joules) = std::mem::take(&mut self.dropped);
        warn!(
            "{} has taken nothing for too long: the last values of {values} ended streams, with up to \
             {joules:.3} J, are dropped (overflow)",
            self.collector.endpoint()
        );
    }

    /// Waits for the answers in flight and sends what is left, until nothing is left or time is up.
    fn drain(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            if let Some(in_flight) = self.in_flight.take() {
                let report = match in_flight.recv_timeout(left()) {
                    Ok(report) => Some(report),
                    Err(RecvTimeoutError::Disconnected) => None,
                    Err(RecvTimeoutError::Timeout) => {
                        self.in_flight = Some(in_flight);
                        return;
                    }
                };
                if let Delivery::Later(after) = self.settle(report) {
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
            self.export(false);
        }
    }
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.table.write(batch);
        self.crowded.store(self.table.ended.is_half_full(), Ordering::Relaxed);
        self.poll_answers();
        if self.in_flight.is_none() {
            match self.clock.now() >= self.next {
                true => self.export(false),
                false if self.has_more => self.export(true),
                false => {}
            }
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
            // Nothing is left because nothing is taken.
            return self.trouble().map_or(Ok(()), |why| Err(Error::retry(why)));
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
        let ((dropped, joules), unknown) = (self.table.ended.take_dropped(), self.table.take_unknown());
        self.report_dropped(dropped, joules);
        self.lose("overflow", dropped);
        self.lose("unknown_series", unknown);
        std::mem::take(&mut self.losses)
    }
}

#[cfg(test)]
mod tests;
