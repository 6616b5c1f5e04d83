//! The books: which consumer used how much in which window, and one account per energy domain that divides
//! each of its windows without a remainder. Whole numbers only. The weights come from each account's power
//! model.
//!
//! | file | holds |
//! | --- | --- |
//! | `timeline.rs` | recent usage by window |
//! | `consumers.rs` | a slot for each consumer whose energy series are open |
//! | `usage_records.rs` | both, and who holds memory of which device |
//! | `account.rs` | one domain: windows waiting for usage, and closing them |
//! | `division.rs`, `split.rs` | dividing one window's energy; splitting a whole number by weights |
//! | `closed_window.rs` | a window whose energy is divided |
//! | `spread.rs`, `static_error.rs`, `lasting_error.rs` | how far off what a consumer received may be |
//! | `totals.rs`, `metrics.rs` | what each consumer received in all, as published series |

mod account;
mod closed_window;
mod consumers;
mod division;
mod lasting_error;
mod metrics;
mod split;
mod spread;
mod static_error;
mod timeline;
mod totals;
mod usage_records;

use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use wattrace_api::{Batch, Domain, Error, Registry, Series, Timestamp, Value, Window};

use crate::config::AttributionConfig;
use crate::model::{Learner, PowerModel};
use account::Account;
#[cfg(test)]
pub(crate) use metrics::AGENT_ENERGY;
use metrics::Metrics;
pub(crate) use timeline::{CORES, PACKAGES, UsedAmount, User};
pub(crate) use usage_records::UsageRecords;

/// How long usage is remembered while no meter needs it: a meter may start later than the usage it follows.
const GRACE: Duration = Duration::from_secs(10);

/// All accounts, and the usage by which they divide energy.
pub(crate) struct Books {
    registry: Arc<Registry>,
    metrics: Metrics,
    history: Duration,
    pub(crate) usage: UsageRecords,
    accounts: Slab<Account>,
}

impl Books {
    /// Books without accounts. Usage is remembered for `history` at most.
    ///
    /// # Errors
    /// Fatal if another plugin declares one of their metrics differently.
    pub(crate) fn open(registry: Arc<Registry>, history: Duration) -> Result<Self, Error> {
        let metrics = Metrics::declare(&registry)?;
        Ok(Self { registry, metrics, history, usage: UsageRecords::default(), accounts: Slab::new() })
    }

    /// Opens the account of the domain that `meter` measures. Returns its number.
    pub(crate) fn open_account(
        &mut self,
        meter: &Series,
        domain: &Arc<Domain>,
        model: PowerModel,
        config: &AttributionConfig,
    ) -> usize {
        let followed = self.usage.timelines.followed(&domain.follows);
        let totals = totals::Totals::open(domain, meter, self.metrics, &model, &self.registry);
        self.accounts.insert(Account::open(meter, totals, model, followed, config))
    }

    /// Takes in a point of the meter of `account`.
    pub(crate) fn measure(&mut self, account: usize, window: Window, value: Value) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.measure(window, value);
        }
    }

    /// Closes every window that usage covers, and those that have waited for the whole history.
    pub(crate) fn close(&mut self, out: &mut Batch) {
        self.adopt_children();
        for (_, account) in &mut self.accounts {
            account.close(&self.usage, &self.registry, Some(self.history), out);
        }
    }

    /// Closes every window with the usage there is.
    pub(crate) fn close_all(&mut self, out: &mut Batch) {
        self.adopt_children();
        for (_, account) in &mut self.accounts {
            account.close(&self.usage, &self.registry, None, out);
        }
    }

    /// Adds new processes to the groups that their parents are in.
    fn adopt_children(&mut self) {
        let born = self.usage.consumers.take_born();
        if !born.is_empty() {
            self.accounts.iter().filter_map(|(_, account)| account.members()).for_each(|of| of.adopt(&born));
        }
    }

    /// Closes the account of a meter that has ended. Returns its domain and what its model has learnt.
    pub(crate) fn end_account(&mut self, account: usize, out: &mut Batch) -> (Arc<Domain>, Learner) {
        let mut account = self.accounts.remove(account);
        account.close(&self.usage, &self.registry, None, out);
        account.end(&self.registry, out)
    }

    /// Publishes the interval of every consumer's energy as it is now.
    pub(crate) fn publish_intervals(&mut self, out: &mut Batch) {
        let Self { accounts, registry, .. } = self;
        accounts.iter_mut().for_each(|(_, account)| account.publish_intervals(registry, out));
    }

    /// Ends the series of consumers that no account will charge any more, and forgets usage that none needs.
    pub(crate) fn clear_out(&mut self, out: &mut Batch) {
        let Self { usage: UsageRecords { timelines, consumers, .. }, accounts, registry, .. } = self;
        let known = timelines.end().unwrap_or_default();
        let closed = accounts.iter().map(|(_, a)| a.closed_to()).min().unwrap_or(known);
        let grace = self.history.min(GRACE).as_nanos() as u64;
        timelines.forget(closed.min(Timestamp(known.0.saturating_sub(grace))), self.history);
        let remembered = timelines.start().unwrap_or(known);
        consumers.end_series(closed.max(remembered), |slot| {
            for (_, account) in accounts.iter_mut() {
                account.end_consumer(slot, registry, out);
            }
        });
        consumers.free_slots(remembered, |has_ended| timelines.forget_users(has_ended));
    }

    /// Each account's domain, and what its model has learnt.
    pub(crate) fn learnt(&self) -> impl Iterator<Item = (&Domain, &Learner)> {
        self.accounts.iter().map(|(_, account)| account.learnt())
    }

    /// Up to when usage is known; zero before the first window.
    pub(crate) fn known_to(&self) -> Timestamp {
        self.usage.timelines.end().unwrap_or_default()
    }
}
