//! The limit of all methods: each window's measured energy, divided in proportion to the true static energy
//! and to what each process truly caused, as known when usage is sampled. Its error comes from the meters
//! (early or late, in steps, noisy) and from sampling; no power model can avoid it.

use std::collections::BTreeMap;

use super::method::{Attributed, LIMIT, Method};
use crate::observe::{PARTS, Sample};

#[derive(Default)]
pub(crate) struct Limit {
    attributed: Attributed,
    last: Option<Sample>,
    /// What each process caused per second between the last two samples of usage.
    rates: BTreeMap<usize, Vec<[f64; 2]>>,
}

impl Method for Limit {
    fn name(&self) -> &'static str {
        LIMIT
    }

    fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            // The energy window spans parts of two usage windows, within each of which usage is taken to be
            // even.
            let (tail, head) = (last.usage_at - last.at, sample.at - last.usage_at);
            let span = sample.usage_at - last.usage_at;
            let mut rates = BTreeMap::new();
            let mut shares = BTreeMap::new();
            let mut sums = vec![[0.0; 2]; sample.joules.len()];
            for (number, caused) in &sample.caused {
                let before = last.caused.get(number);
                let (mut rate, mut share) = (caused.clone(), caused.clone());
                for (package, sum) in sums.iter_mut().enumerate() {
                    for part in 0..PARTS.len() {
                        let earlier = before.map_or(0.0, |before| before[package][part]);
                        rate[package][part] = (caused[package][part] - earlier) / span;
                        let old = self.rates.get(number).map_or(0.0, |rates| rates[package][part]);
                        share[package][part] = old * tail + rate[package][part] * head;
                        sum[part] += share[package][part];
                    }
                }
                rates.insert(*number, rate);
                shares.insert(*number, share);
            }
            for (package, sum) in sums.iter().enumerate() {
                for part in 0..PARTS.len() {
                    let between = |of: fn(&Sample) -> &Vec<[f64; 2]>| {
                        of(&sample)[package][part] - of(last)[package][part]
                    };
                    let (joules, idle) = (between(|s| &s.joules), between(|s| &s.idle));
                    let whole = sum[part] + idle;
                    if whole <= 0.0 {
                        continue;
                    }
                    self.attributed.add_idle(joules * idle / whole);
                    for (number, share) in &shares {
                        self.attributed.charge(*number, joules * share[package][part] / whole);
                    }
                }
            }
            self.rates = rates;
        }
        self.last = Some(sample);
    }

    fn attributed(&self) -> &Attributed {
        &self.attributed
    }
}
