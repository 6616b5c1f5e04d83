//! What makes a consumer heavy enough to be exported by itself, and the books that keep every sum right while
//! that changes. Pure: it knows neither OTLP nor series; `table` drives it, and the ranking, which is
//! `wattrace-ranking`'s.
//!
//! A counter's [`Account`] is cut at the moments when its consumer changes streams: what was used before the
//! cut stays where it was reported, what comes after goes elsewhere. So each step is in exactly one stream,
//! and the sum over all streams ever exported is the sum of the true values.

use wattrace_api::Timestamp;

/// A value, and how much of it other streams have already reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    cumulative: bool,
    value: u64,
    time: Timestamp,
    settled: u64,
    since: Timestamp,
}

/// What an account held between two cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Steps of a counter, or a gauge's bits.
    pub(crate) value: u64,
    /// When it stood at zero.
    pub(crate) since: Timestamp,
    /// When it stood at `value`.
    pub(crate) time: Timestamp,
}

impl Account {
    /// One that stands at zero at `start`. Only a `cumulative` value can be cut into parts.
    pub(crate) fn new(cumulative: bool, start: Timestamp) -> Self {
        Self { cumulative, value: 0, time: start, settled: 0, since: start }
    }

    /// Takes a newer value.
    pub(crate) fn set(&mut self, value: u64, time: Timestamp) {
        (self.value, self.time) = (value, time);
    }

    /// All of it, settled or not.
    pub(crate) fn total(&self) -> u64 {
        self.value
    }

    /// What has come since the last cut.
    pub(crate) fn open(&self) -> Cut {
        Cut { value: self.value.saturating_sub(self.settled), since: self.since, time: self.time }
    }

    /// The same, and begins anew from here.
    pub(crate) fn cut(&mut self) -> Cut {
        let cut = self.open();
        if self.cumulative {
            (self.settled, self.since) = (self.value, self.time);
        }
        cut
    }

    /// Adds what was cut from another account of the same quantity.
    pub(crate) fn add(&mut self, cut: Cut) {
        self.value = self.value.saturating_add(cut.value);
        self.time = self.time.max(cut.time);
    }

    /// Moves the start back to `start`, if it is later.
    pub(crate) fn reach_back(&mut self, start: Timestamp) {
        self.since = self.since.min(start);
    }
}

/// How heavy a consumer is: by its energy over all domains (those that lie within others count again, for
/// everybody alike), and by its CPU time where there is no energy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    pub(crate) energy: u64,
    pub(crate) cpu_time: u64,
}

impl wattrace_ranking::Weight for Weight {
    fn plus(self, other: Self) -> Self {
        Self {
            energy: self.energy.saturating_add(other.energy),
            cpu_time: self.cpu_time.saturating_add(other.cpu_time),
        }
    }

    fn outweighs(self, other: Self) -> bool {
        if self.energy.max(other.energy) > 0 {
            self.energy.outweighs(other.energy)
        } else {
            self.cpu_time.outweighs(other.cpu_time)
        }
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{ConsumerKind, Identity};
    use wattrace_ranking::Ranking;

    use super::*;

    fn process(pid: u64) -> Identity {
        Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid }
    }

    #[test]
    fn without_energy_cpu_time_decides() {
        let mut top = Ranking::new(1);
        let (a, b) = (top.join(&process(1)), top.join(&process(2)));
        top.weigh(a, Weight { energy: 0, cpu_time: 5 });
        top.weigh(b, Weight { energy: 0, cpu_time: 6 });
        top.rank();
        assert!(top.owns(b) && !top.owns(a));
        top.weigh(a, Weight { energy: 1, cpu_time: 0 });
        top.rank();
        assert!(top.owns(b), "nothing is more than double of anything yet");
        top.weigh(a, Weight { energy: 1, cpu_time: 0 });
        top.rank();
        assert!(top.owns(a) && !top.owns(b));
    }

    #[test]
    fn cuts_add_up_to_the_value_and_join_without_gap() {
        let at = Timestamp;
        let mut account = Account::new(true, at(10));
        account.set(5, at(20));
        assert_eq!(account.cut(), Cut { value: 5, since: at(10), time: at(20) });
        account.set(12, at(30));
        assert_eq!(account.open(), Cut { value: 7, since: at(20), time: at(30) });
        let mut sum = Account::new(true, at(40));
        sum.reach_back(at(20));
        sum.add(account.cut());
        assert_eq!(sum.open(), Cut { value: 7, since: at(20), time: at(40) });
        assert_eq!((account.open().value, account.total()), (0, 12));
    }

    #[test]
    fn a_gauge_is_never_cut() {
        let mut account = Account::new(false, Timestamp(0));
        account.set(7, Timestamp(1));
        assert_eq!(account.cut().value, 7);
        assert_eq!(account.open().value, 7);
    }
}
