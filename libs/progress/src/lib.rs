//! What a command that takes long shows on standard error while it runs: one line that changes on a terminal,
//! with a bar and an estimate where the end is known; a line now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// The time between two lines that are not on a terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// The weight of a plan, against what it took so far: as if so many seconds had gone as planned.
const PLANNED: usize = 30;

/// The width of a line on a terminal.
const WIDTH: usize = 79;

/// The width of a bar.
const BAR: usize = 20;

/// The progress of a command.
#[derive(Debug)]
pub struct Progress {
    /// What lines elsewhere begin with.
    task: &'static str,
    is_terminal: bool,
    began: Instant,
    last: Option<Instant>,
    /// What it shows now.
    text: String,
}

impl Progress {
    /// The progress of `task`; `on_terminal` is false if a terminal belongs to somebody else.
    pub fn new(task: &'static str, on_terminal: bool) -> Self {
        let is_terminal = on_terminal && std::io::stderr().is_terminal();
        Self { task, is_terminal, began: Instant::now(), last: None, text: String::new() }
    }

    /// Shows what is done now.
    pub fn show(&mut self, now: &str) {
        self.line(now, now);
    }

    /// Shows what is done now, when `done` of `total` equal steps are done since the beginning.
    pub fn show_step(&mut self, done: usize, total: usize, now: &str) {
        let left = left(done, total, self.began.elapsed());
        self.bar(done, total, now, left);
    }

    /// Shows what is done now, when steps that were planned to take `done` seconds of `total` are done.
    pub fn show_planned(&mut self, done: usize, total: usize, now: &str) {
        let left = left(done + PLANNED, total + PLANNED, self.began.elapsed() + seconds(PLANNED));
        self.bar(done, total, now, left);
    }

    fn bar(&mut self, done: usize, total: usize, now: &str, left: Option<Duration>) {
        let left = left.map(|left| format!(", {} left", about(left))).unwrap_or_default();
        self.line(&format!("{} {now}{left}", bar(done, total)), &format!("{now}{left}"));
    }

    /// The steps of which there is an estimate begin now.
    pub fn begin_steps(&mut self) {
        self.began = Instant::now();
    }

    /// Shows a line: one on a terminal, another elsewhere.
    fn line(&mut self, on_terminal: &str, elsewhere: &str) {
        self.text = if self.is_terminal { fitted(on_terminal) } else { elsewhere.to_owned() };
        if self.is_terminal {
            self.draw();
        } else if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            eprintln!("{}: {}", self.task, self.text);
            self.last = Some(Instant::now());
        }
    }

    fn draw(&self) {
        eprint!("\r\x1b[K{}", self.text);
        let _ = std::io::stderr().flush();
    }

    /// Says what stays, above the line, which stays too.
    pub fn say_above(&mut self, what: &str) {
        self.say(what);
        if self.is_terminal {
            self.draw();
        }
    }

    /// Says what stays.
    pub fn say(&mut self, what: &str) {
        self.clear();
        eprintln!("{}: {what}", self.task);
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `line`, cut to the width of a line.
fn fitted(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// How long the rest takes if it goes on as before; `None`: nothing is done yet.
fn left(done: usize, total: usize, elapsed: Duration) -> Option<Duration> {
    let rest = u32::try_from(total.saturating_sub(done)).ok()?;
    elapsed.checked_div(u32::try_from(done).ok()?)?.checked_mul(rest)
}

fn seconds(seconds: usize) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))
}

/// `####----------------`.
fn bar(done: usize, total: usize) -> String {
    let full = BAR * done.min(total) / total.max(1);
    (0..BAR).map(|at| if at < full { '#' } else { '-' }).collect()
}

/// A duration in whole seconds, or minutes where it is long.
fn about(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "less than 1 s".to_owned(),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_goes_on_as_before() {
        let seconds = Duration::from_secs;
        assert_eq!(left(0, 10, seconds(7)), None);
        assert_eq!(left(3, 10, seconds(30)), Some(seconds(70)));
        assert_eq!(left(10, 10, seconds(30)), Some(Duration::ZERO));
        assert_eq!(left(12, 10, seconds(30)), Some(Duration::ZERO), "more than were planned");
        let shown = [400, 1_000, 119_999, 120_000, 121_000].map(|ms| about(Duration::from_millis(ms)));
        assert_eq!(shown, ["less than 1 s", "1 s", "119 s", "2 min", "3 min"]);
    }

    #[test]
    fn a_plan_is_believed_until_it_is_known_better() {
        let mut progress = Progress::new("test", false);
        progress.show_planned(0, 90, "first");
        assert_eq!(progress.text, "first, 90 s left");
        progress.began = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        progress.show_planned(15, 90, "second");
        assert_eq!(progress.text, "second, 3 min left", "of 15 s that took 60, and 30 as planned");
    }

    #[test]
    fn a_line_fits_the_terminal() {
        assert_eq!(fitted("é"), "é");
        let long = fitted(&"é".repeat(80));
        assert_eq!((long.chars().count(), long.chars().last()), (79, Some('…')));
    }

    #[test]
    fn the_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(0, 4), "--------------------");
        assert_eq!(bar(1, 4), "#####---------------");
        assert_eq!(bar(4, 4), "####################");
        assert_eq!(bar(0, 0), "--------------------");
    }
}
