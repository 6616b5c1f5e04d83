//! A source's thread. One loop runs every source: it waits for a tick of its timer, its wake-up descriptor or
//! a command, polls the source, and sends what the poll produced to the transforms.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::warn;
use wattrace_api::spec::Open;
use wattrace_api::{Batch, Clock, Error, ErrorKind, Source, Tick, TickCause, Timestamp, Trigger};
use wattrace_backoff::Backoff;

use super::commands::{Command, Commands};
use super::flow::{BatchPool, LiveSet};
use super::guard::contained;
use super::health::Health;
use super::inbox::Inbox;
use crate::sys::poll::readable;
use crate::sys::priority;
use crate::sys::timer::Timer;

/// Shorter intervals get real-time priority with `agent.realtime`, and the shortest way of waiting for a
/// tick.
const FAST: Duration = Duration::from_millis(10);

/// A source and all that its thread needs.
pub(crate) struct SourceThread {
    pub(crate) health: Arc<Health>,
    pub(crate) open: Open<dyn Source>,
    /// `None` while it is failing or gone.
    pub(crate) source: Option<Box<dyn Source>>,
    pub(crate) trigger: Trigger,
    pub(crate) paused: bool,
    pub(crate) realtime: bool,
    /// How often a device that is gone is looked for; zero: never.
    pub(crate) rediscover: Duration,
    /// No polls before this moment; without an open source, the moment to reopen it.
    pub(crate) resume: Timestamp,
    pub(crate) backoff: Backoff,
    /// Which series it has sent and not ended.
    pub(crate) live: LiveSet,
    /// Points of the last batch.
    pub(crate) points: usize,
    pub(crate) commands: Commands,
    pub(crate) pool: Arc<BatchPool>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
}

/// What the thread waits for.
enum Event {
    Tick(Tick),
    Wakeup,
    Command(Command),
    /// It is time to reopen the source.
    Reopen,
}

/// Whether the loop goes on.
#[derive(PartialEq)]
enum Flow {
    Continue,
    /// A command has ended it, or the transforms have ended.
    End,
}

impl SourceThread {
    /// Opens the source, reports that by dropping `opening`, waits for `start`, and runs until a command ends
    /// it.
    pub(crate) fn run(mut self, opening: impl Sized, start: &Receiver<()>) {
        self.reopen();
        drop(opening);
        // An error means that the pipeline did not start.
        if start.recv().is_err() {
            return;
        }
        if let Err(e) = self.work() {
            self.health.failed(&Error::fatal(format!("its timer fails: {e}")));
        }
    }

    fn work(&mut self) -> io::Result<()> {
        let mut timer = self.restart_timer()?;
        loop {
            let flow = match self.wait(&mut timer)? {
                Event::Tick(tick) => self.tick(&tick),
                Event::Wakeup => {
                    let tick = Tick { cause: TickCause::Wakeup, ..Tick::at(self.clock.now()) };
                    self.poll(&tick, false)
                }
                Event::Reopen => {
                    self.reopen();
                    // Ticks that passed while it was closed were not missed.
                    timer = self.restart_timer()?;
                    Flow::Continue
                }
                Event::Command(Command::SetTrigger(trigger)) => {
                    self.trigger = trigger;
                    timer = self.restart_timer()?;
                    Flow::Continue
                }
                Event::Command(Command::Pause(paused)) => {
                    self.paused = paused;
                    timer = self.restart_timer()?;
                    Flow::Continue
                }
                Event::Command(request) => self.request(request),
            };
            if flow == Flow::End {
                self.health.stopped();
                return Ok(());
            }
        }
    }

    /// A timer for the trigger, started now; takes real-time priority if the trigger is fast.
    fn restart_timer(&self) -> io::Result<Option<Timer>> {
        if self.realtime && self.is_fast() {
            priority::take_realtime(&self.health.name);
        }
        let blocking = self.is_fast() && !self.paused && self.is_woken_by_timer_only();
        Timer::start(self.trigger, self.clock.clone(), blocking)
    }

    fn is_fast(&self) -> bool {
        !self.trigger.interval.is_zero() && self.trigger.interval < FAST
    }

