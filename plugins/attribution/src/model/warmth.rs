//! The part of static power that a package's warmth causes: after work it leaks more than when it is cold.
//! `model.rs` takes it from power before anything is learnt, and adds it to static power.
//!
//! It follows the load, seconds later, so a fit takes it for a cost of the load unless it is known before.
//! It is too small to be learnt from the load's own ups and downs, but large beside what a small consumer
//! causes.

use wattrace_api::ResourceKind;

use super::constants::{PACKAGE_WARMTH, WARMTH_ERROR, WARMTH_SECONDS};

/// The mean power of the last half minute, and what it adds to static power.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warmth {
    /// Static power per watt of mean power.
    share: f64,
    /// W; `None` before the first observation.
    mean: Option<f64>,
}

impl Warmth {
    /// That of a domain of `kind`, before its first observation.
    pub(super) fn of(kind: &ResourceKind) -> Self {
        let share = if *kind == ResourceKind::Package { PACKAGE_WARMTH } else { 0.0 };
        Self { share, mean: None }
    }

    /// That of a domain whose static power is given: nothing is added to it.
    pub(super) fn none() -> Self {
        Self { share: 0.0, mean: None }
    }

    /// What warmth adds to static power now, W.
    pub(super) fn watts(&self) -> f64 {
        self.watts_at(0.0)
    }

    /// What it adds to an observation of `watts`, W. Of a first one nothing earlier is known: it is taken to
    /// have lasted.
    pub(super) fn watts_at(&self, watts: f64) -> f64 {
        self.share * self.mean.unwrap_or(watts)
    }

    /// The standard error of what it adds, as a part of dynamic power.
    pub(super) fn error(&self) -> f64 {
        if self.share > 0.0 { WARMTH_ERROR } else { 0.0 }
    }

    /// Takes in that `watts` were drawn for `seconds`.
    pub(super) fn add(&mut self, watts: f64, seconds: f64) {
        if watts.is_finite() && watts >= 0.0 {
            let mean = self.mean.unwrap_or(watts);
            self.mean = Some(mean + (watts - mean) * (1.0 - (-seconds / WARMTH_SECONDS).exp()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_gets_warm_over_seconds_and_other_domains_do_not() {
        let (mut package, mut memory) = (Warmth::of(&ResourceKind::Package), Warmth::of(&ResourceKind::Dram));
        assert_eq!((package.watts(), package.watts_at(10.0)), (0.0, 10.0 * PACKAGE_WARMTH));
        for warmth in [&mut package, &mut memory] {
            warmth.add(10.0, 1.0);
            (0..30).for_each(|_| warmth.add(110.0, 1.0));
        }
        // One time constant after a step of 100 W.
        let mean = 10.0 + 100.0 * (1.0 - (-1.0_f64).exp());
        assert!((package.watts() - PACKAGE_WARMTH * mean).abs() < 1e-9, "{}", package.watts());
        assert_eq!((memory.watts(), Warmth::none().watts()), (0.0, 0.0));
        package.add(f64::NAN, 1.0);
        assert!(package.watts().is_finite());
    }
}
