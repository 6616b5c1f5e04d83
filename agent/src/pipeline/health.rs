//! How each element is doing: what `status` shows, what the agent's own metrics count, and what is said at the end.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info, warn};
use wattrace_api::{Error, ErrorKind};

/// An element's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It works.
    Running,
    /// What it deals with isn't there. The text says what, and the remedy.
    Gone(String),
    /// It failed and will be tried again.
    Failing(String),
    /// It was stopped with the agent.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Running => f.write_str("running"),
            State::Gone(why) => write!(f, "not available: {why}"),
            State::Failing(why) => write!(f, "failing: {why}"),
            State::Stopped => f.write_str("stopped"),
        }
    }
}

/// The books about one element.
#[derive(Debug)]
pub struct Health {
    /// `kind/plugin/element`.
    pub name: String,
    state: Mutex<State>,
    /// Polls, batches seen or batches written.
    pub calls: AtomicU64,
    /// Points given out, seen or written.
    pub points: AtomicU64,
    /// Points lost here.
    pub lost: AtomicU64,
    /// Ticks that did not take place; the next window spans them.
    pub missed: AtomicU64,
    /// Nanoseconds between when ticks were to fire and when they did.
    pub late_ns: AtomicU64,
    /// Errors and contained panics.
    pub errors: AtomicU64,
}

impl Health {
    pub(crate) fn new(kind: &str, plugin: &str, element: &str) -> Arc<Self> {
        Arc::new(Self {
            name: format!("{kind}/{plugin}/{element}"),
            state: Mutex::new(State::Running),
            calls: AtomicU64::new(0),
            points: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            late_ns: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    /// Its condition now.
    pub fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) -> State {
        std::mem::replace(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// It worked; says so if it had failed before.
    pub(crate) fn works(&self) {
        // The common case takes one uncontended lock per call, not per point.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != State::Running {
            info!("{} works again", self.name);
            *state = State::Running;
        }
    }

    /// It failed. Says so once per message, not once per tick.
    pub(crate) fn failed(&self, error: &Error) {
        self.errors.fetch_add(1, Relaxed);
        let why = error.to_string();
        match error.kind() {
            ErrorKind::Gone => {
                if self.set(State::Gone(why.clone())) != State::Gone(why.clone()) {
                    // What was never there is for whoever starts the pipeline to tell.
                    if self.calls.load(Relaxed) > 0 {
                        warn!("{} is no longer available: {why}", self.name);
                    } else {
                        info!("{} is not available: {why}", self.name);
                    }
                }
            }
            ErrorKind::Retry => {
                if self.set(State::Failing(why.clone())) != State::Failing(why.clone()) {
                    warn!("{}: {why}; it is tried again", self.name);
                }
            }
            ErrorKind::Fatal => {
                if self.set(State::Failing(why.clone())) != State::Failing(why.clone()) {
                    error!("{}: {why}; it is restarted", self.name);
                }
            }
        }
    }

    /// It did not come back from what it was `doing` when the agent ended, and is left behind.
    pub(crate) fn abandoned(&self, doing: &str) {
        self.errors.fetch_add(1, Relaxed);
        let why = format!("does not return from {doing} and is abandoned");
        warn!("{} {why}", self.name);
        self.set(State::Failing(why));
    }

    pub(crate) fn stopped(&self) {
        if self.state() == State::Running {
            self.set(State::Stopped);
        }
    }

    pub(crate) fn lose(&self, points: u64, reason: &str) {
        if points > 0 {
            self.lost.fetch_add(points, Relaxed);
            warn!("{}: {points} points lost: {reason}", self.name);
        }
    }
}
