//! Scaphandre: the host's power between two samples times each process's part of the machine's CPU time
//! between them.

use super::method::{Attributed, Method, utilisation};
use crate::observe::Sample;

#[derive(Default)]
pub(crate) struct Scaphandre {
    attributed: Attributed,
    last: Option<Sample>,
}

impl Method for Scaphandre {
    fn name(&self) -> &'static str {
        "Scaphandre"
    }

    fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            let joules = sample.total().iter().sum::<f64>() - last.total().iter().sum::<f64>();
            for (number, part) in utilisation(last, &sample) {
                self.attributed.charge(number, joules * part);
            }
        }
        self.last = Some(sample);
    }

    fn attributed(&self) -> &Attributed {
        &self.attributed
    }
}
