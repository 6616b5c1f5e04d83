//! The health of each element: its state and counters, for `status`, the agent's own metrics and the log.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::span::EnteredSpan;
use tracing::{error, info, warn};
use wattrace_api::{Clock, ElementKind, Error, ErrorKind};

use crate::operation;

/// An element's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being opened, for the first time.
    Opening,
    /// It works.
    Running,
    /// Its device or interface is absent. The text names it, and the remedy.
    Gone(String),
    /// It failed and is retried.
    Failing(String),
    /// It was stopped with the agent, or removed.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Opening => f.write_str("opening"),
            State::Running => f.write_str("running"),
            State::Gone(why) => write!(f, "not available: {why}"),
            State::Failing(why) => write!(f, "failing: {why}"),
            State::Stopped => f.write_str("stopped"),
        }
    }
}

/// State and counters of one element.
#[derive(Debug)]
pub struct Health {
    /// `kind/plugin/element`.
    pub name: String,
    /// Its kind.
    pub kind: ElementKind,
    /// Polls, batches seen or batches written.
    pub calls: AtomicU64,
    /// Points that came to it.
    pub points_in: AtomicU64,
    /// Points that it sent, passed on or wrote.
    pub points_out: AtomicU64,
    /// Points lost here.
    pub lost: AtomicU64,
    /// Points that a transform left out as configured.
    pub left_out: AtomicU64,
    /// Ticks of the timer.
    pub ticks: AtomicU64,
    /// Ticks that were missed; the next window spans them.
    pub missed: AtomicU64,
    /// Sum of the ticks' lateness, ns.
    pub late_ns: AtomicU64,
    /// The greatest lateness, ns.
    pub latest_ns: AtomicU64,
    /// Errors and contained panics.
    pub errors: AtomicU64,
    paused: AtomicBool,
    /// Whether it has been open at any time: a device that was never there is absent, not gone.
    pub(crate) was_open: AtomicBool,
    /// Whether a permission was all that was missing when it last failed.
    pub(crate) is_denied: AtomicBool,
    /// Whether its state is [`State::Running`], so that calls need not take the lock.
    running: AtomicBool,
    /// When the current call into it began, in ns of the monotonic clock; 0: there is none.
    busy_since: AtomicU64,
    /// The same, once the call has been reported as stuck.
    stuck_since: AtomicU64,
    /// Whether that call is its opening.
    opening: AtomicBool,
    /// How long a call may take before it is reported as stuck.
    patience: Duration,
    clock: Clock,
    details: Mutex<Details>,
}

#[derive(Debug)]
struct Details {
    state: State,
    last_error: String,
    losses: Vec<Loss>,
}

#[derive(Debug)]
struct Loss {
    reason: &'static str,
    points: u64,
    /// Points that have not been reported yet.
    unreported: u64,
    reported: Instant,
}

/// A loss is reported at once, and further ones for the same reason no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

impl Health {
    pub(crate) fn new(
        kind: ElementKind,
        plugin: &str,
        element: &str,
        patience: Duration,
        clock: Clock,
    ) -> Arc<Self> {
        let details = Details { state: State::Opening, last_error: String::new(), losses: Vec::new() };
        let zero = AtomicU64::default;
        Arc::new(Self {
            name: format!("{}/{plugin}/{element}", kind.as_str()),
            kind,
            calls: zero(),
            points_in: zero(),
            points_out: zero(),
            lost: zero(),
            left_out: zero(),
            ticks: zero(),
            missed: zero(),
            late_ns: zero(),
            latest_ns: zero(),
            errors: zero(),
            paused: AtomicBool::new(false),
            was_open: AtomicBool::new(false),
            is_denied: AtomicBool::new(false),
            running: AtomicBool::new(false),
            busy_since: zero(),
            stuck_since: zero(),
            opening: AtomicBool::new(false),
            patience,
            clock,
            details: Mutex::new(details),
        })
    }

