//! How much a cgroup may use. Its allowance grows by the limit's power up to what may be used at once, and
//! shrinks by what is used: a token bucket. It decides how far the cgroup is slowed down, so that what is
//! left lasts.

use std::time::Duration;

use wattrace_api::Timestamp;

/// What a cgroup used in a window.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) microjoules: u64,
    /// CPU time, ns.
    pub(crate) cpu_ns: u64,
}

/// What to do after a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Advice {
    /// It may use as many CPUs as it likes.
    Free,
    /// It may use so many CPUs from now on.
    Slow(f64),
}

/// The allowance of one limit.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    watts: f64,
    over: Duration,
    /// J; below zero if more was used than was allowed.
    left: f64,
    until: Option<Timestamp>,
    exhausted: bool,
    /// CPUs that draw a watt, as far as is known.
    cpus_per_watt: Option<f64>,
    slow: bool,
}

impl Allowance {
    pub(crate) fn new(watts: f64, over: Duration) -> Self {
        let left = watts * over.as_secs_f64();
        Self { watts, over, left, until: None, exhausted: false, cpus_per_watt: None, slow: false }
    }

    /// What is left, J.
    pub(crate) fn left(&self) -> f64 {
        self.left
    }

    fn capacity(&self) -> f64 {
        self.watts * self.over.as_secs_f64()
    }

    /// `used` was used until `until`.
    pub(crate) fn take(&mut self, used: Used, until: Timestamp) -> Advice {
        let Some(since) = self.until.replace(until) else { return Advice::Free };
        let seconds = until.since(since).as_secs_f64();
        let joules = used.microjoules as f64 * 1e-6;
        self.left = (self.left + self.watts * seconds - joules).min(self.capacity());
        if used.microjoules > 0 && used.cpu_ns > 0 {
            self.cpus_per_watt = Some(used.cpu_ns as f64 * 1e-9 / joules);
        }
        // What is left is spread over the next period. A debt is paid back in it, by at most nine tenths.
        let allowed = (self.watts + self.left / self.over.as_secs_f64()).max(self.watts * 0.1);
        let power = if seconds > 0.0 { joules / seconds } else { 0.0 };
        self.slow = (self.slow || power > allowed) && self.left < self.capacity();
        match self.cpus_per_watt.filter(|_| self.slow) {
            Some(cpus_per_watt) => Advice::Slow(allowed * cpus_per_watt),
            None => Advice::Free,
        }
    }

    /// Whether the allowance has been used up since the last time that half of it was there.
    pub(crate) fn take_exhausted(&mut self) -> bool {
        if self.left <= 0.0 {
            return !std::mem::replace(&mut self.exhausted, true);
        }
        if self.left >= self.capacity() / 2.0 {
            self.exhausted = false;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVER: Duration = Duration::from_secs(10);

    /// Average power over the last half of `seconds` of a program that would use `cpus` CPUs at 20 W each,
    /// and is slowed down as is advised after each second; and the lowest allowance.
    fn average(watts: f64, cpus: f64, seconds: u64) -> (f64, f64) {
        let mut allowance = Allowance::new(watts, OVER);
        let (mut limit, mut joules, mut least) = (f64::INFINITY, 0.0, f64::INFINITY);
        for second in 0..seconds {
            let ran = cpus.min(limit);
            let used = Used { microjoules: (ran * 20e6) as u64, cpu_ns: (ran * 1e9) as u64 };
            limit = match allowance.take(used, Timestamp(second * 1_000_000_000)) {
                Advice::Free => f64::INFINITY,
                Advice::Slow(cpus) => cpus,
            };
            least = least.min(allowance.left());
            if second >= seconds / 2 {
                joules += ran * 20.0;
            }
        }
        (joules / (seconds - seconds / 2) as f64, least)
    }

    #[test]
    fn a_program_that_wants_more_gets_the_limit_on_average_and_never_goes_into_debt() {
        for (watts, cpus) in [(5.0, 1.0), (10.0, 4.0), (1.0, 0.3), (30.0, 2.0)] {
            let (average, least) = average(watts, cpus, 200);
            assert!((average / watts - 1.0).abs() < 0.02, "{average} W of {watts} W");
            assert!(least >= 0.0, "{watts} W: {least} J");
        }
    }

    #[test]
    fn a_program_below_the_limit_is_left_alone() {
        let mut allowance = Allowance::new(25.0, OVER);
        for second in 0..100 {
            let used = Used { microjoules: 20_000_000, cpu_ns: 1_000_000_000 };
            assert_eq!(allowance.take(used, Timestamp(second * 1_000_000_000)), Advice::Free);
            assert!(!allowance.take_exhausted());
        }
        assert_eq!(allowance.left(), 250.0);
    }

    #[test]
    fn a_burst_that_is_over_is_forgiven_when_the_allowance_is_full_again() {
        let mut allowance = Allowance::new(5.0, OVER);
        // Thousandths of a CPU, if it is slowed down.
        let mut take = |second: u64, joules: u64| {
            let used = Used { microjoules: joules * 1_000_000, cpu_ns: joules * 50_000_000 };
            let advice = match allowance.take(used, Timestamp(second * 1_000_000_000)) {
                Advice::Free => None,
                Advice::Slow(cpus) => Some((cpus * 1000.0).round()),
            };
            (advice, allowance.take_exhausted())
        };
        // The first window begins the allowance.
        assert_eq!(take(0, 0), (None, false));
        // 50 J are there, and 5 J came; 45 J are left: 5 W + 4.5 W are allowed, of 20 W per CPU.
        assert_eq!(take(1, 10), (Some(475.0), false));
        // 10 J too much, to be saved in the next 10 s: 5 W − 1 W.
        assert_eq!(take(2, 60), (Some(200.0), true));
        assert_eq!(take(3, 0), (Some(225.0), false), "the debt is reported once");
        assert!(matches!(take(13, 0), (Some(_), false)));
        assert_eq!(take(15, 0), (None, false), "nothing is left of it");
        assert_eq!(take(16, 100), (Some(25.0), true), "and again: a tenth of the limit at least");
    }
}
