//! The source: reads the accounts at every tick, and in between whenever the kernel says that something fills
//! up; what both found is emitted with the next tick. What is read is in `accounts.rs`.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tracing::warn;
use wattrace_api::{Batch, Clock, Error, Registry, ResultExt, Source, Tick};

use crate::SchedConfig;
use crate::accounts::Accounts;
use crate::cost;

/// The source of `wattrace.consumer.cpu.time`.
pub struct SchedSource {
    accounts: Arc<Mutex<Accounts>>,
    beside: [JoinHandle<()>; 2],
}

impl SchedSource {
    /// Loads the kernel programs and begins accounting.
    ///
    /// # Errors
    /// Fatal, with the remedy, when the kernel or our permissions lack something.
    pub fn open(
        config: &SchedConfig,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, Error> {
        let accounts = Accounts::open(config, registry, clock)?;
        let wake = accounts.kernel.wake_descriptor().or_fatal()?;
        let accounts = Arc::new(Mutex::new(accounts));
        let early = runtime.spawn(read_when_woken(wake, accounts.clone()));
        let costs = runtime.spawn(cost::sample(accounts.clone()));
        Ok(Self { accounts, beside: [early, costs] })
    }
}

impl Source for SchedSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let mut accounts = lock(&self.accounts);
        accounts.read()?;
        accounts.emit(tick.last, out);
        Ok(())
    }
}

impl Drop for SchedSource {
    fn drop(&mut self) {
        self.beside.iter().for_each(JoinHandle::abort);
    }
}

/// The accounts, whoever has them.
pub(crate) fn lock(accounts: &Mutex<Accounts>) -> MutexGuard<'_, Accounts> {
    accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads whenever the kernel says that a page or a ring is filling.
async fn read_when_woken(wake: OwnedFd, accounts: Arc<Mutex<Accounts>>) {
    // SAFETY: the descriptor is owned by the value that is registered, and so stays open as long as it.
    let wake = match unsafe { AsyncFd::register_with_interest(wake, Interest::READABLE) } {
        Ok(wake) => wake,
        Err(e) => {
            return warn!(
                "cannot watch the kernel programs ({e}): they are read at ticks only, and may overflow"
            );
        }
    };
    while let Ok(mut ready) = wake.readable().await {
        ready.clear_ready();
        let mut accounts = lock(&accounts);
        if accounts.kernel.take_wake()
            && let Err(e) = accounts.read()
        {
            warn!("cannot read the ledgers early: {e}");
        }
    }
}
