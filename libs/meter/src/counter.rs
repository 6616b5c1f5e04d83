//! From raw readings of an energy counter to cumulative microjoules that never run backwards and never drift:
//! wraps are undone, resets and jumps are detected. Pure: a reading and the time since the previous one go
//! in, a [`Step`] comes out. `counter_channel.rs` turns steps into points and anomalies.

use std::time::Duration;

use crate::scale::Scale;

/// Windows shorter than this are judged as if they were this long: meters refresh in steps, and a short
/// window may contain all of a long step.
const SHORTEST_JUDGED: Duration = Duration::from_secs(1);
/// Widths of counters whose driver does not say.
const WIDTHS: [u32; 2] = [32, 64];

/// After how many raw units a counter starts again at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// After this many.
    Known(u64),
    /// Unknown. A wrap at 32 or 64 bits is accepted only if it means a power similar to that of the window
    /// before.
    Unknown,
}

/// The number of microjoules after which a powercap counter whose `max_energy_range_uj` is `max` reads the
/// same again.
///
/// `max` is the largest *value*, so the period is one step longer. The kernel computes `max` for a register
/// of 32 bits as ⌊(2³² − 1)·u⌋ with u microjoules per count, about 61 on Intel's clients and 15 on servers'
/// memory and AMD. One step is u = max / (2³² − 1), and the period is 2³²·u, to less than a microjoule. A
/// `max` below 2³² − 1 cannot be the result of this computation: that counter counts single microjoules.
pub fn powercap_period(max: u64) -> u64 {
    max.saturating_add((max / u64::from(u32::MAX)).max(1))
}

/// What a reading did to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first reading: energy is counted from here.
    Based,
    /// The counter grew.
    Advanced,
    /// The counter did not move.
    Still,
    /// The counter passed its end and started again at zero. Nothing is lost.
    Wrapped,
    /// The counter ran backwards and cannot have wrapped. The energy since the previous reading is unknown,
    /// and not counted.
    Reset,
    /// The counter grew by more than the hardware can use in that time. As with a reset, the energy is
    /// unknown.
    Jumped,
}

/// Energy since the first reading of a counter.
#[derive(Clone, Debug)]
pub struct Counter {
    scale: Scale,
    period: Period,
    /// Raw units per second above which growth is a jump.
    max_rate: u128,
    last: Option<u64>,
    /// Raw units since the first reading, without resets and jumps.
    total: u64,
    /// Growth in the last window that was counted, in raw units, and the window's length.
    previous_growth: (u64, Duration),
}

impl Counter {
    /// A counter of units of `scale`. Growth that means more than `max_watts` is a jump.
    pub fn new(scale: Scale, period: Period, max_watts: u64) -> Self {
        let max_rate = scale.counts(max_watts.saturating_mul(1_000_000));
        Self { scale, period, max_rate, last: None, total: 0, previous_growth: (0, Duration::ZERO) }
    }

    /// Takes a reading, `elapsed` after the previous one.
    pub fn take(&mut self, reading: u64, elapsed: Duration) -> Step {
        let Some(last) = self.last.replace(reading) else { return Step::Based };
        let (growth, step) = match reading.checked_sub(last) {
            Some(0) => (0, Step::Still),
            Some(growth) => (growth, Step::Advanced),
            None => match self.growth_past_the_end(last, reading, elapsed) {
                Some(growth) => (growth, Step::Wrapped),
                None => return self.unknown(Step::Reset),
            },
        };
        let nanos = elapsed.max(SHORTEST_JUDGED).as_nanos();
        if u128::from(growth).saturating_mul(1_000_000_000) > self.max_rate.saturating_mul(nanos) {
            return self.unknown(if step == Step::Wrapped { Step::Reset } else { Step::Jumped });
        }
        self.total = self.total.saturating_add(growth);
        self.previous_growth = (growth, elapsed);
        step
    }

    /// The growth of this window is unknown, so the next one cannot be compared with it.
    fn unknown(&mut self, step: Step) -> Step {
        self.previous_growth = (0, Duration::ZERO);
        step
    }

    /// Forgets the previous reading: the next one is a first one again. The total stays. Returns whether
    /// there was a previous reading.
    pub fn rebase(&mut self) -> bool {
        self.previous_growth = (0, Duration::ZERO);
        self.last.take().is_some()
    }

    /// Microjoules counted. Computed from the whole count each time, so that rounding errors do not add up.
    pub fn microjoules(&self) -> u64 {
        self.scale.microjoules(self.total)
    }

    /// The time from one wrap to the next at a power of `watts`; `None` if the period is unknown.
    pub fn time_to_wrap(&self, watts: u64) -> Option<Duration> {
        match self.period {
            Period::Known(period) => Some(Duration::from_micros(self.scale.microjoules(period) / watts)),
            Period::Unknown => None,
        }
    }

    /// The smallest growth, in microjoules, rounded up.
    pub fn resolution(&self) -> u64 {
        match self.period {
            // Powercap shows microjoules, but the register behind it counts in larger steps.
            Period::Known(period) if self.scale == Scale::MICROJOULE => (period >> 32) + 1,
            _ => self.scale.microjoules(1) + 1,
        }
    }

    /// The growth from `last` over the end to `reading`, if it is plausible.
    fn growth_past_the_end(&self, last: u64, reading: u64, elapsed: Duration) -> Option<u64> {
        let over = |period: u128| {
            // `last` exceeds the period if the driver reports a wrong one.
            let growth = period.checked_sub(u128::from(last))?.checked_add(u128::from(reading))?;
            u64::try_from(growth).ok()
        };
        match self.period {
            Period::Known(period) => over(u128::from(period)),
            Period::Unknown => WIDTHS
                .iter()
                .filter_map(|&bits| over(1 << bits))
                .find(|&growth| self.is_similar_to_previous(growth, elapsed)),
        }
    }

    /// Whether `growth` means a power between a quarter and four times that of the window before.
    fn is_similar_to_previous(&self, growth: u64, elapsed: Duration) -> bool {
        let (before, span) = self.previous_growth;
        // Cross-multiplied: growth / elapsed against before / span.
        let now = u128::from(growth).saturating_mul(span.as_micros());
        let then = u128::from(before).saturating_mul(elapsed.as_micros());
        then > 0 && now <= then.saturating_mul(4) && then <= now.saturating_mul(4)
    }
}

#[cfg(test)]
mod tests;
