//! Compares RAPL's interfaces. They lead to the same registers, so over the same span they must agree except
//! for a refresh or two. If they do not (a wrong unit, a counter that stands still), one of them is wrong.
//! Pure: the energies that each interface reports go in, the interface to trust and the disagreements come
//! out. `source` compares once, after it was opened.

use std::time::Duration;

/// The share of the larger value by which two may differ: kernels round units (15.3 µJ for 2^-16 J), and the
/// readings are not taken at the same instant.
const TOLERANCE: f64 = 0.05;
/// The hardware refreshes about every millisecond. Each end of the span may be on either side of a refresh.
const TWO_REFRESHES: Duration = Duration::from_millis(2);

/// What one interface reports.
#[derive(Debug)]
pub(crate) struct InterfaceReport {
    pub(crate) interface: &'static str,
    pub(crate) energies: Vec<DomainEnergy>,
}

/// What it reports for one domain.
#[derive(Clone, Debug)]
pub(crate) struct DomainEnergy {
    pub(crate) domain: String,
    pub(crate) microjoules: u64,
    /// The smallest growth of its counter, in microjoules.
    pub(crate) resolution: u64,
    /// Whether the true value cannot be zero.
    pub(crate) always_draws_power: bool,
}

/// The result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// The index of the report to trust.
    pub(crate) trusted: usize,
    /// Domains for which the reports differ, with the energies.
    pub(crate) disagreements: Vec<(String, String)>,
}

/// Compares reports about the same span of `elapsed`, in the order in which the interfaces are preferred. The
/// one that most others agree with is trusted; in a tie the first whose counters move.
pub(crate) fn compare(reports: &[InterfaceReport], elapsed: Duration) -> Comparison {
    let votes = |at: usize| {
        let others = reports.iter().enumerate().filter(|&(other, _)| other != at);
        others.filter(|(_, other)| agree(&reports[at], other, elapsed)).count()
    };
    let trusted = (0..reports.len())
        .max_by_key(|&at| (votes(at), moves(&reports[at], reports), std::cmp::Reverse(at)))
        .unwrap_or(0);
    let mut disagreements: Vec<(String, String)> = Vec::new();
    for (nth, one) in reports.iter().enumerate() {
        for other in &reports[nth + 1..] {
            for (a, _) in common(one, other).filter(|(a, b)| !close(a, b, elapsed)) {
                if disagreements.iter().all(|(domain, _)| *domain != a.domain) {
                    disagreements.push((a.domain.clone(), figures(&a.domain, reports)));
                }
            }
        }
    }
    Comparison { trusted, disagreements }
}

/// The domains that both report.
fn common<'a>(
    a: &'a InterfaceReport,
    b: &'a InterfaceReport,
) -> impl Iterator<Item = (&'a DomainEnergy, &'a DomainEnergy)> {
    let same_domain = |ours: &'a DomainEnergy| b.energies.iter().find(|theirs| theirs.domain == ours.domain);
    a.energies.iter().filter_map(move |ours| Some((ours, same_domain(ours)?)))
}

/// Whether two agree on all domains that both report, which is at least one.
fn agree(a: &InterfaceReport, b: &InterfaceReport, elapsed: Duration) -> bool {
    let mut common = common(a, b).peekable();
    common.peek().is_some() && common.all(|(a, b)| close(a, b, elapsed))
}

fn close(a: &DomainEnergy, b: &DomainEnergy, elapsed: Duration) -> bool {
    let more = a.microjoules.max(b.microjoules) as f64;
    let refreshes = TWO_REFRESHES.as_secs_f64() / elapsed.max(TWO_REFRESHES).as_secs_f64();
    let allowed = more * (TOLERANCE + refreshes) + (a.resolution + b.resolution) as f64;
    a.microjoules.abs_diff(b.microjoules) as f64 <= allowed
}

