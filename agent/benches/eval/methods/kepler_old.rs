//! The ratio model of Kepler before 0.10: idle power is the lowest power seen. The rest is divided among all
//! processes that ran, by instructions (all packages together) and by cache misses (all memory together). It
//! counts in the kernel, so it sees short-lived processes.

use std::collections::BTreeMap;

use super::method::{Attributed, Method};
use crate::observe::{Sample, used};

#[derive(Default)]
pub(crate) struct KeplerOld {
    attributed: Attributed,
    last: Option<Sample>,
    /// Lowest power seen, by part, W.
    lowest: Option<[f64; 2]>,
}

impl Method for KeplerOld {
    fn name(&self) -> &'static str {
        "Kepler old"
    }

    fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            let seconds = sample.at - last.at;
            let (before, now) = (last.total(), sample.total());
            let watts = [0, 1].map(|part| (now[part] - before[part]) / seconds);
            let lowest = self.lowest.get_or_insert(watts);
            *lowest = [0, 1].map(|part| lowest[part].min(watts[part]));
            let mut usages = BTreeMap::new();
            let mut sums = [0.0; 2];
            for (number, view) in &sample.ran {
                let mut usage = [0.0; 2];
                for (package, counted) in view.counted.iter().enumerate() {
                    let earlier = last.ran.get(number).map(|v| v.counted[package]).unwrap_or_default();
                    let used = used(&earlier, counted);
                    usage[0] += used.instructions as f64;
                    usage[1] += used.misses as f64;
                }
                sums = [0, 1].map(|part| sums[part] + usage[part]);
                if usage[0] > 0.0 {
                    usages.insert(*number, usage);
                }
            }
            for (number, usage) in usages {
                let joules = [0, 1].map(|part| match sums[part] {
                    0.0 => 0.0,
                    sum => (watts[part] - lowest[part]) * seconds * usage[part] / sum,
                });
                self.attributed.charge(number, joules[0] + joules[1]);
            }
            let idle = (lowest[0] + lowest[1]) * seconds;
            self.attributed.add_idle(idle);
        }
        self.last = Some(sample);
    }

    fn attributed(&self) -> &Attributed {
        &self.attributed
    }
}
