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

/// The interval of `idle` as a part of the energy of all `processes` (J, of one domain): that much of every
/// joule of a process is common. 0 where there is no interval or no energy.
pub(super) fn common_part(idle: Option<f64>, processes: f64) -> f64 {
    idle.filter(|_| processes > 0.0).map_or(0.0, |idle| idle / processes)
}

/// Half the width of the interval of a sum over processes of one domain, J. `parts` has each process's
/// program, energy and half width; 0 for a half width that is too small to be published.
pub(super) fn of_sum<P: Hash + Eq>(common: f64, parts: impl Iterator<Item = (P, f64, f64)>) -> f64 {
    let mut joules = 0.0;
    let mut own: HashMap<P, f64> = HashMap::new();
    for (program, energy, half_width) in parts {
        let shared = common * energy;
        joules += energy;
        *own.entry(program).or_default() += (half_width * half_width - shared * shared).max(0.0).sqrt();
    }
    let squares: f64 = own.values().map(|own| own * own).sum();
    (common * joules).hypot(squares.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(common: f64, parts: &[(&str, f64, f64)]) -> f64 {
        of_sum(common, parts.iter().copied())
    }

    #[test]
    fn what_is_common_adds_up_and_what_is_a_program_s_own_adds_in_squares() {
        // Idle is known to 2 J, and the processes have 40 J: 5 % of each joule is common.
        let common = common_part(Some(2.0), 40.0);
        assert_eq!(sum(common, &[("a", 40.0, 2.0)]), 2.0);
        assert_eq!(sum(common, &[("a", 20.0, 1.0), ("b", 20.0, 1.0)]), 2.0);
        // Without anything in common, 3 and 4 make 5, or 7 where both are of one program.
        assert_eq!(sum(0.0, &[("a", 30.0, 3.0), ("b", 10.0, 4.0)]), 5.0);
        assert_eq!(sum(0.0, &[("a", 30.0, 3.0), ("a", 10.0, 4.0)]), 7.0);
        // Each has 0.6 J in common and 0.8 J of its own: √(1.2² + 2 · 0.8²).
        let both = sum(common, &[("a", 12.0, 1.0), ("b", 12.0, 1.0)]);
        assert!((both - (1.44_f64 + 1.28).sqrt()).abs() < 1e-12, "{both}");
    }

    #[test]
    fn many_processes_too_small_to_have_an_interval_have_the_common_part() {
        let common = common_part(Some(1.0), 20.0);
        let half_width = of_sum(common, std::iter::repeat_n(("a", 0.01, 0.0), 1000));
        assert!((half_width - 0.5).abs() < 1e-9, "{half_width}");
        assert_eq!(common_part(Some(1.0), 0.0), 0.0, "no process used anything");
        assert_eq!(common_part(None, 20.0), 0.0, "nothing is known of idle");
    }
}
