//! The output: takes batches, and commits them every interval on its own thread, where it waits for the
//! database. It reconnects by itself.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{info, warn};
use wattrace_api::{Batch, Clock, Error, Output, Timestamp};
use wattrace_backoff::Backoff;
use wattrace_text_output::IntervalTimer;

use crate::config::{Settings, bad};
use crate::failure::Failure;
use crate::session::Session;
use crate::staged::Staged;

/// Points of one transaction.
const MOST_POINTS: usize = 20_000;
/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(60);
/// How long transactions follow each other before the next batch is taken.
const BURST: Duration = Duration::from_secs(2);
/// Longest that a flush may hold up the end of the agent, and its pause between attempts.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
const FLUSH_PAUSE: Duration = Duration::from_millis(250);

/// What `work` comes to within `time`.
async fn within<T>(time: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(time, work).await.unwrap_or_else(|_| Err(Failure::Later(format!("no answer within {time:?}"))))
}

/// The output.
pub(crate) struct PostgresOutput {
    settings: Settings,
    runtime: Handle,
    clock: Clock,
    staged: Staged,
    /// What this run of the agent is called in the database.
    key: String,
    session: Option<Session>,
    /// The id under which series are in the database; 0: there are none yet.
    run: i32,
    commit_timer: IntervalTimer,
    retry_at: Timestamp,
    backoff: Backoff,
    trouble: Option<String>,
    /// The database never takes anything.
    hopeless: bool,
    refused: u64,
    forgotten: u64,
}

impl PostgresOutput {
    /// Connects with the first commit.
    ///
    /// # Errors
    /// TLS files that cannot be used.
    pub(crate) fn open(
        settings: Settings,
        staged: Staged,
        clock: Clock,
        runtime: Handle,
    ) -> Result<Self, Error> {
        settings.tls.config(&[]).map_err(|e| bad("authority", e))?;
        let commit_timer = IntervalTimer::new(settings.commit_interval, clock.now());
        Ok(Self {
            settings,
            runtime,
            staged,
            key: format!("{:032x}", fastrand::u128(..)),
            session: None,
            run: 0,
            commit_timer,
            retry_at: Timestamp(0),
            clock,
            backoff: Backoff::new(Duration::from_secs(1), LONGEST),
            trouble: None,
            hopeless: false,
            refused: 0,
            forgotten: 0,
        })
    }

    /// Commits what is staged, unless it is too early for another attempt.
    fn commit(&mut self, until: Instant) {
        while !self.staged.is_empty() && self.clock.now() >= self.retry_at {
            if !self.attempt(self.settings.timeout) || Instant::now() >= until {
                return;
            }
        }
    }

    /// Commits the oldest of what is staged. Whether more may follow.
    fn attempt(&mut self, time: Duration) -> bool {
        let runtime = self.runtime.clone();
        if let Err(failure) = runtime.block_on(within(time, self.connect())) {
            // It is not about these points.
            return self.failed(failure.or_later(), 0);
        }
        let (points, count) = self.staged.first(MOST_POINTS);
        let Some(session) = &mut self.session else { return false };
        match runtime.block_on(within(time, session.commit(&self.staged, &points))) {
            Ok(()) => {
                self.staged.settled(count);
                self.works();
                true
            }
            Err(failure) => {
                // Whether the connection still works after half an exchange need not be known.
                self.session = None;
                self.failed(failure, count)
            }
        }
    }

    /// Opens a connection if there is none that works.
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.session.as_ref().is_some_and(Session::is_open) {
            return Ok(());
        }
        self.session = None;
        let session = Session::open(&self.settings, &self.key).await?;
        if self.run != 0 && self.run != session.run {
            warn!("plugins.postgres: {} is another database now; going on in it", self.settings.place);
            self.forgotten += self.staged.begin_again();
        }
        self.run = session.run;
        self.session = Some(session);
        Ok(())
    }

    fn failed(&mut self, failure: Failure, count: usize) -> bool {
        let place = &self.settings.place;
        match failure {
            Failure::Refused(cause) => {
                warn!("plugins.postgres: {place} never takes {count} points: {cause}");
                self.staged.settled(count);
                // Their series were refused with them, and may have more points to come.
                self.refused += count as u64 + self.staged.begin_again();
                self.retry_at = self.clock.now() + self.backoff.next_wait();
            }
            Failure::Fatal(cause) => {
                self.hopeless = true;
                self.trouble = Some(format!("plugins.postgres: {place}: {cause}"));
            }
            Failure::Later(cause) => {
                let cause = format!("plugins.postgres: {place} takes no points: {cause}");
                if self.trouble.is_none() {
                    warn!("{cause}; they wait, and are written later");
                }
                self.trouble = Some(cause);
                self.retry_at = self.clock.now() + self.backoff.next_wait();
            }
        }
        false
    }

    fn works(&mut self) {
        self.backoff.reset();
        if self.trouble.take().is_some() {
            info!("plugins.postgres: {} takes points again", self.settings.place);
        }
    }

    fn why(&self) -> &str {
        self.trouble.as_deref().unwrap_or("the database is too slow")
    }
}

impl Output for PostgresOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let until = Instant::now() + BURST;
        if self.staged.bytes() >= self.settings.buffer_bytes {
            self.commit(until);
            if self.staged.bytes() >= self.settings.buffer_bytes {
                return Err(Error::retry(format!("{}; plugins.postgres.buffer_mib is full", self.why())));
            }
        }
        self.staged.take(batch);
        if self.commit_timer.is_due(self.clock.now()) || self.staged.points.len() >= MOST_POINTS {
            self.commit(until);
        }
        if self.hopeless {
            return Err(Error::fatal(self.why().to_owned()));
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        let until = Instant::now() + self.settings.timeout.min(FLUSH_LIMIT);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.staged.is_empty() {
                return Ok(());
            }
            if left.is_zero() {
                let points = self.staged.points.len();
                return Err(Error::retry(format!("{points} points could not be written: {}", self.why())));
            }
            if !self.attempt(left) {
                std::thread::sleep(FLUSH_PAUSE.min(left));
            }
        }
    }

    fn undelivered(&self) -> u64 {
        self.staged.points.len() as u64
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let losses = [
            ("unknown_series", self.staged.take_unknown()),
            ("refused", std::mem::take(&mut self.refused)),
            ("another_database", std::mem::take(&mut self.forgotten)),
        ];
        losses.into_iter().filter(|(_, points)| *points > 0).collect()
    }
}
