//! The span of who runs a command. The command gets its context in TRACEPARENT, and the plugin `traces` hears
//! of both by events; it makes the spans.

use std::ops::Range;
use std::path::Path;

use wattrace_api::Events;
use wattrace_api::trace::{CommandEnded, CommandStarted, TraceContext};

use super::child::Job;
use crate::cli::failure::Failure;
use crate::config::Config;

/// The plugin that sends spans.
pub(super) const PLUGIN: &str = "traces";

/// Its keys that choose processes: here only the command is traced.
const SELECTION: &str = "select";

/// Prepares the configuration for a command. `is_asked_for`: its trace is to be sent, whatever is configured.
/// Returns whether the plugin runs, if outputs do.
///
/// # Errors
/// The agent was built without the plugin.
pub(super) fn prepare(config: &mut Config, is_asked_for: bool) -> Result<bool, Failure> {
    let Some(plugin) = config.plugins.iter_mut().find(|plugin| plugin.name == PLUGIN) else {
        let missing = format!("--trace: this agent was built without the plugin {PLUGIN}");
        return if is_asked_for { Err(Failure::usage(missing)) } else { Ok(false) };
    };
    plugin.enabled |= is_asked_for;
    plugin.table.insert(SELECTION.to_owned(), toml::Value::Array(Vec::new()));
    Ok(plugin.enabled)
}

/// A span that is open as long as a command runs.
pub(super) struct RootSpan {
    events: Events,
    context: TraceContext,
    parent: Option<TraceContext>,
    command: String,
}

impl RootSpan {
    /// Opens a span for `job`, as a child of the context that is found in the environment. `None`: the trace
    /// found there is not recorded, and so neither is the command, which inherits the context.
    pub(super) fn open(job: &Job, events: Events) -> Option<Self> {
        let parent = std::env::var(TraceContext::VARIABLE).ok().and_then(|text| TraceContext::parse(&text));
        if parent.is_some_and(|parent| !parent.is_sampled) {
            return None;
        }
        let trace_id = parent.map_or_else(|| fastrand::u128(1..), |parent| parent.trace_id);
        let context = TraceContext { trace_id, span_id: fastrand::u64(1..), is_sampled: true };
        let program = job.command.first().map(Path::new).and_then(Path::file_name);
        let command = program.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Some(Self { events, context, parent, command })
    }

    /// The variable that the command gets, and its value.
    pub(super) fn variable(&self) -> (&'static str, String) {
        (TraceContext::VARIABLE, self.context.to_string())
    }

    /// The command runs, with this pid in the initial namespace.
    pub(super) fn started(&self, pid: u32, since_unix_nano: u64) {
        self.events.publish(CommandStarted { pid, since_unix_nano, context: self.context });
    }

    /// The command has run in `window`, in nanoseconds since 1970.
    pub(super) fn ended(self, window: &Range<u64>, exit_code: u8) {
        let Self { events, context, parent, command } = self;
        let (start_unix_nano, end_unix_nano) = (window.start, window.end);
        events.publish(CommandEnded { context, parent, start_unix_nano, end_unix_nano, command, exit_code });
    }
}
