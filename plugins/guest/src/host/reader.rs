//! Compares each message with the last one: the energy in between, its window, and anomalies.

use std::time::Duration;

use wattrace_api::{Metric, Timestamp, Unit, Window};

use crate::message::{DomainShare, Share};

pub(super) const ANOMALIES: Metric = Metric::counter(
    "wattrace.host_share.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "Irregular messages of the host about this machine's energy",
);

/// A kind of irregular message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// The message did not change for long. Counted once until it changes.
    Stale,
    /// The host's agent restarted. The energy used meanwhile is unknown and left out.
    Restart,
    /// The host's counters have another start, which overlaps what was counted here. Nothing is counted until
    /// the next message.
    Reset,
    /// A counter went back. The energy of that window is unknown and left out.
    Backwards,
    /// What was read is not a message. The next good reading includes this window.
    BadReading,
}

impl Anomaly {
    pub(super) const ALL: [Anomaly; 5] =
        [Anomaly::Stale, Anomaly::Restart, Anomaly::Reset, Anomaly::Backwards, Anomaly::BadReading];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Anomaly::Stale => "stale",
            Anomaly::Restart => "restart",
            Anomaly::Reset => "reset",
            Anomaly::Backwards => "backwards",
            Anomaly::BadReading => "bad_reading",
        }
    }
}

/// The change from the last message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// More energy.
    Energy {
        /// Starts at the end of the last one.
        window: Window,
        /// Additional microjoules.
        microjoules: u64,
    },
    /// It is the same message.
    None {
        /// How long it has not changed.
        since: Duration,
    },
    /// It has none of the domains to be counted.
    NoSuchDomain,
}

/// The last message, and when it came.
pub(super) struct Reader {
    wanted: String,
    last: Option<Share>,
    /// The end of its last window, by this machine's clock.
    as_of: Timestamp,
    received_at: Timestamp,
    anomalies: Vec<Anomaly>,
}

/// The domains to be counted: the one that is `wanted`, or else all that count in totals.
pub(super) fn counted<'a>(share: &'a Share, wanted: &'a str) -> impl Iterator<Item = &'a DomainShare> {
    share.domains.iter().filter(move |d| if wanted.is_empty() { d.part } else { d.domain == wanted })
}

impl Reader {
    pub(super) fn new(wanted: String) -> Self {
        Self { wanted, last: None, as_of: Timestamp(0), received_at: Timestamp(0), anomalies: Vec::new() }
    }

    /// Takes the first message, from which energy is counted.
    pub(super) fn begin(&mut self, share: &Share, as_of: Timestamp) {
        self.last = Some(share.clone());
        (self.as_of, self.received_at) = (as_of, as_of);
    }

    /// Microjoules in the last message.
    pub(super) fn total(&self) -> u64 {
        let last = self.last.iter().flat_map(|share| counted(share, &self.wanted));
        last.fold(0, |sum, domain| sum.saturating_add(domain.microjoules))
    }

    /// The end of the last message's last window, by this machine's clock.
    pub(super) fn as_of(&self) -> Timestamp {
        self.as_of
    }

    pub(super) fn count(&mut self, anomaly: Anomaly) {
        self.anomalies.push(anomaly);
    }

    /// The anomalies since the last call.
    pub(super) fn take_anomalies(&mut self) -> Vec<Anomaly> {
        std::mem::take(&mut self.anomalies)
    }

