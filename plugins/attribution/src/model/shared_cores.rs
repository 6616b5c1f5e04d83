//! What is expected of shared cores (SMT): that everything costs the same part there of what it costs alone.
//!
//! CPU time, cycles and fast cycles on shared cores rise and fall together, and often little of either is
//! seen at some of a machine's clocks. A fit that is free to choose any of them predicts the loads that it
//! has seen, and is off where a short job runs at another clock.

use super::constants::SHARED_RIDGE;
use super::features::{Coefficients, Feature, Features};
use super::learner::Expected;

/// The features of use while the core's other CPU was idle, and the same while it was busy.
const PAIRS: [[Feature; 2]; 3] = [
    [Feature::Alone, Feature::Shared],
    [Feature::CyclesAlone, Feature::CyclesShared],
    [Feature::FastAlone, Feature::FastShared],
];

/// What is expected beside the coefficients that were `found`: the same part for all that is shared, so that
/// it costs as much in total at the `mean` rates. `None` where nothing was shared, or costs anything alone.
pub(super) fn expected(found: &Coefficients, mean: &Features) -> Option<Expected> {
    let cost = |of: fn([Feature; 2]) -> Feature| {
        let costs = PAIRS.map(|pair| found[of(pair) as usize] * mean[pair[1] as usize]);
        costs.iter().sum::<f64>()
    };
    let (shared, as_alone) = (cost(|[_, shared]| shared), cost(|[alone, _]| alone));
    if shared <= 0.0 || as_alone <= 0.0 {
        return None;
    }
    let mut coefficients = *found;
    for [alone, other] in PAIRS {
        coefficients[other as usize] = found[alone as usize] * shared / as_alone;
    }
    Some(Expected { coefficients, ridge: SHARED_RIDGE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::features::FEATURES;

    fn of(values: [(Feature, f64); 4]) -> Features {
        let mut all = [0.0; FEATURES];
        values.into_iter().for_each(|(feature, value)| all[feature as usize] = value);
        all
    }

    #[test]
    fn what_is_shared_costs_the_same_part_and_as_much_in_total() {
        let found = of([
            (Feature::CyclesAlone, 2.0),
            (Feature::FastAlone, 1.0),
            (Feature::CyclesShared, 3.0),
            (Feature::Instructions, 5.0),
        ]);
        let mean = of([
            (Feature::CyclesShared, 1.0),
            (Feature::FastShared, 4.0),
            (Feature::CyclesAlone, 9.0),
            (Feature::FastAlone, 9.0),
        ]);
        let expected = expected(&found, &mean).unwrap().coefficients;
        // 3 W are half of the 2 + 4 W that this use would draw alone.
        assert_eq!(expected[Feature::CyclesShared as usize], 1.0);
        assert_eq!(expected[Feature::FastShared as usize], 0.5);
        for feature in [Feature::CyclesAlone, Feature::FastAlone, Feature::Instructions] {
            assert_eq!(expected[feature as usize], found[feature as usize]);
        }
    }

    #[test]
    fn nothing_is_expected_where_nothing_was_shared_or_costs_anything_alone() {
        let found =
            of([(Feature::Alone, 1.0), (Feature::Shared, 1.0), (Feature::Cycles, 0.0), (Feature::Time, 0.0)]);
        assert!(expected(&found, &[0.0; FEATURES]).is_none());
        let mut mean = [0.0; FEATURES];
        mean[Feature::CyclesShared as usize] = 1.0;
        assert!(expected(&found, &mean).is_none());
    }
}
