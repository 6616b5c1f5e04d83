//! A managed source's task: waits for ticks and requests, polls, sends what came of it to the transforms.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::warn;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Source, Tick, Timestamp, Trigger};

use super::flow::{LiveSet, Pool};
use super::guard::{Backoff, contained};
use super::health::Health;
use super::lane::Lane;
use super::opening::Opener;
use super::realtime;
use super::transforms::Upstream;
use super::trigger::Timer;

/// What the runner may ask of a source's task.
pub(crate) enum Request {
    /// Poll now, then answer.
    Poll(oneshot::Sender<()>),
    /// Poll once more, then end.
    Stop(oneshot::Sender<()>),
    /// Poll once more, end all series, then end.
    Remove(oneshot::Sender<()>),
}

/// How a source is to run, until told otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders {
    pub(crate) trigger: Trigger,
    pub(crate) paused: bool,
}

/// Where a source is polled.
pub(crate) enum Place {
    /// On a worker of the runtime, one source at a time.
    Lane(Arc<Lane>),
    /// On a thread that is free.
    Pool,
    /// Where its task runs: it has a thread of its own.
    Here,
}

/// A poll in the lane that takes longer than this was the last one there.
const TOO_LONG: Duration = Duration::from_millis(50);

/// A source and all that its task needs.
pub(crate) struct SourceTask {
    pub(crate) health: Arc<Health>,
    pub(crate) orders: watch::Receiver<Orders>,
    pub(crate) place: Place,
    pub(crate) opener: Opener<dyn Source>,
    /// `None` while it is failing, or still being opened.
    pub(crate) source: Option<Box<dyn Source>>,
    /// What it has sent and not ended.
    pub(crate) live: LiveSet,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Clock,
    pub(crate) rediscover: Duration,
    pub(crate) downstream: Upstream,
}

/// What a source's task hears requests through.
pub(crate) type Requests = mpsc::UnboundedReceiver<Request>;

/// How a task's run comes to its end.
enum End {
    Stopped,
    /// The source is told to tick so fast that it is to have a thread of its own.
    Moves,
}

/// Why the task woke up.
enum Woken {
    Ticked(Tick),
    Asked(Tick, Option<Request>),
    LooksAgain,
}

impl SourceTask {
    /// Runs until asked to stop, or until it is to go on on a thread of its own: then it comes back.
    pub(crate) async fn run(mut self, mut requests: Requests) -> Option<(Self, Requests)> {
        match self.work(&mut requests).await {
            Ok(End::Stopped) => None,
            Ok(End::Moves) => Some((Self { place: Place::Here, ..self }, requests)),
            Err(e) => {
                self.health.failed(&Error::fatal(format!("its timer fails: {e}")));
                None
            }
        }
    }

