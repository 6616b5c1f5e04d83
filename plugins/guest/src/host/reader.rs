//! From one message to the next: how much energy came in between, over which window, and what else happened.
//! Pure.

use std::time::Duration;

use wattrace_api::{Metric, Timestamp, Unit, Window};

use crate::message::{DomainShare, Share};

pub(super) const ANOMALIES: Metric = Metric::counter(
    "wattrace.host_share.anomalies",
    Unit::Count("{anomaly}"),
    1.0,
    "What the host's word on this machine's energy did instead of going on",
);

/// Something else than going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// The host told nothing new for long. Counted once, until it does.
    Stale,
    /// The host's agent started anew: what this machine used meanwhile is not known, and nobody's.
    Restart,
    /// The host counts from another beginning, which overlaps what was counted here: nothing is counted until
    /// the next message.
    Reset,
    /// A counter ran backwards: the joules of that window are unknown, and nobody's.
    Backwards,
    /// What was read is no message. The next good reading covers this window too.
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

/// What a message brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// So much more energy, in that window.
    Energy {
        /// From the end of what was known before.
        window: Window,
        /// Additional microjoules.
        microjoules: u64,
    },
    /// It is the one from before.
    Nothing {
        /// How long nothing else has come.
        silent_for: Duration,
    },
    /// The domains that are to be counted are not in it.
    NoSuchDomain,
}

/// The last message.
pub(super) struct Reader {
    wanted: String,
    last: Option<Share>,
    /// The end of its last window, here.
    as_of: Timestamp,
    /// When it came.
    heard: Timestamp,
    anomalies: Vec<Anomaly>,
}

/// The domains that count: the one that is wanted, or else all that are parts of the machine.
pub(super) fn counted<'a>(share: &'a Share, wanted: &'a str) -> impl Iterator<Item = &'a DomainShare> {
    share.domains.iter().filter(move |d| if wanted.is_empty() { d.part } else { d.domain == wanted })
}

impl Reader {
    pub(super) fn new(wanted: String) -> Self {
        Self { wanted, last: None, as_of: Timestamp(0), heard: Timestamp(0), anomalies: Vec::new() }
    }

    /// The first message: from here on is counted.
    pub(super) fn begin(&mut self, share: &Share, as_of: Timestamp) {
        self.last = Some(share.clone());
        (self.as_of, self.heard) = (as_of, as_of);
    }

    /// Microjoules in the last message.
    pub(super) fn total(&self) -> u64 {
        let last = self.last.iter().flat_map(|share| counted(share, &self.wanted));
        last.fold(0, |sum, domain| sum.saturating_add(domain.microjoules))
    }

    /// Up to when the host has told, by this machine's clock.
    pub(super) fn as_of(&self) -> Timestamp {
        self.as_of
    }

    pub(super) fn count(&mut self, anomaly: Anomaly) {
        self.anomalies.push(anomaly);
    }

    /// What happened since the last call.
    pub(super) fn take_anomalies(&mut self) -> Vec<Anomaly> {
        std::mem::take(&mut self.anomalies)
    }

    /// The next message, as of `as_of`, read `now`.
    pub(super) fn take(&mut self, share: &Share, as_of: Timestamp, now: Timestamp) -> News {
        let Some(last) = &self.last else {
            self.begin(share, as_of);
            return News::Nothing { silent_for: Duration::ZERO };
        };
        let told = |s: &Share| (s.session, s.start_unix_nano, s.as_of_unix_nano);
        if told(share) == told(last) && share.machine == last.machine {
            return News::Nothing { silent_for: now.since(self.heard) };
        }
        self.heard = now;
        if counted(share, &self.wanted).next().is_none() {
            return News::NoSuchDomain;
        }
        if share.session != last.session {
            self.anomalies.push(Anomaly::Restart);
        }
        let same_counter = (&share.machine, share.start_unix_nano) == (&last.machine, last.start_unix_nano);
        // One that began after the last message has all of its energy from since then.
        let is_later = share.machine == last.machine && share.start_unix_nano >= last.as_of_unix_nano;
        let mut microjoules = 0_u64;
        if same_counter {
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
        // Two clocks that disagree may say that a later message is as of before: it is of now, then.
        let end = if as_of > self.as_of { as_of } else { now.max(self.as_of) };
        let window = Window::new(self.as_of, end);
        self.as_of = end;
        self.last = Some(share.clone());
        News::Energy { window, microjoules }
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
            News::Energy { window, microjoules } => (window.start.0, window.end.0, microjoules),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parts_are_summed_and_what_contains_them_is_not() {
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
        assert_eq!(unknown.take(&at(2), Timestamp(200), Timestamp(200)), News::NoSuchDomain);
    }

    #[test]
    fn the_same_message_again_is_no_news_however_often() {
        let first = share(1, 0, 7, &[("package-0", true, 5)]);
        let mut reader = begun(&first);
        let silent_for = Duration::from_nanos(50);
        assert_eq!(reader.take(&first, Timestamp(140), Timestamp(150)), News::Nothing { silent_for });
        // A domain that appears has all of its energy from since then: it is new.
        let next = share(1, 0, 8, &[("package-0", true, 5), ("dram-0", true, 3)]);
        assert_eq!(energy(&mut reader, &next, 200), (100, 200, 3));
        assert!(reader.take_anomalies().is_empty());
    }

    #[test]
    fn a_host_that_restarts_goes_on_or_begins_anew() {
        let mut reader = begun(&share(1, 10, 20, &[("package-0", true, 50)]));
        let on = share(2, 10, 30, &[("package-0", true, 60)]);
        assert_eq!(energy(&mut reader, &on, 200).2, 10, "the counter was kept");
        let anew = share(3, 31, 40, &[("package-0", true, 4)]);
        assert_eq!(energy(&mut reader, &anew, 300).2, 4, "the counter was lost: all of the new one is later");
        assert_eq!(reader.take_anomalies(), [Anomaly::Restart, Anomaly::Restart]);
    }

    #[test]
    fn what_might_be_counted_twice_is_not_counted() {
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
    fn windows_follow_each_other_whatever_the_clocks_say() {
        let at = |n| share(1, 0, n, &[("package-0", true, n)]);
        let mut reader = begun(&at(1));
        assert_eq!(energy(&mut reader, &at(2), 200), (100, 200, 1));
        // The host's clock was set back: the message is as of before the last one. It was read 5 ns later.
        assert_eq!(energy(&mut reader, &at(3), 150), (200, 200, 1));
        assert_eq!(energy(&mut reader, &at(4), 250), (200, 250, 1));
    }
}
