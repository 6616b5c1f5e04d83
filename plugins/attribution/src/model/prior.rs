//! What is expected of a domain's static power before its meter has shown it: a part of the power at full
//! load. `static_power.rs` blends it with what is observed.
//!
//! A part rather than watts, because the meter shows the scale from the first window on, and because a
//! virtual machine's meter may show a few CPUs of many.

use wattrace_api::ResourceKind;

use super::constants::{
    CORE_STATIC_SHARE, GPU_STATIC_SHARE, OTHER_STATIC_SHARE, PACKAGE_STATIC_SHARE, SHARE_ERROR,
};

/// The expectation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prior {
    /// Static power over the power at full load, 0 to 1.
    pub(super) share: f64,
    /// The standard deviation of that among machines.
    pub(super) error: f64,
}

impl Prior {
    /// What is expected of hardware of this kind.
    pub(super) fn of(kind: &ResourceKind) -> Self {
        let share = match kind {
            ResourceKind::Package => PACKAGE_STATIC_SHARE,
            ResourceKind::Core => CORE_STATIC_SHARE,
            ResourceKind::Gpu => GPU_STATIC_SHARE,
            _ => OTHER_STATIC_SHARE,
        };
        Self { share, error: SHARE_ERROR * share }
    }

    /// Static power over the power that is drawn at `utilisation`: 1 when idle, the share at full load.
    pub(super) fn static_part(&self, utilisation: f64) -> f64 {
        self.share / self.over_full(utilisation)
    }

    /// The standard deviation of [`Prior::static_part`].
    pub(super) fn static_part_error(&self, utilisation: f64) -> f64 {
        self.error * utilisation / self.over_full(utilisation).powi(2)
    }

    /// Power at `utilisation` over power at full load.
    pub(super) fn over_full(&self, utilisation: f64) -> f64 {
        self.share + (1.0 - self.share) * utilisation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_domain_draws_static_power_alone_and_a_busy_one_its_share() {
        let prior = Prior::of(&ResourceKind::Package);
        assert_eq!((prior.static_part(0.0), prior.static_part_error(0.0)), (1.0, 0.0));
        assert!((prior.static_part(1.0) - prior.share).abs() < 1e-12);
        assert!((prior.static_part_error(1.0) - prior.error).abs() < 1e-12);
        // Ten watts of thirty at half the load of a machine that draws fifty.
        assert!((Prior { share: 0.2, error: 0.1 }.static_part(0.5) - 1.0 / 3.0).abs() < 1e-12);
    }
}
