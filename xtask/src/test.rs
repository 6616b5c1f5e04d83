//! `test`: everything that must hold before a change goes in. Tests that load kernel programs are ordinary
//! tests, so all test binaries run as root; they are built as the user. `rerun.rs` gives a target that fails
//! a second chance. Afterwards `vm` takes the privileged tests to other kernels.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::environment::host_cargo;
use crate::process::{is_root, run as run_command, say};
use crate::{deny, ebpf, rerun, test_tools, tidy, vm};

/// Makes cargo start what it built as root, with our environment.
const SUDO_RUNNER: [&str; 2] = ["--config", r#"target.'cfg(unix)'.runner = ["sudo", "-E"]"#];

/// Checks formatting, the repository's rules, its dependencies and lints unless `quick`, then runs the tests;
/// `args` are those of `cargo test`. Tests on other kernels follow if all are run, again unless `quick`.
pub(crate) fn run(quick: bool, args: Vec<OsString>) -> Result<()> {
    test_tools::ensure()?;
    if quick {
        ebpf::build()?;
    } else {
        ebpf::verify()?;
        say("test", "formatting");
        run_command(host_cargo().args(["fmt", "--all", "--check"]))?;
        run_command(host_cargo().args(["fmt", "--check", "--manifest-path", "ebpf/Cargo.toml"]))?;
        tidy::run()?;
        deny::run()?;
        say("test", "lints");
        run_command(host_cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))?;
    }
    say("test", if is_root() { "tests" } else { "tests, as root through sudo" });
    let all = args.is_empty();
    let mut args = selection(args, "--workspace");
    args.insert(0, "--no-fail-fast".into());
    let cargo_test = |args: &[OsString]| {
        let mut cargo = as_root("test", args)?;
        cargo.env("WATTRACE_TEST_PYTHON", test_tools::python());
        Ok(cargo)
    };
    if all {
        rerun::run(&args, cargo_test)?
    } else {
        run_command(&mut cargo_test(&args)?)?
    }
    if quick || !all { Ok(()) } else { vm::run_where_possible() }
}

/// Has cargo build, as the user, what `cargo TASK ARGS` runs; returns that command, which runs it as root.
pub(crate) fn as_root(task: &str, args: &[OsString]) -> Result<Command> {
    // Arguments behind `--` are those of the binaries, which are not run yet.
    let of_cargo = args.split(|arg| arg == "--").next().unwrap_or_default();
    // Documentation's tests are built as they run.
    if !of_cargo.contains(&"--doc".into()) {
        run_command(host_cargo().arg(task).args(of_cargo).arg("--no-run"))?;
    }
    let mut cargo = host_cargo();
    cargo.arg(task);
    if !is_root() {
        cargo.args(SUDO_RUNNER);
    }
    cargo.args(args);
    Ok(cargo)
}

/// The arguments with `default` in front, unless they name packages themselves.
pub(crate) fn selection(mut args: Vec<OsString>, default: &str) -> Vec<OsString> {
    let names_package = |arg: &OsString| {
        arg.to_str().is_some_and(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
    };
    if !args.iter().take_while(|arg| *arg != "--").any(names_package) {
        args.insert(0, default.into());
    }
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(args: &[&str]) -> Vec<String> {
        let args = selection(args.iter().map(OsString::from).collect(), "--workspace");
        args.into_iter().map(|arg| arg.into_string().unwrap()).collect()
    }

    #[test]
    fn all_is_tested_unless_packages_are_named() {
        assert_eq!(selected(&[]), ["--workspace"]);
        assert_eq!(selected(&["ledger"]), ["--workspace", "ledger"]);
        assert_eq!(selected(&["-p", "wattrace-csv"]), ["-p", "wattrace-csv"]);
        assert_eq!(selected(&["--package=wattrace-csv"]), ["--package=wattrace-csv"]);
        assert_eq!(selected(&["--", "-p"]), ["--workspace", "--", "-p"]);
    }
}
