//! Whether a mix foretells power worse than CPU time does, or only seems to. `model.rs` withdraws the mix
//! when it does.
//!
//! Levels of power can't tell. Static power drifts, and under a load that hardly varies that one of the two
//! looks better whose mistake happens to make up for the drift, however it would divide. So they foretell
//! *changes*, from each reading to the next, as far as these are above what both are usually off; and a mix
//! has lost only when chance would hardly make it look so bad.

/// Readings until little is left of what one said.
const MEMORY: f64 = 50.0;
/// Standard deviations that chance is given: it reaches so many in one of 700 cases.
const CHANCE: f64 = 3.0;

/// How a mix did beside CPU time since it was last as good.
#[derive(Debug, Default)]
pub(crate) struct Contest {
    /// By how much it was off more, in sum: each reading adds from -1 (the mix alone was right) to 1.
    excess: f64,
    /// The sum of the squares: what `excess` would be by chance alone, squared.
    variance: f64,
}

impl Contest {
    /// Takes in what both were off when power changed, and what the better of them usually is off, in watts.
    pub(crate) fn take(&mut self, mix: f64, time: f64, usual: f64) {
        let (mix, time) = (mix.abs(), time.abs());
        let all = mix + time + usual;
        if !(all.is_finite() && all > 0.0) {
            return;
        }
        let excess = (mix - time) / all;
        let keep = 1.0 - 1.0 / MEMORY;
        self.excess = self.excess * keep + excess;
        self.variance = self.variance * keep * keep + excess * excess;
        if self.excess <= 0.0 {
            *self = Self::default();
        }
    }

    /// Whether the mix was off more than chance explains.
    pub(crate) fn is_lost(&self) -> bool {
        self.excess > CHANCE * self.variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the mix had lost, of so many readings; `of` says what the mix and CPU time were off in each.
    fn lost(contest: &mut Contest, readings: u32, of: impl Fn(u32) -> (f64, f64)) -> u32 {
        (0..readings).fold(0, |lost, i| {
            let (mix, time) = of(i);
            contest.take(mix, time, 1.0);
            lost + u32::from(contest.is_lost())
        })
    }

    #[test]
    fn who_is_off_more_all_the_time_loses_and_comes_back_when_it_is_not() {
        let mut contest = Contest::default();
        assert_eq!(lost(&mut contest, 50, |_| (0.1, -9.0)), 0);
        let worse = |i: u32| (if i.is_multiple_of(2) { 8.0 } else { -12.0 }, 5.0);
        assert_eq!(lost(&mut contest, 9, worse), 0, "so few may be chance");
        assert_eq!(lost(&mut contest, 30, worse), 30);
        assert!(lost(&mut contest, 50, |_| (1.0, 2.0)) < 25);
        assert!(!contest.is_lost());
    }

    #[test]
    fn what_is_small_beside_the_usual_says_nothing() {
        let mut contest = Contest::default();
        lost(&mut contest, 20, |_| (8.0, 5.0));
        assert_eq!(lost(&mut contest, 20, |_| (1e-4, 2e-4)), 20, "nothing happened, and nothing changes");
        assert!(lost(&mut contest, 20, |_| (4.0, 8.0)) < 20);
        assert!(!contest.is_lost());
    }

    #[test]
    fn chance_makes_nobody_lose_for_long() {
        let mut chance = 1_u64;
        let mut off = move || {
            chance = chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (chance >> 33) as f64 / f64::from(u32::MAX >> 1)
        };
        let mut contest = Contest::default();
        let lost = (0..100_000).filter(|_| {
            contest.take(off(), off(), 0.2);
            contest.is_lost()
        });
        let lost = lost.count();
        assert!(lost < 1_000, "{lost} of 100,000");
    }
}
