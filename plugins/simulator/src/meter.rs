//! A hardware energy meter: it counts in units of its own, is updated periodically, is noisy, wraps, and
//! sometimes cannot be read.

use crate::machine::{MeterShape, Part};
use crate::random::Random;
use crate::truth::Location;

/// A simulated hardware energy counter.
#[derive(Clone, Debug)]
pub struct SimulatedMeter {
    /// What it measures.
    pub part: Part,
    /// Where.
    pub location: Location,
    shape: MeterShape,
    random: Random,
    /// Truth at the last update, nJ.
    last_truth: u64,
    /// What it has counted by then, nJ, with noise.
    counted: f64,
    /// What it shows: that and what energy filtering adds, nJ.
    shows: f64,
}

impl SimulatedMeter {
    pub(crate) fn new(part: Part, location: Location, shape: MeterShape, random: Random) -> Self {
        Self { part, location, shape, random, last_truth: 0, counted: 0.0, shows: 0.0 }
    }

    /// Updates the counter: the truth is `nanojoules` now.
    pub(crate) fn update(&mut self, nanojoules: u64) {
        let more = nanojoules.saturating_sub(self.last_truth) as f64;
        self.last_truth = nanojoules;
        let factor = if self.shape.noise > 0.0 { 1.0 + self.shape.noise * self.random.normal() } else { 1.0 };
        self.counted += more * factor.max(0.0);
        let filter = if self.shape.filter > 0.0 { self.shape.filter * 1e3 * self.random.unit() } else { 0.0 };
        self.shows = self.shows.max(self.counted + filter);
    }

    /// The counter's value, in its units. `None`: this reading fails.
    pub fn read(&mut self) -> Option<u64> {
        let fails = self.shape.dropouts > 0.0 && self.random.unit() < self.shape.dropouts;
        (!fails).then(|| self.shown())
    }

    /// The counter's value, by a reading that never fails.
    pub fn shown(&self) -> u64 {
        let counts = (self.shows / (self.shape.unit_of(self.part) * 1e3)) as u128;
        (counts & self.mask()) as u64
    }

    /// Counts between two readings, with at most one wrap between them.
    pub fn between(&self, before: u64, now: u64) -> u64 {
        (u128::from(now).wrapping_sub(u128::from(before)) & self.mask()) as u64
    }

    /// Microjoules of so many counts, rounded down.
    pub fn microjoules(&self, counts: u64) -> u64 {
        (counts as f64 * self.shape.read_unit_of(self.part)) as u64
    }

    /// The largest value that powercap shows for such a counter, µJ.
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

    fn meter(shape: MeterShape) -> SimulatedMeter {
        SimulatedMeter::new(Part::Package, Location::Package(0), shape, Random::new(3))
    }

    #[test]
    fn counts_are_right_across_wraps() {
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
    fn noise_averages_out_and_the_counter_never_decreases() {
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
    fn energy_filtering_hides_short_windows_and_does_not_add_up() {
        // 10 W, read at every update of a millisecond; up to 50 mJ are added.
        let mut meter = meter(MeterShape { filter: 50_000.0, bits: 64, ..MeterShape::default() });
        let (mut before, mut still, mut largest) = (meter.shown(), 0, 0);
        for step in 1..=10_000u64 {
            meter.update(step * 10_000_000);
            let more = meter.between(before, meter.shown());
            (before, still, largest) = (meter.shown(), still + u32::from(more == 0), largest.max(more));
        }
        let largest = meter.microjoules(largest);
        assert!(still > 3_000 && largest > 30_000, "{still} readings alike, at most {largest} µJ at once");
        let more = meter.microjoules(before) as i64 - 100_000_000;
        assert!((0..=50_000).contains(&more), "{more}");
    }

    #[test]
    fn the_memory_counts_in_a_unit_of_its_own_which_software_may_get_wrong() {
        for (dram_misread, expected) in [(1.0, 10_000_000), (4.0, 40_000_000)] {
            let shape = MeterShape { dram_unit: 15.258_789_062_5, dram_misread, ..MeterShape::default() };
            let mut memory =
                SimulatedMeter::new(Part::Dram, Location::Package(0), shape.clone(), Random::new(3));
            memory.update(10_000_000_000);
            let error = memory.microjoules(memory.shown()).abs_diff(expected);
            assert!(error < 100, "{error}");
            let mut package = meter(shape);
            package.update(10_000_000_000);
            assert!(package.microjoules(package.shown()).abs_diff(10_000_000) < 100, "only the memory");
        }
    }

    #[test]
    fn readings_fail_at_the_configured_rate() {
        let mut meter = meter(MeterShape { dropouts: 0.2, ..MeterShape::default() });
        let failed = (0..10_000).filter(|_| meter.read().is_none()).count();
        assert!((1800..2200).contains(&failed), "{failed}");
    }
}
