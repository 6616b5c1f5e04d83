//! Whether a group of counters counts, and how that is decided for one that may be the same as another. Pure:
//! `mirrors.rs` reads the groups.

use std::time::Duration;

use wattrace_api::Timestamp;

/// The time between two checks that count, in which a thousand refreshes of the hardware fit. A little less
/// than the usual interval of readings, whose ticks are not exact.
const CHECK_INTERVAL: Duration = Duration::from_millis(900);
/// The shortest span over which a difference says something.
const SHORTEST: Duration = Duration::from_millis(50);
/// After so many checks with the same energy, two counters are one.
const CHECKS: u32 = 10;
/// Counters are not read at one instant: at each end, one of them may have been refreshed in between. The
/// hardware refreshes about every millisecond.
const TWO_REFRESHES: Duration = Duration::from_millis(2);
/// A difference that is so many times what refreshes explain is one at once, a smaller one if it is there
/// twice.
const PLAIN: u64 = 10;
/// Whether a group counts.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// It does.
    Counts,
    /// It may be the same as another.
    Suspect(Suspicion),
    /// It is the same as another, and is not read any more.
    Mirror,
}

impl Standing {
    /// Whether its energy counts, so that it has series.
    pub(super) fn counts(&self) -> bool {
        match self {
            Standing::Counts => true,
            Standing::Suspect(suspicion) => suspicion.counts,
            Standing::Mirror => false,
        }
    }
}

/// What is known about a suspect.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    /// The indices of the groups that it may be the same as.
    pub(super) twins: Vec<usize>,
    pub(super) opened: Timestamp,
    checked: Timestamp,
    /// Consecutive checks with the same energy, and with a small difference.
    same: u32,
    different: u32,
    /// Whether it counts for now: nothing has been seen that speaks for a mirror.
    pub(super) counts: bool,
}

/// How alike two counters are, or two groups: as alike as their least similar counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likeness {
    /// Neither has grown.
    Still,
    /// They have grown by the same energy.
    Same,
    /// One could not be read, or the time is too short.
    Unknown,
    /// They differ by a little more than refreshes explain.
    Near,
    /// They differ.
    Different,
}

/// Compares what two counters have counted over `elapsed`, each with the smallest growth of its counter.
pub(super) fn compare((a, fine_a): (u64, u64), (b, fine_b): (u64, u64), elapsed: Duration) -> Likeness {
    if elapsed < SHORTEST {
        return Likeness::Unknown;
    }
    if a == 0 && b == 0 {
        return Likeness::Still;
    }
    let refreshes = u128::from(a.max(b)) * TWO_REFRESHES.as_nanos() / elapsed.as_nanos();
    let explained = u64::try_from(refreshes).unwrap_or(u64::MAX).saturating_add(2 * (fine_a + fine_b));
    match a.abs_diff(b) {
        same if same <= explained => Likeness::Same,
        near if near <= explained.saturating_mul(PLAIN) => Likeness::Near,
        _ => Likeness::Different,
    }
}

impl Suspicion {
    /// That of a group that was opened at `now` and may be the same as one of `twins`.
    pub(super) fn new(twins: Vec<usize>, now: Timestamp, counts: bool) -> Self {
        Self { twins, opened: now, checked: now, same: 0, different: 0, counts }
    }

    /// The standing after a check at `now`, given how alike the most similar twin is; `None`: there is none.
    pub(super) fn next(mut self, closest: Option<Likeness>, now: Timestamp) -> Standing {
        let Some(likeness) = closest else { return Standing::Counts };
        // Before anything is counted twice. Over a shorter time, different counters may look the same.
        self.counts &= likeness != Likeness::Same || now.since(self.opened) < CHECK_INTERVAL;
        if now.since(self.checked) < CHECK_INTERVAL {
            return Standing::Suspect(self);
        }
        self.checked = now;
        match likeness {
            Likeness::Same => (self.same, self.different) = (self.same + 1, 0),
            Likeness::Near => (self.same, self.different) = (0, self.different + 1),
            // Counters that stand still are shown, and watched.
            Likeness::Still => self.counts = true,
            Likeness::Unknown | Likeness::Different => {}
        }
        match self {
            Suspicion { same: CHECKS.., .. } => Standing::Mirror,
            Suspicion { different: 2.., .. } => Standing::Counts,
            undecided => Standing::Suspect(undecided),
        }
    }
}
