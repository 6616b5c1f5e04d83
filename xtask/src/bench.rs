//! `bench`: the agent's benchmarks, or those of a package that is named, as root like the agent itself.

use std::ffi::OsString;

use anyhow::Result;

use crate::ebpf;
use crate::process::{is_root, run as run_command, say};
use crate::test::{as_root, selection};

/// Runs them; `args` are those of `cargo bench`.
pub(crate) fn run(args: Vec<OsString>) -> Result<()> {
    ebpf::build()?;
    say("bench", if is_root() { "benchmarks" } else { "benchmarks, as root through sudo" });
    run_command(&mut as_root("bench", &selection(args, "--package=wattrace"))?)
}
