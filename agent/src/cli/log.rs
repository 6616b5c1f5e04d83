//! The log on stderr, and beside it, if asked for, the trace of the agent's own operation.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Logs to stderr. WARN means degraded without loss, ERROR that someone must act; both are always shown.
pub(super) fn to_stderr(verbose: u8) {
    fmt()
        .with_env_filter(filter(verbose))
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// Logs to stderr, and sends what the agent does as spans to a collector until the value is dropped.
///
/// # Errors
/// A variable about the collector whose value cannot be used.
#[cfg(feature = "traces")]
pub(super) fn to_stderr_and_trace(
    verbose: u8,
) -> Result<wattrace_traces::operation::Operation, wattrace_api::Error> {
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let operation = wattrace_traces::operation::Operation::start()?;
    let log =
        fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal()).with_target(false).without_time();
    tracing_subscriber::registry().with(log.with_filter(filter(verbose))).with(operation.layer()).init();
    Ok(operation)
}

fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr())
}

fn filter(verbose: u8) -> EnvFilter {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "wattrace=debug,info",
    };
    EnvFilter::try_from_env("WATTRACE_LOG").unwrap_or_else(|_| EnvFilter::new(level))
}
