//! The agent's end of the control socket. A client may be slow, silent or malicious and holds up nobody:
//! connections, their requests' lengths and the time for each are bounded, and each has a task of its own.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::commands::Commands;
use super::line::Lines;
use super::protocol::{Command, Kind, LONGEST_REQUEST, Problem, Reply};
use super::socket::Socket;

/// Connections at a time.
const MOST_CLIENTS: usize = 16;

/// How long a client may take for a request, and for taking its reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failure to accept, which will not be over at once (no file descriptor is left, say).
const BREATH: Duration = Duration::from_millis(200);

/// Listens and answers until stopped.
pub(crate) struct Server {
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `path`.
    ///
    /// # Errors
    /// Why that cannot be, with the remedy.
    pub(crate) async fn start(path: &Path, commands: Arc<Commands>) -> Result<Self, String> {
        let socket = Socket::listen(path).await?;
        info!("control: listening on {}", path.display());
        Ok(Self { task: tokio::spawn(accept(socket, commands)) })
    }

    /// Hangs up and removes the socket.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // It was aborted; the socket goes with the task.
        _ = self.task.await;
    }
}

async fn accept(socket: Socket, commands: Arc<Commands>) {
    let mut clients = JoinSet::new();
    let mut failing = false;
    loop {
        tokio::select! {
            accepted = socket.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    if clients.len() < MOST_CLIENTS {
                        let commands = commands.clone();
                        clients.spawn(async move {
                            if let Err(e) = serve(Lines::new(stream, LONGEST_REQUEST), &commands).await {
                                debug!("control: a client was hung up on: {e}");
                            }
                        });
                    } else {
                        refuse(&stream);
                    }
                }
                Err(e) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!("control: no client can be accepted: {e}; it is tried again");
                    }
                    sleep(BREATH).await;
                }
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    }
}

/// Answers a client's requests, one after the other, until it closes or takes too long.
async fn serve(mut client: Lines, commands: &Commands) -> io::Result<()> {
    loop {
        let line = match in_time(client.next()).await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                let reply = Reply::refused("", Problem::new(Kind::BadRequest, e));
                // What is left of the line is not for us to read.
                return in_time(client.send(&reply)).await;
            }
            Err(e) => return Err(e),
        };
        let reply = match Command::from_request(&line) {
            Ok(command) => commands.answer(command).await,
            Err(problem) => Reply::refused("", problem),
        };
        in_time(client.send(&reply)).await?;
    }
}

async fn in_time<T>(doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, doing).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Tells a client too many why nobody talks to it, without waiting for it.
fn refuse(stream: &UnixStream) {
    let message = format!("{MOST_CLIENTS} clients are connected already; try again in {PATIENCE:?}");
    let reply = Reply::refused("", Problem::new(Kind::Busy, message));
    if let Ok(line) = serde_json::to_string(&reply) {
        // A new socket has room for it.
        _ = stream.try_write(format!("{line}\n").as_bytes());
    }
}
