//! Requests that were lost, doubled or overtaken on the way. A sender that numbers its requests says so in a
//! header, `wattrace-sequence: EPOCH:NUMBER`: the epoch is another one each time the sender's output starts,
//! the numbers go up by one from 1.
//!
//! The last [`SPAN`] numbers are remembered one by one. A number that is skipped counts as missing at once,
//! and if it comes after all, as late: what was lost for good is missing minus late.

use std::str::FromStr;

/// The header.
pub(crate) const HEADER: &str = "wattrace-sequence";
/// How many of the last numbers are remembered.
const SPAN: u64 = 64;
/// Longest epoch.
const MOST_EPOCH: usize = 64;

/// A request's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sequence {
    pub(crate) epoch: String,
    pub(crate) number: u64,
}

impl FromStr for Sequence {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, number) = text.rsplit_once(':').ok_or(())?;
        let number = number.parse().map_err(drop)?;
        if epoch.is_empty() || epoch.len() > MOST_EPOCH || number == 0 {
            return Err(());
        }
        Ok(Self { epoch: epoch.to_owned(), number })
    }
}

/// What a number says about its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The next, after so many that did not come.
    Next {
        /// Numbers skipped.
        missing: u64,
    },
    /// One that was missing.
    Late,
    /// One that has been here, or so old that nobody can tell.
    Duplicate,
}

/// The numbers of one epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tracker {
    highest: u64,
    /// Bit n: `highest - n` was taken.
    taken: u64,
    /// Bit n: `highest - n` was here and sent away, so it may come again.
    refused: u64,
}

impl Tracker {
    /// Where `number` stands. What came before the first number that is seen is nobody's to know.
    pub(crate) fn place(&self, number: u64) -> Place {
        if self.highest == 0 {
            return Place::Next { missing: 0 };
        }
        match number.checked_sub(self.highest) {
            Some(ahead) if ahead > 0 => Place::Next { missing: ahead - 1 },
            _ => {
                let behind = self.highest - number;
                let is = |bits: u64| behind < SPAN && bits >> behind & 1 == 1;
                match () {
                    () if behind >= SPAN || is(self.taken) => Place::Duplicate,
                    () if is(self.refused) => Place::Next { missing: 0 },
                    () => Place::Late,
                }
            }
        }
    }

    /// `number` was taken.
    pub(crate) fn take(&mut self, number: u64) {
        let bit = self.reach(number);
        self.taken |= bit;
        self.refused &= !bit;
    }

    /// `number` was here, and its request sent away for now.
    pub(crate) fn refuse(&mut self, number: u64) {
        let bit = self.reach(number);
        self.refused |= bit;
    }

    /// The bit of `number`, within reach.
    fn reach(&mut self, number: u64) -> u64 {
        let first = self.highest == 0;
        if let Some(ahead) = number.checked_sub(self.highest).filter(|&ahead| ahead > 0) {
            let shift = |bits: u64| if ahead < SPAN { bits << ahead } else { 0 };
            (self.taken, self.refused) = (shift(self.taken), shift(self.refused));
            self.highest = number;
            if first {
                // What came before was never counted as missing, and so is not late if it comes after all.
                self.refused = !1;
            }
        }
        let behind = self.highest - number;
        if behind < SPAN { 1 << behind } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the numbers that are no duplicates; (missing, late, duplicate).
    fn counts(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let (mut tracker, mut counts) = (Tracker::default(), (0, 0, 0));
        for number in numbers {
            match tracker.place(number) {
                Place::Next { missing } => counts.0 += missing,
                Place::Late => counts.1 += 1,
                Place::Duplicate => {
                    counts.2 += 1;
                    continue;
                }
            }
            tracker.take(number);
        }
        counts
    }

    #[test]
    fn gaps_duplicates_and_late_ones_are_told_apart() {
        assert_eq!(counts(1..=1000), (0, 0, 0));
        assert_eq!(counts([1, 2, 5, 6]), (2, 0, 0));
        assert_eq!(counts([1, 2, 2, 1, 3]), (0, 0, 2));
        assert_eq!(counts([1, 3, 2, 4]), (1, 1, 0));
        assert_eq!(counts([1, 3, 2, 2]), (1, 1, 1));
        assert_eq!(counts([1, 1000, 999, 936]), (998, 1, 1), "936 is out of reach");
        assert_eq!(counts([1, 66, 65, 2]), (64, 1, 1));
    }

    #[test]
    fn a_gateway_that_starts_later_misses_nothing() {
        assert_eq!(counts([7, 8, 9]), (0, 0, 0));
        // Overtaken by the first that was seen: new all the same, and never counted as missing.
        assert_eq!(counts([7, 6, 8, 6]), (0, 0, 1));
    }

    #[test]
    fn what_was_sent_away_is_not_missing_and_may_come_again_or_not() {
        let mut tracker = Tracker::default();
        tracker.take(1);
        tracker.refuse(2);
        assert_eq!(tracker.place(3), Place::Next { missing: 0 });
        assert_eq!(tracker.place(2), Place::Next { missing: 0 });
        tracker.take(2);
        assert_eq!(tracker.place(2), Place::Duplicate);
    }

    #[test]
    fn only_well_formed_headers_count() {
        let parse = |text: &str| text.parse::<Sequence>().ok();
        assert_eq!(parse("ab:7"), Some(Sequence { epoch: "ab".to_owned(), number: 7 }));
        for bad in ["", "7", ":7", "ab:", "ab:0", "ab:-1", &format!("{}:1", "a".repeat(65))] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
