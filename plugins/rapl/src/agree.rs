//! Whether RAPL's interfaces say the same. They lead to the same registers, so that over the same span they
//! must agree but for a refresh or two; where they don't (a wrong unit, a counter that stands still) it is
//! better to know. Pure: what each says goes in, whom to believe and the disputes come out. `source` asks at
//! its start.

use std::time::Duration;

/// Part of the larger number by which two may differ: kernels round units (15.3 µJ for 2^-16 J), and the
/// readings that are compared were not taken at the same instant.
const TOLERANCE: f64 = 0.05;
/// The hardware refreshes about every millisecond; each end of the span may fall on either side of a refresh.
const REFRESHES: Duration = Duration::from_millis(2);

/// What one interface says.
#[derive(Debug)]
pub(crate) struct Testimony {
    pub(crate) interface: &'static str,
    pub(crate) energies: Vec<Energy>,
}

/// What it says of one domain.
#[derive(Clone, Debug)]
pub(crate) struct Energy {
    pub(crate) domain: String,
    pub(crate) microjoules: u64,
    /// The least by which its counter grows.
    pub(crate) step: u64,
    /// Whether it can't truly be zero.
    pub(crate) never_rests: bool,
}

/// What to make of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The number of the testimony to believe.
    pub(crate) believed: usize,
    /// Domains on which they differ, with the figures.
    pub(crate) disputes: Vec<(String, String)>,
}

/// Judges testimonies about the same span of `elapsed`, the preferred one first. The one that most others
/// agree with is believed; if none is ahead, the first whose counters move.
pub(crate) fn judge(testimonies: &[Testimony], elapsed: Duration) -> Verdict {
    let votes = |at: usize| {
        let others = testimonies.iter().enumerate().filter(|&(other, _)| other != at);
        others.filter(|(_, other)| agree(&testimonies[at], other, elapsed)).count()
    };
    let believed = (0..testimonies.len())
        .max_by_key(|&at| (votes(at), moves(&testimonies[at], testimonies), std::cmp::Reverse(at)))
        .unwrap_or(0);
    let mut disputes: Vec<(String, String)> = Vec::new();
    for (nth, one) in testimonies.iter().enumerate() {
        for other in &testimonies[nth + 1..] {
            for (a, _) in common(one, other).filter(|(a, b)| !close(a, b, elapsed)) {
                if disputes.iter().all(|(domain, _)| *domain != a.domain) {
                    disputes.push((a.domain.clone(), figures(&a.domain, testimonies)));
                }
            }
        }
    }
    Verdict { believed, disputes }
}

/// What both speak of.
fn common<'a>(a: &'a Testimony, b: &'a Testimony) -> impl Iterator<Item = (&'a Energy, &'a Energy)> {
    a.energies
        .iter()
        .filter_map(|ours| Some((ours, b.energies.iter().find(|theirs| theirs.domain == ours.domain)?)))
}

/// Whether two agree on all that both speak of, which must be something.
fn agree(a: &Testimony, b: &Testimony, elapsed: Duration) -> bool {
    let mut common = common(a, b).peekable();
    common.peek().is_some() && common.all(|(a, b)| close(a, b, elapsed))
}

fn close(a: &Energy, b: &Energy, elapsed: Duration) -> bool {
    let more = a.microjoules.max(b.microjoules) as f64;
    let refreshes = REFRESHES.as_secs_f64() / elapsed.max(REFRESHES).as_secs_f64();
    let allowed = more * (TOLERANCE + refreshes) + (a.step + b.step) as f64;
    a.microjoules.abs_diff(b.microjoules) as f64 <= allowed
}

/// Whether nothing stands still in it that can't and moves elsewhere.
fn moves(one: &Testimony, all: &[Testimony]) -> bool {
    let moves_elsewhere = |domain: &str| {
        all.iter().flat_map(|t| &t.energies).any(|energy| energy.domain == domain && energy.microjoules > 0)
    };
    !one.energies.iter().any(|e| e.never_rests && e.microjoules == 0 && moves_elsewhere(&e.domain))
}

/// `perf 10.00 J, powercap 20.10 J`.
fn figures(domain: &str, testimonies: &[Testimony]) -> String {
    let says = |t: &Testimony| {
        let energy = t.energies.iter().find(|energy| energy.domain == domain)?;
        Some(format!("{} {:.3} J", t.interface, energy.microjoules as f64 / 1e6))
    };
    testimonies.iter().filter_map(says).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn says(interface: &'static str, energies: &[(&str, u64)]) -> Testimony {
        let energy = |&(domain, microjoules): &(&str, u64)| Energy {
            domain: domain.to_owned(),
            microjoules,
            step: 61,
            never_rests: domain.starts_with("package"),
        };
        Testimony { interface, energies: energies.iter().map(energy).collect() }
    }

    fn judged(testimonies: &[Testimony], elapsed: Duration) -> (&'static str, Vec<String>) {
        let verdict = judge(testimonies, elapsed);
        let disputes = verdict.disputes.into_iter().map(|(domain, figures)| format!("{domain}: {figures}"));
        (testimonies[verdict.believed].interface, disputes.collect())
    }

    #[test]
    fn those_that_agree_are_believed_in_order() {
        let all = [
            says("perf", &[("package-0", 20_000_000), ("dram-0", 3_000_000)]),
            says("powercap", &[("package-0", 20_100_000), ("dram-0", 3_008_000), ("core-0", 7)]),
            says("msr", &[("package-0", 19_990_000)]),
        ];
        assert_eq!(judged(&all, SECOND), ("perf", vec![]));
    }

    #[test]
    fn two_outvote_one_and_the_figures_are_told() {
        let all = [
            says("perf", &[("package-0", 40_000_000)]),
            says("powercap", &[("package-0", 20_000_000)]),
            says("msr", &[("package-0", 20_000_100)]),
        ];
        let figures = "package-0: perf 40.000 J, powercap 20.000 J, msr 20.000 J";
        assert_eq!(judged(&all, SECOND), ("powercap", vec![figures.to_owned()]));
    }

    #[test]
    fn of_two_that_differ_the_preferred_one_is_believed_unless_it_stands_still() {
        let differ =
            [says("perf", &[("package-0", 40_000_000)]), says("powercap", &[("package-0", 20_000_000)])];
        assert_eq!(judged(&differ, SECOND).0, "perf");
        let still = [says("perf", &[("package-0", 0)]), says("powercap", &[("package-0", 20_000_000)])];
        assert_eq!(judged(&still, SECOND).0, "powercap");
        let resting = [says("perf", &[("uncore-0", 0)]), says("powercap", &[("uncore-0", 20_000_000)])];
        assert_eq!(judged(&resting, SECOND).0, "perf");
    }

    #[test]
    fn a_refresh_more_or_less_is_no_dispute_over_a_short_span() {
        let all = [says("perf", &[("package-0", 400_000)]), says("powercap", &[("package-0", 360_000)])];
        assert!(judged(&all, Duration::from_millis(20)).1.is_empty());
        assert_eq!(judged(&all, SECOND).1.len(), 1);
    }

    #[test]
    fn those_without_a_common_domain_have_nothing_to_dispute() {
        let all = [says("perf", &[("package-0", 1)]), says("powercap", &[("package-1", 99_000_000)])];
        assert_eq!(judged(&all, SECOND), ("perf", vec![]));
        assert_eq!(judge(&[], SECOND), Verdict { believed: 0, disputes: vec![] });
    }
}
