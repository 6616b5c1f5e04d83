//! Computes how long a GPU's engines worked for each of its clients since the last reading. A client counts
//! once, however many descriptors lead to it.

use std::time::Duration;

use rustc_hash::FxHashMap;
use wattrace_api::Timestamp;

use crate::fdinfo::{Cycles, Fdinfo};

/// The clients, with their counters at the last reading.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    seen: FxHashMap<u64, Client>,
    /// Numbers the readings, from 1.
    round: u64,
}

#[derive(Debug)]
struct Client {
    /// The largest number of nanoseconds read so far.
    nanos: u64,
    engines: Vec<Engine>,
    at: Timestamp,
    round: u64,
    /// The process that it was taken for in that round.
    holder: u32,
}

/// What a descriptor of a client adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nanoseconds that engines worked for it since the last reading.
    Used(u64),
    /// This reading has it already, by another descriptor of the process.
    Again,
    /// This reading has it already, for this other process.
    HeldBy(u32),
}

#[derive(Debug)]
struct Engine {
    name: Box<str>,
    busy: u64,
    total: u64,
}

impl Clients {
    /// Starts a reading of all clients.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
    }

    /// Takes the client that one descriptor of `pid` showed at `at`.
    ///
    /// A client that the first reading did not find began after it, so its counters count from zero.
    pub(crate) fn take(
        &mut self,
        pid: u32,
        found: &Fdinfo<'_>,
        cycles: &[Cycles<'_>],
        at: Timestamp,
    ) -> Taken {
        let (round, first) = (self.round, self.round == 1);
        let Some(client) = self.seen.get_mut(&found.client) else {
            let nanos = found.nanos.unwrap_or(0);
            let busy = |engine: &Cycles<'_>| if first { engine.busy } else { 0 };
            let engines =
                cycles.iter().map(|e| Engine { name: e.name.into(), busy: busy(e), total: e.total });
            let client = Client { nanos, engines: engines.collect(), at, round, holder: pid };
            self.seen.insert(found.client, client);
            return Taken::Used(if first { 0 } else { nanos });
        };
        if std::mem::replace(&mut client.round, round) == round {
            return if client.holder == pid { Taken::Again } else { Taken::HeldBy(client.holder) };
        }
        client.holder = pid;
        // Drivers may report less than before for a while, but catch up.
        let nanos = found.nanos.unwrap_or(0).max(client.nanos);
        let mut used = nanos - std::mem::replace(&mut client.nanos, nanos);
        let elapsed = at.since(std::mem::replace(&mut client.at, at));
        if let Some(hundredths) = found.share {
            let nanos = elapsed.as_nanos() * u128::from(hundredths) / 10_000;
            used = used.saturating_add(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        for cycles in cycles {
            used = used.saturating_add(client.worked(cycles, elapsed));
        }
        Taken::Used(used)
    }

    /// Finishes a reading: a client that it did not find is gone.
    pub(crate) fn end(&mut self) {
        let round = self.round;
        self.seen.retain(|_, client| client.round == round);
    }
}

impl Client {
    /// Nanoseconds that an engine worked, from the share of its cycles.
    fn worked(&mut self, cycles: &Cycles<'_>, elapsed: Duration) -> u64 {
        let Some(engine) = self.engines.iter_mut().find(|engine| *engine.name == *cycles.name) else {
            let (name, busy, total) = (cycles.name.into(), cycles.busy, cycles.total);
            self.engines.push(Engine { name, busy, total });
            return 0;
        };
        let busy = cycles.busy.saturating_sub(engine.busy);
        let total = cycles.total.saturating_sub(engine.total);
        if total == 0 {
            // Nothing has passed yet, or the GPU was reset and counts from zero again.
            if cycles.total < engine.total {
                (engine.busy, engine.total) = (cycles.busy, cycles.total);
            }
            return 0;
        }
        (engine.busy, engine.total) = (cycles.busy.max(engine.busy), cycles.total);
        u64::try_from(elapsed.as_nanos() * u128::from(busy) / u128::from(total)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fdinfo(client: u64, nanos: u64) -> Fdinfo<'static> {
        Fdinfo { client, nanos: Some(nanos), ..Fdinfo::default() }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp(second * 1_000_000_000)
    }

    #[test]
    fn clients_of_the_first_reading_count_from_it_and_later_ones_from_zero() {
        let mut clients = Clients::default();
        clients.begin();
        assert_eq!(clients.take(7, &fdinfo(1, 500), &[], at(0)), Taken::Used(0));
        clients.end();
        clients.begin();
        assert_eq!(clients.take(7, &fdinfo(1, 600), &[], at(1)), Taken::Used(100));
        assert_eq!(clients.take(7, &fdinfo(1, 650), &[], at(1)), Taken::Again);
        assert_eq!(clients.take(8, &fdinfo(1, 650), &[], at(1)), Taken::HeldBy(7));
        assert_eq!(clients.take(8, &fdinfo(2, 70), &[], at(1)), Taken::Used(70));
        clients.end();
    }

    #[test]
    fn a_count_that_falls_back_adds_nothing_until_it_has_caught_up() {
        let mut clients = Clients::default();
        let mut used = 0;
        for (second, nanos) in [100, 300, 250, 290, 400].into_iter().enumerate() {
            clients.begin();
            let Taken::Used(nanos) = clients.take(7, &fdinfo(1, nanos), &[], at(second as u64)) else {
                panic!("taken twice");
            };
            used += nanos;
            clients.end();
        }
        assert_eq!(used, 300);
    }

    #[test]
    fn cycles_are_shares_of_the_time_between_two_readings() {
        let mut clients = Clients::default();
        let found = Fdinfo { client: 1, ..Fdinfo::default() };
        let cycles = |busy, total| [Cycles { name: "rcs", busy, total }];
        let mut read = |second, client, cycles: [Cycles<'_>; 1]| {
            clients.begin();
            let taken = clients.take(7, &Fdinfo { client, ..found.clone() }, &cycles, at(second));
            clients.end();
            let Taken::Used(used) = taken else { panic!("{taken:?}") };
            used
        };
        assert_eq!(read(0, 1, cycles(1_000, 10_000)), 0);
        assert_eq!(read(2, 1, cycles(1_500, 11_000)), 1_000_000_000);
        assert_eq!(read(3, 1, cycles(1_500, 11_000)), 0, "the same instant of the GPU");
        assert_eq!(read(4, 1, cycles(1_500, 12_000)), 0);
        assert_eq!(read(5, 1, cycles(7, 100)), 0, "reset");
        assert_eq!(read(6, 1, cycles(107, 200)), 1_000_000_000);
        // Found late: the cycles before it was found are counted with the first share.
        assert_eq!(read(7, 2, cycles(300, 1_000)), 0);
        assert_eq!(read(8, 2, cycles(400, 2_000)), 400_000_000);
    }

    #[test]
    fn shares_are_of_the_time_since_the_last_reading() {
        let mut clients = Clients::default();
        let found = Fdinfo { client: 1, share: Some(7_425), ..Fdinfo::default() };
        for (second, used) in [(0, 0), (2, 1_485_000_000), (3, 742_500_000)] {
            clients.begin();
            assert_eq!(clients.take(7, &found, &[], at(second)), Taken::Used(used));
            clients.end();
        }
    }

    #[test]
    fn a_client_that_is_gone_is_forgotten() {
        let mut clients = Clients::default();
        clients.begin();
        clients.take(7, &fdinfo(1, 500), &[], at(0));
        clients.end();
        clients.begin();
        clients.end();
        assert!(clients.seen.is_empty());
    }
}
