//! A series, and what its points change.

/// A series of points.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Index of its consumer.
    pub(super) consumer: Option<usize>,
    pub(super) target: Target,
    pub(super) start: u64,
    /// The last value of a counter of usage.
    pub(super) last: Option<u64>,
}

/// What the points of a series change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Meter {
        domain: u16,
    },
    StaticPower {
        domain: u16,
    },
    /// A consumer's part of a domain, by its number.
    Energy {
        part: usize,
    },
    Uncertainty {
        part: usize,
    },
    CpuTime,
    GpuTime,
    GpuMemory,
}

impl Series {
    /// By how much the counter grew; `None` if that is not known.
    pub(super) fn next(&mut self, value: u64, is_seen: impl Fn(u64) -> bool) -> Option<u64> {
        match self.last.replace(value) {
            Some(last) => Some(value.saturating_sub(last)),
            None => is_seen(self.start).then_some(value),
        }
    }

    /// What a point adds to the total: a first value counts in full, whatever was seen of it.
    pub(super) fn counted(&self, value: u64, known: Option<u64>) -> u64 {
        known.unwrap_or(value)
    }
}
