//! From readings of a meter that counts microjoules itself to a count that never runs backwards: wraps
//! undone, resets and jumps told apart. Pure: a reading and the time since the last one go in, a [`Step`]
//! comes out.

use std::time::Duration;

/// No single meter grows faster: a counter that would have to was set, not fed.
const MOST_WATTS: u128 = 100_000;
/// Windows shorter than this are judged as if they were so long: meters refresh in steps, and a short window
/// may see all of a long step.
const SHORTEST_JUDGED: Duration = Duration::from_secs(1);
/// Widths that counters of microjoules come in, where the driver does not say.
const WIDTHS: [u32; 2] = [32, 64];

/// After how much energy a counter begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// After this many microjoules.
    Known(u64),
    /// Nobody says. A wrap at a usual width is believed only if it means a power like the one before.
    Unknown,
}

/// What a reading did to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first one: energy is counted from here.
    Based,
    /// It grew, or stood still.
    Advanced,
    /// It grew past its end and began anew; nothing is lost.
    Wrapped,
    /// It ran backwards and can't have wrapped, or jumped further than any machine could have fed it: what
    /// was used since the last reading is unknown, and counted by nobody.
    Reset,
}

/// A counter of microjoules since its first reading.
#[derive(Clone, Debug)]
pub struct Counter {
    period: Period,
    last: Option<u64>,
    total: u64,
    /// What the last window that advanced added, and its length.
    pace: (u64, Duration),
}

impl Counter {
    /// Nothing counted yet.
    pub fn new(period: Period) -> Self {
        Self { period, last: None, total: 0, pace: (0, Duration::ZERO) }
    }

    /// Takes a reading, `elapsed` after the last one.
    pub fn take(&mut self, reading: u64, elapsed: Duration) -> Step {
        let Some(last) = self.last.replace(reading) else { return Step::Based };
        let (delta, step) = match reading.checked_sub(last) {
            Some(delta) => (delta, Step::Advanced),
            None => match self.past_the_end(last, reading, elapsed) {
                Some(delta) => (delta, Step::Wrapped),
                None => return self.reset(),
            },
        };
        if !plausible(delta, elapsed) {
            return self.reset();
        }
        self.total = self.total.saturating_add(delta);
        self.pace = (delta, elapsed);
        step
    }

    /// What came before says nothing about what comes after.
    fn reset(&mut self) -> Step {
        self.pace = (0, Duration::ZERO);
        Step::Reset
    }

    /// Lets the next reading be a first one again; what was counted stays.
    pub fn forget(&mut self) {
        (self.last, self.pace) = (None, (0, Duration::ZERO));
    }

    /// Microjoules counted so far.
    pub fn microjoules(&self) -> u64 {
        self.total
    }

    /// Whether the last reading added nothing.
    pub fn stands_still(&self) -> bool {
        self.pace.0 == 0
    }

    /// The growth from `last` over the end to `reading`, if that is believable.
    fn past_the_end(&self, last: u64, reading: u64, elapsed: Duration) -> Option<u64> {
        let over = |period: u128| {
            let delta = period.checked_sub(u128::from(last))?.checked_add(u128::from(reading))?;
            u64::try_from(delta).ok()
        };
        match self.period {
            Period::Known(period) => over(u128::from(period)),
            Period::Unknown => WIDTHS
                .iter()
                .filter_map(|&bits| over(1 << bits))
                .find(|&delta| self.is_like_before(delta, elapsed)),
        }
    }

    /// Whether `delta` means a power between a quarter and four times that of the window before.
    fn is_like_before(&self, delta: u64, elapsed: Duration) -> bool {
        let (before, span) = self.pace;
        // Cross-multiplied: delta / elapsed against before / span.
        let (now, then) = (u128::from(delta) * span.as_micros(), u128::from(before) * elapsed.as_micros());
        then > 0 && now <= 4 * then && then <= 4 * now
    }
}

fn plausible(microjoules: u64, elapsed: Duration) -> bool {
    // One watt is one microjoule per microsecond.
    u128::from(microjoules) <= MOST_WATTS * elapsed.max(SHORTEST_JUDGED).as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A counter of each width, fed along a random walk of power, is the truth at every reading, across
    /// wraps.
    #[test]
    fn the_total_is_the_truth_across_wraps_of_every_width() {
        let widths = [
            (Period::Known(1_000_000_000), 1_000_000_000_u128),
            (Period::Unknown, 1 << 32),
            (Period::Unknown, 1 << 64),
        ];
        for (period, size) in widths {
            let (mut seed, mut power) = (99_u64, 200_u64);
            let mut random = |below: u64| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % below
            };
            let start = size - 77;
            let mut truth = start;
            let mut counter = Counter::new(period);
            assert_eq!(counter.take((truth % size) as u64, SECOND), Step::Based);
            // Something to compare with, on this side of the end, where the width is to be guessed.
            if period == Period::Unknown {
                truth -= 1_000_000_000;
                counter = Counter::new(period);
                counter.take((truth % size) as u64, SECOND);
                truth += 200_000_000;
                counter.take((truth % size) as u64, SECOND);
            }
            let (from, counted) = (truth, counter.microjoules());
            let mut wraps = 0;
            for _ in 0..20_000 {
                power = (power + random(41)).saturating_sub(20).clamp(100, 300);
                let elapsed = Duration::from_micros(500_000 + random(500_000));
                let delta = power * elapsed.as_micros() as u64;
                let wrapped = (truth + u128::from(delta)) / size > truth / size;
                truth += u128::from(delta);
                let expected = if wrapped { Step::Wrapped } else { Step::Advanced };
                assert_eq!(counter.take((truth % size) as u64, elapsed), expected, "{period:?}");
                assert_eq!(u128::from(counter.microjoules() - counted), truth - from);
                wraps += u32::from(wrapped);
            }
            assert!(wraps >= 1, "{period:?}");
        }
    }

    #[test]
    fn a_reset_claims_nothing_and_counting_goes_on_from_there() {
        let mut counter = Counter::new(Period::Unknown);
        for (reading, step, total) in [
            (4_000_000_000, Step::Based, 0),
            (4_010_000_000, Step::Advanced, 10_000_000),
            // 2^32 is 284.97 J away: thirty times the power before is no wrap.
            (0, Step::Reset, 10_000_000),
            (5, Step::Advanced, 10_000_005),
        ] {
            assert_eq!(counter.take(reading, SECOND), step);
            assert_eq!(counter.microjoules(), total);
        }
    }

    #[test]
    fn a_jump_that_nothing_could_have_fed_is_a_reset_there_and_back() {
        let mut counter = Counter::new(Period::Unknown);
        let ends =
            [(1_000, Step::Based), (2_000, Step::Advanced), (u64::MAX, Step::Reset), (3_000, Step::Reset)];
        for (reading, step) in ends {
            assert_eq!(counter.take(reading, SECOND), step, "{reading}");
        }
        assert_eq!(counter.take(4_000, SECOND), Step::Advanced);
        assert_eq!(counter.microjoules(), 2_000);
    }

    #[test]
    fn the_bound_is_100_kilowatts_over_a_second_at_least() {
        let grow = |delta, elapsed| {
            let mut counter = Counter::new(Period::Unknown);
            counter.take(0, SECOND);
            counter.take(delta, elapsed)
        };
        assert_eq!(grow(100_000_000_000, Duration::from_millis(1)), Step::Advanced);
        assert_eq!(grow(100_000_000_001, Duration::from_millis(1)), Step::Reset);
        assert_eq!(grow(200_000_000_000, 2 * SECOND), Step::Advanced);
    }
}
