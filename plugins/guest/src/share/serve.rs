//! The machines' sockets: whoever connects gets the message as it is then, in one line, and is hung up on.

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

use super::books::Message;

/// Whoever takes longer to take a line is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// All sockets, by the machine's directory.
pub(super) struct Servers {
    runtime: Handle,
    clock: Clock,
    all: HashMap<String, Server>,
}

struct Server {
    said: Arc<Mutex<Message>>,
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Servers {
    pub(super) fn new(runtime: Handle, clock: Clock) -> Self {
        Self { runtime, clock, all: HashMap::new() }
    }

    /// What is said from now on at the socket `path` of the machine of `directory`.
    pub(super) fn tell(&mut self, directory: &str, path: &Path, message: Message) -> Result<(), Error> {
        if let Some(server) = self.all.get(directory) {
            *server.said.lock().unwrap_or_else(PoisonError::into_inner) = message;
            return Ok(());
        }
        let cannot = |e: std::io::Error| {
            Error::retry(format!(
                "plugins.guest-share.socket: {}: {e}; may this user make it?",
                path.display()
            ))
        };
        // What a killed agent left behind answers nobody.
        let _ = fs::remove_file(path);
        let listener = UnixListener::bind(path).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let listener = {
            let _inside = self.runtime.enter();
            tokio::net::UnixListener::from_std(listener).map_err(cannot)?
        };
        let said = Arc::new(Mutex::new(message));
        let task = self.runtime.spawn(serve(listener, said.clone(), self.clock.clone()));
        self.all.insert(directory.to_owned(), Server { said, path: path.to_owned(), task });
        Ok(())
    }

    /// Nobody is told of that machine any more.
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

/// One after the other: a line is short, and nobody is waited for.
async fn serve(listener: tokio::net::UnixListener, said: Arc<Mutex<Message>>, clock: Clock) {
    loop {
        match listener.accept().await {
            Ok((mut connection, _)) => {
                let message = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let line = message.aged(&clock).share.to_line();
                // Whoever hangs up early, or is slow, asks again.
                let _ = timeout(PATIENCE, connection.write_all(line.as_bytes())).await;
            }
            // No descriptors left, for example: others may give some back.
            Err(_) => tokio::time::sleep(PATIENCE).await,
        }
    }
}
