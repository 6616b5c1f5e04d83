//! Kepler since 0.10: each zone's energy, summed over packages, is active for the busy part of the machine's
//! CPU time, and idle for the rest. Active energy is divided by the CPU time of the processes that live now.

use super::method::{Attributed, Method};
use crate::observe::Sample;

#[derive(Default)]
pub(crate) struct KeplerNow {
    attributed: Attributed,
    last: Option<Sample>,
}

impl Method for KeplerNow {
    fn name(&self) -> &'static str {
        "Kepler now"
    }

    fn take(&mut self, sample: Sample) {
        if let Some(last) = &self.last {
            let joules = sample.total().iter().sum::<f64>() - last.total().iter().sum::<f64>();
            let all = (sample.usage_at - last.usage_at) * 100.0 * sample.cpus;
            let active = joules * ((sample.busy_ticks - last.busy_ticks) as f64 / all).clamp(0.0, 1.0);
            // A new process used all its time in this interval.
            let ticks = |number: &usize| {
                let earlier = last.processes.get(number).map_or(0, |view| view.ticks);
                (sample.processes[number].ticks - earlier) as f64
            };
            let sum: f64 = sample.processes.keys().map(ticks).sum();
            if sum > 0.0 {
                for number in sample.processes.keys() {
                    self.attributed.charge(*number, active * ticks(number) / sum);
                }
            }
            self.attributed.add_idle(joules - active);
        }
        self.last = Some(sample);
    }

    fn attributed(&self) -> &Attributed {
        &self.attributed
    }
}
