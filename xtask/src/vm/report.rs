//! The report of the tests of one kernel: read from the marked lines of `userland`'s script and from the test
//! runner's own summaries, and printed as a table.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Outcome;
use super::userland::AGAINST_RUSAGE;

/// What was printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The kernel's release.
    pub(crate) release: String,
    /// Whether the kernel has real-time preemption.
    pub(crate) rt: bool,
    /// The package of each CPU.
    pub(crate) cpus: Vec<u32>,
    /// The test binaries that began, in order.
    pub(crate) binaries: Vec<Binary>,
    /// Whether the script came to its end.
    pub(crate) ended: bool,
}

/// What one test binary printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Its name.
    pub(crate) name: String,
    /// The runner's summary, without its heading; empty if it came to none.
    pub(crate) summary: String,
    /// Its exit status, if it came to one.
    pub(crate) exit: Option<i32>,
}

impl Binary {
    /// The number before `what` in the summary: `16 passed; 0 failed; …`.
    fn count(&self, what: &str) -> u32 {
        let counts = self.summary.split(['.', ';']).map(str::trim);
        let count = counts.filter_map(|count| count.split_once(' ')).find(|(_, name)| *name == what);
        count.and_then(|(number, _)| number.parse().ok()).unwrap_or(0)
    }
}

impl Report {
    /// Reads it. Lines that are neither marks nor summaries belong to the tests.
    pub(crate) fn read(printed: &str) -> Self {
        let mut report = Self::default();
        for line in printed.lines() {
            if let Some(mark) = line.strip_prefix("vm: ") {
                report.take(mark);
            } else if let Some(summary) = line.strip_prefix("test result: ")
                && let Some(binary) = report.binaries.last_mut()
            {
                summary.clone_into(&mut binary.summary);
            }
        }
        report
    }

    fn take(&mut self, mark: &str) {
        let (word, rest) = mark.split_once(' ').unwrap_or((mark, ""));
        match word {
            "kernel" => rest.clone_into(&mut self.release),
            "build" => self.rt = rest.contains("PREEMPT_RT"),
            "cpu" => self.cpus.extend(rest.parse::<u32>()),
            "run" => self.binaries.push(Binary { name: rest.to_owned(), ..Binary::default() }),
            "exit" => {
                if let Some(binary) = self.binaries.last_mut() {
                    binary.exit = rest.parse().ok();
                }
            }
            "end" => self.ended = true,
            _ => {}
        }
    }

    /// What is wrong if `binaries` were to run: whatever is not known to have passed.
    pub(crate) fn faults(&self, binaries: &[String]) -> Vec<String> {
        let mut faults = Vec::new();
        for name in binaries {
            match self.binaries.iter().find(|binary| binary.name == *name) {
                None => faults.push(format!("{name} did not run")),
                Some(Binary { exit: None, .. }) => faults.push(format!("{name} did not end")),
                Some(Binary { exit: Some(0), summary, .. }) if summary.starts_with("ok. ") => {}
                Some(Binary { exit: Some(status), summary, .. }) => {
                    faults.push(format!("{name} ended with status {status}: {summary}"));
                }
            }
        }
        if !self.ended {
            faults.push("the tests did not come to their end".to_owned());
        }
        faults
    }

    fn count(&self, what: &str) -> u32 {
        self.binaries.iter().map(|binary| binary.count(what)).sum()
    }

    fn packages(&self) -> usize {
        self.cpus.iter().collect::<BTreeSet<_>>().len()
    }
}

/// The results for a terminal.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut table =
        format!("{:<14} {:<28} {:>6} {:>6} {:>8}\n", "kernel", "release", "passed", "failed", "seconds");
    for Outcome { name, took, report, faults } in outcomes {
        let (passed, failed) = (report.count("passed"), report.count("failed"));
        let verdict = if faults.is_empty() { "" } else { "  FAILED" };
        let seconds = took.as_secs();
        let _ = writeln!(
            table,
            "{name:<14} {:<28} {passed:>6} {failed:>6} {seconds:>8}{verdict}",
            report.release
        );
    }
    table
}

/// The results as `docs/kernels.md`: nothing in it changes unless a kernel or a result does.
pub(crate) fn document(outcomes: &[Outcome]) -> String {
    let mut document = String::from(HEAD);
    for Outcome { name, report, .. } in outcomes {
        // Builders add names of their own to the version: `6.18.44-cloud-3`.
        let own = report.release.split('-').next().unwrap_or_default();
        let release = match name.as_str() {
            "this machine" => format!("{own} (not Debian's; the machine that ran the others)"),
            _ => format!("{} (Debian)", report.release),
        };
        let (passed, failed) = (report.count("passed"), report.count("failed"));
        let _ = writeln!(
            document,
            "| {release} | {} | {} / {} | {passed} of {} |",
            if report.rt { "yes" } else { "no" },
            report.packages(),
            report.cpus.len(),
            passed + failed,
        );
    }
    document.push_str(TAIL);
    for test in AGAINST_RUSAGE {
        let _ = writeln!(document, "- `{test}`");
    }
    document
}

