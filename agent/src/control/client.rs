//! The client of the control socket: sends a command and waits for the reply.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::command::Command;
use super::line::Lines;
use super::protocol::{Problem, ProblemKind, Reply, SCHEMA, write_request};

/// Time limit for connecting. An agent accepts at once, unless it is stopped or stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for the reply. The longest command is a reload, whose limit in the agent is shorter.
const REPLY_TIMEOUT: Duration = Duration::from_secs(40);

/// Maximum length of a reply: some ten thousand elements.
const MAX_REPLY: usize = 16 << 20;

/// A reply, and its JSON text as it was received.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) json: String,
}

impl Answer {
    /// The answer when no agent replies.
    fn without_agent(command: &Command, problem: Problem) -> Self {
        let reply = Reply::refused(command.name(), problem);
        let json = serde_json::to_string(&reply).unwrap_or_default();
        Self { reply, json }
    }
}

/// Sends `command` to the agent that listens on `socket`.
pub(crate) async fn send(socket: &Path, command: &Command) -> Answer {
    exchange(socket, command).await.unwrap_or_else(|problem| Answer::without_agent(command, problem))
}

async fn exchange(socket: &Path, command: &Command) -> Result<Answer, Problem> {
    let name = socket.display();
    let no_answer = |what: &str| Problem::new(ProblemKind::NoAnswer, format!("{name}: {what}"));
    let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await;
    let stream = connected
        .map_err(|_| no_answer("the agent does not accept connections; is it stopped?"))?
        .map_err(|e| no_connection(socket, &e))?;
    let mut agent = Lines::new(stream, MAX_REPLY);
    let exchange = async {
        match agent.send(&write_request(command)).await {
            // The agent closed the connection early; its reply may say why.
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent?,
        }
        agent.next().await
    };
    let line = timeout(REPLY_TIMEOUT, exchange)
        .await
        .map_err(|_| no_answer(&format!("the agent did not reply within {REPLY_TIMEOUT:?}")))?
        .map_err(|e| no_answer(&e.to_string()))?
        .ok_or_else(|| no_answer("the agent closed the connection without a reply; has it ended?"))?;
    let reply: Reply = serde_json::from_slice(&line)
        .map_err(|e| no_answer(&format!("the reply is not that of an agent: {e}")))?;
    if reply.schema != SCHEMA {
        return Err(no_answer(&format!("the agent speaks {}, this command {SCHEMA}", reply.schema)));
    }
    Ok(Answer { reply, json: String::from_utf8_lossy(&line).into_owned() })
}

pub(super) fn no_connection(socket: &Path, e: &std::io::Error) -> Problem {
    let name = socket.display();
    let remedy = "start one with `sudo wattrace run`, or name its agent.control_socket with --socket";
    match e.kind() {
        ErrorKind::NotFound => Problem::new(
            ProblemKind::NoAgent,
            format!("{name}: no agent listens there (no such file): {remedy}"),
        ),
        ErrorKind::ConnectionRefused => {
            let why = "the agent has ended, or the file is not a socket";
            Problem::new(ProblemKind::NoAgent, format!("{name}: no agent listens there ({why}): {remedy}"))
        }
        ErrorKind::PermissionDenied => {
            let message = format!(
                "{name}: {e}: only root and the agent's own user may control it: sudo wattrace control …"
            );
            Problem::new(ProblemKind::PermissionDenied, message)
        }
        ErrorKind::WouldBlock => Problem::new(
            ProblemKind::NoAnswer,
            format!("{name}: the agent does not accept connections; is it stopped?"),
        ),
        _ => Problem::new(ProblemKind::NoAgent, format!("{name}: {e}: {remedy}")),
    }
}
