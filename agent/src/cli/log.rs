//! The log on stderr, and beside it, if asked for, the trace of the agent's own operation.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, fmt};

/// Logs to stderr. WARN means degraded without loss, ERROR that someone must act; both are always shown.
pub(super) fn to_stderr(verbose: u8) {
    tracing_subscriber::registry().with(filter(verbose)).with(lines()).init();
}

/// Logs to stderr, and sends what the agent does as spans to a collector until the value is dropped.
///
/// # Errors
/// A variable about the collector whose value cannot be used.
#[cfg(feature = "traces")]
pub(super) fn to_stderr_and_trace(
    verbose: u8,
) -> Result<wattrace_traces::operation::Operation, wattrace_api::Error> {
    let operation = wattrace_traces::operation::Operation::start()?;
    // The log's filter is its own: spans of the operation are not shown there.
    let log = lines().with_filter(filter(verbose));
    tracing_subscriber::registry().with(log).with(operation.layer()).init();
    Ok(operation)
}

/// The lines on stderr.
fn lines<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let is_terminal = io::stderr().is_terminal();
    fmt::layer().with_writer(io::stderr).with_ansi(is_terminal).with_target(false).without_time()
}

/// What the log shows: what `WATTRACE_LOG` says, as levels by target, else what the number of `-v` asks for.
fn filter(verbose: u8) -> Targets {
    let configured = std::env::var("WATTRACE_LOG").ok().filter(|text| !text.is_empty());
    match configured.map(|text| text.parse::<Targets>()) {
        Some(Ok(targets)) => return targets,
        Some(Err(e)) => eprintln!("wattrace: WATTRACE_LOG is ignored: {e}"),
        None => {}
    }
    match verbose {
        0 => Targets::new().with_default(LevelFilter::WARN),
        1 => Targets::new().with_default(LevelFilter::INFO),
        _ => Targets::new().with_default(LevelFilter::INFO).with_target("wattrace", LevelFilter::DEBUG),
    }
}
