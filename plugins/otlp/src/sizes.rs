//! How large requests may be: at most [`LIMIT`], and less where a collector, or a proxy before it, refuses
//! that. The size that went through is remembered, and grows again carefully. `delivery` splits requests by
//! it.

/// Most bytes in a request: under 1 MiB, at which nginx refuses by default. gRPC servers refuse at 4 MiB.
pub(crate) const LIMIT: usize = 1_000_000;

/// A request of one point that has fewer bytes than this is not refused for its size, whatever the answer
/// says.
pub(crate) const SMALL: usize = 4096;

/// How far broken connections alone may make requests smaller.
const LEAST_AFTER_BREAKS: usize = 64 * 1024;

/// After how many requests of about the limit it grows by a quarter: at least, and at most. Each refusal
/// doubles it, so that a collector with a fixed limit is soon left in peace.
const PROOFS: (u32, u32) = (32, 1024);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    limit: usize,
    /// The largest request that was accepted since a smaller one was refused.
    good: usize,
    /// Requests of at least half the limit that were accepted since it last changed.
    proofs: u32,
    /// How many of them make it grow.
    needed: u32,
    /// Even a small request was refused for its size, so splitting does not help until one is accepted.
    is_hopeless: bool,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { limit: LIMIT, good: 0, proofs: 0, needed: PROOFS.0, is_hopeless: false }
    }
}

impl Sizes {
    /// Most bytes of a request of more than one point.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether splitting does not help.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.is_hopeless
    }

    /// A request of `bytes` was accepted.
    pub(crate) fn accepted(&mut self, bytes: usize) {
        self.is_hopeless = false;
        self.good = self.good.max(bytes);
        if self.limit < LIMIT && bytes >= self.limit / 2 {
            self.proofs += 1;
            if self.proofs >= self.needed {
                self.limit = (self.limit + self.limit / 4 + 1).min(LIMIT);
                self.proofs = 0;
            }
        }
    }

    /// A request of several points with `bytes` was refused for its size.
    pub(crate) fn refused(&mut self, bytes: usize) {
        if self.good >= bytes {
            self.good = 0;
        }
        self.limit = self.good.max(bytes / 2).max(1);
        self.grow_slower();
    }

    /// The connection broke under a request of `bytes`, or its answer did not come in time.
    pub(crate) fn broke(&mut self, bytes: usize) {
        if bytes > LEAST_AFTER_BREAKS {
            self.limit = self.limit.min((bytes / 2).max(LEAST_AFTER_BREAKS));
            self.grow_slower();
        }
    }

    fn grow_slower(&mut self) {
        self.proofs = 0;
        self.needed = (self.needed * 2).min(PROOFS.1);
    }

    /// Even a small request was refused for its size: it is not about that.
    pub(crate) fn give_up(&mut self) {
        *self = Self { is_hopeless: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests of the limit to a collector that takes `most` bytes: how many of `count` are refused.
    fn refusals(sizes: &mut Sizes, most: usize, count: usize) -> usize {
        let mut refused = 0;
        for _ in 0..count {
            let bytes = sizes.limit();
            if bytes <= most {
                sizes.accepted(bytes);
            } else {
                sizes.refused(bytes);
                refused += 1;
            }
        }
        refused
    }

    #[test]
    fn the_size_that_goes_through_is_found_remembered_and_seldom_exceeded() {
        let mut sizes = Sizes::default();
        assert_eq!(refusals(&mut sizes, 300_000, 3), 2);
        assert_eq!(refusals(&mut sizes, 300_000, 32), 0, "remembered");
        let later = refusals(&mut sizes, 300_000, 10_000);
        assert!(later <= 15, "{later} of 10,000 refused");
        assert!((225_000..=300_000 * 5 / 4).contains(&sizes.limit()), "{sizes:?}");
    }

    #[test]
    fn it_grows_again_when_the_collector_takes_more() {
        let mut sizes = Sizes::default();
        refusals(&mut sizes, 100_000, 5);
        refusals(&mut sizes, LIMIT, 10_000);
        assert_eq!(sizes.limit(), LIMIT);
        sizes.accepted(10);
        assert_eq!(sizes.limit(), LIMIT);
    }

    #[test]
    fn small_requests_prove_nothing() {
        let mut sizes = Sizes::default();
        sizes.refused(1_000_000);
        (0..10_000).for_each(|_| sizes.accepted(1000));
        assert_eq!(sizes.limit(), 500_000);
    }

    #[test]
    fn broken_connections_make_requests_smaller_but_not_tiny() {
        let mut sizes = Sizes::default();
        (0..100).for_each(|_| sizes.broke(sizes.limit()));
        assert_eq!(sizes.limit(), LEAST_AFTER_BREAKS);
        assert_eq!(refusals(&mut sizes, LIMIT, 10_000), 0);
        assert_eq!(sizes.limit(), LIMIT, "and they grow again");
        sizes.broke(100);
        assert_eq!(sizes.limit(), LIMIT, "a small request did not break it by its size");
    }

    #[test]
    fn a_small_request_that_is_refused_for_its_size_makes_no_request_smaller() {
        let mut sizes = Sizes::default();
        sizes.refused(1_000_000);
        sizes.give_up();
        assert!(sizes.is_hopeless() && sizes.limit() == LIMIT);
        sizes.accepted(10);
        assert!(!sizes.is_hopeless());
    }
}
