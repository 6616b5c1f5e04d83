//! The watchdog: a thread that sees which calls into elements do not return, and keeps the async runtime
//! awake meanwhile. One of the runtime's workers waits for events (timers, signals, sockets) on behalf of
//! all. If a source that blocks, against the contract, blocks that very worker, the others may sleep on, and
//! nothing comes through any more, not even a signal to stop. Work from outside wakes one of them, which then
//! takes the waiting over.

use std::sync::Weak;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::warn;

use super::roster::Roster;

/// How often it looks.
const BEAT: Duration = Duration::from_millis(250);

/// The watchdog; it ends with this value.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn start(roster: Weak<Roster>, runtime: Handle) -> Self {
        let (alive, ended) = channel::<()>();
        let watch = move || {
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                let Some(elements) = roster.upgrade().map(|roster| roster.health()) else { return };
                elements.iter().for_each(|health| health.check());
                runtime.spawn(async {});
            }
        };
        if let Err(e) = thread::Builder::new().name("watchdog".into()).spawn(watch) {
            warn!("cannot start a thread ({e}): elements that do not return will not be noticed");
        }
        Self { _alive: alive }
    }
}
