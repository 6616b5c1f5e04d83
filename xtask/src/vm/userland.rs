//! What a virtual machine finds at boot: the test binaries at their paths on this machine, as they know each
//! other by them, the programs the tests call, the libraries of all these, and busybox for the rest. For
//! another architecture, the programs and libraries come from `foreign.rs`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::architecture::Architecture;
use super::archive::{self, Entry};
use super::foreign;
use crate::cross;
use crate::environment::host_cargo;
use crate::process::{probe, read, say};
use crate::workspace;

/// Tests that run on every kernel: package, target, and which tests of it do not.
const TESTS: [(&str, &str, &[&str]); 5] = [
    ("wattrace-sched", "wattrace_sched", &[]),
    ("wattrace-sched", "kernel", &[]),
    ("wattrace", "exec", AGAINST_RUSAGE),
    ("wattrace", "packages", &[]),
    ("wattrace", "throttle", &[]),
];
/// Tests that take rusage for the truth, and what they call. On emulated CPUs it is not: see
/// [`super::report`].
pub(crate) const AGAINST_RUSAGE: &[&str] = &[
    "three_hundred_short_processes_are_all_listed_with_their_time",
    "a_process_tree_is_followed_to_grandchildren_in_the_background",
    "child_that_writes_its_rusage",
];
/// Programs that the tests call. Not busybox's: here and there the tests are to see the same processes.
const PROGRAMS: [&str; 4] = ["/bin/sh", "/bin/true", "/bin/sleep", "/usr/bin/seq"];
const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");

/// What was built.
pub(crate) struct Userland {
    /// The first file system of a machine.
    pub(crate) archive: PathBuf,
    /// A shell script that runs the tests, here or there.
    pub(crate) script: PathBuf,
    /// The names of the test binaries.
    pub(crate) binaries: Vec<String>,
}

impl Userland {
    /// Builds the tests for an architecture, and the archive and the script that run them.
    pub(crate) fn build(architecture: Architecture) -> Result<Self> {
        let dir = workspace::vm();
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let name = architecture.name();
        let [archive, script] = ["initramfs", "tests"].map(|file| dir.join(format!("{file}-{name}")));
        let artifacts = build_tests(architecture)?;
        let tests = TESTS.iter().map(|(package, target, skipped)| {
            let path = executable(&artifacts, package, target, true)?;
            Ok((path, *target, *skipped))
        });
        let tests = tests.collect::<Result<Vec<_>>>()?;
        let text = script_of(&tests);
        fs::write(&script, &text).with_context(|| format!("cannot write {}", script.display()))?;

        let mut built: BTreeSet<_> = tests.into_iter().map(|(path, ..)| path).collect();
        built.insert(executable(&artifacts, "wattrace", "wattrace", false)?);
        let mut entries = vec![
            Entry::new("/init", 0o755, INIT),
            Entry::new("/tests.sh", 0o755, text),
            // For a test: a file that nobody may execute.
            Entry::new("/etc/passwd", 0o644, "root:x:0:0::/:/bin/sh\n"),
        ];
        entries.extend(if architecture == Architecture::HERE {
            native(&built)?
        } else {
            foreign::programs(architecture, &[&PROGRAMS[..], &[BUSYBOX]].concat())?
        });
        for path in built {
            entries.push(Entry::read(&path, &path)?);
        }
        archive::write(&archive, entries).with_context(|| format!("cannot write {}", archive.display()))?;
        Ok(Self { archive, script, binaries: TESTS.map(|(_, target, _)| target.to_owned()).into() })
    }
}

/// This machine's busybox, programs and libraries, the latter also for what was `built`.
fn native(built: &BTreeSet<PathBuf>) -> Result<Vec<Entry>> {
    let busybox = PathBuf::from(read(Command::new("sh").args(["-c", "command -v busybox"]))?.trim());
    let mut files: BTreeSet<_> = PROGRAMS.map(PathBuf::from).into();
    let libraries: Vec<_> =
        files.iter().chain(built).chain([&busybox]).flat_map(|program| libraries(program)).collect();
    files.extend(libraries);
    let busybox = Entry::read(&busybox, Path::new(BUSYBOX));
    files.iter().map(|path| Entry::read(path, path)).chain([busybox]).collect()
}

