//! The source: reads the accounts at every tick, and in between when a page or a ring fills up. What both
//! have read is emitted with the tick. `accounts.rs` does the reading, `cost.rs` measures what the kernel
//! programs cost.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, ResultExt, Source, Tick, TickCause};

use crate::SchedConfig;
use crate::accounts::Accounts;
use crate::cost::CostSampler;

/// The source of `wattrace.consumer.cpu.time`.
pub struct SchedSource {
    accounts: Accounts,
    costs: CostSampler,
}

impl SchedSource {
    /// Loads the kernel programs and begins accounting.
    ///
    /// # Errors
    /// Fatal, with the remedy: the kernel lacks something, or there is no permission.
    pub fn open(config: &SchedConfig, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let accounts = Accounts::open(config, registry.clone(), clock)?;
        let costs = CostSampler::new(&accounts.kernel, registry, accounts.window.start)?;
        Ok(Self { accounts, costs })
    }

    /// Reads early if a page or a ring fills up. The next tick emits what is read here.
    fn wake(&mut self) -> Result<(), Error> {
        self.costs.advance(&self.accounts.kernel).or_retry()?;
        if self.accounts.kernel.take_wakeup() { self.accounts.read() } else { Ok(()) }
    }
}

impl Source for SchedSource {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        if tick.cause == TickCause::Wakeup {
            return self.wake();
        }
        self.accounts.read_together()?;
        self.accounts.emit(tick.last, out);
        self.costs.emit(out);
        Ok(())
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.accounts.kernel.wakeup())
    }
}
