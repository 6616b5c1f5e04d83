//! The watchdog: a thread that reports calls into elements that do not return.

use std::sync::Weak;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::elements::Elements;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// The watchdog; it ends when this is dropped.
pub(crate) struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    pub(crate) fn start(elements: Weak<Elements>) -> Self {
        let (alive, ended) = channel::<()>();
        let watch = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let Some(elements) = elements.upgrade() else { return };
                elements.health().iter().for_each(|health| health.check());
            }
        };
        if let Err(e) = thread::Builder::new().name("watchdog".into()).spawn(watch) {
            warn!("cannot start a thread ({e}): elements that do not return will not be noticed");
        }
        Self { _alive: alive }
    }
}
