//! What the model holds, and what is computed from it when it is drawn.

use std::time::Duration;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::consumer::{Consumer, Key, Part};
use super::domain::Domain;
use super::series::SeriesTable;
use crate::history::History;
use crate::kind::Kind;

/// Where each program and tree is.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups {
    pub(super) programs: FxHashMap<String, usize>,
    pub(super) trees: FxHashMap<(String, u64), usize>,
}

/// What a viewer knows.
#[derive(Clone, Debug)]
pub struct Model {
    /// The shortest frame, in nanoseconds.
    pub(super) interval: u64,
    /// Number of the last frame that has ended; 0: none, so there is no power yet.
    pub(super) frame: u32,
    /// When the first window began, in nanoseconds since the Unix epoch; 0: there was none.
    pub(super) begin: u64,
    /// When the last frame ended.
    pub(super) frame_end: u64,
    /// The last end of a window of a consumer's points.
    pub(super) newest: u64,
    /// Whether a counter appeared of which it is not known what it counted in this frame.
    pub(super) is_unknown: bool,
    pub(super) series: SeriesTable,
    pub(super) consumers: Slab<Consumer>,
    pub(super) by_number: FxHashMap<u64, usize>,
    /// Consumers that were described before a reset, and have not been described again since.
    pub(super) unclaimed: FxHashMap<(Kind, String, u64), usize>,
    pub(super) groups: Groups,
    pub(super) domains: Vec<Domain>,
    /// Consumers that used something in this frame.
    pub(super) active: Vec<u32>,
    /// Consumers that have ended, to be removed with the next frame.
    pub(super) ended: Vec<u32>,
    pub(super) cpu: Clock,
    pub(super) gpu: Clock,
    pub(super) serial: u32,
    pub(super) lost: u64,
    /// The power of all domains that count in totals.
    pub(super) history: History,
}

/// How far the points of a kind of usage reach.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    pub(super) newest: u64,
    /// At the end of the last frame.
    pub(super) before: u64,
}

impl Clock {
    pub(super) fn cover(&mut self, start: u64, end: u64) {
        if self.before == 0 {
            self.before = start;
        }
        self.newest = self.newest.max(end);
    }
}

impl Model {
    /// An empty one, whose frames last for `interval` or, if the points come slower, from point to point.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1),
            frame: 0,
            begin: 0,
            frame_end: 0,
            newest: 0,
            is_unknown: false,
            series: SeriesTable::default(),
            consumers: Slab::new(),
            by_number: FxHashMap::default(),
            unclaimed: FxHashMap::default(),
            groups: Groups::default(),
            domains: Vec::new(),
            active: Vec::new(),
            ended: Vec::new(),
            cpu: Clock::default(),
            gpu: Clock::default(),
            serial: 0,
            lost: 0,
            history: History::default(),
        }
    }

    /// Number of the last frame that has ended; 0: none yet, and no power is known.
    pub fn frame(&self) -> u32 {
        self.frame
    }

    /// When the last frame ended, in nanoseconds since the Unix epoch.
    pub fn now_unix_nano(&self) -> u64 {
        self.frame_end
    }

    /// When the first window began, in nanoseconds since the Unix epoch; 0 before the first message.
    pub fn begin_unix_nano(&self) -> u64 {
        self.begin
    }

    /// How many points were lost because the viewer was slow.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The energy counters, in the order in which they appeared.
    pub fn domains(&self) -> &[Domain] {
        &self.domains
    }

    /// Power of all domains that count in totals, W.
    pub fn watts(&self) -> f64 {
        self.domains.iter().filter(|domain| domain.counts()).map(Domain::watts).sum()
    }

    /// Energy of all domains that count in totals and of which it is known whose it is, in microjoules since
    /// their meters began.
    pub fn microjoules(&self) -> u64 {
        self.domains.iter().filter(|domain| domain.is_counted).map(|domain| domain.microjoules).sum()
    }

    /// The power over the last frames.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How the joules of the domains that count in totals came about: `measured`, `estimated`, `simulated`,
    /// or several of them; empty if there is no meter.
    pub fn origins(&self) -> Vec<&str> {
        let mut origins: Vec<_> =
            self.domains.iter().filter(|domain| domain.is_counted).map(|domain| &*domain.origin).collect();
        origins.sort_unstable();
        origins.dedup();
        origins
    }

    /// The consumer that a row of a table is about, as long as it is known.
    pub fn consumer(&self, key: Key) -> Option<&Consumer> {
        self.consumers.get(key.index as usize).filter(|consumer| consumer.serial == key.serial)
    }

    /// All consumers, in no order, with their keys.
    pub fn consumers(&self) -> impl Iterator<Item = (Key, &Consumer)> {
        self.consumers.iter().map(|(index, consumer)| (consumer.key(index), consumer))
    }

    /// The consumers of that kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.consumers.iter().any(|(_, consumer)| consumer.kind == kind && !consumer.is_rest())
    }

    /// Power of a consumer in the domains that count in totals, W.
    pub fn watts_of(&self, consumer: &Consumer) -> f64 {
        consumer.parts.iter().map(|part| self.watts_of_part(part)).sum()
    }

    fn watts_of_part(&self, part: &Part) -> f64 {
        match self.domains.get(usize::from(part.domain)) {
            Some(domain) if domain.counts() && part.frame == domain.frame => f64::from(part.watts),
            _ => 0.0,
        }
    }

    /// Energy of a consumer in the domains that count in totals, in microjoules.
    pub fn microjoules_of(&self, consumer: &Consumer) -> u64 {
        let counted = |part: &&Part| self.domains.get(usize::from(part.domain)).is_some_and(|d| d.is_counted);
        consumer.parts.iter().filter(counted).map(|part| part.microjoules).sum()
    }

    /// Half the width of the 95 % interval of that, J: the errors of domains are independent.
    pub fn half_width_of(&self, consumer: &Consumer) -> Option<f64> {
        let counted = |part: &&Part| self.domains.get(usize::from(part.domain)).is_some_and(|d| d.is_counted);
        let parts = consumer.parts.iter().filter(counted);
        let squares: f64 = parts.map(|part| f64::from(part.half_width).powi(2)).sum();
        (squares > 0.0).then(|| squares.sqrt())
    }

    /// CPUs that a consumer kept busy in the last frame: 1 is one CPU.
    pub fn cpus_of(&self, consumer: &Consumer) -> f64 {
        if consumer.frame == self.frame { f64::from(consumer.cpus) } else { 0.0 }
    }

    /// GPU engines that a consumer kept busy in the last frame: 1 is one engine.
    pub fn gpus_of(&self, consumer: &Consumer) -> f64 {
        if consumer.frame == self.frame { f64::from(consumer.gpus) } else { 0.0 }
    }

    pub(super) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }
}