    fn details(&self) -> MutexGuard<'_, Details> {
        self.details.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets its state; returns the previous one.
    fn enter(&self, details: &mut Details, state: State) -> State {
        self.running.store(state == State::Running, Relaxed);
        std::mem::replace(&mut details.state, state)
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.details().state.clone()
    }

    /// Whether its device or interface is absent.
    pub(crate) fn is_gone(&self) -> bool {
        !self.running.load(Relaxed) && matches!(self.details().state, State::Gone(_))
    }

    /// The last error; empty if there was none.
    pub fn last_error(&self) -> String {
        self.details().last_error.clone()
    }

    /// Points lost here, by reason.
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        self.details().losses.iter().map(|l| (l.reason, l.points)).collect()
    }

    /// Whether it is paused.
    pub fn paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
    }

    /// When the call began that is reported as stuck.
    pub fn stuck_since(&self) -> Option<wattrace_api::Timestamp> {
        match self.stuck_since.load(Relaxed) {
            0 => None,
            since => Some(wattrace_api::Timestamp(since)),
        }
    }

    /// Notes that a call into it begins; dropping the value ends it.
    pub(crate) fn busy(&self) -> Busy<'_> {
        self.busy_since.store(self.clock.now().0.max(1), Relaxed);
        Busy { health: self, _span: operation::call(&self.name, self.is_opening()) }
    }

    /// Notes that its opening begins.
    pub(crate) fn opening(&self) -> Busy<'_> {
        self.opening.store(true, Relaxed);
        self.busy()
    }

    /// Whether the current call, if any, is its opening.
    pub(crate) fn is_opening(&self) -> bool {
        self.opening.load(Relaxed)
    }

    /// It is open. What had failed still counts as failing until a call succeeds.
    pub(crate) fn opened(&self) {
        self.was_open.store(true, Relaxed);
        let mut details = self.details();
        let found = matches!(details.state, State::Gone(_));
        if found || details.state == State::Opening {
            self.enter(&mut details, State::Running);
        }
        drop(details);
        if found {
            info!("{} works again", self.name);
        }
    }

    /// Reports a call that takes longer than `patience`, once.
    pub(crate) fn check(&self) {
        let patience = self.patience;
        let (busy, stuck) = (self.busy_since.load(Relaxed), self.stuck_since.load(Relaxed));
        if stuck != 0 && busy != stuck {
            self.stuck_since.store(0, Relaxed);
            info!("{} has returned", self.name);
        }
        if busy != 0 && busy != stuck && self.clock.now().0.saturating_sub(busy) > patience.as_nanos() as u64
        {
            self.stuck_since.store(busy, Relaxed);
            let call = if self.is_opening() { " from its opening" } else { "" };
            warn!("{} has not returned{call} for {patience:?}; the others go on without it", self.name);
        }
    }

    /// A call succeeded; logs it after a failure.
    pub(crate) fn works(&self) {
        if self.running.load(Relaxed) {
            return;
        }
        if !matches!(self.enter(&mut self.details(), State::Running), State::Running | State::Opening) {
            info!("{} works again", self.name);
        }
    }

    /// It works, but cannot deliver; it has logged that itself.
    pub(crate) fn troubled(&self, why: &str) {
        let mut details = self.details();
        if !matches!(&details.state, State::Failing(known) if known == why) {
            self.enter(&mut details, State::Failing(why.to_owned()));
            why.clone_into(&mut details.last_error);
        }
    }

    /// A call failed. Logged once per message, not once per tick.
    pub(crate) fn failed(&self, error: &Error) {
        let why = error.to_string();
        self.is_denied.store(error.is_denied(), Relaxed);
        let state = match error.kind() {
            ErrorKind::Gone => State::Gone(why.clone()),
            ErrorKind::Retry | ErrorKind::Fatal => State::Failing(why.clone()),
        };
        let known = {
            let mut details = self.details();
            details.last_error.clone_from(&why);
            self.enter(&mut details, state.clone()) == state
        };
        // A device that was never there, or is looked for again and still absent: a state, not an error.
        let is_absent = error.kind() == ErrorKind::Gone && (known || !self.was_open.load(Relaxed));
        if !is_absent {
            self.errors.fetch_add(1, Relaxed);
        }
        if known {
            return;
        }
        match error.kind() {
            // The start reports what was absent from the beginning.
            ErrorKind::Gone if self.calls.load(Relaxed) == 0 => {
                info!("{} is not available: {why}", self.name)
            }
            ErrorKind::Gone => warn!("{} is no longer available: {why}", self.name),
            ErrorKind::Retry => warn!("{}: {why}; retrying", self.name),
            ErrorKind::Fatal => error!("{}: {why}; restarting it", self.name),
        }
    }

    /// It did not return from what it was `doing` when the agent ended.
    pub(crate) fn abandoned(&self, doing: &str) {
        self.errors.fetch_add(1, Relaxed);
        let doing = if self.is_opening() { "its opening" } else { doing };
        let why = format!("does not return from {doing} and is abandoned");
        warn!("{} {why}", self.name);
        self.enter(&mut self.details(), State::Failing(why));
    }

    pub(crate) fn stopped(&self) {
        let mut details = self.details();
        if matches!(details.state, State::Running | State::Opening) {
            self.enter(&mut details, State::Stopped);
        }
    }

    /// Counts points that are lost here, and reports them.
    pub(crate) fn lose(&self, points: u64, reason: &'static str) {
        if points == 0 {
            return;
        }
        self.lost.fetch_add(points, Relaxed);
        let mut details = self.details();
        let unreported = match details.losses.iter_mut().find(|l| l.reason == reason) {
            Some(loss) => {
                loss.points += points;
                loss.unreported += points;
                if loss.reported.elapsed() < REPORT_INTERVAL {
                    return;
                }
                loss.reported = Instant::now();
                std::mem::take(&mut loss.unreported)
            }
            None => {
                details.losses.push(Loss { reason, points, unreported: 0, reported: Instant::now() });
                points
            }
        };
        drop(details);
        warn!("{}: {unreported} points lost: {reason}", self.name);
    }
}

