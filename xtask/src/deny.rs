//! The dependencies' licences, sources, duplicates and advisories, by cargo-deny. `deny.toml` in the root
//! says what is accepted.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::host_cargo;
use crate::process::{probe, run as run_command, run_quietly, say};
use crate::workspace;

/// The cargo-deny that is built where there is none.
const VERSION: &str = "0.20.2";

/// Finds cargo-deny: the one built before, the one on the `PATH`, or one built now.
pub(crate) fn ensure() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    say("setup", format_args!("building cargo-deny {VERSION}"));
    let mut cargo = host_cargo();
    // Left alone, cargo has the build tree in a temporary folder and removes it. Without optimisation the
    // build takes a third of the time, and a check a second more.
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET_DIR");
    cargo.args(["install", "--quiet", "--locked", "--force", "--debug", "cargo-deny", "--version", VERSION]);
    run_quietly(cargo.arg("--root").arg(workspace::tools()))?;
    find().with_context(|| {
        format!("the cargo-deny that was built in {} does not run", workspace::tools().display())
    })
}

/// The program, if it is here.
pub(crate) fn find() -> Option<PathBuf> {
    [workspace::tools().join("bin/cargo-deny"), PathBuf::from("cargo-deny")]
        .into_iter()
        .find(|path| probe(Command::new(path).arg("--version")).is_some())
}

/// Checks the dependencies of both workspaces. Advisories are left out where their database cannot be
/// fetched.
pub(crate) fn run() -> Result<()> {
    let deny = ensure()?;
    say("test", "dependencies: licences, sources, duplicates");
    for manifest in ["Cargo.toml", "ebpf/Cargo.toml"] {
        let mut check = command(&deny, manifest);
        run_command(check.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;
    }
    if probe(command(&deny, "Cargo.toml").args(["fetch", "db"])).is_none() {
        say("test", "advisories are not checked: their database cannot be fetched");
        return Ok(());
    }
    say("test", "dependencies: advisories");
    run_command(command(&deny, "Cargo.toml").args(["check", "--disable-fetch", "advisories"]))
}

fn command(deny: &PathBuf, manifest: &str) -> Command {
    let mut command = Command::new(deny);
    command.current_dir(workspace::root()).args(["--log-level", "error", "--manifest-path", manifest]);
    command.args(["--config", "deny.toml"]);
    command
}
