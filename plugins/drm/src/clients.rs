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

    /// Takes the client that one descriptor showed at `at`. Returns the nanoseconds that engines worked for
    /// it since the last reading; `None` if this reading has it already.
    ///
    /// A client that the first reading did not find began after it, so its counters count from zero.
    pub(crate) fn take(&mut self, found: &Fdinfo<'_>, cycles: &[Cycles<'_>], at: Timestamp) -> Option<u64> {
        let (round, first) = (self.round, self.round == 1);
        let Some(client) = self.seen.get_mut(&found.client) else {
            let nanos = found.nanos.unwrap_or(0);
            let busy = |engine: &Cycles<'_>| if first { engine.busy } else { 0 };
            let engines =
                cycles.iter().map(|e| Engine { name: e.name.into(), busy: busy(e), total: e.total });
            let client = Client { nanos, engines: engines.collect(), at, round };
            self.seen.insert(found.client, client);
            return Some(if first { 0 } else { nanos });
        };
        if std::mem::replace(&mut client.round, round) == round {
            return None;
        }
        // Drivers may report less than before for a while, but catch up.
        let nanos = found.nanos.unwrap_or(0).max(client.nanos);
        let mut used = nanos - std::mem::replace(&mut client.nanos, nanos);
        let elapsed = at.since(std::mem::replace(&mut client.at, at));
        for cycles in cycles {
            used = used.saturating_add(client.worked(cycles, elapsed));
        }
        Some(used)
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
        assert_eq!(clients.take(&fdinfo(1, 500), &[], at(0)), Some(0));
        clients.end();
        clients.begin();
        assert_eq!(clients.take(&fdinfo(1, 600), &[], at(1)), Some(100));
        assert_eq!(clients.take(&fdinfo(1, 650), &[], at(1)), None, "another descriptor of the same client");
        assert_eq!(clients.take(&fdinfo(2, 70), &[], at(1)), Some(70));
        clients.end();
    }

    #[test]
    fn a_count_that_falls_back_adds_nothing_until_it_has_caught_up() {
        let mut clients = Clients::default();
        let mut used = 0;
        for (second, nanos) in [100, 300, 250, 290, 400].into_iter().enumerate() {
            clients.begin();
            used += clients.take(&fdinfo(1, nanos), &[], at(second as u64)).unwrap();
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
            let used = clients.take(&Fdinfo { client, ..found.clone() }, &cycles, at(second)).unwrap();
            clients.end();
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
    fn a_client_that_is_gone_is_forgotten() {
        let mut clients = Clients::default();
        clients.begin();
        clients.take(&fdinfo(1, 500), &[], at(0));
        clients.end();
        clients.begin();
        clients.end();
        assert!(clients.seen.is_empty());
    }
}
