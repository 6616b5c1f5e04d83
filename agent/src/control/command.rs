//! The commands to a running agent, modelled once: clap parses them from the command line of `wattrace
//! control`, serde from the requests on the socket (`protocol.rs`), and `executor.rs` carries them out.

use std::time::Duration;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;

/// A command to a running agent. Doc comments of variants and fields are the help of `wattrace control`.
#[derive(Clone, Debug, PartialEq, Subcommand, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Command {
    /// Show the state of elements
    Status {
        /// Which elements, as in source/sched/* or output/*
        #[arg(default_value = "*")]
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// List the names of elements
    List {
        /// Which elements, as in source/sched/* or output/*
        #[arg(default_value = "*")]
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Pause elements; the next reading of a source covers the pause
    Pause {
        /// Which elements, as in source/sched/* or output/*
        element: Pattern,
    },
    /// Resume paused elements
    Resume {
        /// Which elements, as in source/sched/* or output/*
        #[arg(default_value = "*")]
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Read sources now, paused ones included
    Trigger {
        /// Which sources, as in source/rapl/*
        #[arg(default_value = "*")]
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Make outputs write and flush their queues
    Flush {
        /// Which outputs, as in output/jsonl/*
        #[arg(default_value = "*")]
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Set the interval of sources, until it is set again or they are restarted
    SetInterval {
        /// Which sources, as in source/rapl/*
        element: Pattern,
        /// As in 100ms or 1s; 0s: only when triggered; if absent: as configured
        #[arg(value_name = "DURATION", value_parser = humantime::parse_duration)]
        #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
        interval: Option<Duration>,
    },
    /// Read the configuration again and restart the plugins whose tables have changed
    // Braces, because serde accepts unknown fields beside a unit variant.
    Reload {},
    /// Send what a viewer shows, as it comes: `wattrace top` and `wattrace view` ask for it
    #[command(skip)]
    Subscribe {},
}

impl Command {
    /// Its name on the command line, in requests and in replies.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Status { .. } => "status",
            Command::List { .. } => "list",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Trigger { .. } => "trigger",
            Command::Flush { .. } => "flush",
            Command::SetInterval { .. } => "set-interval",
            Command::Reload {} => "reload",
            Command::Subscribe {} => "subscribe",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn the_command_line_and_a_request_are_the_same_command() {
        for (arguments, request) in [
            ("status", r#"{"command":"status"}"#),
            ("list output/*", r#"{"command":"list","element":"output/*"}"#),
            ("pause */otlp/*", r#"{"command":"pause","element":"*/otlp/*"}"#),
            ("resume", r#"{"command":"resume"}"#),
            ("trigger", r#"{"command":"trigger","element":"*"}"#),
            ("flush", r#"{"command":"flush"}"#),
            ("set-interval source/*", r#"{"command":"set-interval","element":"source/*"}"#),
            ("set-interval * 1s", r#"{"command":"set-interval","element":"*","interval":"1s"}"#),
            ("reload", r#"{"command":"reload"}"#),
        ] {
            let words = ["control"].into_iter().chain(arguments.split(' '));
            let parsed = Cli::try_parse_from(words).unwrap().command;
            assert_eq!(parsed, serde_json::from_str(request).unwrap(), "{arguments}");
            assert_eq!(arguments.split(' ').next(), Some(parsed.name()));
            let written = serde_json::to_value(&parsed).unwrap();
            assert_eq!(written["command"], parsed.name());
        }
    }
}