    /// Whether the thread may wait for a tick in the timer's own read: one system call a tick. Commands are
    /// looked at after each tick then, so the next tick must be near.
    fn is_woken_by_timer_only(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.wakeup().is_none())
    }

    /// Waits for the next event.
    fn wait(&mut self, timer: &mut Option<Timer>) -> io::Result<Event> {
        loop {
            if let Some(command) = self.commands.next() {
                return Ok(Event::Command(command));
            }
            let ticks = !self.paused && !self.health.is_gone();
            let blocking =
                timer.as_mut().filter(|timer| timer.blocks() && ticks && self.is_woken_by_timer_only());
            if let Some(timer) = blocking {
                return Ok(Event::Tick(timer.wait()?));
            }
            let wait = self.time_until_resume();
            if self.source.is_none() && wait == Some(Duration::ZERO) {
                return Ok(Event::Reopen);
            }
            // The commands' descriptor stands in for one that is not watched: it is looked at first.
            let commands = self.commands.as_fd();
            let due = timer.as_ref().filter(|_| ticks).map_or(commands, Timer::descriptor);
            let wakeup = self.wakeup_descriptor().unwrap_or(commands);
            let [commanded, ticked, woken] = readable([commands, due, wakeup], wait)?;
            if commanded {
                self.commands.clear();
            } else if ticked {
                if let Some(tick) = timer.as_mut().map(Timer::take).transpose()?.flatten() {
                    return Ok(Event::Tick(tick));
                }
            } else if woken {
                return Ok(Event::Wakeup);
            }
        }
    }

    /// How long until the source is reopened or may be polled again; `None`: nothing of the kind is
    /// scheduled.
    fn time_until_resume(&self) -> Option<Duration> {
        if self.resume == Timestamp(0) || (self.source.is_none() && self.paused) {
            return None;
        }
        if self.health.is_gone() && self.rediscover.is_zero() {
            return None;
        }
        let left = self.resume.since(self.clock.now());
        (self.source.is_none() || !left.is_zero()).then_some(left)
    }

    /// The source's wake-up descriptor, unless it is paused or its last poll failed a moment ago.
    fn wakeup_descriptor(&self) -> Option<BorrowedFd<'_>> {
        let is_watched = !self.paused && self.clock.now() >= self.resume;
        self.source.as_ref().filter(|_| is_watched).and_then(|source| source.wakeup())
    }

    /// A tick of the timer.
    fn tick(&mut self, tick: &Tick) -> Flow {
        let now = self.clock.now();
        let late = now.since(tick.scheduled).as_nanos() as u64;
        self.health.ticks.fetch_add(1, Relaxed);
        self.health.missed.fetch_add(tick.missed, Relaxed);
        self.health.late_ns.fetch_add(late, Relaxed);
        self.health.latest_ns.fetch_max(late, Relaxed);
        if now < self.resume { Flow::Continue } else { self.poll(tick, false) }
    }

    /// A command that asks for a poll.
    fn request(&mut self, command: Command) -> Flow {
        let (reply, last, remove) = match command {
            Command::Poll(reply) => (reply, false, false),
            Command::Stop(reply) => (reply, true, false),
            Command::Remove(reply) => (reply, true, true),
            Command::SetTrigger(_) | Command::Pause(_) => return Flow::Continue,
        };
        let tick = Tick { cause: TickCause::Request, last, ..Tick::at(self.clock.now()) };
        let polled = self.poll(&tick, remove);
        let flow = if last { Flow::End } else { polled };
        if flow == Flow::End {
            self.health.stopped();
        }
        // An error means that the deadline of the command has passed.
        let _ = reply.send(());
        flow
    }

    /// Polls the source, reopening it first if it had failed, and sends what the poll produced. With `end`,
    /// all its series end.
    fn poll(&mut self, tick: &Tick, end: bool) -> Flow {
        self.clock.follow_wall_clock().iter().for_each(|step| warn!("{step}"));
        let mut batch = self.pool.take(self.points);
        if self.source.is_none() && !self.health.is_gone() {
            self.reopen();
        }
        if let Some(source) = &mut self.source {
            self.health.calls.fetch_add(1, Relaxed);
            let busy = self.health.busy();
            let result = contained(|| source.poll(tick, &mut batch));
            drop(busy);
            self.live.note(&batch);
            match result {
                Ok(()) => {
                    self.backoff.reset();
                    self.resume = Timestamp(0);
                    self.health.works();
                }
                Err(error) => self.fail(&error, &mut batch),
            }
        }
        if end {
            self.live.end_all(&mut batch);
        }
        self.health.points_out.fetch_add(batch.len() as u64, Relaxed);
        if batch.is_empty() {
            // The next one will be as long as the last that was not: an early reading emits nothing.
            self.pool.give_back(batch);
            return Flow::Continue;
        }
        self.points = batch.len();
        if self.inbox.send(batch) { Flow::Continue } else { Flow::End }
    }

    /// Draws the consequences of an error.
    fn fail(&mut self, error: &Error, batch: &mut Batch) {
        self.schedule_retry(error);
        if error.kind() != ErrorKind::Retry {
            self.live.end_all(batch);
            self.source = None;
        }
    }

    fn schedule_retry(&mut self, error: &Error) {
        self.health.failed(error);
        let wait = match error.kind() {
            ErrorKind::Gone => self.rediscover,
            ErrorKind::Retry | ErrorKind::Fatal => self.backoff.next_wait(),
        };
        self.resume = self.clock.now() + wait;
    }

    /// Opens the source, for the first time or after a failure.
    fn reopen(&mut self) {
        let opened = {
            let _busy = self.health.opening();
            contained(&mut self.open)
        };
        match opened {
            Ok(source) => {
                self.source = Some(source);
                self.resume = Timestamp(0);
                self.health.opened();
            }
            Err(error) => self.schedule_retry(&error),
        }
    }
}