/// Whether no counter stands still that must move and moves in another report.
fn moves(one: &InterfaceReport, all: &[InterfaceReport]) -> bool {
    let moves_elsewhere = |domain: &str| {
        all.iter().flat_map(|t| &t.energies).any(|energy| energy.domain == domain && energy.microjoules > 0)
    };
    !one.energies.iter().any(|e| e.always_draws_power && e.microjoules == 0 && moves_elsewhere(&e.domain))
}

/// `perf 10.00 J, powercap 20.10 J`.
fn figures(domain: &str, reports: &[InterfaceReport]) -> String {
    let figure = |t: &InterfaceReport| {
        let energy = t.energies.iter().find(|energy| energy.domain == domain)?;
        Some(format!("{} {:.3} J", t.interface, energy.microjoules as f64 / 1e6))
    };
    reports.iter().filter_map(figure).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn report(interface: &'static str, energies: &[(&str, u64)]) -> InterfaceReport {
        let energy = |&(domain, microjoules): &(&str, u64)| DomainEnergy {
            domain: domain.to_owned(),
            microjoules,
            resolution: 61,
            always_draws_power: domain.starts_with("package"),
        };
        InterfaceReport { interface, energies: energies.iter().map(energy).collect() }
    }

    fn compared(reports: &[InterfaceReport], elapsed: Duration) -> (&'static str, Vec<String>) {
        let Comparison { trusted, disagreements } = compare(reports, elapsed);
        let disagreements = disagreements.into_iter().map(|(domain, figures)| format!("{domain}: {figures}"));
        (reports[trusted].interface, disagreements.collect())
    }

    #[test]
    fn the_preferred_interface_is_trusted_if_all_agree() {
        let all = [
            report("perf", &[("package-0", 20_000_000), ("dram-0", 3_000_000)]),
            report("powercap", &[("package-0", 20_100_000), ("dram-0", 3_008_000), ("core-0", 7)]),
            report("msr", &[("package-0", 19_990_000)]),
        ];
        assert_eq!(compared(&all, SECOND), ("perf", vec![]));
    }

    #[test]
    fn two_interfaces_outvote_one_and_the_energies_are_reported() {
        let all = [
            report("perf", &[("package-0", 40_000_000)]),
            report("powercap", &[("package-0", 20_000_000)]),
            report("msr", &[("package-0", 20_000_100)]),
        ];
        let figures = "package-0: perf 40.000 J, powercap 20.000 J, msr 20.000 J";
        assert_eq!(compared(&all, SECOND), ("powercap", vec![figures.to_owned()]));
    }

    #[test]
    fn of_two_that_differ_the_preferred_one_is_trusted_unless_it_stands_still() {
        let differ =
            [report("perf", &[("package-0", 40_000_000)]), report("powercap", &[("package-0", 20_000_000)])];
        assert_eq!(compared(&differ, SECOND).0, "perf");
        let still = [report("perf", &[("package-0", 0)]), report("powercap", &[("package-0", 20_000_000)])];
        assert_eq!(compared(&still, SECOND).0, "powercap");
        let resting = [report("perf", &[("uncore-0", 0)]), report("powercap", &[("uncore-0", 20_000_000)])];
        assert_eq!(compared(&resting, SECOND).0, "perf");
    }

    #[test]
    fn one_refresh_more_or_less_is_not_a_disagreement_over_a_short_span() {
        let all = [report("perf", &[("package-0", 400_000)]), report("powercap", &[("package-0", 360_000)])];
        assert!(compared(&all, Duration::from_millis(20)).1.is_empty());
        assert_eq!(compared(&all, SECOND).1.len(), 1);
    }

    #[test]
    fn interfaces_without_a_common_domain_do_not_disagree() {
        let all = [report("perf", &[("package-0", 1)]), report("powercap", &[("package-1", 99_000_000)])];
        assert_eq!(compared(&all, SECOND), ("perf", vec![]));
        assert_eq!(compare(&[], SECOND), Comparison { trusted: 0, disagreements: vec![] });
    }
}
