//! The other end of the control socket: sends a command, waits for the reply.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::line::Lines;
use super::protocol::{Command, Kind, Problem, Reply, SCHEMA};

/// An agent takes connections at once, unless it is stopped or stuck.
const CONNECTING: Duration = Duration::from_secs(5);

/// The longest command is a reload, which the agent gives up waiting for sooner.
const ANSWERING: Duration = Duration::from_secs(40);

/// The longest reply: some ten thousand elements.
const LONGEST_REPLY: usize = 16 << 20;

/// A reply, and the very text of it.
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) json: String,
}

impl Answer {
    /// What the agent would have said, were there one.
    fn without_agent(command: &Command, problem: Problem) -> Self {
        let reply = Reply::refused(command.name(), problem);
        let json = serde_json::to_string(&reply).unwrap_or_default();
        Self { reply, json }
    }
}

/// Has the agent that listens on `socket` carry out `command`.
pub(crate) async fn ask(socket: &Path, command: &Command) -> Answer {
    exchange(socket, command).await.unwrap_or_else(|problem| Answer::without_agent(command, problem))
}

async fn exchange(socket: &Path, command: &Command) -> Result<Answer, Problem> {
    let name = socket.display();
    let silent = |what: &str| Problem::new(Kind::NoAnswer, format!("{name}: {what}"));
    let connected = timeout(CONNECTING, UnixStream::connect(socket)).await;
    let stream = connected
        .map_err(|_| silent("the agent takes no connection; is it stopped?"))?
        .map_err(|e| no_connection(socket, &e))?;
    let mut agent = Lines::new(stream, LONGEST_REPLY);
    let asking = async {
        match agent.send(&command.to_request()).await {
            // It has hung up before it heard us out; it may have said why.
            Err(e) if matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            sent => sent?,
        }
        agent.next().await
    };
    let line = timeout(ANSWERING, asking)
        .await
        .map_err(|_| silent(&format!("the agent has not answered within {ANSWERING:?}")))?
        .map_err(|e| silent(&e.to_string()))?
        .ok_or_else(|| silent("the agent has hung up without an answer; has it ended?"))?;
    let reply: Reply = serde_json::from_slice(&line)
        .map_err(|e| silent(&format!("what listens there does not answer as an agent does: {e}")))?;
    if reply.schema != SCHEMA {
        return Err(silent(&format!("the agent speaks {}, this command {SCHEMA}", reply.schema)));
    }
    Ok(Answer { reply, json: String::from_utf8_lossy(&line).into_owned() })
}

fn no_connection(socket: &Path, e: &std::io::Error) -> Problem {
    let name = socket.display();
    let remedy = "start one with `sudo wattrace run`, or name its agent.control_socket with --socket";
    match e.kind() {
        ErrorKind::NotFound => {
            Problem::new(Kind::NoAgent, format!("{name}: no agent listens there (no such file): {remedy}"))
        }
        ErrorKind::ConnectionRefused => {
            let why = "the one that did has ended, or it is no socket";
            Problem::new(Kind::NoAgent, format!("{name}: no agent listens there ({why}): {remedy}"))
        }
        ErrorKind::PermissionDenied => {
            let message = format!(
                "{name}: {e}: an agent is controlled by the user it runs as, and by root: sudo wattrace control …"
            );
            Problem::new(Kind::PermissionDenied, message)
        }
        ErrorKind::WouldBlock => {
            Problem::new(Kind::NoAnswer, format!("{name}: the agent takes no connection; is it stopped?"))
        }
        _ => Problem::new(Kind::NoAgent, format!("{name}: {e}: {remedy}")),
    }
}
