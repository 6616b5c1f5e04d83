//! From a meter's raw readings to cumulative microjoules that never run backwards and never drift. Pure: a
//! reading and the time since the last good one go in, a [`Step`] comes out. [`scale`] holds the exact factor
//! of perf's counts.

pub(crate) mod scale;

use std::time::Duration;

use scale::Scale;

/// No package draws this much over a window: a counter that says so has been reset, or has jumped.
const IMPLAUSIBLE_WATTS: u64 = 10_000;
/// Windows shorter than this are judged as if they were so long: meters refresh in steps, and a short window
/// may see all of a long step.
const SHORTEST_JUDGED: Duration = Duration::from_secs(1);

/// The number of microjoules after which a powercap counter whose `max_energy_range_uj` is `max` reads the
/// same again.
///
/// `max` is the largest *value*, so the period is one step longer. The kernel gets `max` from a register of
/// 32 bits as ⌊(2³² − 1)·u⌋ with u microjoules per count, about 61 on Intel's clients and 15 on servers'
/// memory and AMD, so one step is u = max / (2³² − 1), and the period 2³²·u, to less than a microjoule. A
/// counter with a smaller `max` than 2³² − 1 can't have come about that way: it counts single microjoules.
pub fn period(max: u64) -> u64 {
    max.saturating_add((max / u64::from(u32::MAX)).max(1))
}

/// What a reading did to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The first one: zero joules are counted from here.
    Based,
    /// It grew.
    Advanced,
    /// It reads what it read before.
    Still,
    /// It grew past its end and began anew; nothing is lost.
    Wrapped,
    /// It ran backwards and can't have wrapped: what was used since the last reading is unknown, and counted
    /// by nobody.
    Reset,
    /// It grew by more than any hardware uses in that time: as with a reset, what was used is unknown.
    Jumped,
}

/// A counter of energy since its first reading.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    /// Microjoules per raw unit.
    scale: Scale,
    /// The raw units after which it reads the same again; `None`: it is 64 bits wide, or nobody knows.
    period: Option<u64>,
    /// Raw units at [`IMPLAUSIBLE_WATTS`] in a second.
    implausible: u128,
    last: Option<u64>,
    /// Whole raw units since the first reading, resets left out.
    raw: u64,
}

impl Counter {
    /// A counter of microjoules that reads up to `max` before it wraps; `None`: it never may run backwards.
    pub(crate) fn of_microjoules(max: Option<u64>) -> Self {
        Self::new(Scale::MICROJOULE, max.filter(|&m| m > 0).map(period))
    }

    /// A 64-bit counter of units of `scale`, which never wraps in practice.
    pub(crate) fn of_counts(scale: Scale) -> Self {
        Self::new(scale, None)
    }

    /// A register of 32 bits that counts units of `scale`.
    pub(crate) fn of_register(scale: Scale) -> Self {
        Self::new(scale, Some(1 << 32))
    }

    fn new(scale: Scale, period: Option<u64>) -> Self {
        let implausible = scale.counts(IMPLAUSIBLE_WATTS * 1_000_000);
        Self { scale, period, implausible, last: None, raw: 0 }
    }

    /// Microjoules counted. Computed from the whole count each time, so that rounding never adds up.
    pub(crate) fn microjoules(&self) -> u64 {
        self.scale.microjoules(self.raw)
    }

    /// The time from one wrap to the next at a power of `watts`; `None` if it doesn't wrap.
    pub(crate) fn lap(&self, watts: u64) -> Option<Duration> {
        self.period.map(|period| Duration::from_micros(self.scale.microjoules(period) / watts))
    }

    /// The least microjoules by which it can grow, rounded up.
    pub(crate) fn step(&self) -> u64 {
        match self.period {
            // What powercap tells in microjoules is counted in larger steps by the register behind it.
            Some(period) if self.scale == Scale::MICROJOULE => (period >> 32) + 1,
            _ => self.scale.microjoules(1) + 1,
        }
    }

    /// Forgets the last reading: the next one is of a counter that began anew. What was counted stays.
    /// Returns whether there had been one.
    pub(crate) fn rebase(&mut self) -> bool {
        self.last.take().is_some()
    }