/// Builds the tests: for this machine with the features that `cargo test` for all packages gives them, and no
/// more than them for another architecture. Returns cargo's messages.
fn build_tests(architecture: Architecture) -> Result<String> {
    say("vm", format_args!("building the tests for {}", architecture.name()));
    let mut cargo = host_cargo();
    cargo.args(["test", "--no-run", "--lib"]);
    if architecture == Architecture::HERE {
        cargo.arg("--workspace");
    } else {
        cargo.envs(cross::ensure()?).args(["--target", cross::TARGET]);
        // It would be most of what a machine unpacks when it boots.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "none");
        cargo.args(TESTS.iter().flat_map(|(package, ..)| ["--package", package]));
    }
    cargo.args(["kernel", "exec", "packages", "throttle"].iter().flat_map(|test| ["--test", test]));
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let built = cargo.output().context("cannot run cargo")?;
    if !built.status.success() {
        bail!("building the tests failed ({})", built.status);
    }
    Ok(String::from_utf8_lossy(&built.stdout).into_owned())
}

/// The executable of a target in cargo's messages: its tests or itself.
fn executable(messages: &str, package: &str, target: &str, test: bool) -> Result<PathBuf> {
    let is_it = |message: &Value| {
        let id = message["package_id"].as_str().unwrap_or_default();
        // Either `path+file:///…/agent#wattrace@0.1.0` or `path+file:///…/wattrace#0.1.0`.
        let named = id.contains(&format!("#{package}@")) || id.contains(&format!("/{package}#"));
        named && message["target"]["name"] == target && message["profile"]["test"] == test
    };
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let path = messages.filter(is_it).find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo has built no {target} of {package}"))
}

/// A script that says which kernel and CPUs it finds, then runs each of the tests, between lines for
/// [`super::report`].
fn script_of(tests: &[(PathBuf, &str, &[&str])]) -> String {
    let mut script = String::from(
        "export CI=true\necho \"vm: kernel $(uname -r)\"\necho \"vm: build $(uname -v)\"\n\
         for id in /sys/devices/system/cpu/cpu[0-9]*/topology/physical_package_id; do\n  \
         echo \"vm: cpu $(cat $id)\"\ndone\ncd /\n",
    );
    for (path, name, skipped) in tests {
        let skips: String = skipped.iter().map(|test| format!(" --skip {test}")).collect();
        // The arguments are names of ours; the path is the user's.
        let _ =
            write!(script, "echo 'vm: run {name}'\n'{}'{skips} 2>&1\necho \"vm: exit $?\"\n", path.display());
    }
    script + "echo 'vm: end'\n"
}

/// The libraries a program is linked with, the loader included.
pub(crate) fn libraries(program: &Path) -> Vec<PathBuf> {
    // It fails for a program that is linked with none.
    paths_of(&probe(Command::new("ldd").arg(program)).unwrap_or_default())
}

/// The files in what ldd prints: `libc.so.6 => /lib/libc.so.6 (0x…)`, `/lib64/ld-linux.so.2 (0x…)`.
fn paths_of(ldd: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    ldd.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_identified_by_package_target_and_whether_they_test() {
        let message = |id: &str, target: &str, test: bool, executable: &str| {
            format!(
                r#"{{"package_id":"path+file:///w/{id}","target":{{"name":"{target}"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [
            message("agent#wattrace@0.1.0", "wattrace", false, "null"),
            message("agent#wattrace@0.1.0", "wattrace", true, r#""/t/unit""#),
            message("agent#wattrace@0.1.0", "wattrace", false, r#""/t/agent""#),
            message("plugins/wattrace-sched#0.1.0", "kernel", true, r#""/t/kernel""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let find = |package, target, test| executable(&messages, package, target, test).ok();
        assert_eq!(find("wattrace", "wattrace", false), Some("/t/agent".into()));
        assert_eq!(find("wattrace", "wattrace", true), Some("/t/unit".into()));
        assert_eq!(find("wattrace-sched", "kernel", true), Some("/t/kernel".into()));
        assert_eq!(find("sched", "kernel", true), None);
        assert_eq!(find("wattrace", "exec", true), None);
    }

    #[test]
    fn the_script_marks_what_it_runs_and_how_that_ended() {
        let script = script_of(&[("/a b/false".into(), "none", &["slow", "slower"])]);
        assert!(script.contains("'/a b/false' --skip slow --skip slower"), "{script}");
        let printed = read(Command::new("sh").args(["-c", &script])).unwrap();
        assert!(printed.starts_with("vm: kernel "), "{printed}");
        assert!(printed.ends_with("vm: exit 127\nvm: end\n"), "{printed}");
        let report = super::super::report::Report::read(&printed);
        assert!(report.ended && !report.cpus.is_empty() && !report.release.is_empty(), "{report:?}");
    }

    #[test]
    fn libraries_are_those_that_are_files() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f136b8fe000)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f136a115000)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f136b900000)\n";
        let [libc, loader] = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths_of(ldd), [Path::new(libc), Path::new(loader)]);
        assert_eq!(paths_of("\tnot a dynamic executable\n"), [] as [&Path; 0]);
    }
}
