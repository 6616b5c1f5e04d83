//! A sender whose processes are known, and what they used.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use wattrace_api::SeriesId;
use wattrace_otlp::OtlpConfig;

use super::server::Server;
use super::{Fixture, J, PATIENCE, process};

const SECOND: Duration = Duration::from_secs(1);

/// A sender whose processes use a joule a second each.
pub(crate) struct Machine {
    pub(crate) fixture: Fixture,
    pub(crate) live: Vec<(SeriesId, u64)>,
    /// Who they are: their pid, and the start of their stream.
    who: HashMap<SeriesId, (i64, u64)>,
    /// What the ended ones used, in microjoules.
    ended: BTreeMap<(i64, u64), u64>,
    started: i64,
    /// What all processes used, in joules.
    pub(crate) truth: f64,
}

impl Machine {
    pub(crate) fn start(server: &Server, protocol: &str, change: impl FnOnce(&mut OtlpConfig)) -> Self {
        Self::start_at(1, server, protocol, change)
    }

    /// The same at the time `now`.
    pub(crate) fn start_at(
        now: u64,
        server: &Server,
        protocol: &str,
        change: impl FnOnce(&mut OtlpConfig),
    ) -> Self {
        let mut config = OtlpConfig {
            endpoint: server.endpoint.clone(),
            protocol: protocol.to_owned(),
            interval: SECOND,
            timeout: Duration::from_secs(5),
            top: 0,
            ..OtlpConfig::default()
        };
        change(&mut config);
        Self {
            fixture: Fixture::new(config, now),
            live: Vec::new(),
            who: HashMap::new(),
            ended: BTreeMap::new(),
            started: 0,
            truth: 0.0,
        }
    }

    /// Starts processes.
    pub(crate) fn fork(&mut self, count: usize) {
        for _ in 0..count {
            self.started += 1;
            let id = self.fixture.energy(Some(process(self.started, "worker")));
            self.who.insert(id, (self.started, self.fixture.rig.clock.now().0));
            self.live.push((id, 0));
        }
    }

    /// What each process used that has been measured, in microjoules.
    pub(crate) fn ledger(&self) -> BTreeMap<(i64, u64), u64> {
        let measured = self.live.iter().filter(|(_, joules)| *joules > 0);
        let live = measured.filter_map(|(id, joules)| Some((*self.who.get(id)?, joules * J)));
        self.ended.iter().map(|(who, microjoules)| (*who, *microjoules)).chain(live).collect()
    }

    /// A second passes, after which `exits` processes have ended.
    pub(crate) fn second(&mut self, exits: usize) {
        self.live.iter_mut().for_each(|(_, joules)| *joules += 1);
        self.truth += self.live.len() as f64;
        let points: Vec<_> = self.live.iter().map(|(id, joules)| (*id, joules * J)).collect();
        let mut ended = Vec::with_capacity(exits);
        for (id, joules) in self.live.drain(..exits) {
            ended.push(id);
            self.ended.extend(self.who.remove(&id).map(|who| (who, joules * J)));
        }
        self.fixture.write(SECOND, &points, &ended);
    }

    /// Waits until it has noticed that nothing arrives.
    pub(crate) fn notices_trouble(&mut self) {
        let begun = Instant::now();
        while self.fixture.rig.outputs[0].1.trouble().is_none() {
            assert!(begun.elapsed() < PATIENCE, "the outage is not noticed");
            self.fixture.write_nothing(Duration::from_millis(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Turns the clock until the collector knows all joules. Returns how long that took by the clock.
    pub(crate) fn recover(&mut self, server: &Server) -> Duration {
        self.recover_within(server, PATIENCE)
    }

    /// The same, as long as something arrives within `patience`.
    pub(crate) fn recover_within(&mut self, server: &Server, patience: Duration) -> Duration {
        let (mut since, start) = (Instant::now(), self.fixture.rig.clock.now());
        let mut known = 0.0;
        loop {
            let joules = server.seen.lock().unwrap().joules();
            if joules == self.truth {
                break;
            }
            if joules > known {
                (since, known) = (Instant::now(), joules);
            }
            assert!(since.elapsed() < patience, "{joules} J arrived of {}", self.truth);
            self.fixture.write_nothing(SECOND);
            std::thread::sleep(Duration::from_millis(2));
        }
        self.fixture.rig.clock.now().since(start)
    }
}
