//! `fuzz`: throws bytes at everything that reads what others wrote: the targets of `fuzz/`, by cargo-fuzz and a nightly compiler.
//! What they begin with is in `fuzz/corpus`; what they find on the way stays in the target directory.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment::forget_host_toolchain;
use crate::process::{read, run as run_command, say};
use crate::{ebpf, workspace};

/// Runs each target, or those that are named, for so many seconds. The first that fails ends it; cargo-fuzz says how.
pub(crate) fn run(seconds: u32, mut targets: Vec<String>) -> Result<()> {
    if targets.is_empty() {
        let list = read(cargo_fuzz().arg("list"));
        let list = list.context("is it there? rustup toolchain install nightly; cargo install cargo-fuzz")?;
        targets = list.lines().map(str::to_owned).collect();
    }
    // The plugin sched holds them, whatever of it is fuzzed.
    ebpf::build()?;
    for target in targets {
        say("fuzz", format_args!("{target} for {seconds} s"));
        let found = workspace::root().join("fuzz/target/corpus").join(&target);
        fs::create_dir_all(&found).with_context(|| format!("cannot make {}", found.display()))?;
        let mut cargo = cargo_fuzz();
        cargo.args(["run", &target]).arg(found).arg(format!("corpus/{target}"));
        run_command(cargo.arg("--").arg(format!("-max_total_time={seconds}")).arg("-timeout=10"))?;
    }
    Ok(())
}

fn cargo_fuzz() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root().join("fuzz"));
    forget_host_toolchain(&mut cargo);
    cargo.args(["+nightly", "fuzz"]);
    cargo
}