    /// Takes the next message, whose last window ends at `as_of`. It was read at `now`.
    pub(super) fn take(&mut self, share: &Share, as_of: Timestamp, now: Timestamp) -> Change {
        let Some(last) = &self.last else {
            self.begin(share, as_of);
            return Change::None { since: Duration::ZERO };
        };
        let version = |s: &Share| (s.session, s.start_unix_nano, s.as_of_unix_nano);
        if version(share) == version(last) && share.machine == last.machine {
            return Change::None { since: now.since(self.received_at) };
        }
        self.received_at = now;
        if counted(share, &self.wanted).next().is_none() {
            return Change::NoSuchDomain;
        }
        if share.session != last.session {
            self.anomalies.push(Anomaly::Restart);
        }
        let is_same_counter =
            (&share.machine, share.start_unix_nano) == (&last.machine, last.start_unix_nano);
        // All energy of counters that started after the last message came after it.
        let is_later = share.machine == last.machine && share.start_unix_nano >= last.as_of_unix_nano;
        let mut microjoules = 0_u64;
        if is_same_counter {
            for domain in counted(share, &self.wanted) {
                let before =
                    last.domains.iter().find(|d| d.domain == domain.domain).map_or(0, |d| d.microjoules);
                match domain.microjoules.checked_sub(before) {
                    Some(more) => microjoules = microjoules.saturating_add(more),
                    None => self.anomalies.push(Anomaly::Backwards),
                }
            }
        } else if is_later {
            let all = counted(share, &self.wanted);
            microjoules = all.fold(0, |sum, domain| sum.saturating_add(domain.microjoules));
        } else {
            self.anomalies.push(Anomaly::Reset);
        }
        // If the clocks differ, a later message may seem to end before the last one. It counts as of now
        // then.
        let end = if as_of > self.as_of { as_of } else { now.max(self.as_of) };
        let window = Window::new(self.as_of, end);
        self.as_of = end;
        self.last = Some(share.clone());
        Change::Energy { window, microjoules }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SCHEMA;

    fn share(session: u64, start: u64, as_of: u64, domains: &[(&str, bool, u64)]) -> Share {
        let domain = |&(domain, part, microjoules): &(&str, bool, u64)| DomainShare {
            domain: domain.to_owned(),
            origin: "measured".to_owned(),
            part,
            microjoules,
        };
        Share {
            schema: SCHEMA.to_owned(),
            machine: "web".to_owned(),
            session,
            start_unix_nano: start,
            as_of_unix_nano: as_of,
            age_nano: 0,
            domains: domains.iter().map(domain).collect(),
        }
    }

    fn begun(first: &Share) -> Reader {
        let mut reader = Reader::new(String::new());
        reader.begin(first, Timestamp(100));
        reader
    }

    fn energy(reader: &mut Reader, share: &Share, at: u64) -> (u64, u64, u64) {
        match reader.take(share, Timestamp(at), Timestamp(at + 5)) {
            Change::Energy { window, microjoules } => (window.start.0, window.end.0, microjoules),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn domains_that_count_in_totals_are_summed_and_others_are_not() {
        let at = |n| {
            share(
                1,
                0,
                n,
                &[
                    ("package-0", true, 10 * n),
                    ("core-0", false, 8 * n),
                    ("dram-0", true, n),
                    ("psys", false, 99 * n),
                ],
            )
        };
        let mut reader = begun(&at(1));
        assert_eq!(reader.total(), 11);
        assert_eq!(energy(&mut reader, &at(3), 300), (100, 300, 22));
        let mut named = Reader::new("psys".to_owned());
        named.begin(&at(1), Timestamp(100));
        assert_eq!(energy(&mut named, &at(2), 200), (100, 200, 99));
        let mut unknown = Reader::new("psys-9".to_owned());
        unknown.begin(&at(1), Timestamp(100));
        assert_eq!(unknown.take(&at(2), Timestamp(200), Timestamp(200)), Change::NoSuchDomain);
    }

    #[test]
    fn the_same_message_again_is_no_change() {
        let first = share(1, 0, 7, &[("package-0", true, 5)]);
        let mut reader = begun(&first);
        let since = Duration::from_nanos(50);
        assert_eq!(reader.take(&first, Timestamp(140), Timestamp(150)), Change::None { since });
        // A domain that appears is new: all of its energy came after the last message.
        let next = share(1, 0, 8, &[("package-0", true, 5), ("dram-0", true, 3)]);
        assert_eq!(energy(&mut reader, &next, 200), (100, 200, 3));
        assert!(reader.take_anomalies().is_empty());
    }

    #[test]
    fn counters_continue_or_start_from_zero_when_the_host_restarts() {
        let mut reader = begun(&share(1, 10, 20, &[("package-0", true, 50)]));
        let continued = share(2, 10, 30, &[("package-0", true, 60)]);
        assert_eq!(energy(&mut reader, &continued, 200).2, 10, "the counter was kept");
        let restarted = share(3, 31, 40, &[("package-0", true, 4)]);
        assert_eq!(
            energy(&mut reader, &restarted, 300).2,
            4,
            "the counter was lost: all of the new one came later"
        );
        assert_eq!(reader.take_anomalies(), [Anomaly::Restart, Anomaly::Restart]);
    }

    #[test]
    fn energy_that_may_have_been_counted_already_is_left_out() {
        let mut reader = begun(&share(1, 10, 20, &[("package-0", true, 50), ("dram-0", true, 9)]));
        let overlapping = share(1, 15, 30, &[("package-0", true, 70)]);
        assert_eq!(energy(&mut reader, &overlapping, 200).2, 0);
        assert_eq!(reader.take_anomalies(), [Anomaly::Reset]);
        let another = Share { machine: "db".to_owned(), ..share(1, 40, 50, &[("package-0", true, 70)]) };
        assert_eq!(energy(&mut reader, &another, 300).2, 0);
        assert_eq!(reader.take_anomalies(), [Anomaly::Reset]);
        let backwards = Share {
            machine: "db".to_owned(),
            ..share(1, 40, 60, &[("package-0", true, 1), ("dram-0", true, 2)])
        };
        assert_eq!(energy(&mut reader, &backwards, 400).2, 2);
        assert_eq!(reader.take_anomalies(), [Anomaly::Backwards]);
    }

    #[test]
    fn windows_follow_each_other_even_if_the_clocks_differ() {
        let at = |n| share(1, 0, n, &[("package-0", true, n)]);
        let mut reader = begun(&at(1));
        assert_eq!(energy(&mut reader, &at(2), 200), (100, 200, 1));
        // The host's clock was set back: the message seems to end before the last one. It was read 5 ns
        // later.
        assert_eq!(energy(&mut reader, &at(3), 150), (200, 200, 1));
        assert_eq!(energy(&mut reader, &at(4), 250), (200, 250, 1));
    }
}
