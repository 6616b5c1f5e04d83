//! The loop of `wattrace top`: points, keys and time in, screens out. Nothing here polls: threads wait for
//! points and for keys, and send both through one channel.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use crossterm::event::{Event as Input, KeyCode, KeyEvent, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use wattrace_terminal::{Action, App};
use wattrace_viewer::Message;

use super::facts::KernelFacts;
use super::source::Source;
use super::terminal::Screen;
use crate::cli::failure::Failure;

/// What happens.
pub(super) enum Event {
    /// Points have come.
    Message(Message),
    /// The user did something.
    Input(Input),
    /// No more points come.
    Ended(String),
    /// The process is asked to end.
    Quit,
}

/// Shows the points of `source` until the user ends it.
pub(super) fn live(mut app: App, source: Source) -> Result<ExitCode, Failure> {
    let (sender, events) = channel();
    let is_own = matches!(source, Source::Own(_));
    let mut screen = Screen::open()?;
    listen(&sender)?;
    let points = spawn("points", move || send_points(source, &sender))?;
    let result = draw_until_quit(&mut app, &events, &mut screen);
    drop((screen, events));
    if is_own {
        // It ends with the next points, and keeps what it has learnt.
        _ = points.join();
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn send_points(mut source: Source, events: &Sender<Event>) {
    loop {
        let event = match source.next() {
            Ok(Some(message)) => Event::Message(message),
            Ok(None) => Event::Ended("the agent has ended".to_owned()),
            Err(e) => Event::Ended(e),
        };
        let is_last = matches!(event, Event::Ended(_));
        // An error means that nobody draws any more.
        if events.send(event).is_err() || is_last {
            return source.stop();
        }
    }
}

fn draw_until_quit(app: &mut App, events: &Receiver<Event>, screen: &mut Screen) -> Result<(), Failure> {
    let mut facts = KernelFacts::default();
    screen.draw(app, &mut facts)?;
    while let Ok(first) = events.recv() {
        let mut is_due = false;
        // One screen for all that has happened meanwhile.
        for event in std::iter::once(first).chain(events.try_iter()) {
            match event {
                Event::Message(message) => is_due |= app.take(&message),
                Event::Ended(why) => {
                    app.end(why);
                    is_due = true;
                }
                Event::Quit => return Ok(()),
                Event::Input(input) => {
                    clear_if_asked(&input, screen);
                    match app.handle(&input) {
                        Action::Quit => return Ok(()),
                        Action::Nothing => {}
                        _ => is_due = true,
                    }
                }
            }
        }
        if is_due {
            screen.draw(app, &mut facts)?;
        }
    }
    Ok(())
}

/// Sends what the user does, and the signals that ask this process to end.
pub(super) fn listen(events: &Sender<Event>) -> Result<(), Failure> {
    let keys = events.clone();
    spawn("keys", move || {
        // An error means that the terminal has gone, or that nobody draws any more.
        while let Ok(input) = crossterm::event::read() {
            if keys.send(Event::Input(input)).is_err() {
                return;
            }
        }
        _ = keys.send(Event::Quit);
    })?;
    let signals = events.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start the async runtime: {e}")))?;
    spawn("signals", move || {
        let asked = runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hangup = signal(SignalKind::hangup())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
            std::io::Result::Ok(())
        });
        if asked.is_ok() {
            _ = signals.send(Event::Quit);
        }
    })?;
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map_err(|e| Failure::new(format!("cannot start a thread: {e}")))
}

/// Ctrl-L draws everything again.
pub(super) fn clear_if_asked(input: &Input, screen: &mut Screen) {
    let redraw = KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL);
    if matches!(input, Input::Key(key) if *key == redraw) {
        screen.clear();
    }
}
