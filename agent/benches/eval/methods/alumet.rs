//! Alumet's `energy-attribution`: at each reading of the meter, the joules since the last one times each
//! process's CPU usage (a part of the whole machine), interpolated to the meter's timestamp from the usages
//! told before and after it.

use std::collections::BTreeMap;

use super::{Books, Method, utilisation};
use crate::observe::Sample;

#[derive(Default)]
pub(crate) struct Alumet {
    books: Books,
    last: Option<Sample>,
    /// The usages told at the last reading.
    usages: BTreeMap<usize, f64>,
}

impl Method for Alumet {
    fn name(&self) -> &'static str {
        "Alumet"
    }

    fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            let usages = utilisation(last, &sample);
            let joules = sample.total().iter().sum::<f64>() - last.total().iter().sum::<f64>();
            let weight = (sample.at - last.usage_at) / (sample.usage_at - last.usage_at);
            for (number, usage) in &usages {
                if let Some(earlier) = self.usages.get(number) {
                    let there = earlier + (usage - earlier) * weight;
                    self.books.charge(*number, joules * there);
                }
            }
            self.usages = usages;
        }
        self.last = Some(sample);
    }

    fn books(&self) -> &Books {
        &self.books
    }
}
