//! Medians with their 95 % intervals, by bootstrap: how much a median varies if the rounds are drawn again,
//! with replacement, from the rounds that were measured.

/// How often rounds are drawn again.
const RESAMPLES: usize = 2000;

/// A value and its 95 % interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// An estimate of `statistic` over rounds that were measured in `sets`. It gets the numbers of the rounds
    /// to use. Both sets and the rounds in them are drawn again, because the rounds of a set have something
    /// in common.
    pub(crate) fn of(sets: &[Vec<usize>], statistic: impl Fn(&[usize]) -> f64) -> Self {
        let mut random = Random::default();
        let mut rounds = Vec::new();
        let mut resampled = Vec::with_capacity(RESAMPLES);
        for _ in 0..RESAMPLES {
            rounds.clear();
            for _ in sets {
                let set = &sets[random.below(sets.len())];
                rounds.extend(set.iter().map(|_| set[random.below(set.len())]));
            }
            resampled.push(statistic(&rounds));
        }
        resampled.sort_by(f64::total_cmp);
        let at = |part: f64| resampled[(part * (RESAMPLES - 1) as f64) as usize];
        Self { value: statistic(&sets.concat()), low: at(0.025), high: at(0.975) }
    }
}

impl std::fmt::Display for Estimate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:+8.1} ({:+.1} to {:+.1})", self.value, self.low, self.high)
    }
}

/// The interquartile mean: as robust as is needed here, and less variable than the median.
pub(crate) fn midmean(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = &values[values.len() / 4..values.len() - values.len() / 4];
    middle.iter().sum::<f64>() / middle.len() as f64
}

/// xorshift64: the same numbers in each run.
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
