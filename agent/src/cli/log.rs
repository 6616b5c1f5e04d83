//! The log on stderr, and beside it, if asked for, the trace of the agent's own operation.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

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

fn filter(verbose: u8) -> EnvFilter {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "wattrace=debug,info",
    };
    EnvFilter::try_from_env("WATTRACE_LOG").unwrap_or_else(|_| EnvFilter::new(level))
}
