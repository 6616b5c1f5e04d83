//! Spans of what the agent itself does, for its own trace: `wattrace --trace-operation`, which `cli/log.rs`
//! switches on. While that is off they are not created, which costs the load of an atomic.

use tracing::span::EnteredSpan;
use tracing::trace_span;
use wattrace_api::trace::OPERATION;

/// A call into the element `name`, a tick of a source among them, until it is dropped.
pub(crate) fn call(name: &str, is_opening: bool) -> EnteredSpan {
    trace_span!(target: OPERATION, "call", otel.name = name, wattrace.opening = is_opening).entered()
}
