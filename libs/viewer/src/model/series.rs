//! A series, and what its points change.

/// More series than any agent has. Larger numbers are ignored.
const MOST: u32 = 1 << 22;

/// The series by their numbers. An agent gives these from zero on, and uses them again: a point costs no
/// hashing.
#[derive(Clone, Debug, Default)]
pub(super) struct SeriesTable(Vec<Option<Series>>);

impl SeriesTable {
    pub(super) fn get(&self, id: u32) -> Option<&Series> {
        self.0.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Series> {
        self.0.get_mut(id as usize)?.as_mut()
    }

    /// Returns the one that had the number.
    pub(super) fn insert(&mut self, id: u32, series: Series) -> Option<Series> {
        let at = id as usize;
        if at >= self.0.len() && id < MOST {
            self.0.resize_with(at + 1, || None);
        }
        self.0.get_mut(at)?.replace(series)
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Series> {
        self.0.get_mut(id as usize)?.take()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

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