/// A call into an element; it ends when this is dropped.
pub(crate) struct Busy<'a> {
    health: &'a Health,
    _span: EnteredSpan,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.health.busy_since.store(0, Relaxed);
        self.health.opening.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::Timestamp;

    use super::*;

    #[test]
    fn a_call_that_takes_too_long_is_stuck_until_it_returns() {
        let clock = Clock::manual(Timestamp(1));
        let health = Health::new(ElementKind::Source, "p", "e", Duration::from_nanos(100), clock.clone());
        let call = health.busy();
        clock.set(Timestamp(101));
        health.check();
        assert_eq!(health.stuck_since(), None);
        clock.set(Timestamp(102));
        health.check();
        assert_eq!(health.stuck_since(), Some(Timestamp(1)));
        drop(call);
        health.check();
        assert_eq!(health.stuck_since(), None);
        let _next = health.busy();
        health.check();
        assert_eq!(health.stuck_since(), None);
    }

    #[test]
    fn a_device_that_was_never_there_is_no_error_and_one_that_goes_is_one() {
        let health = Health::new(ElementKind::Source, "p", "e", Duration::ZERO, Clock::system());
        let errors = || health.errors.load(Relaxed);
        health.failed(&Error::gone("no such file"));
        assert_eq!((errors(), health.is_gone()), (0, true));
        health.opened();
        health.failed(&Error::gone("no such file"));
        health.failed(&Error::gone("no such file"));
        assert_eq!(errors(), 1);
    }

    #[test]
    fn losses_are_kept_by_reason() {
        let health = Health::new(ElementKind::Output, "p", "e", Duration::ZERO, Clock::system());
        health.lose(3, "full");
        health.lose(4, "refused");
        health.lose(5, "full");
        health.lose(0, "never");
        assert_eq!((health.lost.load(Relaxed), health.losses()), (12, vec![("full", 8), ("refused", 4)]));
    }
}
