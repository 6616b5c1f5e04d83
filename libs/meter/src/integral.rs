//! From samples of power to cumulative energy, by the trapezoid rule, in integers: rounding errors do not add
//! up, and a span without samples is a gap that is left out rather than filled in. `counter.rs` is for meters
//! that count energy themselves.

use std::time::Duration;

use wattrace_api::{Timestamp, Window};

/// Energy under a curve of power that is known at instants.
///
/// Between two samples the power is assumed to change linearly: exact for power that changes slowly compared
/// with the samples, otherwise an estimate. The first sample only sets the beginning.
///
/// ```
/// use std::time::Duration;
/// use wattrace_api::{Timestamp, Window};
/// use wattrace_meter::{PowerIntegral, Sampled};
///
/// let second = |n: u64| Timestamp(n * 1_000_000_000);
/// let mut energy = PowerIntegral::new(Duration::from_secs(10));
/// assert_eq!(energy.sample(second(0), 10_000_000), Sampled::Based);
/// assert_eq!(energy.sample(second(2), 30_000_000), Sampled::Advanced(Window::new(second(0), second(2))));
/// assert_eq!(energy.microjoules(), 40_000_000);
/// // There was no sample for a minute: that energy is unknown, and left out.
/// assert_eq!(energy.sample(second(62), 30_000_000), Sampled::Gap(Window::new(second(2), second(62))));
/// assert_eq!((energy.microjoules(), energy.unknown()), (40_000_000, Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct PowerIntegral {
    max_gap: Duration,
    max_microwatts: u64,
    last: Option<(Timestamp, u64)>,
    interrupted: bool,
    /// Sum of (p₀ + p₁)·Δt in microwatt-nanoseconds: twice the area, so that halving waits until the end.
    doubled: u128,
    known: Duration,
    unknown: Duration,
}

/// What a sample did to the integral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    /// The first sample: energy is counted from here.
    Based,
    /// The energy of this window, from the previous sample to this one, was added.
    Advanced(Window),
    /// The previous sample is too old. The energy of this window is unknown, and left out; counting continues
    /// from this sample.
    Gap(Window),
    /// The sample is not later than the previous one, and is ignored: a driver repeats itself, or its clock
    /// went back.
    Stale,
    /// The sample is above [`PowerIntegral::at_most`], and is ignored.
    Implausible,
}

/// Microwatt-nanoseconds, doubled, in a microjoule.
const DOUBLED_PER_MICROJOULE: u128 = 2 * 1_000_000_000;

impl PowerIntegral {
    /// Nothing counted yet. Two samples further apart than `max_gap` have a gap between them.
    pub fn new(max_gap: Duration) -> Self {
        Self {
            max_gap,
            max_microwatts: u64::MAX,
            last: None,
            interrupted: false,
            doubled: 0,
            known: Duration::ZERO,
            unknown: Duration::ZERO,
        }
    }

    /// Ignores samples above `microwatts`, which a broken meter reports.
    #[must_use]
    pub fn at_most(mut self, microwatts: u64) -> Self {
        self.max_microwatts = microwatts;
        self
    }

    /// Takes the power at an instant, in microwatts. Allocates nothing.
    pub fn sample(&mut self, at: Timestamp, microwatts: u64) -> Sampled {
        if microwatts > self.max_microwatts {
            return Sampled::Implausible;
        }
        let Some((from, before)) = self.last else {
            self.last = Some((at, microwatts));
            return Sampled::Based;
        };
        if at <= from {
            return Sampled::Stale;
        }
        self.last = Some((at, microwatts));
        let (window, span) = (Window::new(from, at), at.since(from));
        if std::mem::take(&mut self.interrupted) || span > self.max_gap {
            self.unknown += span;
            return Sampled::Gap(window);
        }
        self.known += span;
        let area = (u128::from(before) + u128::from(microwatts)).saturating_mul(u128::from(window.nanos()));
        self.doubled = self.doubled.saturating_add(area);
        Sampled::Advanced(window)
    }

    /// Makes the span between the last sample and the next one a gap, however short: the device was absent,
    /// or was reset.
    pub fn interrupt(&mut self) {
        self.interrupted = self.last.is_some();
    }

    /// Whole microjoules counted so far. Never decreases.
    pub fn microjoules(&self) -> u64 {
        u64::try_from(self.doubled / DOUBLED_PER_MICROJOULE).unwrap_or(u64::MAX)
    }

    /// When the last sample was taken that was not ignored.
    pub fn last(&self) -> Option<Timestamp> {
        self.last.map(|(at, _)| at)
    }

    /// Time whose energy was counted.
    pub fn known(&self) -> Duration {
        self.known
    }

