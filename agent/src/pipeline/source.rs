//! A source's task: waits for ticks and requests, polls, sends what came of it to the transforms.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use wattrace_api::plugin::Open;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Source, Tick, Timestamp, Trigger};

use super::flow::{LiveSet, Pool};
use super::guard::{Backoff, contained};
use super::health::{Health, State};
use super::trigger::Timer;

/// What the runner may ask of a source's task.
pub(crate) enum Request {
    /// Poll now, then answer.
    Poll(oneshot::Sender<()>),
    /// Poll once more, then end.
    Stop(oneshot::Sender<()>),
}

/// A source and all that its task needs.
pub(crate) struct SourceTask {
    pub(crate) health: Arc<Health>,
    pub(crate) trigger: Trigger,
    pub(crate) blocking: bool,
    pub(crate) open: Open<dyn Source>,
    /// `None` while it is failing.
    pub(crate) source: Option<Box<dyn Source>>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) clock: Clock,
    pub(crate) downstream: mpsc::Sender<Batch>,
}

impl SourceTask {
    /// Runs until asked to stop, or until what it reads is gone for good.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut timer = match Timer::start(self.trigger, self.clock.clone()) {
            Ok(timer) => timer,
            Err(e) => return self.health.failed(&Error::fatal(format!("cannot start its timer: {e}"))),
        };
        let mut live = LiveSet::default();
        let mut backoff = Backoff::new(self.trigger.interval.max(Duration::from_millis(100)));
        let mut resume = Timestamp(0);
        loop {
            let (tick, reply) = tokio::select! {
                biased;
                request = requests.recv() => match request {
                    Some(Request::Poll(reply)) => (timer.extra(false), Some(reply)),
                    Some(Request::Stop(reply)) => (timer.extra(true), Some(reply)),
                    None => (timer.extra(true), None),
                },
                // What is gone stays gone: there is nothing to tick for.
                tick = timer.tick(), if !matches!(self.health.state(), State::Gone(_)) => match tick {
                    Ok(tick) => (tick, None),
                    Err(e) => return self.health.failed(&Error::fatal(format!("cannot read its timer: {e}"))),
                },
            };
            self.health.missed.fetch_add(tick.missed, Relaxed);
            if reply.is_none() && !tick.last {
                let late = self.clock.now().since(tick.scheduled).as_nanos() as u64;
                self.health.late_ns.fetch_add(late, Relaxed);
                if self.clock.now() < resume {
                    continue;
                }
            }
            let mut batch = self.pool.take();
            match self.poll(tick, &mut batch).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    self.health.failed(&error);
                    resume = self.clock.now() + backoff.wait();
                    if error.kind() != ErrorKind::Retry {
                        live.note(&batch, 0);
                        live.end_all(&mut batch);
                        self.source = None;
                    }
                }
            }
            live.note(&batch, 0);
            self.health.points.fetch_add(batch.len() as u64, Relaxed);
            // The transforms are the only receiver, and they outlive the sources.
            if batch.is_empty() {
                self.pool.give_back(batch);
            } else if self.downstream.send(batch).await.is_err() {
                return;
            }
            if let Some(reply) = reply {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(());
            }
            if tick.last {
                return self.health.stopped();
            }
        }
    }

    /// Polls the source, opening it anew if it had failed. What is gone stays gone.
    async fn poll(&mut self, tick: Tick, batch: &mut Batch) -> Result<(), Error> {
        if matches!(self.health.state(), State::Gone(_)) {
            return Ok(());
        }
        let mut source = match self.source.take() {
            Some(source) => source,
            None => contained(&mut self.open)?,
        };
        self.health.calls.fetch_add(1, Relaxed);
        let result;
        (self.source, result) = if self.blocking {
            let mut inner = std::mem::take(batch);
            let polled = tokio::task::spawn_blocking(move || {
                let result = contained(|| source.poll(&tick, &mut inner));
                (source, inner, result)
            });
            match polled.await {
                Ok((source, inner, result)) => {
                    *batch = inner;
                    (Some(source), result)
                }
                Err(_) => (None, Err(Error::fatal("its thread was ended"))),
            }
        } else {
            let result = contained(|| source.poll(&tick, batch));
            (Some(source), result)
        };
        if result.is_ok() {
            self.health.works();
        }
        result
    }
}
