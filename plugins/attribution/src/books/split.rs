//! Splitting a whole number by weights, without a remainder and without a bias over many splits.

/// Calls `give` with the share of each of `weights` in `amount`, in order. Shares are whole numbers that sum
/// to `amount` exactly.
///
/// Each share is the exact one rounded down or up (systematic sampling): it counts the whole numbers that the
/// running sum of weights, scaled to `amount` and shifted by `phase` (from 0 to below 1), crosses. With
/// phases spread evenly over many splits, a weight whose exact share is 0.4 gets 1 in four splits of ten. So
/// a consumer that uses a fraction of a microjoule per window gets the right sum without a remainder of its
/// own.
///
/// If all weights are zero, nothing is given.
pub(crate) fn split(amount: u64, weights: &[u64], phase: f64, mut give: impl FnMut(usize, u64)) {
    let total: u128 = weights.iter().copied().map(u128::from).sum();
    if total == 0 {
        return;
    }
    let phase = ((phase * total as f64) as u128).min(total - 1);
    let (mut sum, mut given) = (0u128, 0u128);
    for (i, &weight) in weights.iter().enumerate() {
        sum += u128::from(weight);
        let upto = mul_div(amount, sum, phase, total);
        give(i, (upto - given) as u64);
        given = upto;
    }
}

/// `(amount · sum + phase) / total`, for `sum ≤ total` and `phase < total`, where the product may exceed 128
/// bits.
fn mul_div(amount: u64, sum: u128, phase: u128, total: u128) -> u128 {
    let amount = u128::from(amount);
    match amount.checked_mul(sum).and_then(|p| p.checked_add(phase)) {
        Some(p) => p / total,
        // Only for weights that sum to more than 2^64 ns, five centuries of CPU time: half the precision is
        // enough.
        None => (amount * (sum >> 64) + (phase >> 64)) / (total >> 64).max(1),
    }
}

/// The phases 0.618…, 0.236…, 0.854…, …: multiples of the golden ratio, whose fractions spread evenly.
#[derive(Debug, Default)]
pub(crate) struct Phases(u64);

impl Phases {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(amount: u64, weights: &[u64], phase: f64) -> Vec<u64> {
        let mut all = vec![0; weights.len()];
        split(amount, weights, phase, |i, share| all[i] = share);
        all
    }

    proptest! {
        #[test]
        fn shares_sum_to_the_amount_and_are_within_one_of_the_exact_ones(
            amount in 0..u64::MAX >> 8,
            weights in prop::collection::vec(prop_oneof![Just(0u64), 0..1000u64, 0..u64::MAX >> 8], 1..40),
            phase in 0.0..1.0f64,
        ) {
            let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
            prop_assume!(total > 0);
            let shares = shares(amount, &weights, phase);
            prop_assert_eq!(shares.iter().map(|&s| u128::from(s)).sum::<u128>(), u128::from(amount));
            for (share, &weight) in shares.iter().zip(&weights) {
                let exact = u128::from(amount) * u128::from(weight) / total;
                prop_assert!((exact..=exact + 1).contains(&u128::from(*share)), "{} for {}", share, exact);
                prop_assert!(weight > 0 || *share == 0, "a share for no weight");
            }
        }
    }

    #[test]
    fn fractions_add_up_over_many_splits() {
        let (mut phases, mut sums) = (Phases::default(), [0u64; 3]);
        for _ in 0..10_000 {
            split(3, &[4, 6, 20], phases.next(), |i, share| sums[i] += share);
        }
        // Exactly 4000, 6000 and 20000.
        for (sum, exact) in sums.into_iter().zip([4000u64, 6000, 20_000]) {
            assert!(sum.abs_diff(exact) <= 20, "{sums:?}");
        }
    }
}
