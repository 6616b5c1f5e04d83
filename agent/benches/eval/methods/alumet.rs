//! Alumet's `energy-attribution`: at each reading of the meter, the energy since the last one times each
//! process's part of the machine's CPU usage, interpolated to the meter's timestamp from the usages before
//! and after it.

use std::collections::BTreeMap;

use super::method::{Attributed, Method, utilisation};
use crate::observe::Sample;

#[derive(Default)]
pub(crate) struct Alumet {
    attributed: Attributed,
    last: Option<Sample>,
    /// The usages of the last sample.
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
                    let usage = earlier + (usage - earlier) * weight;
                    self.attributed.charge(*number, joules * usage);
                }
            }
            self.usages = usages;
        }
        self.last = Some(sample);
    }

    fn attributed(&self) -> &Attributed {
        &self.attributed
    }
}
