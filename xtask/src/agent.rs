//! `build` and `run`: the agent, kernel programs included. Building is always done as the user; only the
//! agent itself runs as root, through sudo, in place of xtask, so that signals and its exit status pass
//! through.

use std::env::consts::ARCH;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::{forget_cargo, host_cargo, of_agent};
use crate::process::{is_root, run as run_command, say};
use crate::{cross, ebpf};

/// The agent's commands that look at the kernel or talk to an agent that does.
const OF_ROOT: [&str; 6] = ["run", "exec", "watch", "top", "doctor", "control"];
/// Its other commands, and what else stands for a command.
const OF_ANYONE: [&str; 7] = ["config", "plugins", "help", "--help", "-h", "--version", "-V"];
/// Has the linker keep one of functions that are alike: LLVM's, which is rustc's default on x86-64 alone.
const FOLD_ALIKE: &[&str] = &["-C", "link-arg=-Wl,--icf=safe"];

/// Builds the agent to be installed, or to be debugged; returns its path.
pub(crate) fn build(debug: bool) -> Result<PathBuf> {
    let (profile, folder) = if debug { ("dev", "debug") } else { ("release", "release") };
    build_as(profile, folder, &mut host_cargo(), &[])
}

/// Builds the agent as it is packaged, which takes longer and gives a smaller file; returns its path.
pub(crate) fn build_for_dist(aarch64: bool) -> Result<PathBuf> {
    if !aarch64 || ARCH == "aarch64" {
        let fold = if ARCH == "x86_64" { FOLD_ALIKE } else { &[] };
        return build_as("dist", "dist", &mut host_cargo(), fold);
    }
    let environment = cross::ensure()?;
    let mut cargo = host_cargo();
    cargo.envs(environment).env("CARGO_BUILD_TARGET", cross::TARGET);
    build_as("dist", &format!("{}/dist", cross::TARGET), &mut cargo, &[])
}

/// Has `cargo` build the agent with a profile of Cargo.toml, into the folder that cargo has for it. `options`
/// are the compiler's for the program itself.
fn build_as(profile: &str, folder: &str, cargo: &mut Command, options: &[&str]) -> Result<PathBuf> {
    ebpf::build()?;
    cargo.args(["rustc", "--package", "wattrace", "--bin", "wattrace", "--profile", profile, "--"]);
    run_command(cargo.args(options))?;
    // xtask itself is in the debug folder of the same target directory, wherever the user has put that.
    let xtask = std::env::current_exe().context("cannot tell where xtask is")?;
    let target = xtask.ancestors().nth(2).context("xtask is not in a target directory")?;
    let agent = target.join(folder).join("wattrace");
    say("build", agent.display());
    Ok(agent)
}

/// Builds the agent, as fast as it can be built, and becomes it. Returns only if that fails.
pub(crate) fn run(debug: bool, args: Vec<OsString>) -> Result<()> {
    let agent = if debug { build(true)? } else { build_as("quick", "quick", &mut host_cargo(), &[])? };
    let (root, args) = command_line(args);
    let mut command =
        if root && !is_root() { sudo(&agent, std::env::vars_os()) } else { Command::new(&agent) };
    forget_cargo(command.args(args));
    Err(command.exec()).with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// Whether it takes root, and the arguments of `wattrace`: those given, as they are if they name one of its
/// commands, else as those of `wattrace run`.
fn command_line(mut args: Vec<OsString>) -> (bool, Vec<OsString>) {
    let is_one_of = |names: &[&str]| args.first().is_some_and(|first| names.iter().any(|name| first == name));
    if is_one_of(&OF_ANYONE) {
        return (false, args);
    }
    if !is_one_of(&OF_ROOT) {
        args.insert(0, "run".into());
    }
    (true, args)
}

/// The agent through sudo, which keeps of the environment only what the agent reads.
fn sudo(agent: &Path, variables: impl Iterator<Item = (OsString, OsString)>) -> Command {
    let kept = of_agent(variables.filter_map(|(name, _)| name.into_string().ok()));
    let mut command = Command::new("sudo");
    if !kept.is_empty() {
        command.arg(format!("--preserve-env={}", kept.join(",")));
    }
    command.arg("--").arg(agent);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> (bool, Vec<String>) {
        let (root, args) = command_line(args.iter().map(OsString::from).collect());
        (root, args.into_iter().map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn arguments_are_those_of_run_unless_they_name_a_command() {
        assert_eq!(line(&[]), (true, vec!["run".into()]));
        assert_eq!(line(&["--duration", "1s"]).1, ["run", "--duration", "1s"]);
        assert_eq!(line(&["exec", "--", "sleep", "1"]).1, ["exec", "--", "sleep", "1"]);
        assert_eq!(line(&["run", "--plugins", "rapl"]).1, ["run", "--plugins", "rapl"]);
    }

    #[test]
    fn only_what_needs_root_gets_it() {
        assert!(line(&["top"]).0);
        assert!(!line(&["--version"]).0);
        assert_eq!(line(&["config", "init"]), (false, vec!["config".into(), "init".into()]));
    }

    #[test]
    fn sudo_passes_on_the_agents_variables_and_no_others() {
        let with = |names: &[&str]| {
            let command = sudo(Path::new("/wattrace"), names.iter().map(|name| (name.into(), "x".into())));
            command.get_args().map(|arg| arg.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(with(&["PATH"]), ["--", "/wattrace"]);
        assert_eq!(with(&["PATH", "OTEL_B", "OTEL_A"]), ["--preserve-env=OTEL_A,OTEL_B", "--", "/wattrace"]);
    }
}
