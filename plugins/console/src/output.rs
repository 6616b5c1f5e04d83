//! The output: adds every batch to the state, draws the state once an interval, and prints the totals at a
//! flush.

use std::io::{self, ErrorKind, Stdout, Write};
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Output, Registry};
use wattrace_text_output::IntervalTimer;

use crate::ConsoleConfig;
use crate::screen::Screen;
use crate::state::State;
use crate::table::{Scope, View, render};

pub(crate) struct ConsoleOutput<W: Write + Send = Stdout> {
    state: State,
    screen: Screen<W>,
    clock: Clock,
    timer: IntervalTimer,
    top: usize,
    is_blank: bool,
    has_changed: bool,
    /// Points taken since the last table that was shown.
    unshown: u64,
    /// Why the last table was not shown.
    trouble: Option<String>,
}

impl<W: Write + Send> ConsoleOutput<W> {
    pub(crate) fn new(
        config: ConsoleConfig,
        screen: Screen<W>,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Self {
        Self {
            state: State::new(registry, clock.now()),
            // On a terminal a user waits for the first table.
            is_blank: screen.is_terminal(),
            screen,
            timer: IntervalTimer::new(config.interval, clock.now()),
            clock,
            top: config.top,
            has_changed: false,
            unshown: 0,
            trouble: None,
        }
    }

    fn draw(&mut self, scope: Scope) -> Result<(), Error> {
        let result = self.try_draw(scope).map_err(|error| explain(&error));
        self.trouble = result.as_ref().err().map(ToString::to_string);
        if result.is_ok() {
            self.unshown = 0;
        }
        result
    }

    fn try_draw(&mut self, scope: Scope) -> io::Result<()> {
        self.state.update_rates();
        let (width, lines) = self.screen.size();
        let height = match scope {
            // The cursor stands below the table, and what has scrolled off the top can't be replaced.
            Scope::Now => lines.saturating_sub(1),
            Scope::Totals => usize::MAX,
        };
        self.screen.draw(&render(&self.state, &View { scope, top: self.top, width, height }), width)
    }
}

fn explain(error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Error::gone("console: the reader of standard output has closed it"),
        _ => Error::retry(format!(
            "console: cannot write to standard output: {error}; \
             to run without it, set plugins.console.enabled = false"
        )),
    }
}

