//! `wattrace top`: who uses how much power now, on a terminal.
//!
//! | file | holds |
//! | --- | --- |
//! | `top/source.rs` | whose points are shown: a running agent's, or those of a tracer in this process |
//! | `top/replay.rs`, `top/player.rs` | recorded points of a database, and time that moves in them |
//! | `top/interactive.rs` | the loop: points, keys and time in, screens out |
//! | `top/terminal.rs` | the terminal: taken over, and given back whatever happens |
//! | `top/facts.rs` | what the kernel knows about the processes that are shown |
//!
//! `libs/viewer` has the model, and `libs/terminal` the screens.

mod facts;
mod interactive;
#[cfg(feature = "sqlite")]
mod player;
#[cfg(feature = "sqlite")]
mod replay;
mod source;
mod terminal;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use wattrace_terminal::{App, Theme, plain};
use wattrace_viewer::{Kind, Model, Query};

use self::source::Source;
use super::failure::{Failure, print};
use super::options::{Configuration, Format};
use crate::plugins::Registered;

/// Options of `wattrace top`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Print one table after one reading, and end
    #[arg(long)]
    once: bool,
    /// Show what a database of the plugin sqlite has recorded
    #[cfg(feature = "sqlite")]
    #[arg(long, value_name = "FILE.db", conflicts_with = "socket")]
    replay: Option<PathBuf>,
    /// What the rows are
    #[arg(long, value_parser = row_kinds(), default_value = "process")]
    by: Kind,
    /// With --once: most rows; what they leave out is one sum
    #[arg(long, value_name = "N", requires = "once")]
    limit: Option<usize>,
    /// With --once: how to write the table
    #[arg(short, long, value_enum, default_value = "human", requires = "once")]
    format: Format,
    /// The least time between two screens
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1s")]
    interval: Duration,
    /// The socket of a running agent [default: as of `wattrace control`]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// With a configuration, a tracer of its own is started in any case.
    #[command(flatten)]
    configuration: Configuration,
}

/// The kinds that rows may have, by name.
fn row_kinds() -> impl TypedValueParser<Value = Kind> {
    let names = PossibleValuesParser::new(Kind::ROWS.map(Kind::as_str));
    names.try_map(|name| Kind::from_name(&name).ok_or("no kind of rows"))
}

/// Most rows of a table for people, unless they say otherwise.
const ROWS: usize = 20;

/// Runs the command.
pub(super) fn main(options: &Options, plugins: &[Registered]) -> Result<ExitCode, Failure> {
    if !options.once && !std::io::stdout().is_terminal() {
        return Err(Failure::usage("standard output is no terminal: use --once"));
    }
    #[cfg(feature = "sqlite")]
    if let Some(path) = &options.replay {
        return replayed(options, path);
    }
    let source = Source::open(&options.configuration, options.socket.as_deref(), plugins)?;
    if options.once { once(options, source) } else { interactive::live(app(options, source.label()), source) }
}

/// A screen that has nothing to show yet.
fn app(options: &Options, label: impl Into<String>) -> App {
    let theme = Theme::of_environment(|name| std::env::var(name).ok());
    let mut app = App::new(Model::new(options.interval), label, theme);
    app.set_utc_offset(utc_offset());
    app.set_kind(options.by);
    app
}

/// Prints the first table.
fn once(options: &Options, mut source: Source) -> Result<ExitCode, Failure> {
    let mut model = Model::new(options.interval);
    loop {
        match source.next().map_err(Failure::new)? {
            Some(message) if model.apply(&message) => break,
            Some(_) => {}
            None => return Err(Failure::new("the agent has ended before its first reading")),
        }
    }
    source.stop();
    print_table(options, &model)
}

fn print_table(options: &Options, model: &Model) -> Result<ExitCode, Failure> {
    let is_human = options.format == Format::Human;
    let limit = options.limit.unwrap_or(if is_human { ROWS } else { usize::MAX });
    let query = Query { limit, ..Query::of(options.by) };
    print(&match options.format {
        Format::Human => plain::text(model, &query, i64::from(utc_offset()) * 1_000_000_000),
        Format::Json => plain::json(model, &query),
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "sqlite")]
fn replayed(options: &Options, path: &std::path::Path) -> Result<ExitCode, Failure> {
    let mut recording = replay::Recording::open(path)?;
    if options.once {
        let mut model = Model::new(options.interval);
        recording.go_to(&mut model, recording.last())?;
        return print_table(options, &model);
    }
    let label = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into());
    player::play(app(options, label), recording, options.interval)
}

/// How many seconds local time is ahead of UTC.
fn utc_offset() -> i32 {
    #[cfg(feature = "sqlite")]
    let seconds = jiff::Zoned::now().offset().seconds();
    // jiff comes with the database.
    #[cfg(not(feature = "sqlite"))]
    let seconds = 0;
    seconds
}
