//! The server of the control socket. A slow, silent or malicious client delays no other: the number of
//! connections, the length of requests and the time for each are limited, and each connection has a task of
//! its own.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::command::Command;
use super::executor::Executor;
use super::line::Lines;
use super::protocol::{MAX_REQUEST, Problem, ProblemKind, Reply, read_request};
use super::socket::Socket;

/// Maximum number of connections.
const MAX_CLIENTS: usize = 16;

/// Time limit of a client for sending a request, and for receiving the reply.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Delay after a failed accept: its cause (no free file descriptor, for example) takes a while to pass.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Listens and replies until it is stopped.
pub(crate) struct Server {
    task: JoinHandle<()>,
}

impl Server {
    /// Listens on `path`.
    ///
    /// # Errors
    /// The cause, with the remedy.
    pub(crate) async fn start(path: &Path, executor: Arc<Executor>) -> Result<Self, String> {
        let socket = Socket::listen(path).await?;
        info!("control: listening on {}", path.display());
        Ok(Self { task: tokio::spawn(accept(socket, executor)) })
    }

    /// Closes the connections and removes the socket.
    pub(crate) async fn stop(self) {
        self.task.abort();
        // The result is that it was aborted. The task owns the socket, so its file is removed now.
        _ = self.task.await;
    }
}

async fn accept(socket: Socket, executor: Arc<Executor>) {
    let mut clients = JoinSet::new();
    let mut failing = false;
    loop {
        tokio::select! {
            accepted = socket.listener.accept() => match accepted {
                Ok((stream, _)) => {
                    failing = false;
                    if clients.len() < MAX_CLIENTS {
                        let executor = executor.clone();
                        clients.spawn(async move {
                            if let Err(e) = serve(Lines::new(stream, MAX_REQUEST), &executor).await {
                                debug!("control: a connection was closed: {e}");
                            }
                        });
                    } else {
                        refuse(&stream);
                    }
                }
                Err(e) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!("control: cannot accept connections: {e}; retrying");
                    }
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    }
}

/// Replies to a client's requests, one after the other, until it disconnects or exceeds its time limit.
async fn serve(mut client: Lines, executor: &Executor) -> io::Result<()> {
    loop {
        let line = match in_time(client.next()).await {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::InvalidData => {
                let reply = Reply::refused("", Problem::new(ProblemKind::BadRequest, e));
                // The rest of the line is not read.
                return in_time(client.send(&reply)).await;
            }
            Err(e) => return Err(e),
        };
        let reply = match read_request(&line) {
            Ok(Command::Subscribe {}) => return subscribe(client, executor).await,
            Ok(command) => executor.execute(command).await,
            Err(problem) => Reply::refused("", problem),
        };
        in_time(client.send(&reply)).await?;
    }
}

/// Sends a viewer what it shows until it disconnects. What it does not read in time is lost to it alone.
async fn subscribe(mut client: Lines, executor: &Executor) -> io::Result<()> {
    let mut subscribed = match executor.viewers().subscribe().await {
        Ok(subscribed) => subscribed,
        Err(problem) => return in_time(client.send(&Reply::refused("subscribe", problem))).await,
    };
    let reply = Reply { agent: Some(executor.agent()), ..Reply::done("subscribe") };
    let mut sent = in_time(client.send(&reply)).await;
    while sent.is_ok() {
        sent = tokio::select! {
            message = subscribed.feed.next() => match message {
                Some(message) => client.send(&message).await,
                // The agent stops.
                None => break,
            },
            // A viewer has nothing to say: it has disconnected, or is none.
            _ = client.next() => break,
        };
    }
    executor.viewers().end(subscribed).await;
    sent
}

async fn in_time<T>(operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(CLIENT_TIMEOUT, operation).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Sends the reply `busy` to a client above the limit, without waiting.
fn refuse(stream: &UnixStream) {
    let message = format!("{MAX_CLIENTS} clients are connected already; try again in {CLIENT_TIMEOUT:?}");
    let reply = Reply::refused("", Problem::new(ProblemKind::Busy, message));
    if let Ok(line) = serde_json::to_string(&reply) {
        // The buffer of a new socket has room for it.
        _ = stream.try_write(format!("{line}\n").as_bytes());
    }
}
