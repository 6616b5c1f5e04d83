//! `wattrace control`: has a running agent do something. `control/client.rs` talks to it, `control/text.rs`
//! says for people what it answered.

mod text;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Failure, Format, print};
use crate::config::{AgentConfig, DEFAULT_PATH};
use crate::control::client;
use crate::control::protocol::{Command, Kind};
use crate::pipeline::pattern::Pattern;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where the agent listens [default: agent.control_socket of /etc/wattrace/wattrace.toml, or
    /// /run/wattrace/control.sock]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// How to write the answer
    #[arg(short, long, value_enum, default_value = "human", global = true)]
    format: Format,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how elements are doing
    Status {
        /// Which, as in source/sched/* or output/*
        #[arg(default_value = "*")]
        element: Pattern,
    },
    /// List the elements' names
    List {
        /// Which, as in source/sched/* or output/*
        #[arg(default_value = "*")]
        element: Pattern,
    },
    /// Pause elements; what a source did not read meanwhile is in its next reading
    Pause {
        /// Which, as in source/sched/* or output/*
        element: Pattern,
    },
    /// Let paused elements go on
    Resume {
        /// Which, as in source/sched/* or output/*
        #[arg(default_value = "*")]
        element: Pattern,
    },
    /// Read sources now, paused ones too
    Trigger {
        /// Which, as in source/rapl/*
        #[arg(default_value = "*")]
        element: Pattern,
    },
    /// Make outputs write what waits
    Flush {
        /// Which, as in output/jsonl/*
        #[arg(default_value = "*")]
        element: Pattern,
    },
    /// Set the time between a source's readings, until set again or restarted
    SetInterval {
        /// Which, as in source/rapl/*
        element: Pattern,
        /// As in 100ms or 1s; 0s: when triggered only; without: as the configuration says
        #[arg(value_parser = humantime::parse_duration)]
        duration: Option<Duration>,
    },
    /// Read the configuration anew and restart the plugins whose tables have changed
    Reload,
}

impl From<Action> for Command {
    fn from(action: Action) -> Self {
        match action {
            Action::Status { element } => Command::Status { element },
            Action::List { element } => Command::List { element },
            Action::Pause { element } => Command::Pause { element },
            Action::Resume { element } => Command::Resume { element },
            Action::Trigger { element } => Command::Trigger { element },
            Action::Flush { element } => Command::Flush { element },
            Action::SetInterval { element, duration } => Command::SetInterval { element, interval: duration },
            Action::Reload => Command::Reload {},
        }
    }
}

pub(super) fn main(options: Options) -> Result<ExitCode, Failure> {
    let command = Command::from(options.action);
    let socket = options.socket.unwrap_or_else(configured_socket);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start the async runtime: {e}")))?;
    let answer = runtime.block_on(client::ask(&socket, &command));
    let code = match answer.reply.error.as_ref().map(|problem| problem.kind) {
        None => 0,
        Some(Kind::BadRequest | Kind::BadValue) => 2,
        Some(_) => 1,
    };
    match options.format {
        Format::Json => print(&format!("{}\n", answer.json))?,
        Format::Human => {
            print(&text::of(&answer.reply))?;
            if let Some(problem) = &answer.reply.error {
                return Err(Failure { message: text::of_problem(problem), code });
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// Where the agent that runs as a service listens. A configuration that is wrong elsewhere must not keep from
/// asking the agent that refuses it.
fn configured_socket() -> PathBuf {
    let file = std::fs::read_to_string(DEFAULT_PATH).ok();
    let table = file.and_then(|text| text.parse::<toml::Table>().ok());
    let said = table.as_ref().and_then(|t| t.get("agent")?.get("control_socket")?.as_str());
    said.filter(|path| !path.is_empty()).map_or_else(|| AgentConfig::default().control_socket, PathBuf::from)
}
