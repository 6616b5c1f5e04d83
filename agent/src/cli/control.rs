//! `wattrace control`: sends a command to a running agent (`control/client.rs`) and prints the reply, for
//! people as `control/text.rs` formats it.

mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::failure::{Failure, print};
use super::options::Format;
use crate::config::{AgentConfig, DEFAULT_PATH};
use crate::control::client;
use crate::control::command::Command;
use crate::control::protocol::ProblemKind;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The agent's socket [default: agent.control_socket of /etc/wattrace/wattrace.toml, or
    /// /run/wattrace/control.sock]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// How to write the reply
    #[arg(short, long, value_enum, default_value = "human", global = true)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

pub(super) fn main(options: Options) -> Result<ExitCode, Failure> {
    let command = options.command;
    let socket = options.socket.unwrap_or_else(configured_socket);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("cannot start the async runtime: {e}")))?;
    let answer = runtime.block_on(client::send(&socket, &command));
    let code = match answer.reply.error.as_ref().map(|problem| problem.kind) {
        None => 0,
        Some(ProblemKind::BadRequest | ProblemKind::BadValue) => 2,
        Some(_) => 1,
    };
    match options.format {
        Format::Json => print(&format!("{}\n", answer.json))?,
        Format::Human => {
            print(&text::reply(&command, &answer.reply))?;
            if let Some(problem) = &answer.reply.error {
                return Err(Failure { message: text::problem(problem), code });
            }
        }
    }
    Ok(ExitCode::from(code))
}

/// The socket of the agent that runs as a service. Errors elsewhere in its configuration do not matter here:
/// the running agent can still be reached.
pub(super) fn configured_socket() -> PathBuf {
    let file = wattrace_api::files::read_text(Path::new(DEFAULT_PATH), 1 << 20).ok();
    let table = file.and_then(|text| text.parse::<toml::Table>().ok());
    let path = table.as_ref().and_then(|t| t.get("agent")?.get("control_socket")?.as_str());
    path.filter(|path| !path.is_empty()).map_or_else(|| AgentConfig::default().control_socket, PathBuf::from)
}