const HEAD: &str = "\
# Kernels

`cargo xtask vm --write-docs` writes this page, and `cargo xtask test` runs the same tests on the same
amd64 kernels before a change goes in. Debian's kernels, the newest of each series, boot under QEMU with
full emulation, on eight CPUs: two packages of two cores of two hardware threads. For arm64, the tests are
built on another machine. A test that fails, a kernel that complains (`BUG:`, `WARNING:`, a stall) or a
machine that does not power off by itself fails the run.

| kernel | real-time preemption | packages / CPUs | tests passed |
| --- | --- | --- | --- |
";

const TAIL: &str = "
The tests: the unit tests of `plugins/sched`; `plugins/sched/tests/kernel.rs`, which loads the kernel
programs with and without type information, attaches them and checks every nanosecond of every CPU, while
one CPU goes offline and comes back; `agent/tests/exec.rs`, which runs the agent itself;
`agent/tests/packages.rs`, in which two packages with a meter each have a load each, and no joule crosses;
and `agent/tests/throttle.rs`, which slows cgroups down by `cpu.max`. On the machine that ran the others,
whose cgroup v2 has no controller `cpu`, the last ones find nothing to do; nor does `packages.rs` where there
is one package only: there, and on 5.10 for arm64, which puts all CPUs of the emulated board into one.

Left out here are tests that assert wall-clock time, which emulation stretches, and those of `exec.rs` that
take rusage as the truth (the second of them also fails because starting `sleep` takes more than its 50 ms),
with the helper that they call. On emulated CPUs the kernel's own count gave processes 0.3 to 7 % more than
the trace did. On 6.1 the two agreed to 0.5 % where the processes were pinned to one CPU (12 runs), and to
0.2 % where they were not but no CPU was idle (one run), so idle CPUs make the difference. The likely cause,
not traced further: the kernel counts from the moment a task is woken, and an emulated CPU takes long to
start it.

";

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PRINTED: &str = "\
vm: kernel 6.1.0-56-rt-amd64\r
vm: build #1 SMP PREEMPT_RT Debian 6.1.192-2 (2026-11-16)\r
vm: cpu 0\r
vm: cpu 0\r
vm: cpu 1\r
vm: run unit\r
running 16 tests\r
test result: ok. 16 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\r
vm: exit 0\r
vm: run exec\r
test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 26.90s\r
vm: exit 101\r
vm: end\r
";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn what_ran_where_and_how_it_ended_is_read() {
        let report = Report::read(PRINTED);
        assert_eq!((report.release.as_str(), report.rt), ("6.1.0-56-rt-amd64", true));
        assert_eq!((report.packages(), report.cpus.len()), (2, 3));
        assert_eq!((report.count("passed"), report.count("failed")), (19, 2));
        let exits: Vec<_> =
            report.binaries.iter().map(|binary| (binary.name.as_str(), binary.exit)).collect();
        assert_eq!(exits, [("unit", Some(0)), ("exec", Some(101))]);
    }

    #[test]
    fn only_what_is_known_to_have_passed_is_no_fault() {
        let faults = |printed: &str, binaries: &[&str]| Report::read(printed).faults(&names(binaries));
        assert_eq!(faults(PRINTED, &["unit"]), names(&[]));
        let failed = faults(PRINTED, &["unit", "exec", "other"]);
        assert!(failed[0].starts_with("exec ended with status 101: FAILED. 3 passed"), "{failed:?}");
        assert_eq!(failed[1..], ["other did not run"]);
        let (cut, _) = PRINTED.split_once("vm: exit 101").unwrap();
        assert_eq!(
            faults(cut, &["unit", "exec"]),
            ["exec did not end", "the tests did not come to their end"]
        );
        assert_eq!(faults("", &["unit"]), ["unit did not run", "the tests did not come to their end"]);
        // A binary that ends well without a word of the runner's has tested nothing.
        let silent = "vm: run unit\nvm: exit 0\nvm: end\n";
        assert_eq!(faults(silent, &["unit"]), ["unit ended with status 0: "]);
    }

    #[test]
    fn the_document_names_the_kernel_but_not_whose_machine_or_how_long() {
        let outcome = |name: &str, release: &str, took| Outcome {
            name: name.to_owned(),
            took: Duration::from_secs(took),
            report: Report { release: release.to_owned(), ..Report::read(PRINTED) },
            faults: Vec::new(),
        };
        let results = |took| {
            [outcome("6.1-rt", "6.1.0-56-rt-amd64", took), outcome("this machine", "6.18.44-abc-1", took)]
        };
        let document = document(&results(1));
        assert!(
            document.contains("| 6.1.0-56-rt-amd64 (Debian) | yes | 2 / 3 | 19 of 21 |\n| 6.18.44 ("),
            "{document}"
        );
        assert!(!document.contains("abc"));
        assert_eq!(document, super::document(&results(2)));
        assert!(table(&results(1)).contains("6.18.44-abc-1"));
    }
}
