//! The output: takes batches, and commits them every interval on its own thread, where it waits for the
//! database. It reconnects by itself. While the database takes nothing, and until it has what waits in the
//! spool, what is taken goes there too, so that everything is written in its order.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{info, warn};
use wattrace_api::{Batch, Clock, Error, Output, Timestamp};
use wattrace_backoff::Backoff;
use wattrace_spool::Spool;
use wattrace_text_output::IntervalTimer;

use crate::config::{Settings, bad};
use crate::failure::Failure;
use crate::portion::{Portion, Run, micros};
use crate::session::Session;
use crate::staged::Staged;

/// Points of one transaction.
const MOST_POINTS: usize = 20_000;
/// About how many bytes of the spool are committed together.
const READ_BYTES: usize = 4 * 1024 * 1024;
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
    /// What waits in a file, if there is one.
    spool: Option<Spool>,
    /// This run of the agent.
    run: Run,
    session: Option<Session>,
    /// The id under which series are in the database; 0: there are none yet.
    run_id: i32,
    commit_timer: IntervalTimer,
    retry_at: Timestamp,
    backoff: Backoff,
    trouble: Option<String>,
    /// The database never takes anything.
    hopeless: bool,
    /// About how many bytes are read from the spool, to be committed together.
    read_bytes: usize,
    losses: Vec<(&'static str, u64)>,
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
        let run = Run {
            key: format!("{:032x}", fastrand::u128(..)),
            host: settings.host.clone(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            started: micros(clock.unix_nanos(clock.now())),
        };
        Ok(Self {
            spool: settings.spool.clone().map(|spool| Spool::new(spool, clock.clone())),
            settings,
            runtime,
            staged,
            run,
            session: None,
            run_id: 0,
            commit_timer,
            retry_at: Timestamp(0),
            clock,
            backoff: Backoff::new(Duration::from_secs(1), LONGEST),
            trouble: None,
            hopeless: false,
            read_bytes: READ_BYTES,
            losses: Vec::new(),
        })
    }

    /// Whether nothing waits to be written.
    fn is_done(&self) -> bool {
        self.staged.is_empty() && !self.has_spooled()
    }

    fn has_spooled(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    /// Commits what waits, unless it is too early for another attempt. What is not committed by then goes to
    /// the spool.
    fn commit(&mut self, until: Instant) {
        if self.trouble.is_some() || self.has_spooled() {
            self.set_aside();
        }
        while !self.is_done() && self.clock.now() >= self.retry_at {
            if !self.attempt(self.settings.timeout) || Instant::now() >= until {
                break;
            }
        }
        if self.trouble.is_some() {
            self.set_aside();
        }
    }

    /// Leaves what is staged to the spool, if there is one.
    fn set_aside(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        if self.staged.points.is_empty() {
            return;
        }
        let portions = self.staged.take_portions(&self.run, MOST_POINTS);
        let entries: Vec<_> = portions.iter().filter_map(|(class, portion)| portion.entry(*class)).collect();
        spool.push(entries);
    }

    /// Commits the oldest of what waits. Whether more may follow.
    fn attempt(&mut self, time: Duration) -> bool {
        let runtime = self.runtime.clone();
        if let Err(failure) = runtime.block_on(within(time, self.connect())) {
            // It is not about these points.
            self.failed(failure.or_later());
            return false;
        }
        if self.has_spooled() { self.attempt_spooled(time) } else { self.attempt_staged(time) }
    }

    fn attempt_staged(&mut self, time: Duration) -> bool {
        let (points, count) = self.staged.first(MOST_POINTS);
        let Some(session) = &mut self.session else { return false };
        let (series, run) = (self.staged.rows(), self.run_id);
        let result = self.runtime.block_on(within(time, session.commit(run, &series, &points)));
        let Err(failure) = result else {
            self.staged.settled(count);
            self.works();
            return true;
        };
        if self.failed(failure) {
            self.staged.settled(count);
            self.refused(count as u64);
        }
        false
    }

    /// Commits the oldest portions in the spool, which may be of an earlier run.
    fn attempt_spooled(&mut self, time: Duration) -> bool {
        let (Some(spool), Some(session)) = (&mut self.spool, &mut self.session) else { return false };
        let waiting = spool.oldest(None, self.read_bytes);
        let Some(first) = waiting.first() else { return true };
        let Some(mut portion) = Portion::read(&first.entry.payload) else {
            spool.done(&[first.id]);
            let points = first.entry.points;
            self.lose("unreadable", points);
            return true;
        };
        let (mut ids, mut points) = (vec![first.id], first.entry.points);
        for next in &waiting[1..] {
            match Portion::read(&next.entry.payload) {
                Some(more) if portion.fits(&more, MOST_POINTS) => portion.add(more),
                _ => break,
            }
            ids.push(next.id);
            points += next.entry.points;
        }
        let work = async {
            let run = session.register(&portion.run).await.map_err(Failure::or_later)?;
            session.commit(run, &portion.series, &portion.points).await
        };
        let Err(failure) = self.runtime.block_on(within(time, work)) else {
            spool.done(&ids);
            self.works();
            return true;
        };
        if self.failed(failure) {
            // One of them is refused, and the others are not.
            self.read_bytes = if ids.len() > 1 { 1 } else { READ_BYTES };
            if let (Some(spool), [id]) = (&mut self.spool, &ids[..]) {
                spool.done(&[*id]);
                self.refused(points);
            }
        }
        false
    }

    /// Opens a connection if there is none that works.
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.session.as_ref().is_some_and(Session::is_open) {
            return Ok(());
        }
        self.session = None;
        let mut session = Session::open(&self.settings).await?;
        let run_id = session.register(&self.run).await?;
        if self.run_id != 0 && self.run_id != run_id {
            warn!("plugins.postgres: {} is another database now; going on in it", self.settings.place);
            self.staged.restate();
        }
        self.run_id = run_id;
        self.session = Some(session);
        Ok(())
    }

    /// What a failure means for what was to be committed: whether it is refused for good.
    fn failed(&mut self, failure: Failure) -> bool {
        // Whether the connection still works after half an exchange need not be known.
        self.session = None;
        let place = &self.settings.place;
        match failure {
            Failure::Refused(cause) => {
                warn!("plugins.postgres: {place} never takes some points: {cause}");
                self.retry_at = self.clock.now() + self.backoff.next_wait();
                return true;
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

    /// The database never takes so many points. Their series were refused with them, and may have more points
    /// to come.
    fn refused(&mut self, points: u64) {
        self.lose("refused", points);
        self.staged.restate();
    }

    fn lose(&mut self, reason: &'static str, points: u64) {
        match self.losses.iter_mut().find(|(known, _)| *known == reason) {
            _ if points == 0 => {}
            Some((_, count)) => *count += points,
            None => self.losses.push((reason, points)),
        }
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
            self.set_aside();
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
            if self.is_done() {
                return Ok(());
            }
            if left.is_zero() {
                break;
            }
            if !self.attempt(left) {
                std::thread::sleep(FLUSH_PAUSE.min(left));
            }
        }
        self.set_aside();
        let points = self.undelivered();
        if points == 0 {
            let spooled = self.spool.as_ref().map_or(0, |spool| spool.amount().points);
            info!("{spooled} points wait in the spool for the next start: {}", self.why());
            return Ok(());
        }
        Err(Error::retry(format!("{points} points could not be written: {}", self.why())))
    }

    /// What ends with the agent.
    fn undelivered(&self) -> u64 {
        let in_memory = self.spool.as_ref().map_or(0, |spool| spool.amount_in_memory().points);
        self.staged.points.len() as u64 + in_memory
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        let unknown = self.staged.take_unknown();
        self.lose("unknown_series", unknown);
        let spooled = self.spool.as_mut().map(Spool::take_losses).unwrap_or_default();
        if !spooled.is_empty() {
            // What is lost may have held the only rows of series that go on.
            self.staged.restate();
        }
        spooled.into_iter().for_each(|(reason, points)| self.lose(reason, points));
        std::mem::take(&mut self.losses)
    }
}