impl<W: Write + Send> Output for ConsoleOutput<W> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.state.take(batch);
        if self.state.elapsed().is_none() {
            return Ok(());
        }
        self.has_changed = true;
        let unshown_before = self.unshown;
        self.unshown += batch.len() as u64;
        if std::mem::take(&mut self.is_blank) || self.timer.is_due(self.clock.now()) {
            match self.draw(Scope::Now) {
                Err(error) if error.kind() == wattrace_api::ErrorKind::Gone => {
                    // The runner counts this batch itself.
                    self.unshown = unshown_before;
                    return Err(error);
                }
                // The batch is taken and must not come again. The next table shows it.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.has_changed) {
            // It may be asked for again.
            self.draw(Scope::Totals).inspect_err(|_| self.has_changed = true)?;
            self.screen.keep();
        }
        Ok(())
    }

    fn undelivered(&self) -> u64 {
        self.unshown
    }

    fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;
    use wattrace_api::testing::Rig;
    use wattrace_api::{Consumer, ConsumerKind, Resource, SeriesId, SeriesSpec, Timestamp, Window, metric};

    /// Keeps what is written, or fails with a given error.
    #[derive(Clone, Default)]
    struct Recorder {
        text: Arc<Mutex<Vec<u8>>>,
        fails: Option<ErrorKind>,
    }

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.fails {
                Some(kind) => Err(kind.into()),
                None => self.text.lock().unwrap().write(bytes),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Fixture {
        rig: Rig,
        recorder: Recorder,
        output: ConsoleOutput<Recorder>,
        idle: SeriesId,
    }

    impl Fixture {
        fn new(is_terminal: bool, fails: Option<ErrorKind>) -> Self {
            let rig = Rig::new();
            let idle = rig.registry.open(SeriesSpec {
                metric: rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap(),
                resource: Resource::package(0),
                domain: None,
                consumer: Some(Arc::new(Consumer::closing(ConsumerKind::Idle))),
                attributes: Vec::new(),
                start: Timestamp(0),
            });
            let recorder = Recorder { fails, ..Recorder::default() };
            let screen = Screen::new(recorder.clone(), is_terminal, false);
            let config = ConsoleConfig { interval: Duration::from_secs(2), ..ConsoleConfig::default() };
            let output = ConsoleOutput::new(config, screen, rig.registry.clone(), rig.clock.clone());
            Self { rig, recorder, output, idle }
        }

        /// The batch of a second in which the one CPU was idle, a little late.
        fn second(&mut self, n: u64) -> Result<(), Error> {
            let second = |n| Timestamp(n * 1_000_000_000);
            self.rig.clock.set(second(n) + Duration::from_millis(5));
            let window = Window::new(second(n - 1), second(n));
            self.output.write(&self.rig.batch(window, &[(self.idle, second(n).0)]))
        }

        /// The first lines of the tables on a terminal on which all this was written.
        fn tables(&self) -> Vec<String> {
            let mut terminal = vt100::Parser::new(60, 200, 0);
            let text = String::from_utf8(self.recorder.text.lock().unwrap().clone()).unwrap();
            terminal.process(text.replace("\r\n", "\n").replace('\n', "\r\n").as_bytes());
            let rows: Vec<String> = terminal.screen().rows(0, 200).collect();
            rows.windows(2)
                .filter(|pair| pair[1].starts_with("origin none"))
                .map(|pair| pair[0].clone())
                .collect()
        }
    }

    #[test]
    fn without_a_terminal_there_is_a_table_per_interval_and_one_of_totals() {
        let mut fixture = Fixture::new(false, None);
        (1..=5).try_for_each(|n| fixture.second(n)).unwrap();
        assert_eq!(fixture.tables(), ["2.0 s", "4.0 s"]);
        fixture.output.flush().unwrap();
        fixture.output.flush().unwrap();
        assert_eq!(fixture.tables(), ["2.0 s", "4.0 s", "totals over 5.0 s"]);
    }

    #[test]
    fn a_terminal_has_one_table_at_a_time_and_keeps_the_totals() {
        let mut fixture = Fixture::new(true, None);
        fixture.second(1).unwrap();
        assert_eq!(fixture.tables(), ["1.0 s"]);
        (2..=3).try_for_each(|n| fixture.second(n)).unwrap();
        assert_eq!(fixture.tables(), ["2.0 s"]);
        fixture.output.flush().unwrap();
        (4..=6).try_for_each(|n| fixture.second(n)).unwrap();
        assert_eq!(fixture.tables(), ["totals over 3.0 s", "6.0 s"]);
    }

    #[test]
    fn without_points_nothing_is_printed() {
        let mut fixture = Fixture::new(true, None);
        fixture.output.write(&Batch::default()).unwrap();
        fixture.output.flush().unwrap();
        assert!(fixture.recorder.text.lock().unwrap().is_empty());
    }

    #[test]
    fn a_batch_is_not_requested_again_after_a_failed_draw() {
        let mut full = Fixture::new(false, Some(ErrorKind::StorageFull));
        full.second(2).unwrap();
        assert_eq!(full.output.flush().unwrap_err().kind(), wattrace_api::ErrorKind::Retry);
        let mut closed = Fixture::new(false, Some(ErrorKind::BrokenPipe));
        assert_eq!(closed.second(2).unwrap_err().kind(), wattrace_api::ErrorKind::Gone);
    }

    #[test]
    fn points_that_no_table_has_shown_are_undelivered_and_the_output_is_in_trouble() {
        let mut fixture = Fixture::new(false, None);
        (1..=3).try_for_each(|n| fixture.second(n)).unwrap();
        assert_eq!((fixture.output.undelivered(), fixture.output.trouble()), (1, None));
        fixture.output.flush().unwrap();
        assert_eq!(fixture.output.undelivered(), 0);

        let mut full = Fixture::new(false, Some(ErrorKind::StorageFull));
        (1..=5).try_for_each(|n| full.second(n)).unwrap();
        full.output.flush().unwrap_err();
        assert_eq!(full.output.undelivered(), 5);
        let trouble = full.output.trouble().unwrap();
        assert!(trouble.contains("cannot write to standard output"), "{trouble}");

        let mut closed = Fixture::new(false, Some(ErrorKind::BrokenPipe));
        closed.second(1).unwrap();
        closed.second(2).unwrap_err();
        assert_eq!(closed.output.undelivered(), 1, "the one that was refused is the runner's");
    }
}
