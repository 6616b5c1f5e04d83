//! By how much one side is above the other: a randomization test, inverted to an interval.
//!
//! Within a block, A and B ran in random order. If B is A plus a constant, then subtracting the constant from
//! B's values makes every assignment of the block's values to the sides equally likely, and the difference of
//! the sums must not be among the largest of all assignments. An assignment that gives the values `i` of A to
//! B and the values `j` of B to A has a larger difference than the observed one exactly if the constant is at
//! least mean(j) − mean(i). So the ends of the interval are order statistics of mean(j) − mean(i) over random
//! exchanges, as those of a bootstrap interval are order statistics over random samples. In contrast to the
//! bootstrap's, their coverage is exact for any number of runs and any noise.

use crate::summary::Interval;

/// The runs of both sides between two looks, which ran in random order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Values of side A.
    pub a: Vec<f64>,
    /// Values of side B: as many as of A, except if there is one block only.
    pub b: Vec<f64>,
}

/// By how much B is above A.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The difference of the means.
    pub estimate: f64,
    /// What the shift may be.
    pub interval: Interval,
    /// Standard deviation within the blocks of a side; 0 if each has one value.
    pub stddev: f64,
}

/// Random exchanges that are tried, besides the observed assignment.
const EXCHANGES: usize = 1_999;

/// Up to how many values all exchanges of a block are tried, instead of random ones: few values have so few
/// exchanges that their order statistics must be exact.
const ALL_EXCHANGES: usize = 14;

