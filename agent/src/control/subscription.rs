//! The client's end of a subscription: the messages of a running agent, for `wattrace top` and `wattrace
//! view`. Blocks, and so belongs on a thread of its own.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wattrace_viewer::Message;

use super::client::no_connection;
use super::command::Command;
use super::protocol::{AgentInfo, Problem, ProblemKind, Reply, SCHEMA, write_request};

/// Maximum length of a message: the first one of a machine with a million processes.
const MAX_MESSAGE: u64 = 512 << 20;

/// Time limit for the reply. Messages take as long as the agent's sources.
const REPLY_TIMEOUT: Duration = Duration::from_secs(15);

/// A subscription to the points of a running agent.
#[derive(Debug)]
pub(crate) struct Subscription {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    agent: Option<AgentInfo>,
}

impl Subscription {
    /// Subscribes to the agent that listens on `socket`.
    ///
    /// # Errors
    /// Nobody listens, this user may not connect, or the agent refuses.
    pub(crate) fn open(socket: &Path) -> Result<Self, Problem> {
        let stream = UnixStream::connect(socket).map_err(|e| no_connection(socket, &e))?;
        let (socket, stream) = (socket.to_owned(), BufReader::new(stream));
        let mut subscription = Self { socket, stream, line: Vec::new(), agent: None };
        let reply = subscription.exchange()?;
        if let Some(problem) = reply.error {
            return Err(match problem.kind {
                // An agent that does not know the command.
                ProblemKind::BadRequest => subscription.problem("the agent is an older release; restart it"),
                _ => problem,
            });
        }
        if reply.schema != SCHEMA {
            let other = reply.schema;
            return Err(subscription.problem(&format!("the agent speaks {other}, this command {SCHEMA}")));
        }
        subscription.agent = reply.agent;
        Ok(subscription)
    }

    /// The agent that replied.
    pub(crate) fn agent(&self) -> Option<&AgentInfo> {
        self.agent.as_ref()
    }

    /// The next message; `None` when the agent has ended.
    ///
    /// # Errors
    /// Those of the socket; what comes is no message.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Problem> {
        if !self.read_line()? {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.line);
        message.map(Some).map_err(|e| self.problem(&format!("what comes is not an agent's message: {e}")))
    }

    fn exchange(&mut self) -> Result<Reply, Problem> {
        let mut request = serde_json::to_vec(&write_request(&Command::Subscribe {})).unwrap_or_default();
        request.push(b'\n');
        let sent = self.stream.get_ref().set_read_timeout(Some(REPLY_TIMEOUT));
        let sent = sent.and_then(|()| self.stream.get_mut().write_all(&request));
        sent.map_err(|e| self.problem(&e.to_string()))?;
        if !self.read_line()? {
            return Err(self.problem("the agent closed the connection without a reply; has it ended?"));
        }
        self.stream.get_ref().set_read_timeout(None).map_err(|e| self.problem(&e.to_string()))?;
        serde_json::from_slice(&self.line)
            .map_err(|e| self.problem(&format!("the reply is not that of an agent: {e}")))
    }

    /// Reads a line. Returns whether there is one.
    fn read_line(&mut self) -> Result<bool, Problem> {
        self.line.clear();
        let mut limited = (&mut self.stream).take(MAX_MESSAGE);
        match limited.read_until(b'\n', &mut self.line) {
            Ok(0) => Ok(false),
            Ok(_) if self.line.ends_with(b"\n") => Ok(true),
            // The agent has ended within a line.
            Ok(_) => Ok(false),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(self.problem(&format!("the agent did not reply within {REPLY_TIMEOUT:?}")))
            }
            Err(e) => Err(self.problem(&e.to_string())),
        }
    }

    fn problem(&self, what: &str) -> Problem {
        Problem::new(ProblemKind::NoAnswer, format!("{}: {what}", self.socket.display()))
    }
}
