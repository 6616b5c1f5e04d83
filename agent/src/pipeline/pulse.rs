//! A pulse for the async runtime. One of its workers waits for events (timers, signals, sockets) on behalf of all. If a source
//! that blocks, against the contract, blocks that very worker, the others may sleep on, and nothing comes through any more,
//! not even a signal to stop. Work from outside wakes one of them, which then takes the waiting over.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::warn;

/// So long may the pipeline stand still.
const BEAT: Duration = Duration::from_secs(1);

/// The pulse; it ends with this value.
pub(crate) struct Pulse {
    _alive: Sender<()>,
}

impl Pulse {
    pub(crate) fn start(runtime: Handle) -> Self {
        let (alive, ended) = channel::<()>();
        let beat = move || {
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                runtime.spawn(async {});
            }
        };
        if let Err(e) = thread::Builder::new().name("pulse".into()).spawn(beat) {
            warn!("cannot start a thread ({e}): a source that blocks may hold up the others");
        }
        Self { _alive: alive }
    }
}