    async fn work(&mut self, requests: &mut Requests) -> std::io::Result<End> {
        // Still: whoever started it has waited long enough.
        if self.opener.is_under_way() {
            match self.opener.result().await {
                Ok(source) => {
                    self.source = Some(source);
                    self.health.opened();
                }
                Err(error) => self.health.failed(&error),
            }
        }
        let mut orders = *self.orders.borrow_and_update();
        let mut timer = self.timer(orders)?;
        let mut backoff = Backoff::new(orders.trigger.interval.max(Duration::from_millis(100)));
        let (mut resume, mut points) = (Timestamp(0), 0);
        let mut look_again = Instant::now() + self.rediscover;
        loop {
            // What is gone does not tick, so that a missing device costs nothing.
            let gone = self.health.is_gone();
            let looks = gone && !orders.paused && !self.rediscover.is_zero();
            let ticks = !gone && !orders.paused;
            let woken = if ticks && timer.blocks() && is_unasked(requests, &self.orders) {
                // The shortest way, for what happens a thousand times a second.
                Woken::Ticked(timer.tick().await?)
            } else {
                tokio::select! {
                    biased;
                    request = requests.recv() => {
                        let last = !matches!(request, Some(Request::Poll(_)));
                        Woken::Asked(Tick { last, ..Tick::at(self.clock.now()) }, request)
                    }
                    Ok(()) = self.orders.changed() => {
                        orders = *self.orders.borrow_and_update();
                        if realtime::is_fast(orders.trigger) && !matches!(self.place, Place::Here) {
                            return Ok(End::Moves);
                        }
                        // Anew, so that what did not tick while paused does not count as missed.
                        timer = self.timer(orders)?;
                        continue;
                    }
                    tick = timer.tick(), if ticks => Woken::Ticked(tick?),
                    () = sleep_until(look_again), if looks => Woken::LooksAgain,
                }
            };
            let (tick, request) = match woken {
                Woken::Asked(tick, request) => (tick, request),
                Woken::LooksAgain => {
                    match self.opener.result().await {
                        Ok(source) => {
                            self.source = Some(source);
                            self.health.works();
                            timer = self.timer(orders)?;
                        }
                        Err(error) => self.health.failed(&error),
                    }
                    look_again = Instant::now() + self.rediscover;
                    continue;
                }
                Woken::Ticked(tick) => {
                    let now = self.clock.now();
                    let late = now.since(tick.scheduled).as_nanos() as u64;
                    self.health.ticks.fetch_add(1, Relaxed);
                    self.health.missed.fetch_add(tick.missed, Relaxed);
                    self.health.late_ns.fetch_add(late, Relaxed);
                    self.health.latest_ns.fetch_max(late, Relaxed);
                    if now < resume {
                        continue;
                    }
                    (tick, None)
                }
            };
            let mut batch = self.pool.take(points);
            match self.poll(tick, &mut batch).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    self.health.failed(&error);
                    resume = self.clock.now() + backoff.wait();
                    look_again = Instant::now() + self.rediscover;
                    if error.kind() != ErrorKind::Retry {
                        self.live.note(&batch);
                        self.live.end_all(&mut batch);
                        self.source = None;
                    }
                }
            }
            self.live.note(&batch);
            let (reply, removed) = match request {
                Some(Request::Poll(reply) | Request::Stop(reply)) => (Some(reply), false),
                Some(Request::Remove(reply)) => (Some(reply), true),
                None => (None, tick.last),
            };
            if removed {
                self.live.end_all(&mut batch);
            }
            points = batch.len();
            self.health.points_out.fetch_add(points as u64, Relaxed);
            if batch.is_empty() {
                self.pool.give_back(batch);
            } else if !self.downstream.send(batch).await {
                return Ok(End::Stopped);
            }
            if tick.last {
                self.health.stopped();
            }
            if let Some(reply) = reply {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
            if tick.last {
                return Ok(End::Stopped);
            }
        }
    }

    /// Its thread, where it has one and ticks so fast that it hears soon enough what is asked of it, waits
    /// for nothing else.
    fn timer(&self, orders: Orders) -> std::io::Result<Timer> {
        let alone = matches!(self.place, Place::Here) && realtime::is_fast(orders.trigger);
        Timer::start(orders.trigger, self.clock.clone(), alone)
    }

    /// Polls the source, opening it anew if it had failed. What is gone stays gone.
    async fn poll(&mut self, tick: Tick, batch: &mut Batch) -> Result<(), Error> {
        if self.health.is_gone() {
            return Ok(());
        }
        let mut source = match self.source.take() {
            Some(source) => source,
            None => self.opener.result().await?,
        };
        self.health.calls.fetch_add(1, Relaxed);
        let pass = match &self.place {
            Place::Lane(lane) => lane.enter().await,
            _ => None,
        };
        let here = matches!(self.place, Place::Here);
        let result = if here || pass.is_some() {
            let busy = self.health.busy();
            let result = contained(|| source.poll(&tick, batch));
            let took = busy.took();
            drop((busy, pass));
            self.source = Some(source);
            if took > TOO_LONG && !here {
                warn!(
                    "{} took {took:?} for a poll while others waited: from now on a thread polls it",
                    self.health.name
                );
                self.place = Place::Pool;
            }
            result
        } else {
            let (mut inner, health) = (std::mem::take(batch), self.health.clone());
            let polled = tokio::task::spawn_blocking(move || {
                let _busy = health.busy();
                let result = contained(|| source.poll(&tick, &mut inner));
                (source, inner, result)
            });
            let (source, inner, result) = polled.await.map_err(Error::fatal)?;
            (self.source, *batch) = (Some(source), inner);
            result
        };
        if result.is_ok() {
            self.health.works();
        }
        result
    }
}

/// Whether nothing is asked of a source, and no order changes.
fn is_unasked(requests: &Requests, orders: &watch::Receiver<Orders>) -> bool {
    requests.is_empty() && !requests.is_closed() && !orders.has_changed().unwrap_or(false)
}
