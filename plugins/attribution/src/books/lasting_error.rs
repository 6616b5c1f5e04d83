//! The error of what is estimated again and again: of static power, and of what a consumer costs. `spread.rs`
//! and `static_error.rs` add it up over windows.

/// Such an error, times how much depends on it. An estimate that gets better has errors whose covariance is
/// the variance of the later one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastingError {
    /// Of the sum, µJ².
    variance: f64,
    /// How much depended on it so far.
    exposure: f64,
}

impl LastingError {
    /// Adds a window in which so much depended on an estimate with this `variance`.
    #[inline(always)]
    pub(super) fn add(&mut self, exposure: f64, variance: f64) {
        // Where less is known than before, it is at most that of errors which are the same.
        let most = (variance * self.variance).sqrt();
        let with_earlier = (variance * self.exposure).max(-most).min(most);
        self.variance += exposure * (2.0 * with_earlier + exposure * variance);
        self.exposure += exposure;
    }

    /// Adds a standard error, µJ, that is the same as those before.
    pub(super) fn add_linearly(&mut self, error: f64) {
        self.variance = (self.variance.sqrt() + error).powi(2);
    }

    /// Of the sum, µJ².
    pub(super) fn variance(&self) -> f64 {
        self.variance
    }

    /// How much depended on it so far.
    pub(super) fn exposure(&self) -> f64 {
        self.exposure
    }
}
