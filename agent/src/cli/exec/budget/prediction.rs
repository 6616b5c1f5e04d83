//! When to pause the command, and what the next reading decides: arithmetic without a clock of its own.

use std::time::Duration;

use wattrace_api::{Timestamp, Window};

/// The part of the budget that may be left when it counts as used up: what a reading cannot resolve.
const TOLERANCE: f64 = 0.005;

/// How long a command that goes on runs at least: a little too much is better than many pauses.
const SHORTEST_RUN: Duration = Duration::from_millis(1);

/// How long a paused command waits for a meter that is slow.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is left of a power after a window: a command that pauses between bursts is expected to burst again.
const DECAY: f64 = 0.98;

/// Shorter windows say nothing about power.
const SHORTEST: Duration = Duration::from_millis(4);

/// What the command has used of one domain.
#[derive(Clone, Debug, Default)]
struct DomainUse {
    microjoules: u64,
    /// The end of the last window.
    until: Timestamp,
    /// The highest power of the last windows, microjoules per nanosecond.
    power: f64,
}

/// What the command has used of all domains that count in totals.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(Vec<DomainUse>);

impl Used {
    /// The command used `microjoules` of domain number `domain` in `window`.
    pub(super) fn add(&mut self, domain: usize, window: Window, microjoules: u64) {
        if self.0.len() <= domain {
            self.0.resize_with(domain + 1, DomainUse::default);
        }
        let used = &mut self.0[domain];
        used.microjoules += microjoules;
        used.until = used.until.max(window.end);
        if u128::from(window.nanos()) >= SHORTEST.as_nanos() {
            used.power = (used.power * DECAY).max(microjoules as f64 / window.nanos() as f64);
        }
    }

    /// Microjoules of all domains.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|domain| domain.microjoules).sum()
    }

    fn of_command(&self) -> impl Iterator<Item = &DomainUse> {
        self.0.iter().filter(|domain| domain.power > 0.0)
    }

    /// When `limit` microjoules will have been used, if power stays as high as it was. Nothing was used from
    /// the last window to `since`. `None`: never.
    pub(super) fn crossing(&self, limit: u64, since: Timestamp) -> Option<Timestamp> {
        // Σ (used + power · (t − until)) = limit, with times relative to `since`.
        let (mut left, mut power) = (limit as f64, 0.0);
        for domain in self.of_command() {
            left += domain.power * domain.until.since(since).as_nanos() as f64;
            power += domain.power;
        }
        left -= self.total() as f64;
        (power > 0.0).then(|| since + Duration::from_nanos((left / power).max(0.0) as u64))
    }

    /// Up to when the use of every domain is known.
    fn until(&self) -> Timestamp {
        self.of_command().map(|domain| domain.until).min().unwrap_or_default()
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Pause the command at this moment, unless the next reading comes before. `None`: nothing until then.
    Run(Option<Timestamp>),
    /// It stays paused until the next reading.
    Wait,
    /// Let it go on, and pause it again at this moment, unless the next reading comes before.
    Resume(Option<Timestamp>),
    /// The budget is used up.
    Reached,
}

/// The progress towards the budget.
#[derive(Clone, Debug)]
pub(super) struct Enforcement {
    limit: u64,
    paused: Option<Timestamp>,
}

impl Enforcement {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, paused: None }
    }

    /// The command was paused at `at`.
    pub(super) fn paused(&mut self, at: Timestamp) {
        self.paused = Some(at);
    }

    /// After a reading: `used` is known now.
    pub(super) fn decide(&mut self, used: &Used, now: Timestamp) -> Decision {
        if used.total() >= self.limit {
            return Decision::Reached;
        }
        let Some(paused) = self.paused else {
            return Decision::Run(used.crossing(self.limit, Timestamp::default()).map(|at| at.max(now)));
        };
        if used.until() < paused && now.since(paused) < PATIENCE {
            return Decision::Wait;
        }
        if used.total() as f64 >= self.limit as f64 * (1.0 - TOLERANCE) {
            return Decision::Reached;
        }
        self.paused = None;
        Decision::Resume(used.crossing(self.limit, now).map(|at| at.max(now + SHORTEST_RUN)))
    }
}

#[cfg(test)]
mod tests;
