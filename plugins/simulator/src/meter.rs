//! A meter as hardware has it: it counts in units of its own, is updated now and then, is a little noisy,
//! wraps, and cannot always be read.

use crate::machine::{MeterShape, Part};
use crate::random::Random;
use crate::truth::Place;

/// A meter.
#[derive(Clone, Debug)]
pub struct Meter {
    /// What it measures.
    pub part: Part,
    /// Where.
    pub place: Place,
    shape: MeterShape,
    random: Random,
    /// Truth at the last update, nJ.
    seen: u64,
    /// What it has counted by then, nJ.
    counted: f64,
}

impl Meter {
    pub(crate) fn new(part: Part, place: Place, shape: MeterShape, random: Random) -> Self {
        Self { part, place, shape, random, seen: 0, counted: 0.0 }
    }

    /// Takes in that the truth is `nanojoules` now.
    pub(crate) fn update(&mut self, nanojoules: u64) {
        let more = nanojoules.saturating_sub(self.seen) as f64;
        self.seen = nanojoules;
        let factor = if self.shape.noise > 0.0 { 1.0 + self.shape.noise * self.random.normal() } else { 1.0 };
        self.counted += more * factor.max(0.0);
    }

    /// What the counter shows, in its units. `None`: it could not be read this time.
    pub fn read(&mut self) -> Option<u64> {
        let fails = self.shape.dropouts > 0.0 && self.random.unit() < self.shape.dropouts;
        (!fails).then(|| self.shown())
    }

    /// The same, and it never fails.
    pub fn shown(&self) -> u64 {
        let counts = (self.counted / (self.shape.unit * 1e3)) as u128;
        (counts & self.mask()) as u64
    }

    /// How far it has come between two readings, with at most one wrap between them.
    pub fn between(&self, before: u64, now: u64) -> u64 {
        (u128::from(now).wrapping_sub(u128::from(before)) & self.mask()) as u64
    }

    /// Microjoules of so many counts, rounded down.
    pub fn microjoules(&self, counts: u64) -> u64 {
        (counts as f64 * self.shape.unit) as u64
    }

    /// The largest value that powercap tells of such a counter, µJ.
    pub fn range(&self) -> u64 {
        self.microjoules(self.mask() as u64)
    }

    fn mask(&self) -> u128 {
        (1u128 << self.shape.bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(shape: MeterShape) -> Meter {
        Meter::new(Part::Package, Place::Package(0), shape, Random::new(3))
    }

    #[test]
    fn it_counts_across_its_wraps() {
        let mut meter = meter(MeterShape { unit: 10.0, bits: 16, ..MeterShape::default() });
        let (mut before, mut counts, mut wraps) = (meter.shown(), 0, 0);
        for step in 1..=1000u64 {
            meter.update(step * 123_456_789);
            let now = meter.shown();
            wraps += u32::from(now < before);
            counts += meter.between(before, now);
            before = now;
        }
        assert!(wraps > 100, "{wraps}");
        assert_eq!(meter.microjoules(counts), 123_456_780, "whole counts of 10 microjoules");
    }

    #[test]
    fn noise_averages_out_and_never_runs_backwards() {
        let mut meter = meter(MeterShape { noise: 0.3, bits: 64, ..MeterShape::default() });
        let mut before = 0;
        for step in 1..=10_000u64 {
            meter.update(step * 10_000_000);
            assert!(meter.shown() >= before);
            before = meter.shown();
        }
        let error = meter.microjoules(before) as f64 / 100_000_000.0 - 1.0;
        assert!(error.abs() < 0.01 && error != 0.0, "{error}");
    }

    #[test]
    fn readings_fail_as_often_as_they_are_to() {
        let mut meter = meter(MeterShape { dropouts: 0.2, ..MeterShape::default() });
        let failed = (0..10_000).filter(|_| meter.read().is_none()).count();
        assert!((1800..2200).contains(&failed), "{failed}");
    }
}
