//! The machines' sockets: each connection gets the current message in one line, and is closed.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wattrace_api::{Clock, Error};

use super::machine::Message;

/// How long to wait for a client that does not read, and after an error.
const TIMEOUT: Duration = Duration::from_secs(1);

/// All sockets, by the machines' directories.
pub(super) struct Servers {
    runtime: Handle,
    clock: Clock,
    all: HashMap<String, Server>,
}

struct Server {
    message: Arc<Mutex<Message>>,
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Servers {
    pub(super) fn new(runtime: Handle, clock: Clock) -> Self {
        Self { runtime, clock, all: HashMap::new() }
    }

    /// Serves `message` from now on at the socket `path` of the machine of `directory`.
    pub(super) fn publish(&mut self, directory: &str, path: &Path, message: Message) -> Result<(), Error> {
        if let Some(server) = self.all.get(directory) {
            *server.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
            return Ok(());
        }
        let cannot = |e: std::io::Error| {
            Error::retry(format!(
                "plugins.guest-share.socket: {}: {e}; may this user make it?",
                path.display()
            ))
        };
        // A killed agent leaves its socket behind.
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let listener = {
            let _inside = self.runtime.enter();
            tokio::net::UnixListener::from_std(listener).map_err(cannot)?
        };
        let message = Arc::new(Mutex::new(message));
        let task = self.runtime.spawn(serve(listener, message.clone(), self.clock.clone()));
        self.all.insert(directory.to_owned(), Server { message, path: path.to_owned(), task });
        Ok(())
    }

    /// Stops serving a machine.
    pub(super) fn end(&mut self, directory: &str) {
        self.all.remove(directory);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = fs::remove_file(&self.path);
    }
}

/// Serves one connection after the other: a line is short.
async fn serve(listener: tokio::net::UnixListener, message: Arc<Mutex<Message>>, clock: Clock) {
    loop {
        match listener.accept().await {
            Ok((mut connection, _)) => {
                let message = message.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let line = message.with_age(&clock).share.to_line();
                // A client that is slow or closes early connects again.
                let _ = timeout(TIMEOUT, connection.write_all(line.as_bytes())).await;
            }
            // For example, too many open files: some may be closed soon.
            Err(_) => tokio::time::sleep(TIMEOUT).await,
        }
    }
}