    /// Time in gaps, whose energy was not counted.
    pub fn unknown(&self) -> Duration {
        self.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATT: u64 = 1_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn at(nanos: u64) -> Timestamp {
        Timestamp(nanos)
    }

    /// Power along a straight line, sampled at irregular instants.
    #[test]
    fn linear_power_gives_the_exact_energy_at_every_sample() {
        // p(t) = 5 W + 3 µW per µs: in microwatts at t µs, 5e6 + 3t; the area to t is 5e6·t + 1.5·t² µW·µs.
        let power = |us: u64| 5 * WATT + 3 * us;
        let truth =
            |us: u64| (2 * 5_000_000 * u128::from(us) + 3 * u128::from(us) * u128::from(us)) / 2_000_000;
        let mut energy = PowerIntegral::new(Duration::from_secs(60));
        let (mut us, mut seed) = (0_u64, 7_u64);
        energy.sample(at(0), power(0));
        for _ in 0..50_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let before = us;
            us += 1 + (seed >> 40) % 3_000;
            let window = Window::new(at(before * 1_000), at(us * 1_000));
            assert_eq!(energy.sample(at(us * 1_000), power(us)), Sampled::Advanced(window));
            assert_eq!(u128::from(energy.microjoules()), truth(us));
        }
        assert_eq!(energy.known(), Duration::from_micros(us));
    }

    #[test]
    fn a_million_tiny_steps_add_up_exactly() {
        // 1 µW for 1 ns at a time: each step is a billionth of a microjoule, and a second is one.
        let mut energy = PowerIntegral::new(Duration::from_secs(1));
        energy.sample(at(0), 1);
        for nanos in 1..=1_000_000 {
            energy.sample(at(nanos), 1);
        }
        assert_eq!((energy.doubled, energy.microjoules()), (2_000_000, 0));
        energy.sample(at(SECOND), 1);
        assert_eq!(energy.microjoules(), 1);
    }

    #[test]
    fn a_gap_adds_no_energy_and_a_span_of_the_maximum_is_not_a_gap() {
        let mut energy = PowerIntegral::new(Duration::from_secs(10));
        energy.sample(at(0), WATT);
        assert_eq!(
            energy.sample(at(10 * SECOND), WATT),
            Sampled::Advanced(Window::new(at(0), at(10 * SECOND)))
        );
        let gap = Window::new(at(10 * SECOND), at(20 * SECOND + 1));
        assert_eq!(energy.sample(at(20 * SECOND + 1), 9 * WATT), Sampled::Gap(gap));
        assert_eq!(energy.microjoules(), 10 * WATT);
        energy.sample(at(21 * SECOND + 1), 9 * WATT);
        assert_eq!(energy.microjoules(), 19 * WATT);
        assert_eq!(energy.unknown(), Duration::from_nanos(10 * SECOND + 1));
    }

    #[test]
    fn a_sample_that_repeats_or_goes_back_changes_nothing() {
        let mut energy = PowerIntegral::new(Duration::from_secs(10));
        energy.sample(at(5 * SECOND), 2 * WATT);
        assert_eq!(energy.sample(at(5 * SECOND), 100 * WATT), Sampled::Stale);
        assert_eq!(energy.sample(at(4 * SECOND), 100 * WATT), Sampled::Stale);
        energy.sample(at(6 * SECOND), 2 * WATT);
        assert_eq!((energy.microjoules(), energy.last()), (2 * WATT, Some(at(6 * SECOND))));
    }

    #[test]
    fn an_implausible_sample_is_ignored_and_the_next_one_covers_its_window() {
        let mut energy = PowerIntegral::new(Duration::from_secs(10)).at_most(100 * WATT);
        assert_eq!(energy.sample(at(0), u64::MAX), Sampled::Implausible);
        energy.sample(at(SECOND), 100 * WATT);
        assert_eq!(energy.sample(at(2 * SECOND), 100 * WATT + 1), Sampled::Implausible);
        let window = Window::new(at(SECOND), at(3 * SECOND));
        assert_eq!(energy.sample(at(3 * SECOND), 50 * WATT), Sampled::Advanced(window));
        assert_eq!(energy.microjoules(), 150 * WATT);
    }

    #[test]
    fn an_interruption_is_a_gap_however_short() {
        let mut energy = PowerIntegral::new(Duration::from_secs(10));
        energy.sample(at(0), WATT);
        energy.sample(at(SECOND), WATT);
        energy.interrupt();
        energy.interrupt();
        let gap = Window::new(at(SECOND), at(3 * SECOND));
        assert_eq!(energy.sample(at(3 * SECOND), WATT), Sampled::Gap(gap));
        energy.sample(at(4 * SECOND), WATT);
        assert_eq!((energy.microjoules(), energy.unknown()), (2 * WATT, Duration::from_secs(2)));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut energy = PowerIntegral::new(Duration::MAX);
        energy.sample(at(0), u64::MAX);
        energy.sample(at(u64::MAX), u64::MAX);
        energy.sample(at(u64::MAX), 0);
        assert_eq!(energy.microjoules(), u64::MAX);
    }
}