/// The shift from A to B. Its interval misses the true shift with a probability of at most `error`, half of
/// it on each side. `None` if a side has no value, or a value is not finite.
pub fn shift(blocks: &[Block], error: f64, random: &mut fastrand::Rng) -> Option<Shift> {
    let all = |side: fn(&Block) -> &Vec<f64>| blocks.iter().flat_map(side).copied().collect::<Vec<_>>();
    let (a, b) = (all(|block| &block.a), all(|block| &block.b));
    if a.is_empty() || b.is_empty() || a.iter().chain(&b).any(|v| !v.is_finite()) {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut exchanges = match blocks {
        [only] if only.a.len() + only.b.len() <= ALL_EXCHANGES => all_exchanges(only),
        _ => random_exchanges(blocks, random),
    };
    let interval = interval(&mut exchanges, error);
    Some(Shift { estimate: mean(&b) - mean(&a), interval, stddev: stddev(blocks) })
}

/// mean(j) − mean(i) of each exchange; `None`: nothing is exchanged.
type Exchanges = Vec<Option<f64>>;

fn interval(exchanges: &mut Exchanges, error: f64) -> Interval {
    // The observed assignment is one of them.
    let assignments = exchanges.len() + 1;
    let unchanged = 1 + exchanges.iter().filter(|e| e.is_none()).count();
    let mut shifts: Vec<f64> = exchanges.drain(..).flatten().collect();
    shifts.sort_by(f64::total_cmp);
    // An assignment that changes nothing is as extreme as the observed one, whatever the shift is.
    let allowed = (error / 2.0 * assignments as f64 + 1e-9).floor() as usize;
    let end = allowed.checked_sub(unchanged);
    let low = end.and_then(|end| shifts.get(end).copied());
    let high = end.and_then(|end| shifts.len().checked_sub(end + 1)).and_then(|at| shifts.get(at).copied());
    Interval { low: low.unwrap_or(f64::NEG_INFINITY), high: high.unwrap_or(f64::INFINITY) }
}

fn all_exchanges(block: &Block) -> Exchanges {
    let values: Vec<f64> = block.a.iter().chain(&block.b).copied().collect();
    let (of_a, of_b) = (block.a.len(), block.b.len() as u32);
    let observed = ((1_u32 << values.len()) - 1) & !((1 << of_a) - 1);
    (0..1_u32 << values.len())
        .filter(|&b| b.count_ones() == of_b && b != observed)
        .map(|b| {
            let moved = |from: u32| {
                let which = (0..values.len()).filter(|at| from >> at & 1 == 1);
                which.map(|at| values[at]).sum::<f64>() / f64::from(from.count_ones())
            };
            Some(moved(observed & !b) - moved(b & !observed))
        })
        .collect()
}

fn random_exchanges(blocks: &[Block], random: &mut fastrand::Rng) -> Exchanges {
    let mut places: Vec<Vec<u32>> =
        blocks.iter().map(|block| (0..(block.a.len() + block.b.len()) as u32).collect()).collect();
    (0..EXCHANGES)
        .map(|_| {
            let (mut difference, mut moved) = (0.0, 0_u32);
            for (block, places) in blocks.iter().zip(&mut places) {
                // The first places of a shuffled block are A's.
                let (of_a, all) = (block.a.len(), places.len());
                for at in 0..of_a {
                    places.swap(at, random.usize(at..all));
                }
                let now_a = &places[..of_a];
                let now_b = &places[of_a..];
                for &place in now_a.iter().filter(|&&place| place as usize >= of_a) {
                    difference += block.b[place as usize - of_a];
                    moved += 1;
                }
                for &place in now_b.iter().filter(|&&place| (place as usize) < of_a) {
                    difference -= block.a[place as usize];
                }
            }
            (moved > 0).then(|| difference / f64::from(moved))
        })
        .collect()
}

/// The standard deviation within the blocks of a side.
fn stddev(blocks: &[Block]) -> f64 {
    let (mut squares, mut degrees) = (0.0, 0.0);
    for side in blocks.iter().flat_map(|block| [&block.a, &block.b]).filter(|side| side.len() > 1) {
        let mean = side.iter().sum::<f64>() / side.len() as f64;
        squares += side.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        degrees += side.len() as f64 - 1.0;
    }
    if degrees > 0.0 { (squares / degrees).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> fastrand::Rng {
        fastrand::Rng::with_seed(7)
    }

    #[test]
    fn two_separate_groups_of_five_have_the_extreme_exchanges_as_ends() {
        let block = Block { a: vec![1.0, 2.0, 3.0, 4.0, 5.0], b: vec![11.0, 12.0, 13.0, 14.0, 15.0] };
        let found = shift(&[block], 0.008, &mut random()).unwrap();
        // Of 252 assignments the error allows one at each end: that of the smallest shift gives 5 for 11.
        assert_eq!((found.estimate, found.interval), (10.0, Interval { low: 6.0, high: 14.0 }));
        assert!((found.stddev - 2.5_f64.sqrt()).abs() < 1e-9);
    }

    #[test]
    fn too_few_runs_for_the_error_bound_nothing() {
        let block = Block { a: vec![1.0, 1.1, 1.2], b: vec![9.0, 9.1, 9.2] };
        let found = shift(&[block], 0.05, &mut random()).unwrap();
        assert_eq!(found.interval, Interval { low: f64::NEG_INFINITY, high: f64::INFINITY });
    }

    #[test]
    fn random_exchanges_agree_with_all_of_them() {
        let block =
            Block { a: vec![1.0, 1.4, 0.9, 1.2, 1.1, 1.3, 0.8], b: vec![1.5, 1.2, 1.6, 1.1, 1.4, 1.7, 1.3] };
        let all = interval(&mut all_exchanges(&block), 0.05);
        let drawn = interval(&mut random_exchanges(std::slice::from_ref(&block), &mut random()), 0.05);
        assert!(
            (all.low - drawn.low).abs() < 0.02 && (all.high - drawn.high).abs() < 0.02,
            "{all:?} {drawn:?}"
        );
        assert!(all.low > 0.0 && all.high < 0.6, "{all:?}");
    }

    #[test]
    fn a_drift_from_block_to_block_does_not_widen_the_interval() {
        let block = |base: f64| Block {
            a: [0.0, 0.2, -0.2, 0.1].map(|v| base + v).to_vec(),
            b: [1.0, 1.2, 0.8, 1.1].map(|v| base + v).to_vec(),
        };
        let found = shift(&[block(0.0), block(50.0), block(-80.0)], 0.05, &mut random()).unwrap();
        assert!((found.estimate - 1.0).abs() < 1e-9);
        assert!(found.interval.low > 0.7 && found.interval.high < 1.3, "{found:?}");
    }

    #[test]
    fn a_saved_sample_may_have_another_size_than_its_counterpart() {
        let block = Block { a: vec![1.0, 1.1, 0.9, 1.0, 1.05, 0.95], b: [2.0; 20].to_vec() };
        let found = shift(&[block], 0.05, &mut random()).unwrap();
        assert!((found.estimate - 1.0).abs() < 1e-9 && found.interval.low > 0.8, "{found:?}");
        assert_eq!(shift(&[Block::default()], 0.05, &mut random()), None);
    }
}
