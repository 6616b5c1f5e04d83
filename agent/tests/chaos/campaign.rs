//! Agents of one site that are killed one after the other, while their collector misbehaves and their files
//! are cut; and in the end, when it behaves well, the comparison of what it knows with their ledgers.

use std::path::Path;
use std::time::{Duration, Instant};

use super::conduct::{Conduct, Mood};
use super::ledger::{Difference, Run, compare};
use super::server::Collector;
use super::{PATIENCE, Site, authority};
use crate::rotel;

/// How long an agent lives.
const LIFE: std::ops::Range<u64> = 200..7000;

/// What stands between the agents and the scripted collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Way {
    Http,
    Grpc,
    /// HTTP over TLS, with certificates that have expired.
    Tls,
    /// The real collector rotel, over gRPC, which stands still at times.
    Rotel,
    /// Over HTTP, and the spool's file and its log are cut at random bytes between kills.
    Cuts,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Campaign {
    pub(crate) way: Way,
    pub(crate) kills: u64,
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) kills: u64,
    pub(crate) taken: u64,
    pub(crate) disturbed: u64,
    pub(crate) streams: Difference,
}

impl Outcome {
    pub(crate) fn add(&mut self, more: Outcome) {
        self.kills += more.kills;
        self.taken += more.taken;
        self.disturbed += more.disturbed;
        self.streams.add(more.streams);
    }
}

impl Campaign {
    /// Runs it. `None`: what it needs is not there.
    pub(crate) fn run(self) -> Option<Outcome> {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(self.seed);
        let file = authority(dir.path());
        let is_tls = self.way == Way::Tls;
        let collector = Collector::start(random.u64(..), is_tls.then_some(&*file));
        let protocol = if matches!(self.way, Way::Grpc | Way::Rotel) { "grpc" } else { "http/protobuf" };
        let between = match self.way {
            Way::Rotel => Some(rotel::start("grpc", &collector.endpoint)?),
            _ => None,
        };
        let endpoint = between.as_ref().map_or(&collector.endpoint, |between| &between.endpoint);
        let mut site = Site::new(dir.path(), endpoint, protocol);
        let mut runs = Vec::new();
        for _ in 0..self.kills {
            let is_away = random.u8(..3) == 0;
            match &between {
                Some(rotel) if is_away => rotel.stands_still(true),
                Some(_) => {}
                None => collector.set(if is_away { Conduct::Away } else { Conduct::AtRandom }),
            }
            let agent = site.start();
            std::thread::sleep(Duration::from_millis(random.u64(LIFE)));
            runs.push(match self.way {
                Way::Cuts => agent.kill_for_good(),
                _ => agent.kill(),
            });
            between.iter().for_each(|rotel| rotel.stands_still(false));
            if self.way == Way::Cuts {
                cut(&site.spool(), &mut random);
            }
        }
        collector.set(Conduct::Always(Mood::Well));
        let mut agent = site.start();
        agent.until(|agent| agent.ledger().len() >= 10);
        arrive(&collector, &runs);
        let last = agent.stop();
        // What that one has left.
        let agent = site.start();
        arrive(&collector, std::slice::from_ref(&last));
        agent.stop();
        let mut streams = difference(&collector, &last);
        runs.iter().for_each(|run| streams.add(difference(&collector, run)));
        let seen = collector.seen();
        Some(Outcome { kills: self.kills, taken: seen.taken, disturbed: seen.disturbed, streams })
    }
}

/// Cuts the spool's file, or its log.
fn cut(spool: &Path, random: &mut fastrand::Rng) {
    let mut log = spool.as_os_str().to_owned();
    log.push("-wal");
    let path = if random.bool() { spool.as_os_str().to_owned() } else { log };
    let Ok(file) = std::fs::File::options().write(true).open(path) else { return };
    let length = file.metadata().unwrap().len();
    file.set_len(random.u64(..=length)).unwrap();
}

/// Waits until the collector lacks nothing that is due, or nothing more has arrived for long.
pub(crate) fn arrive(collector: &Collector, runs: &[Run]) {
    let mut runs: Vec<_> = runs.iter().collect();
    let (mut least, mut since) = (usize::MAX, Instant::now());
    loop {
        let mut missing = 0;
        runs.retain(|run| {
            let of_run = difference(collector, run).missing.len();
            missing += of_run;
            of_run > 0
        });
        if missing < least {
            (least, since) = (missing, Instant::now());
        }
        if missing == 0 || since.elapsed() > PATIENCE {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the collector lacks or has wrong of a run.
pub(crate) fn difference(collector: &Collector, run: &Run) -> Difference {
    compare(run, &collector.seen().newest)
}
