//! The output: takes batches, and sends what they became every interval, or when a request is full. It sends
//! on the output's own thread, oldest first and one at a time; meanwhile batches wait in the output's queue.

use std::time::{Duration, Instant};

use tracing::{info, warn};
use wattrace_api::{Batch, Clock, Error, Output, Timestamp};
use wattrace_backoff::Backoff;

use crate::answer::Outcome;
use crate::config::Settings;
use crate::lines::Lines;
use crate::outbox::Outbox;
use crate::server::Post;

/// The longest wait between two attempts, and the longest that a server may ask for.
const LONGEST: Duration = Duration::from_secs(60);
/// How long requests are sent, one after the other, before the next batch is taken.
const BURST: Duration = Duration::from_secs(2);
/// Longest that a flush may hold up the end of the agent, and its pause between attempts.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
const FLUSH_PAUSE: Duration = Duration::from_millis(250);

/// The output.
pub(crate) struct Exporter {
    /// The server's URL, for messages.
    place: String,
    server: Box<dyn Post>,
    lines: Lines,
    outbox: Outbox,
    clock: Clock,
    interval: Duration,
    timeout: Duration,
    /// When what waits becomes a request, and when the next attempt may be made.
    due: Timestamp,
    retry_at: Timestamp,
    /// The server asked for no request before this.
    quiet_until: Timestamp,
    backoff: Backoff,
    /// Why the server takes nothing.
    trouble: Option<String>,
    refusal_reported_at: Option<Timestamp>,
    losses: Vec<(&'static str, u64)>,
}

impl Exporter {
    pub(crate) fn new(settings: &Settings, server: Box<dyn Post>, lines: Lines, clock: Clock) -> Self {
        Self {
            place: settings.endpoint.to_string().split('?').next().unwrap_or_default().to_owned(),
            server,
            lines,
            outbox: Outbox::new(settings, clock.clone()),
            interval: settings.interval,
            timeout: settings.timeout,
            due: clock.now() + settings.interval,
            retry_at: Timestamp(0),
            quiet_until: Timestamp(0),
            clock,
            backoff: Backoff::new(Duration::from_secs(1), LONGEST),
            trouble: None,
            refusal_reported_at: None,
            losses: Vec::new(),
        }
    }

    /// Sends what waits, unless it is too early for another attempt.
    fn send(&mut self, until: Instant) {
        while self.outbox.first().is_some() && self.clock.now() >= self.retry_at {
            if !self.attempt(self.timeout) || Instant::now() >= until {
                return;
            }
        }
    }

    /// Sends the oldest request. Whether another one may follow.
    fn attempt(&mut self, time: Duration) -> bool {
        let Some(first) = self.outbox.first() else { return false };
        match self.server.post(first.body.clone(), time) {
            Outcome::Accepted => {
                self.outbox.remove_first();
                self.works();
            }
            Outcome::Refused { cause, lines } => {
                let all = self.outbox.remove_first();
                let lost = lines.unwrap_or(all).min(all);
                self.lose("refused", lost);
                self.report(&format!("refuses {lost} points for good: {cause}"));
                self.works();
            }
            Outcome::TooLarge { cause } => {
                if !self.outbox.split_first() {
                    let lost = self.outbox.remove_first();
                    self.lose("too_large", lost);
                    self.report(&format!("does not even take a single point: {cause}"));
                }
            }
            Outcome::Later { cause, after } => {
                let now = self.clock.now();
                let asked = after.unwrap_or_default().min(LONGEST);
                self.quiet_until = now + asked;
                self.retry_at = self.quiet_until.max(now + self.backoff.next_wait());
                let cause = format!("{} takes no points: {cause}", self.place);
                if self.trouble.is_none() {
                    warn!("{cause}; they wait, and are sent again");
                }
                self.trouble = Some(cause);
                self.outbox.set_aside();
                return false;
            }
        }
        true
    }

    fn works(&mut self) {
        self.backoff.reset();
        if self.trouble.take().is_some() {
            info!("{} takes points again", self.place);
        }
    }

    /// Logs what the server said, at most once a minute.
    fn report(&mut self, what: &str) {
        let now = self.clock.now();
        if self.refusal_reported_at.is_none_or(|last| now.since(last) >= LONGEST) {
            warn!("{} {what}", self.place);
            self.refusal_reported_at = Some(now);
        }
    }

    /// Counts lost lines. Reasons: `refused` (the server never takes them), `too_large` (a line that it does
    /// not take even alone), `unknown_series`, `not_a_number`, and those of the spool.
    fn lose(&mut self, reason: &'static str, lines: u64) {
        match self.losses.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, count)) => *count += lines,
            None if lines > 0 => self.losses.push((reason, lines)),
            None => {}
        }
    }
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let until = Instant::now() + BURST;
        if self.outbox.is_full() {
            self.send(until);
            if self.outbox.is_full() {
                let why = self.trouble.clone().unwrap_or_else(|| format!("{} is too slow", self.place));
                return Err(Error::retry(format!("{why}; plugins.influx.buffer_mib is full")));
            }
        }
        self.lines.take(batch, &mut self.outbox);
        let now = self.clock.now();
        if now >= self.due {
            self.lines.seal(&mut self.outbox);
            self.due = now + self.interval;
        }
        if self.trouble.is_some() {
            self.outbox.set_aside();
        }
        self.send(until);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.lines.seal(&mut self.outbox);
        let until = Instant::now() + self.timeout.min(FLUSH_LIMIT);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.outbox.first().is_none() {
                return Ok(());
            }
            // There is no time for a backoff, but for what the server asks for.
            let quiet = self.quiet_until.since(self.clock.now());
            if left.is_zero() || quiet > left {
                break;
            }
            std::thread::sleep(quiet);
            if !self.attempt(left) {
                std::thread::sleep(FLUSH_PAUSE.min(left));
            }
        }
        self.outbox.set_aside();
        let (lines, all) = (self.outbox.lines(), self.outbox.all_lines());
        let why = self.trouble.as_deref().unwrap_or("time is up");
        if lines == 0 {
            info!("{all} points wait in the spool for the next start: {why}");
            return Ok(());
        }
        Err(Error::retry(format!("{lines} points could not be delivered: {why}")))
    }

    fn undelivered(&self) -> u64 {
        self.lines.count() + self.outbox.lines()
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        for (reason, lines) in self.lines.take_losses().into_iter().chain(self.outbox.take_losses()) {
            self.lose(reason, lines);
        }
        std::mem::take(&mut self.losses)
    }
}

#[cfg(test)]
mod tests;
