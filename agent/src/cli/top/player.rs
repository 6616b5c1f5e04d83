//! Plays recorded points: the same screens as live ones, and keys that move in time.

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use wattrace_terminal::app::Edge;
use wattrace_terminal::{Action, App, NoFacts, Position};
use wattrace_viewer::Model;

use super::interactive::{Event, clear_if_asked, listen};
use super::replay::Recording;
use super::terminal::Screen;
use crate::cli::failure::Failure;

const SECOND: u64 = 1_000_000_000;

/// Time between two screens while it plays.
const TICK: Duration = Duration::from_millis(250);

/// How slowly and how fast it plays.
const SPEEDS: (f64, f64) = (0.25, 256.0);

/// Plays a recording until the user ends it.
pub(super) fn play(app: App, recording: Recording, interval: Duration) -> Result<ExitCode, Failure> {
    let at = recording.first();
    let mut player = Player { app, recording, interval, at, speed: 1.0, is_playing: true };
    // The first frame needs two readings.
    let begin = at.saturating_add(nanos(interval.saturating_mul(2)));
    player.go_to(begin)?;
    let (sender, events) = channel();
    let mut screen = Screen::open()?;
    listen(&sender)?;
    let mut due = Instant::now() + TICK;
    loop {
        player.app.set_position(player.position());
        screen.draw(&mut player.app, &mut NoFacts)?;
        let wait =
            if player.is_playing { due.saturating_duration_since(Instant::now()) } else { Duration::MAX };
        let event = match wait {
            Duration::MAX => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            wait => events.recv_timeout(wait),
        };
        match event {
            Ok(Event::Input(input)) => {
                clear_if_asked(&input, &mut screen);
                let action = player.app.handle(&input);
                if action == Action::Quit {
                    break;
                }
                player.act(action)?;
            }
            Ok(Event::Quit) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Message(_) | Event::Ended(_)) => {}
            Err(RecvTimeoutError::Timeout) => {
                due = Instant::now() + TICK;
                player.advance()?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A recording, and where it stands.
struct Player {
    app: App,
    recording: Recording,
    interval: Duration,
    /// Nanoseconds since the Unix epoch.
    at: u64,
    speed: f64,
    is_playing: bool,
}

impl Player {
    fn position(&self) -> Position {
        let (first, last) = (self.recording.first(), self.recording.last());
        Position { first, last, speed: self.speed, is_playing: self.is_playing }
    }

    fn act(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Play => self.is_playing = !self.is_playing,
            Action::Speed(factor) => self.speed = (self.speed * factor).clamp(SPEEDS.0, SPEEDS.1),
            Action::Seek(seconds) => {
                let by = seconds.saturating_mul(SECOND as i64);
                self.go_to(self.at.saturating_add_signed(by))?;
            }
            Action::SeekTo(Edge::Begin) => self.go_to(self.recording.first())?,
            Action::SeekTo(Edge::End) => self.go_to(self.recording.last())?,
            Action::Nothing | Action::Draw | Action::Quit => {}
        }
        Ok(())
    }

    /// Plays the time of a tick.
    fn advance(&mut self) -> Result<(), Failure> {
        let by = (TICK.as_nanos() as f64 * self.speed) as u64;
        self.at = (self.at + by).min(self.recording.last());
        if self.at == self.recording.last() {
            self.is_playing = false;
        }
        let app = &mut self.app;
        self.recording.advance(self.at, |message| _ = app.take(message))
    }

    fn go_to(&mut self, at: u64) -> Result<(), Failure> {
        self.at = at.clamp(self.recording.first(), self.recording.last());
        let mut model = Model::new(self.interval);
        self.recording.go_to(&mut model, self.at)?;
        self.app.replace_model(model);
        Ok(())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
