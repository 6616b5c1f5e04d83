//! How long a package was awake in a window, and who kept it awake. A package on which nothing runs sleeps,
//! and draws some watts less than one that has a single thread to run.
//!
//! Usage says how long a consumer ran in a window, not when. Consumers are taken to run independently of each
//! other. While several run, each keeps the package awake alike: with any of them gone the others still would
//! (it is the Shapley value of that energy). If `j` runs for the part `u(j)` of the window, `i` gets
//!
//! ```text
//! u(i) · E[1 / (1 + others that run)]  =  u(i) · ∫ Π(j ≠ i) (1 − u(j)·s) ds,  s from 0 to 1
//! ```
//!
//! and all together 1 − Π (1 − u(j)). The integral is a sum over a few nodes, whose products take one pass.

/// Nodes and weights of Gauss and Legendre on 0 to 1: exact for up to eight threads.
const NODES: [(f64, f64); 4] = [
    (0.069_431_844_202_973_71, 0.173_927_422_568_726_93),
    (0.330_009_478_207_571_9, 0.326_072_577_431_273_07),
    (0.669_990_521_792_428_1, 0.326_072_577_431_273_07),
    (0.930_568_155_797_026_3, 0.173_927_422_568_726_93),
];

/// The consumers of a window, as far as they keep a package awake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Awake {
    /// Length of the window, and the part of it that a nanosecond is.
    seconds: f64,
    per_ns: f64,
    /// The part of it, 0 to 1, in which nothing ran.
    asleep: f64,
    /// At each node, the product over all threads, and the sum over the threads of their part times the
    /// product over the others.
    products: [f64; NODES.len()],
    sums: [f64; NODES.len()],
}

/// How many threads a consumer ran at least that used so many CPUs on average, and for which part of the
/// window each of them ran.
pub(super) fn threads(cpus: f64) -> (u32, f64) {
    if cpus <= 1.0 {
        return (1, cpus);
    }
    let threads = cpus.ceil();
    (threads as u32, cpus / threads)
}

/// The part of a window of `ns`, 0 to 1, in which a consumer did not run that used `time`.
pub(super) fn rest(time: u64, ns: u64) -> f64 {
    let (threads, part) = threads(time as f64 / ns.max(1) as f64);
    if threads == 1 { 1.0 - part } else { (1.0 - part).powf(f64::from(threads)) }
}

impl Awake {
    /// A window of `ns` in which consumers ran for these `times`, ns.
    pub(super) fn of(ns: u64, times: impl Iterator<Item = u64>) -> Self {
        let ns = ns.max(1) as f64;
        let mut awake = Self {
            seconds: ns * 1e-9,
            per_ns: 1.0 / ns,
            asleep: 1.0,
            products: [1.0; NODES.len()],
            sums: [0.0; NODES.len()],
        };
        times.for_each(|time| awake.add(time));
        awake
    }

    fn add(&mut self, time: u64) {
        let (threads, part) = threads(time as f64 * self.per_ns);
        for _ in 0..threads {
            self.asleep *= 1.0 - part;
            for ((product, sum), (s, _)) in self.products.iter_mut().zip(&mut self.sums).zip(NODES) {
                let rest = 1.0 - part * s;
                *sum = *sum * rest + part * *product;
                *product *= rest;
            }
        }
    }

    /// How long something ran, s.
    fn seconds(&self) -> f64 {
        (1.0 - self.asleep) * self.seconds
    }

    /// The part of that, in seconds, of a consumer that was added with `time`.
    pub(super) fn share(&self, time: u64) -> f64 {
        let (threads, part) = threads(time as f64 * self.per_ns);
        let (mut own, mut all) = (0.0, 0.0);
        for ((product, sum), (s, weight)) in self.products.iter().zip(self.sums).zip(NODES) {
            own += weight * product / (1.0 - part * s);
            all += weight * sum;
        }
        own *= f64::from(threads) * part;
        if all > 0.0 { self.seconds() * own / all } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1_000_000;

    /// What each consumer gets of a window of a millisecond, in parts of it; they ran for these parts.
    fn shares(parts: &[f64]) -> Vec<f64> {
        let times: Vec<u64> = parts.iter().map(|part| (part * WINDOW as f64) as u64).collect();
        let awake = Awake::of(WINDOW, times.iter().copied());
        let shares: Vec<f64> = times.iter().map(|&time| awake.share(time) * 1e3).collect();
        let sum: f64 = shares.iter().sum();
        assert!((sum - awake.seconds() * 1e3).abs() < 1e-9, "they sum to {sum} of {awake:?}");
        shares
    }

    #[track_caller]
    fn assert_shares(parts: &[f64], expected: &[f64]) {
        let shares = shares(parts);
        let is_near = shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(is_near, "{shares:?}, not {expected:?}");
    }

    #[test]
    fn who_is_alone_gets_all_of_it_and_several_share_it_alike() {
        assert_shares(&[], &[]);
        assert_shares(&[0.3], &[0.3]);
        assert_shares(&[1.0, 0.0], &[1.0, 0.0]);
        // Nine tenths of the window alone and half of the tenth in which the other runs, too.
        assert_shares(&[1.0, 0.1], &[0.95, 0.05]);
        assert_shares(&[1.0; 8], &[0.125; 8]);
    }

    #[test]
    fn several_threads_of_a_consumer_count_each() {
        assert_shares(&[3.0, 1.0], &[0.75, 0.25]);
        // Two threads that run for three quarters: one sixteenth of the window nothing runs.
        assert_shares(&[1.5], &[15.0 / 16.0]);
        assert!((rest(WINDOW * 3 / 2, WINDOW) - 1.0 / 16.0).abs() < 1e-12);
    }

    #[test]
    fn however_many_run_shares_are_finite_and_sum_to_the_time_awake() {
        let many = shares(&[vec![1.0; 200], vec![0.1; 2000]].concat());
        assert!(many.iter().all(|share| share.is_finite() && *share > 0.0));
        let ratio = many[0] / many[200];
        assert!((10.0..11.0).contains(&ratio), "{ratio}: about in proportion to time");
        assert_eq!(Awake::of(0, [0, 0].into_iter()).share(0), 0.0);
    }
}
