//! Detects lost, duplicate and reordered requests. A sender may number its requests in a header,
//! `wattrace-sequence: EPOCH:NUMBER`. The epoch changes each time the sender's output starts; the numbers go
//! up by one from 1.
//!
//! The last [`SPAN`] numbers are remembered one by one. A skipped number counts as missing at once and, if it
//! arrives later, as late: the number of lost requests is missing minus late.

use std::str::FromStr;

/// The header.
pub(crate) const HEADER: &str = "wattrace-sequence";
/// How many of the last numbers are remembered.
const SPAN: u64 = 64;
/// The longest epoch, in bytes.
const LONGEST_EPOCH: usize = 64;

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
        if epoch.is_empty() || epoch.len() > LONGEST_EPOCH || number == 0 {
            return Err(());
        }
        Ok(Self { epoch: epoch.to_owned(), number })
    }
}

/// A number in relation to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// The next one, after some that are missing.
    Next {
        /// Numbers skipped.
        missing: u64,
    },
    /// One that was counted as missing.
    Late,
    /// One that was accepted, or too old to know.
    Duplicate,
}

/// The numbers of one epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tracker {
    highest: u64,
    /// Bit n: `highest - n` was accepted.
    accepted: u64,
    /// Bit n: `highest - n` was refused for now, so it may be sent again.
    refused: u64,
}

impl Tracker {
    /// The position of `number`. What came before the first number that is seen is unknown.
    pub(crate) fn position(&self, number: u64) -> Position {
        if self.highest == 0 {
            return Position::Next { missing: 0 };
        }
        match number.checked_sub(self.highest) {
            Some(ahead) if ahead > 0 => Position::Next { missing: ahead - 1 },
            _ => {
                let behind = self.highest - number;
                let is = |bits: u64| behind < SPAN && bits >> behind & 1 == 1;
                match () {
                    () if behind >= SPAN || is(self.accepted) => Position::Duplicate,
                    () if is(self.refused) => Position::Next { missing: 0 },
                    () => Position::Late,
                }
            }
        }
    }

    /// The request `number` was accepted.
    pub(crate) fn accept(&mut self, number: u64) {
        let bit = self.reach(number);
        self.accepted |= bit;
        self.refused &= !bit;
    }

    /// The request `number` was refused for now.
    pub(crate) fn refuse(&mut self, number: u64) {
        let bit = self.reach(number);
        self.refused |= bit;
    }

    /// The bit of `number`; 0 if it is too old.
    fn reach(&mut self, number: u64) -> u64 {
        let first = self.highest == 0;
        if let Some(ahead) = number.checked_sub(self.highest).filter(|&ahead| ahead > 0) {
            let shift = |bits: u64| if ahead < SPAN { bits << ahead } else { 0 };
            (self.accepted, self.refused) = (shift(self.accepted), shift(self.refused));
            self.highest = number;
            if first {
                // The numbers before the first are not counted as missing, so they are not late if they
                // arrive.
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

    /// Accepts all numbers but duplicates; (missing, late, duplicate).
    fn counts(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64) {
        let (mut tracker, mut counts) = (Tracker::default(), (0, 0, 0));
        for number in numbers {
            match tracker.position(number) {
                Position::Next { missing } => counts.0 += missing,
                Position::Late => counts.1 += 1,
                Position::Duplicate => {
                    counts.2 += 1;
                    continue;
                }
            }
            tracker.accept(number);
        }
        counts
    }

    #[test]
    fn gaps_duplicates_and_late_requests_are_distinguished() {
        assert_eq!(counts(1..=1000), (0, 0, 0));
        assert_eq!(counts([1, 2, 5, 6]), (2, 0, 0));
        assert_eq!(counts([1, 2, 2, 1, 3]), (0, 0, 2));
        assert_eq!(counts([1, 3, 2, 4]), (1, 1, 0));
        assert_eq!(counts([1, 3, 2, 2]), (1, 1, 1));
        assert_eq!(counts([1, 1000, 999, 936]), (998, 1, 1), "936 is out of reach");
        assert_eq!(counts([1, 66, 65, 2]), (64, 1, 1));
    }

    #[test]
    fn requests_before_the_gateways_start_are_not_missing() {
        assert_eq!(counts([7, 8, 9]), (0, 0, 0));
        // It arrives after the first that was seen: it is accepted, and was never counted as missing.
        assert_eq!(counts([7, 6, 8, 6]), (0, 0, 1));
    }

    #[test]
    fn a_refused_request_is_not_missing_and_may_be_sent_again() {
        let mut tracker = Tracker::default();
        tracker.accept(1);
        tracker.refuse(2);
        assert_eq!(tracker.position(3), Position::Next { missing: 0 });
        assert_eq!(tracker.position(2), Position::Next { missing: 0 });
        tracker.accept(2);
        assert_eq!(tracker.position(2), Position::Duplicate);
    }

    #[test]
    fn only_valid_headers_are_parsed() {
        let parse = |text: &str| text.parse::<Sequence>().ok();
        assert_eq!(parse("ab:7"), Some(Sequence { epoch: "ab".to_owned(), number: 7 }));
        for bad in ["", "7", ":7", "ab:", "ab:0", "ab:-1", &format!("{}:1", "a".repeat(65))] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
