//! What the collector has not taken, in the spool (`wattrace-spool`), and the task that sends it again,
//! oldest first, beside the live values. `exporter` decides what is kept here, and when the collector is well
//! enough for a round. Requests are kept as they are, so what an agent that was killed has left arrives with
//! its own resource and start times.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::{Instrument as _, trace_span};
use wattrace_api::trace::OPERATION;
use wattrace_api::{Clock, Timestamp};
use wattrace_otlp_client::{Outcome, Transport};
use wattrace_spool::{Class, Entry, Id, Spool, Waiting};

use crate::backoff::Backoff;
use crate::delivery::{Limits, Report, deliver};
use crate::encode::{Contents, Request};
use crate::sizes::Sizes;
use crate::temporality::Temporality;

/// About how many bytes are read from the spool, and removed from it, at a time.
const READ: usize = 1024 * 1024;

/// The requests that wait.
pub(crate) struct Backlog {
    spool: Arc<Mutex<Spool>>,
    /// Of counters.
    temporality: Temporality,
    /// The round that is under way.
    round: Option<Receiver<Event>>,
    /// Where the next round begins: after a request that failed, so that it does not hold up the others.
    after: Option<Id>,
    backoff: Backoff,
    retry_at: Timestamp,
}

/// What a round reports.
#[derive(Debug)]
pub(crate) enum Event {
    /// The answer to a request with so many values.
    Answer(u64, Outcome),
    /// It ended: everything has been tried, or the request of this number failed.
    Ended(Option<Id>),
}

/// How requests get to the collector.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) limits: Limits,
}

impl Backlog {
    /// The requests that wait in `spool`.
    pub(crate) fn new(spool: Spool, temporality: Temporality) -> Self {
        let (backoff, retry_at) = (Backoff::default(), Timestamp(0));
        Self { spool: Arc::new(Mutex::new(spool)), temporality, round: None, after: None, backoff, retry_at }
    }

    fn lock(&self) -> MutexGuard<'_, Spool> {
        lock(&self.spool)
    }

    /// Keeps requests until the collector takes them.
    pub(crate) fn keep(&self, requests: impl IntoIterator<Item = Request>) {
        let entries = requests.into_iter().map(|request| Entry {
            class: class(&request.contents, self.temporality),
            points: request.contents.values,
            payload: request.body.into(),
        });
        self.lock().push(entries.collect());
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// How many values wait, how many of them in memory only, and where the others are.
    pub(crate) fn summary(&self) -> (u64, u64, String) {
        let spool = self.lock();
        (spool.amount().points, spool.amount_in_memory().points, spool.file().display().to_string())
    }

    /// Points that a limit or damage has removed, by reason.
    pub(crate) fn take_losses(&self) -> Vec<(&'static str, u64)> {
        self.lock().take_losses()
    }

    /// Answers to the requests of a round, since the last call.
    pub(crate) fn answers(&mut self, clock: &Clock) -> Vec<(u64, Outcome)> {
        let mut answers = Vec::new();
        while let Some(round) = &self.round {
            match round.try_recv() {
                Ok(Event::Answer(values, outcome)) => answers.push((values, outcome)),
                Ok(Event::Ended(None)) => {
                    (self.round, self.after) = (None, None);
                    self.backoff.succeeded();
                }
                Ok(Event::Ended(failed)) => {
                    (self.round, self.after) = (None, failed);
                    let after = answers.last().and_then(|(_, outcome)| asked_to_wait(outcome));
                    self.retry_at = self.backoff.failed(clock, after);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.round = None;
                    self.retry_at = self.backoff.failed(clock, None);
                }
            }
        }
        answers
    }

    /// Starts a round, if something waits and none is under way.
    pub(crate) fn start(&mut self, way: &Way, clock: &Clock, runtime: &Handle) {
        if self.round.is_some() || clock.now() < self.retry_at || self.is_empty() {
            return;
        }
        let (events, round) = mpsc::channel();
        let (way, spool, after) = (way.clone(), self.spool.clone(), self.after);
        let replay = async move {
            let failed = send_all(&way, &spool, after, &events).await;
            // An error means that the output was closed meanwhile.
            _ = events.send(Event::Ended(failed));
        };
        runtime.spawn(replay.instrument(trace_span!(target: OPERATION, "replay")));
        self.round = Some(round);
    }
}

fn lock(spool: &Mutex<Spool>) -> MutexGuard<'_, Spool> {
    spool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a request under pressure. A request holds either live streams, whose later values contain
/// these unless they are increments, or ended ones. That a stream has ended is not worth a value.
fn class(contents: &Contents, temporality: Temporality) -> Class {
    let is_alone = temporality == Temporality::Delta || contents.ended().next().is_some();
    let is_last = contents.values > 0 && is_alone;
    if is_last { Class::Last } else { Class::Intermediate }
}

fn asked_to_wait(outcome: &Outcome) -> Option<Duration> {
    if let Outcome::Later { after, .. } = outcome { *after } else { None }
}

/// Sends what waits after `after`, oldest first, until nothing is left or a request is to be sent again
/// later: the one that is returned.
async fn send_all(
    way: &Way,
    spool: &Arc<Mutex<Spool>>,
    mut after: Option<Id>,
    events: &Sender<Event>,
) -> Option<Id> {
    let mut sizes = Sizes::default();
    let limits = Limits { set: None, ..way.limits };
    loop {
        let waiting = with(spool, move |spool| spool.oldest(after, READ)).await.unwrap_or_default();
        after = Some(waiting.last()?.id);
        let mut done = Vec::new();
        let mut failed = None;
        for Waiting { id, entry } in waiting {
            let contents = Contents { values: entry.points, ended: Vec::new() };
            let request = Request { body: entry.payload.into(), contents };
            let whole = request.body.clone();
            let Report { answers, left, sizes: found, .. } =
                deliver(&*way.transport, limits, vec![request], sizes).await;
            sizes = found;
            for (contents, outcome) in answers {
                _ = events.send(Event::Answer(contents.values, outcome));
            }
            if left.first().is_none_or(|left| left.body != whole) {
                // The part of it that failed waits for itself. What is pushed last may count as the newest
                // values of this run, which an old request must not.
                let rest = left.into_iter().map(|request| Entry {
                    class: Class::Last,
                    points: request.contents.values,
                    payload: request.body.into(),
                });
                let rest: Vec<_> = rest.collect();
                failed = (!rest.is_empty()).then_some(id);
                with(spool, move |spool| spool.push(rest)).await;
                done.push(id);
            } else {
                failed = Some(id);
            }
            if failed.is_some() {
                break;
            }
        }
        with(spool, move |spool| spool.done(&done)).await;
        if failed.is_some() {
            return failed;
        }
    }
}

/// Does what blocks on a thread that may.
async fn with<T: Send + 'static>(
    spool: &Arc<Mutex<Spool>>,
    act: impl FnOnce(&mut Spool) -> T + Send + 'static,
) -> Option<T> {
    let spool = Arc::clone(spool);
    // An error means that it panicked, or that the runtime ends.
    spawn_blocking(move || act(&mut lock(&spool))).await.ok()
}
