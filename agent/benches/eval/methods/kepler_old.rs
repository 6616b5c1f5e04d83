//! Kepler before 0.10, its ratio model: idle power is the least that was seen; what is above it is divided
//! among all that ran by instructions (packages, summed) and by cache misses (memory, summed). It counts in
//! the kernel, so it sees the short-lived.

use std::collections::BTreeMap;

use super::{Books, Method};
use crate::observe::{Sample, used};

#[derive(Default)]
pub(crate) struct KeplerOld {
    books: Books,
    last: Option<Sample>,
    /// Least power seen, by part, W.
    least: Option<[f64; 2]>,
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
            let least = self.least.get_or_insert(watts);
            *least = [0, 1].map(|part| least[part].min(watts[part]));
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
                    sum => (watts[part] - least[part]) * seconds * usage[part] / sum,
                });
                self.books.charge(number, joules[0] + joules[1]);
            }
            let idle = (least[0] + least[1]) * seconds;
            self.books.rest(idle);
        }
        self.last = Some(sample);
    }

    fn books(&self) -> &Books {
        &self.books
    }
}
