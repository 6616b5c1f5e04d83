//! Scaphandre: the host's power between two readings times each process's part of the machine's CPU time
//! between them.

use super::{Books, Method, utilisation};
use crate::observe::Sample;

#[derive(Default)]
pub(crate) struct Scaphandre {
    books: Books,
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
                self.books.charge(number, joules * part);
            }
        }
        self.last = Some(sample);
    }

    fn books(&self) -> &Books {
        &self.books
    }
}