    /// Takes a reading, `elapsed` after the last one that was taken.
    pub(crate) fn take(&mut self, reading: u64, elapsed: Duration) -> Step {
        let Some(last) = self.last.replace(reading) else { return Step::Based };
        let (delta, step) = match reading.checked_sub(last) {
            Some(0) => return Step::Still,
            Some(delta) => (delta, Step::Advanced),
            None => {
                // `last` may exceed the period if the kernel told a wrong one; readings above the range are
                // refused before.
                let rest = self.period.and_then(|period| period.checked_sub(last));
                let Some(delta) = rest.and_then(|rest| rest.checked_add(reading)) else { return Step::Reset };
                (delta, Step::Wrapped)
            }
        };
        let nanos = elapsed.max(SHORTEST_JUDGED).as_nanos();
        if u128::from(delta).saturating_mul(1_000_000_000) > self.implausible.saturating_mul(nanos) {
            return if step == Step::Wrapped { Step::Reset } else { Step::Jumped };
        }
        self.raw = self.raw.saturating_add(delta);
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_period_of_a_register_is_one_step_longer_than_its_largest_value() {
        // 2^32 counts of 61.035 µJ (Intel's clients), and of 15.258 µJ (AMD), as the kernel computes them.
        assert_eq!(period(262_143_328_850), 4_294_967_296 * 61_035 / 1_000);
        assert_eq!(period(65_532_610_987), 4_294_967_296 * 15_258 / 1_000);
        assert_eq!(period(999_999), 1_000_000);
        assert_eq!(period(u64::MAX), u64::MAX);
    }

    /// Random steps of up to 400 W over windows of up to 1 s, read through a counter that wraps: the total is
    /// the truth to the last microjoule, at every reading.
    #[test]
    fn the_total_is_the_truth_across_thousands_of_wraps() {
        for max in [999_999, 1_234_567, 65_532_610_987] {
            let period = period(max);
            let mut seed = 0x2545_f491_4f6c_dd1d_u64;
            let mut random = |below: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % below
            };
            let mut truth = period - 5;
            let mut counter = Counter::of_microjoules(Some(max));
            assert_eq!(counter.take(truth % period, SECOND), Step::Based);
            let (from, mut wraps) = (truth, 0_u64);
            for _ in 0..20_000 {
                let elapsed = Duration::from_micros(1_000 + random(999_000));
                // Less than a period, else no reader could tell; 400 W for the slow counter.
                let delta = random(400 * elapsed.as_micros() as u64).min(period - 1);
                let wrapped = (truth + delta) / period > truth / period;
                truth += delta;
                let expected = if wrapped { Step::Wrapped } else { Step::Advanced };
                assert_eq!(counter.take(truth % period, elapsed), expected);
                assert_eq!(counter.microjoules(), truth - from);
                wraps += u64::from(wrapped);
            }
            assert!(wraps >= 20, "{max}: {wraps}");
        }
    }

    #[test]
    fn a_counter_that_runs_backwards_far_from_its_end_is_reset_and_goes_on_from_there() {
        let mut counter = Counter::of_microjoules(Some(262_143_328_850));
        counter.take(5_000_000, SECOND);
        assert_eq!(counter.take(8_000_000, SECOND), Step::Advanced);
        assert_eq!(counter.take(1_000, SECOND), Step::Reset);
        assert_eq!(counter.microjoules(), 3_000_000);
        assert_eq!(counter.take(1_500, SECOND), Step::Advanced);
        assert_eq!(counter.microjoules(), 3_000_500);
    }

    #[test]
    fn a_wrap_is_plausible_up_to_10_kilowatts() {
        let take = |reading| {
            let mut counter = Counter::of_microjoules(Some(99_999_999_999));
            counter.take(99_999_999_990, SECOND);
            counter.take(reading, SECOND)
        };
        // From the last reading to the end it is period - last = 100_000_000_022 - 99_999_999_990 = 32 µJ.
        assert_eq!(period(99_999_999_999), 100_000_000_022);
        assert_eq!(take(10_000_000_000 - 32), Step::Wrapped);
        assert_eq!(take(10_000_000_000 - 31), Step::Reset);
    }

    #[test]
    fn without_a_range_nothing_wraps() {
        for max in [None, Some(0)] {
            let mut counter = Counter::of_microjoules(max);
            counter.take(10, SECOND);
            assert_eq!(counter.take(9, SECOND), Step::Reset);
            assert_eq!(counter.microjoules(), 0);
        }
    }

    #[test]
    fn counts_become_microjoules_without_drift() {
        let mut counter = Counter::of_counts(Scale::parse("2.3283064365386962890625e-10").unwrap());
        counter.take(7, SECOND);
        let mut raw = 7_u64;
        for i in 0..100_000_u64 {
            raw += i % 777;
            counter.take(raw, SECOND);
            assert_eq!(u128::from(counter.microjoules()), (u128::from(raw - 7) * 1_000_000) >> 32);
        }
    }
}
