//! The 95 % intervals of sums over processes. `recorder.rs` has those of single processes, as attribution
//! publishes them; `report.rs` shows both.
//!
//! A process's interval has two parts. The error of static power is common to all processes of a domain: what
//! `idle` received too much, they received too little, in proportion to their energy. So it adds up linearly
//! over processes. What remains is how the program's code deviates from what the model expects: that is the
//! same in all its processes, and independent of other programs. It adds up linearly over the processes of a
//! program, and in squares over programs.

use std::collections::HashMap;
use std::hash::Hash;

/// Attribution publishes no smaller half width, J.
const LEAST_PUBLISHED: f64 = 1e-3;

/// What is not common, as a part of a process's energy, where no process has shown it: as if CPU time alone
/// divided energy.
const UNKNOWN_PART: f64 = 0.4;

/// What the intervals of a domain's processes are made of, as parts of their energy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// What is uncertain in common.
    common: f64,
    /// What is a process's own on average, for those that are too small to have an interval published.
    own: f64,
}

impl Parts {
    /// Of a domain whose idle energy has an interval of this half width, J, and whose processes have these
    /// energies and half widths; 0 for a half width that is not published.
    pub(super) fn new(idle: f64, processes: impl Iterator<Item = (f64, f64)> + Clone) -> Self {
        let all: f64 = processes.clone().map(|(energy, _)| energy).sum();
        let common = if all > 0.0 { idle / all } else { 0.0 };
        let published = processes.filter(|&(energy, half_width)| energy > 0.0 && half_width > 0.0);
        let own = published.fold((0.0, 0.0), |(joules, own), (energy, half_width)| {
            (joules + energy, own + beside(half_width, common * energy))
        });
        Self { common, own: if own.0 > 0.0 { own.1 / own.0 } else { UNKNOWN_PART } }
    }

    /// Half the width of the interval of a sum over processes, J: of each its program, energy and half width.
    pub(super) fn of_sum<P: Hash + Eq>(&self, processes: impl Iterator<Item = (P, f64, f64)>) -> f64 {
        let mut joules = 0.0;
        let mut own: HashMap<P, f64> = HashMap::new();
        for (program, energy, half_width) in processes {
            joules += energy;
            *own.entry(program).or_default() += match half_width > 0.0 {
                true => beside(half_width, self.common * energy),
                false => (self.own * energy).min(LEAST_PUBLISHED),
            };
        }
        let squares: f64 = own.values().map(|own| own * own).sum();
        (self.common * joules).hypot(squares.sqrt())
    }
}

/// What makes `all`, in squares, beside `common`.
fn beside(all: f64, common: f64) -> f64 {
    (all * all - common * common).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(parts: Parts, processes: &[(&str, f64, f64)]) -> f64 {
        parts.of_sum(processes.iter().copied())
    }

    #[test]
    fn what_is_common_adds_up_and_what_is_a_program_s_own_adds_in_squares() {
        // Idle is known to 2 J, and the processes have 40 J: 5 % of each joule is common.
        let parts = Parts::new(2.0, [(40.0, 2.0)].into_iter());
        assert_eq!(sum(parts, &[("a", 40.0, 2.0)]), 2.0);
        assert_eq!(sum(parts, &[("a", 20.0, 1.0), ("b", 20.0, 1.0)]), 2.0);
        // Each has 0.6 J in common and 0.8 J of its own: √(1.2² + 2 · 0.8²).
        let both = sum(parts, &[("a", 12.0, 1.0), ("b", 12.0, 1.0)]);
        assert!((both - (1.44_f64 + 1.28).sqrt()).abs() < 1e-12, "{both}");
        // Without anything in common, 3 and 4 make 5, or 7 where both are of one program.
        let nothing = Parts::new(0.0, [(40.0, 4.0)].into_iter());
        assert_eq!(sum(nothing, &[("a", 30.0, 3.0), ("b", 10.0, 4.0)]), 5.0);
        assert_eq!(sum(nothing, &[("a", 30.0, 3.0), ("a", 10.0, 4.0)]), 7.0);
    }

    #[test]
    fn processes_too_small_to_have_an_interval_are_as_uncertain_as_the_others() {
        let many = |joules: f64, count: usize| std::iter::repeat_n(("a", joules, 0.0), count);
        let parts = Parts::new(0.0, [(0.001, 0.0), (10.0, 2.0), (10.0, 1.0)].into_iter());
        assert!((parts.of_sum(many(0.001, 100)) - 0.015).abs() < 1e-9);
        assert!((parts.of_sum(many(0.1, 100)) - 0.1).abs() < 1e-9, "less than a millijoule each");
        let common = Parts::new(1.0, [(20.0, 0.0)].into_iter());
        assert!((common.of_sum(many(0.001, 100)) - 0.005_f64.hypot(0.04)).abs() < 1e-9);
        assert_eq!(sum(Parts::new(1.0, std::iter::empty()), &[]), 0.0, "no process used anything");
    }
}
