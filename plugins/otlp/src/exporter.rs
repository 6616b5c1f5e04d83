//! The output: keeps the table of latest values up to date, and sends them every interval. At most one set of
//! requests is in flight; a task on the runtime sends it while the pipeline goes on. A set that did not
//! arrive is kept in the spool (`backlog`), and so are those that are due while the collector is away.
//! Without a spool it is not kept: the next one is made of the values that are the latest then. A set has a
//! limited size, and the ended streams that do not fit follow in the next ones, at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::runtime::Handle;
use tracing::Instrument as _;
use wattrace_api::{Batch, Clock, Error, Output, Registry, Timestamp};
use wattrace_otlp_client::{Outcome, Transport};
use wattrace_spool::Spool;

use crate::backlog::{Backlog, Way};
use crate::backoff::Backoff;
use crate::collector::{Collector, Notice};
use crate::config::Settings;
use crate::delivery::{Limits, Report, deliver, span};
use crate::encode::{Contents, Packer, Request};
use crate::losses::Losses;
use crate::resource;
use crate::sizes::Sizes;
use crate::stream::Point;
use crate::table::Table;
use crate::temporality::Temporalities;

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
    temporality: Temporalities,
    clock: Clock,
    interval: Duration,
    way: Way,
    runtime: Handle,
    /// When the next set is due.
    next: Timestamp,
    in_flight: Option<InFlight>,
    /// Whether the last set did not arrive, and when to try another.
    is_away: bool,
    retry_at: Timestamp,
    /// What did not arrive, if there is a spool.
    backlog: Option<Backlog>,
    /// Whether ended streams are left that did not fit into the last set.
    has_more: bool,
    sizes: Sizes,
    backoff: Backoff,
    collector: Collector,
    losses: Losses,
    /// Of the values that still wait, those that a failed flush has already counted as lost.
    given_up: u64,
    /// Set while so many ended streams wait that no more consumers should get streams of their own.
    crowded: Arc<AtomicBool>,
}

