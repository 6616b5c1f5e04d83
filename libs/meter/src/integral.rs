//! From samples of power to cumulative energy, by the trapezoid rule, in integers: no rounding ever adds up,
//! and a span in which nobody looked is told apart rather than filled in. `counter.rs` deals with meters that
//! count energy themselves.

use std::time::Duration;

use wattrace_api::{Timestamp, Window};

/// Energy under a curve of power that is known at instants.
///
/// Between two samples the power is taken for a straight line: exact for power that changes slowly against
/// the samples, an estimate of what lies between for power that does not. The first sample only sets the
/// beginning.
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
/// // Nobody looked for a minute: those joules are not known, and not invented.
/// assert_eq!(energy.sample(second(62), 30_000_000), Sampled::Gap(Window::new(second(2), second(62))));
/// assert_eq!((energy.microjoules(), energy.unknown()), (40_000_000, Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct PowerIntegral {
    longest: Duration,
    most: u64,
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
    /// The first one: energy is counted from here.
    Based,
    /// The energy of this window, from the last sample to this one, was added.
    Advanced(Window),
    /// The last sample lies too far back. The energy of this window is unknown, nobody's, and left out;
    /// counting goes on from this sample.
    Gap(Window),
    /// It is not later than the last one, and says nothing: a driver that repeats itself, or one whose clock
    /// went back.
    Stale,
    /// More than [`PowerIntegral::at_most`] allows: taken for no sample at all.
    Implausible,
}

/// Microwatt-nanoseconds, doubled, in a microjoule.
const DOUBLED_PER_MICROJOULE: u128 = 2 * 1_000_000_000;

impl PowerIntegral {
    /// Nothing counted yet. Two samples further apart than `longest` have a gap between them.
    pub fn new(longest: Duration) -> Self {
        let (known, unknown) = (Duration::ZERO, Duration::ZERO);
        Self { longest, most: u64::MAX, last: None, interrupted: false, doubled: 0, known, unknown }
    }

    /// Refuses samples above `microwatts`, as a broken meter gives them.
    #[must_use]
    pub fn at_most(mut self, microwatts: u64) -> Self {
        self.most = microwatts;
        self
    }

    /// Takes the power at an instant, in microwatts. Allocates nothing.
    pub fn sample(&mut self, at: Timestamp, microwatts: u64) -> Sampled {
        if microwatts > self.most {
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
        if std::mem::take(&mut self.interrupted) || span > self.longest {
            self.unknown += span;
            return Sampled::Gap(window);
        }
        self.known += span;
        let area = (u128::from(before) + u128::from(microwatts)).saturating_mul(u128::from(window.nanos()));
        self.doubled = self.doubled.saturating_add(area);
        Sampled::Advanced(window)
    }

    /// Says that what lies between the last sample and the next one is a gap, however short: the device was
    /// away, or reset.
    pub fn interrupt(&mut self) {
        self.interrupted = self.last.is_some();
    }

    /// Whole microjoules counted so far. Never decreases.
    pub fn microjoules(&self) -> u64 {
        u64::try_from(self.doubled / DOUBLED_PER_MICROJOULE).unwrap_or(u64::MAX)
    }

    /// When the last sample was taken that counted.
    pub fn last(&self) -> Option<Timestamp> {
        self.last.map(|(at, _)| at)
    }

    /// Time whose energy was counted.
    pub fn known(&self) -> Duration {
        self.known
    }

    /// Time in gaps, whose energy was not.
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

    /// Power along a straight line, sampled at odd and uneven instants: the energy is the exact area at each
    /// of them.
    #[test]
    fn a_line_of_power_has_its_exact_area_however_it_is_sampled() {
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
    fn a_million_tiny_steps_lose_nothing() {
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
    fn a_gap_claims_no_joules_and_the_longest_span_is_none() {
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
    fn what_is_above_the_bound_is_no_sample_and_leaves_its_window_to_the_next() {
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
    fn the_largest_numbers_overflow_nothing() {
        let mut energy = PowerIntegral::new(Duration::MAX);
        energy.sample(at(0), u64::MAX);
        energy.sample(at(u64::MAX), u64::MAX);
        energy.sample(at(u64::MAX), 0);
        assert_eq!(energy.microjoules(), u64::MAX);
    }
}