/// A set that is being sent.
struct InFlight {
    report: Receiver<Report>,
    /// Its requests, if there is a spool to keep them in.
    requests: Vec<Request>,
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
        let limits = Limits { request: settings.client.timeout, set: settings.set_timeout };
        Self {
            table: Table::new(registry, MOST_ENDED)
                .reporting(settings.temporality.counters, settings.powers()),
            temporality: settings.temporality,
            resource: resource::describe(&settings.resource, Path::new("/")),
            interval: settings.interval,
            way: Way { transport, limits },
            runtime,
            next: clock.now() + settings.interval,
            clock,
            in_flight: None,
            is_away: false,
            retry_at: Timestamp(0),
            backlog: None,
            has_more: false,
            sizes: Sizes::default(),
            backoff: Backoff::default(),
            collector: Collector::new(settings),
            losses: Losses::default(),
            given_up: 0,
            crowded,
        }
    }

    /// Keeps what does not arrive in `spool`, and sends what waits there.
    pub(crate) fn with_spool(mut self, spool: Spool) -> Self {
        self.backlog = Some(Backlog::new(spool, self.temporality.counters));
        self
    }

    /// Starts to send what the table has to report, or keeps it while the collector is away; `rest`: only the
    /// ended streams that are left.
    fn export(&mut self, rest: bool) {
        let now = self.clock.now();
        let is_quiet = self.is_away && (now < self.retry_at || self.in_flight.is_some());
        let requests = self.collect(rest);
        if is_quiet && self.backlog.is_some() {
            return self.keep(requests);
        }
        // Without values that try the collector, the backlog does.
        self.is_away &= !requests.is_empty();
        if requests.is_empty() {
            return;
        }
        let kept = if self.backlog.is_some() { requests.clone() } else { Vec::new() };
        let (answer, report) = mpsc::channel();
        let (way, sizes) = (self.way.clone(), self.sizes);
        let span = span(&requests);
        let exchange = async move {
            // An error means that the output was closed meanwhile.
            _ = answer.send(deliver(&*way.transport, way.limits, requests, sizes).await);
        };
        self.runtime.spawn(exchange.instrument(span));
        self.in_flight = Some(InFlight { report, requests: kept });
    }

    /// The requests of a set.
    fn collect(&mut self, rest: bool) -> Vec<Request> {
        let mut packer = Packer::new(&self.resource, &self.clock, self.sizes.limit(), self.temporality);
        if !rest {
            packer.push_powers(self.table.collect_powers(&self.clock));
        }
        let now = self.clock.now();
        let most = SET.max(self.sizes.limit());
        // The values of ended streams have requests of their own: the spool keeps them longest.
        let mut has_ended = false;
        let emit = |point: Point<'_>| {
            if point.ended.is_some() && !std::mem::replace(&mut has_ended, true) {
                packer.close();
            }
            packer.push(&point);
            packer.size() < most
        };
        // While something waits, every set holds all that the collector may not know, so that of an agent
        // that is killed the newest set is enough.
        let everything = self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        let is_all = match rest {
            true => self.table.collect_ended(emit),
            false => self.table.collect(now, everything, emit),
        };
        self.has_more = !is_all;
        if !rest {
            self.next = now + self.interval;
        }
        packer.finish()
    }

    /// Leaves requests to the spool.
    fn keep(&mut self, requests: Vec<Request>) {
        let Some(backlog) = &self.backlog else { return };
        for request in &requests {
            taken(&mut self.table, &request.contents);
        }
        backlog.keep(requests);
    }

    /// Takes the answers if they have come.
    fn poll_answers(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        match in_flight.report.try_recv() {
            Err(TryRecvError::Empty) => self.in_flight = Some(in_flight),
            report => _ = self.settle(report.ok(), in_flight.requests),
        }
    }

    /// Applies a set's answers. `None`: the task that sends has ended without any.
    fn settle(&mut self, report: Option<Report>, requests: Vec<Request>) -> Delivery {
        let mut delivery = Delivery::Done;
        let Some(Report { answers, left, sizes, split }) = report else {
            return self.settled(Delivery::Later(None), requests);
        };
        self.sizes = sizes;
        let split = split.and_then(|(bytes, cause)| self.collector.split(bytes, &cause));
        split.into_iter().for_each(Notice::log);
        for (contents, outcome) in answers {
            self.collector.observe(&outcome, contents.values).into_iter().for_each(Notice::log);
            match outcome {
                Outcome::Accepted { rejected, .. } => {
                    taken(&mut self.table, &contents);
                    self.losses.add("rejected", rejected.min(contents.values));
                    self.given_up = 0;
                }
                Outcome::TooLarge { .. } => {
                    self.table.ended.refused(contents.ended());
                    self.losses.add("too_large", contents.values);
                }
                Outcome::Refused { .. } => {
                    self.table.ended.refused(contents.ended());
                    self.losses.add("refused", contents.values);
                }
                Outcome::Later { after, .. } => delivery = Delivery::Later(after),
                Outcome::Unreached { .. } => delivery = Delivery::Later(None),
            }
        }
        if !left.is_empty() && delivery == Delivery::Done {
            delivery = Delivery::Later(None);
        }
        self.settled(delivery, left)
    }

    /// Decides when to send next, and what becomes of the requests that are `left`.
    fn settled(&mut self, delivery: Delivery, left: Vec<Request>) -> Delivery {
        self.is_away = delivery != Delivery::Done;
        match delivery {
            Delivery::Done => self.backoff.succeeded(),
            Delivery::Later(after) => {
                let notice = after.and_then(|after| self.collector.asked_to_wait(after));
                notice.into_iter().for_each(Notice::log);
                self.retry_at = self.backoff.failed(&self.clock, after);
                if self.backlog.is_some() {
                    self.keep(left);
                } else {
                    self.has_more = false;
                    self.table.mark_unsent();
                    self.next = self.retry_at;
                }
            }
        }
        delivery
    }

    /// Counts the answers to what waited, and sends more of it while the collector is well.
    fn replay(&mut self) {
        let Some(backlog) = &mut self.backlog else { return };
        for (values, outcome) in backlog.answers(&self.clock) {
            self.collector.observe_replayed(&outcome, values).into_iter().for_each(Notice::log);
            match outcome {
                Outcome::Accepted { rejected, .. } => self.losses.add("rejected", rejected.min(values)),
                Outcome::TooLarge { .. } => self.losses.add("too_large", values),
                Outcome::Refused { .. } => self.losses.add("refused", values),
                Outcome::Later { .. } | Outcome::Unreached { .. } => {}
            }
        }
        if !self.is_away
            && let Some(backlog) = &mut self.backlog
        {
            backlog.start(&self.way, &self.clock, &self.runtime);
        }
    }

    /// Waits for the answers in flight and sends what is left, until nothing is left or time is up.
    fn drain(&mut self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            if let Some(in_flight) = self.in_flight.take() {
                let report = match in_flight.report.recv_timeout(left()) {
                    Ok(report) => Some(report),
                    Err(RecvTimeoutError::Disconnected) => None,
                    Err(RecvTimeoutError::Timeout) => {
                        self.in_flight = Some(in_flight);
                        return;
                    }
                };
                if let Delivery::Later(after) = self.settle(report, in_flight.requests) {
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

    /// Leaves to the spool what a flush could not deliver, which includes what is in flight: that may arrive
    /// twice.
    fn keep_all(&mut self) -> Result<(), Error> {
        if let Some(in_flight) = self.in_flight.take() {
            self.keep(in_flight.requests);
        }
        while self.table.is_pending() {
            let requests = self.collect(false);
            self.keep(requests);
        }
        let Some(backlog) = &self.backlog else { return Ok(()) };
        let (values, _, file) = backlog.summary();
        if values == 0 {
            return self.trouble().map_or(Ok(()), |why| Err(Error::retry(why)));
        }
        let endpoint = self.collector.endpoint();
        Err(Error::retry(format!(
            "{endpoint}: {values} values could not be delivered yet: they wait in {file}"
        )))
    }
}

/// Nobody needs to send these values again: they are delivered, or in the spool.
fn taken(table: &mut Table, contents: &Contents) {
    table.ended.delivered(contents.ended());
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.table.write(batch);
        self.crowded.store(self.table.ended.is_half_full(), Ordering::Relaxed);
        self.poll_answers();
        // What a collector that is away is tried with holds nothing up.
        if self.in_flight.is_none() || self.is_away && self.backlog.is_some() {
            match self.clock.now() >= self.next {
                true => self.export(false),
                false if self.has_more => self.export(true),
                false => {}
            }
        }
        self.replay();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let patience = self.way.limits.request.min(FLUSH_LIMIT);
        self.drain(Instant::now() + patience);
        if self.backlog.is_some() {
            return self.keep_all();
        }
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
        self.losses.add("unsent", left.saturating_sub(self.given_up));
        self.given_up = self.given_up.max(left);
        let endpoint = self.collector.endpoint();
        Err(Error::retry(format!("{endpoint}: {left} values could not be delivered within {patience:?}")))
    }

    /// What waits in memory because the spool's disk does not work.
    fn undelivered(&self) -> u64 {
        self.backlog.as_ref().map_or(0, |backlog| backlog.summary().1)
    }

    fn trouble(&self) -> Option<&str> {
        self.collector.trouble()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let ((dropped, joules), unknown) = (self.table.ended.take_dropped(), self.table.take_unknown());
        let endpoint = self.collector.endpoint();
        self.losses.report_dropped(dropped, joules, endpoint, self.clock.now());
        self.losses.add("overflow", dropped);
        self.losses.add("unknown_series", unknown);
        let spooled = self.backlog.as_ref().map(Backlog::take_losses).unwrap_or_default();
        spooled.into_iter().for_each(|(reason, points)| self.losses.add(reason, points));
        self.losses.take()
    }
}

#[cfg(test)]
mod tests;
